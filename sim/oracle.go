package sim

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// The oracle knows every transaction that was ever committed by its author, as operations, and says what
// rows must be. It does not use the merge: it looks at all operations of a row at once.

// txn is one committed transaction.
type txn struct {
	stamp crdt.Stamp
	ops   []crdt.Op
	whole hlc.Timestamp // of the last transaction of its drain, which is one unit
	lost  bool          // no durable copy of it was left, by a fault that may lose: nobody owes it any more
}

// write is one operation on one row.
type write struct {
	*txn
	op crdt.Op
}

type oracle struct {
	byOrigin map[crdt.Origin][]*txn // in order of time
	byRow    map[replica.RowKey][]write
}

func newOracle() *oracle {
	return &oracle{map[crdt.Origin][]*txn{}, map[replica.RowKey][]write{}}
}

// add takes in a transaction that its author has made durable. It refuses what no clock may give out: a time
// that is not after all earlier ones of the origin.
func (o *oracle) add(s crdt.Stamp, ops []crdt.Op) error {
	list := o.byOrigin[s.Origin]
	if n := len(list); n > 0 && list[n-1].stamp.Time >= s.Time {
		return fmt.Errorf("P9 %s is stamped after %s of the same origin", s, list[n-1].stamp)
	}
	o.byOrigin[s.Origin] = append(list, o.note(s, ops))
	return nil
}

// note takes in the operations of a transaction.
func (o *oracle) note(s crdt.Stamp, ops []crdt.Op) *txn {
	t := &txn{stamp: s, ops: ops, whole: s.Time}
	for _, op := range ops {
		k := replica.RowKey{Table: op.Table, Key: op.Key}
		o.byRow[k] = append(o.byRow[k], write{t, op})
	}
	return t
}

// size is how many transactions were written.
func (o *oracle) size() (n int) {
	for _, list := range o.byOrigin {
		n += len(list)
	}
	return n
}

// between returns the transactions of an origin after one time and up to another.
func (o *oracle) between(origin crdt.Origin, after, upTo hlc.Timestamp) []*txn {
	if upTo <= after {
		return nil
	}
	list := o.byOrigin[origin]
	find := func(h hlc.Timestamp) int {
		i, _ := slices.BinarySearchFunc(list, h+1, func(t *txn, h hlc.Timestamp) int {
			switch {
			case t.stamp.Time < h:
				return -1
			case t.stamp.Time > h:
				return 1
			}
			return 0
		})
		return i
	}
	return list[find(after):find(upTo)]
}

// written reports whether a head is a transaction that was written.
func (o *oracle) written(origin crdt.Origin, h hlc.Timestamp) bool { return o.at(origin, h) != nil }

// at returns the transaction of an origin at a time, nil where there is none.
func (o *oracle) at(origin crdt.Origin, h hlc.Timestamp) *txn {
	if list := o.between(origin, h-1, h); len(list) == 1 {
		return list[0]
	}
	return nil
}

// births and ends say what an operation does to the life of its row.
func births(k crdt.OpKind) bool { return k == crdt.OpInsert || k == crdt.OpReplace }
func ends(k crdt.OpKind) bool   { return k == crdt.OpDelete || k == crdt.OpReplace }

// expected is what a row shows.
type expected struct {
	alive bool
	cells map[string]crdt.Value
}

// row says what a row shows once the transactions that sees accepts are there: it is alive when its newest
// birth is not older than its newest end, and each column has the value of the newest write to it that is
// not older than either.
func (o *oracle) row(k replica.RowKey, sees func(*txn) bool) expected {
	var birth, end crdt.Stamp
	later := func(at *crdt.Stamp, s crdt.Stamp) {
		if at.Less(s) {
			*at = s
		}
	}
	for _, w := range o.byRow[k] {
		if !sees(w.txn) {
			continue
		}
		if births(w.op.Kind) {
			later(&birth, w.stamp)
		}
		if ends(w.op.Kind) {
			later(&end, w.stamp)
		}
	}
	if birth.IsZero() || birth.Less(end) {
		return expected{}
	}
	e := expected{alive: true, cells: map[string]crdt.Value{}}
	at := map[string]crdt.Stamp{}
	for _, w := range o.byRow[k] {
		if !sees(w.txn) || w.stamp.Less(birth) {
			continue
		}
		for _, set := range w.op.Sets {
			if at[set.Column].Less(w.stamp) {
				at[set.Column], e.cells[set.Column] = w.stamp, set.Value
			}
		}
	}
	return e
}

// differs says how a row differs from what is expected, "" where it does not.
func (e expected) differs(row crdt.Row) string {
	if e.alive != row.Alive() {
		return fmt.Sprintf("is %s, expected alive=%v", row, e.alive)
	}
	if !e.alive {
		return ""
	}
	cells := map[string]crdt.Value{}
	for _, c := range row.Cells {
		cells[c.Column] = c.Value
	}
	if !maps.Equal(cells, e.cells) {
		return fmt.Sprintf("is %s, expected %v", row, e.cells)
	}
	return ""
}

// holds reports whether a row's state has all that a write put there, or something newer in its place.
func holds(row crdt.Row, w write) bool {
	s, birth, end := w.stamp, row.Birth, row.Tomb
	if births(w.op.Kind) && birth.Less(s) && !s.Less(end) {
		return false
	}
	if ends(w.op.Kind) && end.Less(s) {
		return false
	}
	for _, set := range w.op.Sets {
		if s.Less(birth) || s.Less(end) {
			continue
		}
		c, ok := row.Cell(set.Column)
		if !ok || c.Stamp.Less(s) || c.Stamp == s && c.Value != set.Value {
			return false
		}
	}
	return true
}

// grew reports whether a row's state lost nothing on its way from one state to another.
func grew(from, to crdt.Row) bool {
	if to.Tomb.Less(from.Tomb) || to.Birth.Less(from.Birth) && !from.Birth.Less(to.Tomb) {
		return false
	}
	for _, c := range from.Cells {
		if c.Stamp.Less(to.Birth) || c.Stamp.Less(to.Tomb) {
			continue
		}
		d, ok := to.Cell(c.Column)
		if !ok || d.Stamp.Less(c.Stamp) || d.Stamp == c.Stamp && d.Value != c.Value {
			return false
		}
	}
	return true
}
