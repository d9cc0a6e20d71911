package sim

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// Damager is a medium whose rows can be damaged by what is no transaction. It does so where it can, by n.
type Damager interface {
	Damage(n int64)
}

// actAudit has a machine compare its rows with those of another. What it finds is judged by watchAudit.
func (m *machine) actAudit(b int) {
	e, i := m.w.between(m.id, b)
	if e != nil && e.up && !m.w.masked {
		m.input(replica.Input{Audit: &replica.Audit{Link: e.links[i]}})
	}
}

// uncertain reports whether an audit may say what it likes: where somebody lied, or forked, machines may hold different rows for good; and
// a masked recording ends at an audit.
func (w *World) uncertain() bool { return w.c.Liar > 0 || len(w.forks) > 0 || w.masked }

// watchAudit checks that no audit finds a difference: while others write, and links fail, what is on its way is none.
func (w *World) watchAudit(m *machine) {
	rep := m.core.AuditReport()
	if rep == nil || w.hurt || w.uncertain() {
		return
	}
	if len(rep.Rows) > 0 {
		w.violate("P15", "%s: its audit with %s finds that %s is %s, and nothing was damaged", m.name(), rep.Peer, rep.Rows[0].RowKey, rep.Rows[0].What())
	}
	if rep.Over && rep.Err == nil {
		w.mark("audited")
	}
}

// audits lets audits that are under way come to their end.
func (w *World) audits() {
	busy := func(m *machine) bool {
		if m.core == nil {
			return false
		}
		rep := m.core.AuditReport()
		return rep != nil && !rep.Over
	}
	for w.fault == nil && !w.spent() && slices.ContainsFunc(w.alive(), busy) {
		w.run(w.now + 100)
	}
}

// audit has two neighbours compare what they hold, after all agree. Then rows of one are damaged, and an audit must find exactly
// those, and mend them.
func (w *World) audit() {
	if w.uncertain() {
		return
	}
	for _, e := range w.edges {
		if w.fault == nil && e.up {
			w.auditOver(e, 0)
		}
	}
	w.converge() // a damaged record of the index that was found by this has its machine begin anew
	g := rng(w.c.Seed, 0xda3a6e)
	ups := slices.DeleteFunc(slices.Clone(w.edges), func(e *edge) bool { return !e.up })
	if w.fault != nil || len(ups) == 0 {
		return
	}
	e, asks := ups[g.IntN(len(ups))], g.IntN(2)
	hurt := e.ends[g.IntN(2)]
	d, ok := hurt.medium.(Damager)
	if !ok {
		return
	}
	before := w.visits(hurt)
	w.hurt = true
	for range 1 + g.IntN(3) {
		d.Damage(g.Int64N(1 << 30))
	}
	damaged := changed(before, w.visits(hurt))
	rep := w.auditOver(e, asks)
	if rep == nil {
		return
	}
	var found []replica.RowKey
	for _, row := range rep.Rows {
		if found = append(found, row.RowKey); row.Stuck {
			w.violate("P15", "%s: an audit cannot mend %s", hurt.name(), row.RowKey)
		}
	}
	slices.SortFunc(found, replica.RowKey.Compare)
	if !slices.Equal(found, damaged) {
		w.violate("P15", "%s: damaged are the rows %v, and an audit finds %v", hurt.name(), damaged, found)
	}
	if left := changed(before, w.visits(hurt)); len(left) > 0 {
		w.violate("P15", "%s: after an audit the rows %v are not as they were", hurt.name(), left)
	}
	if len(damaged) > 0 {
		w.mark("damage mended by an audit")
	}
	if rep := w.auditOver(e, 1-asks); rep != nil && len(rep.Rows) > 0 {
		w.violate("P15", "%s: a second audit finds %s: %s", hurt.name(), rep.Rows[0].RowKey, rep.Rows[0].What())
	}
}

// auditOver has one end of an edge compare its rows with the other's, and returns what it found. That is nil after a violation, or
// where a damaged record was met. What came of garbage earlier may refuse the link once more.
func (w *World) auditOver(e *edge, asks int) *replica.AuditReport {
	m, rotten := e.ends[asks], e.ends[0].rotten+e.ends[1].rotten > 0
	for try := 0; ; try++ {
		m.input(replica.Input{Audit: &replica.Audit{Link: e.links[asks]}})
		w.run(w.now)
		w.audits()
		if w.fault != nil || w.spent() || rotten && (m.core == nil || m.core.AuditReport() == nil || m.core.AuditReport().Err != nil) {
			return nil
		}
		rep := m.core.AuditReport()
		switch {
		case rep != nil && rep.Err == nil && rep.Segments > 0:
			return rep
		case !w.damaged || try == 2:
			w.violate("P15", "%s: an audit between two who agree comes to nothing: %+v", m.name(), rep)
			return nil
		}
		w.run(w.now + roundLength.Milliseconds())
	}
}

// visits is what sessions would find of a machine's rows: each with a hash of what it is and where it is found.
func (w *World) visits(m *machine) map[replica.RowKey][sha256.Size]byte {
	out := map[replica.RowKey][sha256.Size]byte{}
	err := m.store.Read(context.Background(), func(v replica.View) error {
		return v.Changed(m.claimed, crdt.Coverage{}, replica.Position{}, func(at crdt.Stamp, rows []replica.RowState) bool {
			for _, r := range rows {
				before := out[r.RowKey]
				out[r.RowKey] = sha256.Sum256([]byte(string(before[:]) + at.String() + r.Row.String()))
			}
			return true
		})
	})
	if err != nil {
		w.violate("harness", "%s: read its rows: %v", m.name(), err)
	}
	return out
}

// changed lists the rows that differ.
func changed(a, b map[replica.RowKey][sha256.Size]byte) (keys []replica.RowKey) {
	all := maps.Clone(a)
	maps.Copy(all, b)
	for k := range all {
		if a[k] != b[k] {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, replica.RowKey.Compare)
	return keys
}

// Damage takes a row away, lowers a value and leaves its stamp, or forgets that a transaction wrote a row.
func (m *memory) Damage(n int64) {
	if len(m.rows) == 0 {
		return
	}
	k := slices.SortedFunc(maps.Keys(m.rows), replica.RowKey.Compare)[n/8%int64(len(m.rows))]
	row := m.rows[k]
	stamps := row.Stamps(nil)
	switch n % 3 {
	case 0:
		for _, s := range stamps {
			m.unref(s, k)
		}
		delete(m.rows, k)
	case 1:
		m.unref(stamps[n/64%int64(len(stamps))], k)
	default:
		row.Cells = slices.Clone(row.Cells)
		for i := range row.Cells {
			row.Cells[i].Value = crdt.Integer(0) // the least encoding there is
		}
		m.rows[k] = row
	}
}
