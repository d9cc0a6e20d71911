package sim

import (
	"bytes"
	"maps"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// fork is what the world knows of a set-back: a machine's database was put back to an earlier state of its own in a way that its fence
// cannot notice. The machine goes on under its origin, without what it forgot, until it meets somebody who knows that; then it
// must issue anew what it wrote, under another origin, and fetch the rest.
type fork struct {
	m     *machine
	base  hlc.Timestamp // up to here both branches are one
	old   []*txn        // what was forgotten
	new   []*txn        // written since under the same origin, until the fork is found
	found bool

	// What puts a fork out of reach, as the documentation of package replica has it. Where it comes about and anybody knows what was
	// forgotten, nobody promises the rows that the two branches wrote.
	taken bool // another machine took transactions of the new branch for the next ones of the old
	blind bool // the machine was started anew before the fork was found, or gave out a time again: it cannot tell the branches apart
}

// known reports whether anybody holds some of what was forgotten.
func (f *fork) known() bool { return slices.ContainsFunc(f.old, func(t *txn) bool { return !t.lost }) }

func (f *fork) outOfReach() bool { return f.known() && (f.taken || f.blind) }

// wrote reports whether a row was written in one of the branches.
func (f *fork) wrote(k replica.RowKey) bool {
	names := func(t *txn) bool {
		return slices.ContainsFunc(t.ops, func(op crdt.Op) bool { return op.Table == k.Table && op.Key == k.Key })
	}
	return slices.ContainsFunc(f.old, names) || slices.ContainsFunc(f.new, names)
}

// branched reports whether a row was written in a branch of a fork. Who holds which branch shows at the end only.
func (w *World) branched(k replica.RowKey) bool {
	for _, f := range w.forks {
		if f.wrote(k) {
			return true
		}
	}
	return false
}

// promised reports whether a row must be right at the end.
func (w *World) promised(k replica.RowKey) bool {
	for _, f := range w.forks {
		if f.outOfReach() && f.wrote(k) {
			return false
		}
	}
	return true
}

// branch returns the fork of the machine that was not found yet, nil where there is none.
func (m *machine) branch() *fork {
	for _, f := range m.w.forks {
		if f.m == m && !f.found {
			return f
		}
	}
	return nil
}

// actSetBack puts a machine back to its last backup, where nothing that lies beside the database would tell.
func (w *World) actSetBack(m *machine, a Action) {
	b := m.backup
	if b == nil || b.writer != m.writer || m.copied || w.c.Liar > 0 || w.forks[m.writer] != nil || m.branch() != nil {
		return
	}
	m.crash()
	medium := b.medium.Copy()
	if q, ok := medium.(SQL); ok && !q.SetBack(m.medium) {
		w.after(a.N, m.start) // its fence would tell
		return
	}
	w.mark("set back without a sign")
	f := &fork{m: m, base: b.claimed[m.writer], old: w.oracle.between(m.writer, b.claimed[m.writer], hlc.Max)}
	after := m.after
	if a.N%2 == 0 { // what lies beside the database says which times were given out; else it was put back too
		after = max(after, m.claimed[m.writer])
	}
	w.replace(m, b.on(medium), a.N, false)
	m.after, m.touched = after, m.sql() != nil
	if len(f.old) > 0 {
		w.forks[m.writer], w.forked = f, true
	}
}

// addBranch takes in a transaction of a machine that does not know yet that it was set back.
func (w *World) addBranch(f *fork, s crdt.Stamp, ops []crdt.Op) {
	if n := len(f.new); s.Time <= f.base || n > 0 && s.Time <= f.new[n-1].stamp.Time {
		w.violate("P9", "%s: its transaction %s is not after the one before", f.m.name(), s)
	}
	f.blind = f.blind || slices.ContainsFunc(f.old, func(t *txn) bool { return t.stamp == s })
	f.new = append(f.new, w.oracle.note(s, ops))
}

// claimsForked is claims for an origin that has forked.
func (w *World) claimsForked(m *machine, f *fork, o crdt.Origin, h hlc.Timestamp) {
	if m == f.m && !f.found {
		return
	}
	has := func(list []*txn) bool {
		return slices.ContainsFunc(list, func(t *txn) bool { return t.stamp.Time == h })
	}
	if h > f.base && !has(f.old) && !has(f.new) {
		w.violate("P5", "%s claims %s@%s, which nobody wrote", m.name(), h, o.Short())
	}
	if f.taken = f.taken || has(f.new); f.taken {
		w.mark("both branches claimed")
	}
	for _, t := range f.old {
		t.lost = t.lost && t.stamp.Time > h
	}
}

// foundFork loads a machine anew that has found out that it was set back.
func (w *World) foundFork(m *machine, e *replica.ForkError) {
	w.mark("fork found")
	if f := w.forks[e.Origin]; (f == nil || f.m != m) && !w.doubtful(e.Origin) {
		w.violate("P22", "%s takes itself for set back, and is not: %v", m.name(), e)
		return
	}
	m.reissue = true
	m.load()
}

// reissued takes note that a machine no longer claims an origin of its own, and has issued anew, at the same times, all that it still
// holds of it.
func (w *World) reissued(m *machine, old crdt.Origin) {
	byTime := map[hlc.Timestamp][]crdt.Op{m.claimed[old]: nil} // also where nothing is left of the last one
	for _, k := range slices.SortedFunc(maps.Keys(m.rows), replica.RowKey.Compare) {
		for t, op := range opsOf(k, m.rows[k], old) {
			if t > m.claimed[old] && w.doubtful(old) {
				continue // a liar's
			}
			byTime[t] = append(byTime[t], op)
		}
	}
	for _, t := range slices.Sorted(maps.Keys(byTime)) {
		if err := w.oracle.add(crdt.Stamp{Time: t, Origin: m.writer}, byTime[t]); err != nil {
			w.violate("P22", "%s: issued anew: %v", m.name(), err)
		}
	}
	if f := w.forks[old]; f != nil {
		for _, t := range f.new {
			t.lost = true // under this origin
		}
	}
	delete(m.claimed, old)
	w.lose()
}

// opsOf returns the operations of an origin that a row still shows, by time.
func opsOf(k replica.RowKey, row crdt.Row, o crdt.Origin) map[hlc.Timestamp]crdt.Op {
	out := map[hlc.Timestamp]crdt.Op{}
	for _, s := range row.Stamps(nil) {
		if s.Origin != o {
			continue
		}
		op := crdt.Op{Table: k.Table, Key: k.Key, Kind: crdt.OpUpdate}
		switch birth, end := row.Birth == s, row.Tomb == s; {
		case birth && end:
			op.Kind = crdt.OpReplace
		case birth:
			op.Kind = crdt.OpInsert
		case end:
			op.Kind = crdt.OpDelete
		}
		for _, c := range row.Cells {
			if c.Stamp == s {
				op.Sets = append(op.Sets, crdt.Set{Column: c.Column, Value: c.Value})
			}
		}
		out[s.Time] = op
	}
	return out
}

// toldOfFork returns the fork of the machine where a HELLO names a transaction that it forgot.
func (m *machine) toldOfFork(in []replica.Input) *fork {
	f := m.branch()
	if f == nil || f.blind {
		return nil
	}
	for _, i := range in {
		if i.Frame == nil || i.Frame.Type != replica.FrameHello || i.Frame.Zstd || m.edges[i.From] == nil {
			continue
		}
		var hello struct {
			Heads packedVector `cbor:"6,keyasint"`
		}
		if err := cbor.Unmarshal(i.Frame.Body, &hello); err != nil || len(hello.Heads.Base) > 0 {
			continue // garbage, or changes against what may be forgotten
		}
		is := func(t *txn) bool {
			return bytes.Contains(hello.Heads.Heads, vector(crdt.Coverage{m.writer: t.stamp.Time}))
		}
		if slices.ContainsFunc(f.old, is) && !slices.ContainsFunc(f.new, is) {
			return f
		}
	}
	return nil
}

// checkForks requires that each set-back that can be found out was found out.
func (w *World) checkForks() {
	for _, o := range slices.SortedFunc(maps.Keys(w.forks), crdt.Origin.Compare) {
		switch f := w.forks[o]; {
		case f.outOfReach():
			w.mark("fork out of reach")
		case f.known() && !f.found:
			w.violate("P22", "%s was set back, others know what it forgot of %s, and it did not notice", f.m.name(), o.Short())
		case f.known() && len(f.new) > 0:
			w.mark("both branches kept")
		}
	}
}
