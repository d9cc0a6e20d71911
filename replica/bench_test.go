package replica

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// crowd is a replica that knows k origins and has n greeted links whose peers know all of them.
func crowd(b testing.TB, k, n int) (*Replica, Instant) {
	b.Helper()
	store := newMemStore()
	store.state.Group, store.state.Ready = GroupID{7}, true
	now := Instant{Wall: 1_700_000_000_000, Mono: 1000}
	for i := range k {
		store.state.Coverage[originNumber(i)] = hlc.FromMillis(now.Wall - int64(i))
	}
	r := must(New(Config{NewOrigin: crdt.Origin{0xff}}, store))
	for i := range n {
		id := LinkID(i + 1)
		r.LinkUp(now, id, fmt.Sprint("peer", i))
		origin := crdt.Origin{0xfe, byte(i)}
		hello := encodeBody(helloBody{Version: 1, MinVersion: 1, Origin: origin[:], Group: store.state.Group[:], Heads: packed{Heads: vectorOf(r.coverage)}, Ready: true, Answer: true})
		if err := r.Step(nil, now, id, Frame{Type: FrameHello, Body: hello}); err != nil {
			b.Fatal(err)
		}
	}
	r.Ready()
	r.Advance()
	return r, now
}

func originNumber(i int) crdt.Origin {
	var o crdt.Origin
	binary.BigEndian.PutUint64(o[:], uint64(i+1)*0x9e3779b97f4a7c15)
	return o
}

// BenchmarkTick is the cost of letting 10 ms pass where 10,000 replicas ever wrote and nothing happens.
func BenchmarkTick(b *testing.B) {
	r, now := crowd(b, 10_000, 8)
	b.ReportAllocs()
	for b.Loop() {
		r.Tick(now)
		r.Wake()
	}
}

// BenchmarkHeads is the cost of taking in the news of one head, as every link brings them ten times a second.
func BenchmarkHeads(b *testing.B) {
	r, now := crowd(b, 10_000, 8)
	o := originNumber(77)
	f := Frame{Type: FrameHeads, Body: encodeBody(headsBody{Heads: vectorOf(crdt.Coverage{o: r.coverage[o]})})}
	r.raise(o, r.coverage[o]+1)
	b.ReportAllocs()
	for b.Loop() {
		r.hashed = false // something else was merged meanwhile
		if err := r.Step(nil, now, 3, f); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBlock is the cost of merging one pushed block of one row and forwarding it to seven links.
func BenchmarkBlock(b *testing.B) {
	r, now := crowd(b, 10_000, 8)
	if err := r.learn([]*crdt.Schema{testSchema}); err != nil {
		b.Fatal(err)
	}
	o := originNumber(77)
	key := crdt.MustKey(crdt.Integer(1))
	op := crdt.Op{Table: "t", Key: key, Kind: crdt.OpUpdate, Sets: []crdt.Set{{Column: "a", Value: crdt.Integer(5)}}}
	store := newMemStore()
	b.ReportAllocs()
	for b.Loop() {
		head := r.coverage[o]
		s := crdt.Stamp{Time: head + 1, Origin: o}
		raw := crdt.AppendBlock(nil, &crdt.Block{Stamp: s, Prev: head, Rows: []crdt.RowDelta{{Schema: testSchema, Key: key, Row: op.Delta(s, crdt.Stamp{})}}}, r.schemas.ref)
		if err := r.Step(&memRound{memStore: store}, now, 3, Frame{Type: FrameBlocks, Body: appendItem(nil, raw)}); err != nil {
			b.Fatal(err)
		}
		r.Tick(now)
		r.Ready()
		r.Advance()
	}
}
