package replica

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
)

// audit has one end of a wire compare its rows with the other's, and returns the report.
func (w *world) audit(n *node, with *node, dry bool) *AuditReport {
	w.t.Helper()
	for l, x := range n.wires {
		if x.peer(n) == with {
			n.in = append(n.in, Input{Audit: &Audit{Link: l, Dry: dry}})
		}
	}
	for range 1000 {
		w.run(100)
		if rep := n.r.AuditReport(); rep != nil && rep.Over {
			if rep.Err != nil {
				w.t.Fatalf("node %d audits with node %d: %v", n.id, with.id, rep.Err)
			}
			return rep
		}
	}
	w.t.Fatalf("node %d audits with node %d without end: %+v", n.id, with.id, n.r.AuditReport())
	return nil
}

// requireClean requires that no audit has found a difference.
func (w *world) requireClean() {
	w.t.Helper()
	for _, n := range w.nodes {
		if rep := n.r.AuditReport(); rep != nil && len(rep.Rows) > 0 {
			w.t.Fatalf("nothing is damaged, and the audit of node %d finds %v: %s", n.id, rep.Rows[0].RowKey, rep.Rows[0].What())
		}
	}
}

// TestAuditUnderFaults: audits at any time, with others who write, over links that lose, double and reorder, never take what is
// on its way for a difference. When all has come, what a hand has done to rows is found, named and mended, whatever it was.
func TestAuditUnderFaults(t *testing.T) {
	for seed := range seeds(200) {
		if !t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { auditedWorld(t, uint64(seed)) }) {
			return
		}
	}
}

func auditedWorld(t *testing.T, seed uint64) {
	w := newWorld(t, seed, 2+int(seed%3))
	if seed%3 > 0 {
		w.loss, w.dup = w.rng.Float64()*0.2, w.rng.Float64()*0.5
	}
	for range 60 {
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		switch w.rng.IntN(12) {
		case 0, 1, 2, 3:
			w.write(n, 1+w.rng.IntN(8), 12)
		case 4, 5, 6:
			n.in = append(n.in, Input{Audit: &Audit{Dry: w.rng.IntN(2) == 0}})
		case 7:
			n.in = append(n.in, Input{Leave: true})
		case 8, 9:
			if m := w.nodes[w.rng.IntN(len(w.nodes))]; m != n && !w.linked(n, m) {
				w.connect(n, m)
			}
		case 10:
			w.restart(n)
		case 11:
			n.store.failing = true
		}
		w.run(w.rng.Int64N(300))
		w.requireClean()
	}
	w.heal()
	w.requireEqual()
	for i := range w.nodes[1:] {
		w.audit(w.nodes[i], w.nodes[i+1], false)
		w.requireClean()
	}
	w.written = nil // of what they name some will be gone
	damaged := w.damage(w.nodes[w.rng.IntN(len(w.nodes))])
	var found []string
	for range w.nodes { // what wins may have to come all the way
		for i := range w.nodes[1:] {
			a, b := w.nodes[i], w.nodes[i+1]
			if w.rng.IntN(2) == 0 {
				a, b = b, a
			}
			look, mend := w.audit(a, b, true), w.audit(a, b, false)
			for _, row := range mend.Rows {
				if row.Stuck || row.Index || !slices.Contains(look.Rows, row) {
					t.Errorf("%s: %s, and before it was mended: %+v", row.RowKey, row.What(), look.Rows)
				}
				found = append(found, row.Key.String())
			}
		}
	}
	slices.Sort(found)
	if found = slices.Compact(found); !slices.Equal(found, damaged) {
		t.Errorf("damaged are %v, found are %v", damaged, found)
	}
	for i := range w.nodes[1:] {
		if rep := w.audit(w.nodes[i], w.nodes[i+1], false); len(rep.Rows) > 0 {
			t.Errorf("all is mended, and the audit finds %s: %s", rep.Rows[0].RowKey, rep.Rows[0].What())
		}
	}
	w.requireEqual()
}

// damage changes values and takes rows away by hand, and returns the keys.
func (w *world) damage(n *node) (keys []string) {
	for _, k := range slices.SortedFunc(maps.Keys(n.store.rows), RowKey.Compare) {
		row := n.store.rows[k]
		switch w.rng.IntN(6) {
		case 0:
			delete(n.store.rows, k)
		case 1:
			if len(row.Cells) == 0 {
				continue
			}
			row.Cells = slices.Clone(row.Cells)
			row.Cells[w.rng.IntN(len(row.Cells))].Value = crdt.Text(fmt.Sprint("by hand ", w.rng.IntN(100)))
			n.store.rows[k] = row
		default:
			continue
		}
		keys = append(keys, k.Key.String())
	}
	slices.Sort(keys)
	return keys
}

// TestAuditOfMany: most rows are gone on one side, over several segments, and come back page by page.
func TestAuditOfMany(t *testing.T) {
	for _, asks := range []int{0, 1} {
		w := newWorld(t, 4, 2)
		w.chunk = 20_000
		for _, n := range w.nodes {
			n.load(Config{})
		}
		w.connect(w.nodes[0], w.nodes[1])
		w.run(1000)
		const rows = 3 * auditRows
		for first := 0; first < rows; first += rows / 4 {
			var g Group
			for i := range rows / 4 {
				g.Ops = append(g.Ops, crdt.Op{Table: "t", Kind: crdt.OpInsert, Key: crdt.MustKey(crdt.Integer(int64(first + i))),
					Sets: []crdt.Set{{Column: "a", Value: crdt.Integer(int64(i))}}})
			}
			w.commit(w.nodes[first/(rows/2)], g)
			w.run(1000)
		}
		w.requireEqual()
		w.written = nil
		gone := 0
		for k := range w.nodes[0].store.rows {
			if i := k.Key.Values()[0].Integer(); i >= rows/4 && i%1000 != 0 {
				delete(w.nodes[0].store.rows, k)
				gone++
			}
		}
		rep := w.audit(w.nodes[asks], w.nodes[1-asks], false)
		if rep.Tables[0].Differ != gone || rep.Tables[0].Unmended != 0 || len(rep.Rows) != maxAuditNamed || rep.Rows[0].Here != (asks == 0) {
			t.Errorf("%d rows are gone, and found are %+v, the first is %s", gone, rep.Tables, rep.Rows[0].What())
		}
		w.requireEqual()
	}
}

// TestAuditRefused: an audit with somebody who cannot take part says why, at once or when it is told.
func TestAuditRefused(t *testing.T) {
	w := newWorld(t, 2, 2)
	a, b := w.nodes[0], w.nodes[1]
	w.connect(a, b)
	w.run(1000)
	w.write(a, 5, 10)
	w.run(1000)
	refused := func(n *node, ask Audit, want error) {
		t.Helper()
		n.in = append(n.in, Input{Audit: &ask})
		w.run(1000)
		if rep := n.r.AuditReport(); !rep.Over || !errors.Is(rep.Err, want) {
			t.Errorf("the audit came to %+v, want %v", rep, want)
		}
	}
	refused(a, Audit{}, nil)
	refused(a, Audit{Link: 1 << 40}, ErrAuditPeer)
	refused(a, Audit{Tables: []string{"nothing"}}, ErrAuditTable)
	b.sees = func(_ *node, f Frame) bool { return f.Type != FramePull }
	b.r.ready = false // as after it began anew; a has not heard of it
	refused(a, Audit{}, ErrAuditBusy)
	refused(b, Audit{}, ErrAuditBusy)
	b.r.ready, b.sees = true, nil
	a.r.links[0].ready = false
	refused(a, Audit{}, ErrAuditBusy)
	a.r.links[0].ready, a.r.links[0].audits = true, false // as after the HELLO of an older program
	refused(a, Audit{}, ErrAuditOld)
	w.cut(w.wires[0])
	w.run(100)
	refused(a, Audit{}, ErrAuditPeer)
}
