package replica

import (
	"bytes"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
)

// TestRowLargerThanAMessage: a row of some values of the greatest size is more than one message may hold. It comes all the same, in a
// first copy and to a replica that is ready.
func TestRowLargerThanAMessage(t *testing.T) {
	schema := must(crdt.NewSchema("t", []string{"id"}, []string{"a", "b", "c", "d", "e"}))
	insert := func(n *node, key int64) {
		op := crdt.Op{Table: "t", Key: crdt.MustKey(crdt.Integer(key)), Kind: crdt.OpInsert}
		for i, c := range schema.Columns {
			val := crdt.Blob(bytes.Repeat([]byte{byte(i), byte(key), 3, 4}, crdt.MaxValueBytes/4))
			op.Sets = append(op.Sets, crdt.Set{Column: c, Value: val})
		}
		n.store.drain = Drain{Schemas: []*crdt.Schema{schema}, Groups: []Group{{Ops: []crdt.Op{op}}}}
		n.process()
	}
	w := newWorld(t, 1, 2)
	w.chunk = 0
	for _, n := range w.nodes {
		n.load(Config{})
	}
	w.run(20)
	insert(w.nodes[0], 1)
	w.connect(w.nodes[0], w.nodes[1])
	w.run(2000)
	w.requireEqual()
	insert(w.nodes[0], 2)
	w.run(2000)
	w.requireEqual()
	if n := len(w.nodes[1].store.rows); n != 2 {
		t.Fatalf("%d rows have come", n)
	}
}
