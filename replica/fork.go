package replica

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// ForkError reports that two databases wrote under one origin: this one was copied or set back without
// its store noticing. The replica is loaded again with Config.Forked.
type ForkError struct {
	Origin crdt.Origin
	Head   hlc.Timestamp // known to a peer, and none of this database's transactions
}

func (e *ForkError) Error() string {
	return fmt.Sprintf("replica: origin %s has the transaction %s elsewhere, which this database does not know: "+
		"it is a copy, or was set back to an earlier state", e.Origin.Short(), e.Head)
}

// ownTimes are the times of the own transactions since from, in order.
type ownTimes struct {
	from  hlc.Timestamp // nothing is known about transactions up to here
	times []hlc.Timestamp
}

func (w *ownTimes) add(t hlc.Timestamp) {
	if len(w.times) == maxOwnTimes {
		half := maxOwnTimes / 2
		w.from = w.times[half-1]
		w.times = append(w.times[:0], w.times[half:]...)
	}
	w.times = append(w.times, t)
}

// refutes reports whether no own transaction has the time t.
func (w *ownTimes) refutes(t hlc.Timestamp) bool {
	_, found := slices.BinarySearch(w.times, t)
	return t > w.from && !found
}

// checkOwn looks at the head that a peer names for this replica's own origin. Heads are always times of
// real transactions, so one that was not made here proves a fork, also where it is not beyond the own head.
func (r *Replica) checkOwn(h hlc.Timestamp) {
	if r.own.refutes(h) {
		r.forked = &ForkError{r.origin, h}
	}
}

// reissue gives every register that was written under the forked origin to the own, new one, at the same
// time, and no longer claims the forked one: a session will bring the other branch. Which transactions the
// branches have in common is not known, so it is all of them. As the new id is the greater of the two, what
// is issued anew supersedes its equal everywhere, and a peer that claims it already gets it again.
func (r *Replica) reissue(v View, old crdt.Origin) error {
	head := r.coverage[old]
	if head == 0 {
		return nil
	}
	err := v.Changed(crdt.Coverage{old: head}, crdt.Coverage{}, Position{}, func(_ crdt.Stamp, rows []RowState) bool {
		for _, row := range rows {
			r.rows.set(row.RowKey, row.Row, renamed(row.Row, old, r.origin))
		}
		return true
	})
	if err != nil {
		return err
	}
	delete(r.coverage, old)
	r.coverage[r.origin] = head
	r.batch.Heads = crdt.Coverage{old: 0, r.origin: head}
	return nil
}

// renamed is the row with the registers of one origin given to another.
func renamed(row crdt.Row, from, to crdt.Origin) crdt.Row {
	name := func(s *crdt.Stamp) {
		if s.Origin == from {
			s.Origin = to
		}
	}
	if row.Tomb.Origin == from {
		name(&row.Seen) // a part of the tomb; another origin's tomb is the same everywhere
	}
	name(&row.Birth)
	name(&row.Tomb)
	row.Cells = slices.Clone(row.Cells)
	for i := range row.Cells {
		name(&row.Cells[i].Stamp)
	}
	return crdt.Row{}.Merge(row)
}

// successor makes a fresh id one that is greater than old.
func successor(old, fresh crdt.Origin) crdt.Origin {
	next := uint64(binary.BigEndian.Uint32(old[:])) + 1 + uint64(fresh[3])
	if fresh.Compare(old) < 0 && next <= math.MaxUint32 {
		binary.BigEndian.PutUint32(fresh[:], uint32(next))
	}
	return fresh
}
