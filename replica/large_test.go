package replica

import (
	"bytes"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
)

// TestRowLargerThanAMessage: a row of some values of the greatest size is more than one message may hold. It comes all the same, and so
// does what an audit finds to be lost of it.
func TestRowLargerThanAMessage(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes many copies of 80 MiB")
	}
	schema := must(crdt.NewSchema("t", []string{"id"}, []string{"a", "b", "c", "d", "e"}))
	op := crdt.Op{Table: "t", Key: crdt.MustKey(crdt.Integer(1)), Kind: crdt.OpInsert}
	for i, c := range schema.Columns {
		val := crdt.Blob(bytes.Repeat([]byte{byte(i), 2, 3, 4}, crdt.MaxValueBytes/4))
		op.Sets = append(op.Sets, crdt.Set{Column: c, Value: val})
	}
	w := newWorld(t, 1, 2)
	w.chunk = 0
	for _, n := range w.nodes {
		n.load(Config{})
	}
	w.nodes[0].store.drain = Drain{Schemas: []*crdt.Schema{schema}, Groups: []Group{{Ops: []crdt.Op{op}}}}
	w.nodes[0].process()
	w.connect(w.nodes[0], w.nodes[1])
	w.run(2000)
	w.requireEqual()
	w.loseCells()
}

// loseCells takes the last cell of each row away from one side and then from the other, and has an audit bring them back.
func (w *world) loseCells() {
	w.t.Helper()
	w.written = nil // claims are untrue meanwhile
	for _, n := range w.nodes {
		for k, row := range n.store.rows {
			row.Cells = row.Cells[:len(row.Cells)-1]
			n.store.rows[k] = row
		}
		if rep := w.audit(w.nodes[0], w.nodes[1], false); len(rep.Rows) != len(n.store.rows) {
			w.t.Errorf("%d rows were mended", len(rep.Rows))
		}
		w.requireEqual()
	}
}

// TestAuditOfLargeRows: rows that go in parts are compared as a whole, and mended on both sides.
func TestAuditOfLargeRows(t *testing.T) {
	w := newWorld(t, 0, 2)
	w.large = true
	w.connect(w.nodes[0], w.nodes[1])
	w.run(1000)
	for i := range 5 {
		w.put(w.nodes[i%2], i, "")
		w.run(50)
	}
	for i := range 5 {
		w.put(w.nodes[1-i%2], i, "b")
		w.run(50)
	}
	w.run(1000)
	w.loseCells()
}

// TestLargeRowIsMendedAsAWhole: where an audit ends between the parts of a row of which nothing was left, nothing comes back: a part would
// look like the row.
func TestLargeRowIsMendedAsAWhole(t *testing.T) {
	w := newWorld(t, 0, 2)
	w.large = true
	w.connect(w.nodes[0], w.nodes[1])
	w.run(1000)
	w.put(w.nodes[0], 1, "")
	w.run(1000)
	key := RowKey{"t", crdt.MustKey(crdt.Integer(1))}
	whole, mends := w.nodes[1].store.rows[key], 0
	w.written = nil
	delete(w.nodes[1].store.rows, key)
	w.nodes[0].sees = func(_ *node, f Frame) bool {
		if f.Type == FrameMend {
			mends++
		}
		return mends < 2 || f.Type != FrameMend
	}
	w.nodes[0].in = append(w.nodes[0].in, Input{Audit: &Audit{}})
	w.run(2 * millis(auditPatience))
	if row := w.nodes[1].store.rows[key]; mends < 2 || !row.IsZero() {
		t.Fatalf("after one of %d parts there is %s", mends, row)
	}
	w.nodes[0].sees = nil
	w.audit(w.nodes[0], w.nodes[1], false)
	if row := w.nodes[1].store.rows[key]; !row.Equal(whole) {
		t.Errorf("there is %s, want %s", row, whole)
	}
}
