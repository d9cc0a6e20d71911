package replica

import (
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
)

// TestChunkEndsAmongSkippedRows: a session that comes by rows that it has sent already, at other transactions, does not visit all of
// them at one go, and the client learns how far it has come.
func TestChunkEndsAmongSkippedRows(t *testing.T) {
	const rows = 3 * defaultChunkBytes / lookBytes
	w := newWorld(t, 1, 2)
	w.chunk = 0
	for _, n := range w.nodes {
		n.load(Config{})
	}
	w.connect(w.nodes[0], w.nodes[1])
	w.run(1000)
	w.unplug(w.nodes[0])
	for _, kind := range []crdt.OpKind{crdt.OpInsert, crdt.OpUpdate} {
		g := Group{WallMillis: w.now}
		for i := range rows {
			column := map[crdt.OpKind]string{crdt.OpInsert: "a", crdt.OpUpdate: "b"}[kind]
			g.Ops = append(g.Ops, crdt.Op{Table: "t", Key: crdt.MustKey(crdt.Integer(int64(i))), Kind: kind, Sets: []crdt.Set{{Column: column, Value: crdt.Integer(1)}}})
		}
		w.commit(w.nodes[0], g)
		w.run(100)
	}
	empty, places := 0, map[string]bool{}
	w.nodes[0].sees = func(_ *node, f Frame) bool {
		var b chunkBody
		if f.Type == FrameChunk && decodeBody(f.Type, must(f.plain()), &b) == nil {
			places[b.After.String()] = true
			if got := must(crdt.ParseDelta(string(b.Delta), w.nodes[0].r.schemas, maxChunkRows)); len(got) == 0 {
				empty++
			}
		}
		return true
	}
	w.connect(w.nodes[0], w.nodes[1])
	w.run(1000)
	w.requireEqual()
	if empty < 2 || len(places) < 6 {
		t.Errorf("%d chunks were empty, the session stood at %d places", empty, len(places))
	}
}
