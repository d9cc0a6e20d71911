package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// The checkers, one for each promise that a single machine can break. Those about all machines together
// are in run.go.

// committed looks at a batch that has just become durable, before anything of it is sent.
func (w *World) committed(m *machine, b replica.Batch, own []stamped) {
	m.doubt = nil
	if !b.Origin.IsZero() {
		m.copied, m.reissue = false, false
		if f := m.branch(); f != nil {
			f.found = true
		}
	}
	if !b.IsZero() {
		w.took(m, b, own)
	}
	if m.sql() != nil {
		for _, s := range own { // the rest of lived waits, where a part was captured
			for _, op := range s.ops {
				delete(m.lived, replica.RowKey{Table: op.Table, Key: op.Key})
			}
		}
		if !m.part {
			m.lived = nil
		}
		if !m.touched {
			m.remade = nil
		}
		w.checkShown(m)
	}
}

func (w *World) took(m *machine, b replica.Batch, own []stamped) {
	w.stats.Commits++
	for _, o := range b.Heads.Origins() {
		if b.Heads[o] == 0 {
			w.reissued(m, o)
		}
	}
	if len(b.Heads) > 0 && !m.core.IsReady() {
		w.violate("P23", "%s claims something before it holds its first copy", m.name())
	}
	if b.Copy != nil {
		m.copy = bytes.Clone(b.Copy)
	}
	if b.Restart {
		w.mark("first copy begun anew")
		clear(m.rows)
	}
	for _, c := range b.Rows {
		k := replica.RowKey{Table: c.Schema.Table, Key: c.Key}
		w.hash([]byte(c.Key.Encoded()))
		if old := m.rows[k]; !grew(old, c.New) && !w.lied(k) { // two contents of one stamp are joined
			w.violate("P8", "%s: row %s went from %s to %s", m.name(), k, old, c.New)
		}
		m.rows[k] = c.New
	}
	w.wrote(m, b, own)
	w.claims(m, b.Heads)
	m.ready = m.ready || b.Ready
	switch {
	case !m.ready: // it holds parts of a first copy, and shows nothing
		return
	case b.Ready:
		m.added = nil // a first copy is shown in all columns that there are
		m.saw(maps.Keys(m.rows))
		w.wholeOrAbsent(m, maps.Keys(m.rows))
		w.shows(m, maps.Keys(m.rows))
		return
	}
	m.saw(keysOf(b.Rows))
	w.wholeOrAbsent(m, keysOf(b.Rows))
	if w.stats.Commits%checkedOneIn == 0 {
		w.shows(m, keysOf(b.Rows))
	}
}

func (m *machine) saw(keys iter.Seq[replica.RowKey]) {
	for k := range keys {
		m.seen = max(m.seen, m.rows[k].Max().Time)
	}
}

func keysOf(rows []replica.RowChange) iter.Seq[replica.RowKey] {
	return func(yield func(replica.RowKey) bool) {
		for _, c := range rows {
			if !yield(replica.RowKey{Table: c.Schema.Table, Key: c.Key}) {
				return
			}
		}
	}
}

// shows compares rows with what the oracle makes of the transactions that the machine covers.
func (w *World) shows(m *machine, keys iter.Seq[replica.RowKey]) {
	for k := range keys {
		if w.branched(k) || w.lied(k) {
			continue
		}
		e := w.oracle.row(k, func(t *txn) bool { return m.claimed.Covers(t.stamp) })
		if d := e.differs(m.rows[k]); d != "" {
			w.violate("P1", "%s: row %s %s", m.name(), k, d)
		}
	}
}

// wrote tells the oracle of the local transactions in a batch, and checks their stamps.
func (w *World) wrote(m *machine, b replica.Batch, own []stamped) {
	if n := len(own); n > 0 && own[n-1].at != b.Heads[m.writer] {
		w.violate("P9", "%s: its transaction should be stamped %s and is %s", m.name(), own[n-1].at, b.Heads[m.writer])
	}
	for _, t := range own {
		s := crdt.Stamp{Origin: m.writer, Time: t.at}
		w.stats.Txns++
		if f := w.forks[s.Origin]; f != nil {
			w.addBranch(f, s, t.ops)
		} else if err := w.oracle.add(s, t.ops); err != nil {
			w.violate("P9", "%s: %v", m.name(), err)
		}
		if m.claimed.Max() >= s.Time {
			w.violate("P9", "%s: its transaction %s is not after what it had seen: %s", m.name(), s, m.claimed)
		}
	}
	for _, t := range own {
		if x := w.oracle.at(m.writer, t.at); x != nil {
			x.whole = own[len(own)-1].at
		}
	}
}

// claims checks that what a machine newly claims is there: claimed implies state dominates.
func (w *World) claims(m *machine, heads crdt.Coverage) {
	for _, o := range heads.Origins() {
		h := heads[o]
		if h == 0 {
			continue // see reissued
		}
		if h < m.claimed[o] {
			w.violate("P8", "%s: its head of %s went back", m.name(), o.Short())
		}
		if w.doubtful(o) && !m.liar {
			w.mark("lie believed")
		}
		upTo := h
		if f := w.forks[o]; f != nil {
			w.claimsForked(m, f, o, h)
			upTo = min(h, f.base)
		} else if !w.oracle.written(o, h) && !w.doubtful(o) {
			w.violate("P5", "%s claims %s@%s, which nobody wrote", m.name(), h, o.Short())
		}
		if t := w.oracle.at(o, h); t != nil && t.whole != h && w.forks[o] == nil && !w.doubtful(o) {
			w.violate("P6", "%s claims %s of a drain that ends with %s, and not the rest", m.name(), t.stamp, t.whole)
		}
		for _, t := range w.oracle.between(o, m.claimed[o], upTo) {
			t.lost = false
			for _, op := range t.ops {
				k := replica.RowKey{Table: op.Table, Key: op.Key}
				if row := m.rows[k]; !holds(row, write{t, op}) && !w.branched(k) && !w.lied(k) {
					w.violate("claims", "%s claims %s and lacks its %s of %s: it has %s", m.name(), t.stamp, op.Kind, k, row)
				}
			}
		}
		m.claimed[o] = h
	}
}

// wholeOrAbsent checks that no part of a transaction is there without the whole.
func (w *World) wholeOrAbsent(m *machine, keys iter.Seq[replica.RowKey]) {
	var buf [8]crdt.Stamp
	for k := range keys {
		for _, s := range m.rows[k].Stamps(buf[:0]) {
			if !m.claimed.Covers(s) && !w.doubtful(s.Origin) {
				w.violate("P6", "%s shows a part of transaction %s in %s without the rest", m.name(), s, k)
			}
		}
	}
}

// found looks at what a machine finds when it starts: all that it had committed, and of a commit whose
// outcome was unknown everything or nothing.
func (w *World) found(m *machine, rows map[replica.RowKey]crdt.Row, st replica.State) {
	claimed := st.Coverage
	if d := m.doubt; d != nil {
		m.doubt = nil
		raised := same(claimed, with(m.claimed, d.Heads)) && !same(claimed, m.claimed)
		// By an audit, which raises no head, and issues rows anew that it left as they were.
		mended := slices.ContainsFunc(d.Rows, func(r replica.RowChange) bool {
			k := replica.RowKey{Table: r.Schema.Table, Key: r.Key}
			return rows[k].Equal(r.New) && !m.rows[k].Equal(r.New)
		})
		renamed := !d.Origin.IsZero() && st.Origin == d.Origin
		if copied := d.Copy != nil && bytes.Equal(st.Copy, d.Copy) && !bytes.Equal(st.Copy, m.copy); raised || copied || renamed || mended {
			w.mark("unknown commit was kept")
			w.committed(m, *d, m.unsure)
		} else {
			w.mark("unknown commit was lost")
		}
	}
	m.copy = st.Copy
	if !same(claimed, m.claimed) {
		w.violate("P3", "%s: its coverage was %s and is %s after the start", m.name(), m.claimed, claimed)
	}
	for k, row := range m.rows {
		if got := rows[k]; !got.Equal(row) {
			w.violate("P3", "%s: its row %s was %s and is %s after the start", m.name(), k, row, got)
		}
	}
	for k, row := range rows {
		if _, ok := m.rows[k]; !ok && !row.IsZero() {
			w.violate("P3", "%s: its row %s appears from nowhere: %s", m.name(), k, row)
		}
	}
}

func with(c, d crdt.Coverage) crdt.Coverage {
	c = c.Clone()
	for o, h := range d {
		if c[o] = h; h == 0 {
			delete(c, o)
		}
	}
	return c
}

func same(a, b crdt.Coverage) bool { return a.Includes(b) && b.Includes(a) }

// checkSend checks that nothing is told that is not durable.
func (w *World) checkSend(m *machine, f replica.Frame) {
	if f.More || f.Cont || f.Zstd {
		return
	}
	if f.Type == replica.FrameHeads { // the others count them as acknowledgements
		for o, h := range headsIn(f.Body) {
			if h > m.claimed[o] {
				w.violate("P5", "%s tells %s of %s, which it has not committed", m.name(), h, o.Short())
			}
		}
	}
	if f.Type != replica.FrameBlocks {
		return
	}
	for s := range blocksOf(f.Body) {
		if !m.claimed.Covers(s) {
			w.violate("P5", "%s sends %s, which it has not committed", m.name(), s)
		}
	}
}

// checkClose checks that honest peers are not refused.
func (w *World) checkClose(m *machine, l replica.LinkID, reason error) {
	w.mark("link refused")
	if !w.damaged && !w.forked {
		w.violate("P2", "%s closes link %d to an honest peer: %v", m.name(), l, reason)
	}
}

// checkClock checks that nobody takes a stamp too far ahead of his own clock, unless he has seen later ones.
func (w *World) checkClock(m *machine, heads crdt.Coverage) {
	wall := m.instant().Wall
	limit := max(hlc.FromMillis(wall+skewLimit.Milliseconds())|0xffff, m.claimed.Max())
	for _, o := range heads.Origins() {
		if h := heads[o]; o != m.writer && h > limit {
			w.violate("P10", "%s takes %s@%s at %s by its own clock", m.name(), h, o.Short(), hlc.FromMillis(wall))
		}
	}
}

// packedVector is a vector as messages carry it: the changes against one that both sides know, and heads beyond them.
type packedVector struct {
	_                    struct{} `cbor:",toarray"`
	Base, Changed, Heads []byte
}

// headsIn yields the heads that a HEADS frame names itself, and not as changes of others.
func headsIn(body []byte) iter.Seq2[crdt.Origin, hlc.Timestamp] {
	var b struct {
		Heads []byte       `cbor:"1,keyasint"`
		All   packedVector `cbor:"3,keyasint"`
	}
	if cbor.Unmarshal(body, &b) != nil {
		return func(func(crdt.Origin, hlc.Timestamp) bool) {}
	}
	return func(yield func(crdt.Origin, hlc.Timestamp) bool) {
		const entry = len(crdt.Origin{}) + 8
		for v := slices.Concat(b.Heads, b.All.Heads); len(v) >= entry; v = v[entry:] {
			if !yield(crdt.Origin(v[:16]), hlc.Timestamp(binary.BigEndian.Uint64(v[16:]))) {
				return
			}
		}
	}
}

// blocksOf yields the stamps of the blocks in a frame.
func blocksOf(body []byte) func(func(crdt.Stamp) bool) {
	return func(yield func(crdt.Stamp) bool) {
		for len(body) > 0 {
			n, size := binary.Uvarint(body)
			if size <= 0 || n > uint64(len(body)-size) {
				return
			}
			s, _, err := crdt.ParseBlockHead(string(body[size : size+int(n)]))
			if err != nil || !yield(s) {
				return
			}
			body = body[size+int(n):]
		}
	}
}

// watch turns what the replica counts into marks.
func (w *World) watch(m *machine) {
	w.watchAudit(m)
	c, seen := m.core.Counters(), &m.counted
	for _, x := range []struct {
		what     string
		now, was uint64
	}{
		{"block out of order held back", c.BlocksHeld - c.BlocksAhead, seen.BlocksHeld - seen.BlocksAhead},
		{"block ahead of the clock held back", c.BlocksAhead, seen.BlocksAhead},
		{"session broken", c.SessionsBroken, seen.SessionsBroken},
		{"session resumed at the same server", c.SessionsResumed - c.SessionsMoved, seen.SessionsResumed - seen.SessionsMoved},
		{"session resumed elsewhere", c.SessionsMoved, seen.SessionsMoved},
		{"session served in several passes", c.PassesServed, seen.PassesServed},
		{"pruned", c.LinksPruned, seen.LinksPruned},
		{"grafted after loss", c.LinksGrafted, seen.LinksGrafted},
		{"grafted for a lost link", c.LinksReplanted, seen.LinksReplanted},
		{"warm vector", c.VectorsWarm - c.VectorsUnknown, seen.VectorsWarm - seen.VectorsUnknown},
		{"vector of an unknown base", c.VectorsUnknown, seen.VectorsUnknown},
		{"transaction announced", c.BlocksAnnounced, seen.BlocksAnnounced},
	} {
		if x.now > x.was {
			w.mark(x.what)
		}
	}
	if !m.core.IsReady() && c.SessionsBroken > seen.SessionsBroken {
		w.mark("first copy broken off")
	}
	*seen = c
}

// lose takes note that a database is gone: what no other has any more is owed by nobody.
func (w *World) lose() {
	kept := crdt.Coverage{}
	for _, m := range w.machines {
		if m.gone {
			continue
		}
		claimed := m.claimed
		if f := m.branch(); f != nil {
			claimed = claimed.Clone()
			claimed[m.writer] = min(claimed[m.writer], f.base) // what it has beyond is another branch
		}
		kept.Add(claimed)
	}
	for o, list := range w.oracle.byOrigin {
		for _, t := range slices.Backward(list) {
			if t.stamp.Time <= kept[o] {
				break
			}
			t.lost = true
		}
	}
}

// alive returns the machines that take part to the end.
func (w *World) alive() (out []*machine) {
	for _, m := range w.machines {
		if !m.gone {
			out = append(out, m)
		}
	}
	return out
}

// agreed reports whether all machines hold the same, and all that is owed, and have taken in what programs wrote.
func (w *World) agreed() bool {
	want := w.owed()
	return !slices.ContainsFunc(w.alive(), func(m *machine) bool {
		return m.core == nil || !m.core.IsReady() || m.touched || !same(m.claimed, want)
	})
}

// owed is what all must cover in the end: what was written and is not lost; of origins of which nobody knows what was written, what anybody
// claims.
func (w *World) owed() crdt.Coverage {
	want := crdt.Coverage{}
	for o, list := range w.oracle.byOrigin {
		for _, t := range slices.Backward(list) {
			if !t.lost && !w.doubtful(o) {
				want[o] = t.stamp.Time
				break
			}
		}
	}
	for _, m := range w.alive() {
		for o, h := range m.claimed {
			if w.forks[o] != nil || w.doubtful(o) {
				want[o] = max(want[o], h)
			}
		}
	}
	return want
}

// Differ names a row that two machines hold differently, "" where all that take part hold the same.
func (w *World) Differ() string {
	all := w.alive()
	for _, m := range all {
		for k, row := range m.rows {
			for _, o := range all {
				if !o.rows[k].Equal(row) {
					return fmt.Sprintf("row %s is %s at %s and %s at %s", k, row, m.name(), o.rows[k], o.name())
				}
			}
		}
	}
	return ""
}

// checkRows compares every row of every machine with the oracle.
func (w *World) checkRows() {
	keys := slices.SortedFunc(maps.Keys(w.oracle.byRow), replica.RowKey.Compare)
	for _, k := range keys {
		if !w.promised(k) || w.lied(k) {
			continue
		}
		if w.c.Liar > 0 {
			w.mark("row beside lies")
		}
		e := w.oracle.row(k, func(t *txn) bool { return !t.lost })
		for _, m := range w.alive() {
			if d := e.differs(m.rows[k]); d != "" {
				w.violate("P1", "%s: row %s %s", m.name(), k, d)
			}
		}
	}
	for _, m := range w.alive() {
		for k, row := range m.rows {
			if len(w.oracle.byRow[k]) == 0 && row.Alive() && !w.lied(k) {
				w.violate("P1", "%s: row %s was written by nobody: %s", m.name(), k, row)
			}
		}
	}
}
