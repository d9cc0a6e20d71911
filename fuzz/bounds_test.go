package fuzz

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// writer is the origin of what these tests send.
var writer = crdt.Origin{9}

// rowsOf makes n rows that take as few bytes as rows can: a small key and a column without a value.
func rowsOf(n int, at crdt.Stamp) []crdt.RowDelta {
	rows := make([]crdt.RowDelta, n)
	for i := range rows {
		op := crdt.Op{Kind: crdt.OpUpdate, Sets: []crdt.Set{{Column: "amount"}}}
		rows[i] = crdt.RowDelta{Schema: customers, Key: crdt.MustKey(crdt.Integer(int64(i % 24))), Row: op.Delta(at, crdt.Stamp{})}
	}
	return rows
}

func blockOf(at, prev hlc.Timestamp, rows int, pad int) []byte {
	s := crdt.Stamp{Time: at, Origin: writer}
	b := &crdt.Block{Stamp: s, Prev: prev, Rows: rowsOf(rows, s)}
	noise := make([]byte, pad)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	op := crdt.Op{Kind: crdt.OpInsert, Sets: []crdt.Set{{Column: "name", Value: crdt.Blob(noise)}}}
	b.Rows = append(b.Rows, crdt.RowDelta{Schema: customers, Key: crdt.MustKey(crdt.Text("last")), Row: op.Delta(s, crdt.Stamp{})})
	return crdt.AppendBlock(nil, b, (*crdt.Schema).Ref)
}

func item(b []byte) []byte { return append(binary.AppendUvarint(nil, uint64(len(b))), b...) }

// TestDenseRows: P17. What the smallest possible rows take in memory, many of them, is within the factor for rows.
func TestDenseRows(t *testing.T) {
	at := crdt.Stamp{Time: 1 << 40, Origin: writer}
	for _, n := range []int{1000, 30_000, 300_000} {
		block := blockOf(at.Time, 0, n, 0)
		var d crdt.DeltaBuilder
		for _, r := range rowsOf(n, at) {
			d.Add(r.Schema, r.Schema.Ref(), r.Key, r.Row)
		}
		delta := d.Finish()
		bounded(t, len(block), perRowByte, func() {
			if b, err := crdt.ParseBlock(string(block), both{}); err != nil || len(b.Rows) != n+1 {
				t.Errorf("a block of %d rows: %v", n, err)
			}
		})
		bounded(t, len(delta), perRowByte, func() {
			if rows, err := crdt.ParseDelta(string(delta), both{}, n); (err == nil) != (2*n <= crdt.MaxDeltaItems) || err == nil && len(rows) != n {
				t.Errorf("a delta of %d rows: %v", n, err)
			}
		})
	}
}

// greeted is a replica with a link whose other end has said HELLO and told a schema.
func greeted(t *testing.T) *talker {
	k, other := newTalker(t, replica.GroupID{7}), newTalker(t, replica.GroupID{7})
	other.connect()
	k.connect()
	k.take(other.sent[0])
	k.take(replica.Frame{Type: replica.FrameSchema, Body: item(crdt.AppendSchema(nil, customers))})
	return k
}

func (k *talker) take(f replica.Frame) { k.step(replica.Input{From: 1, Frame: &f}) }

// TestBombs: P17. A small compressed frame that would become very much is refused before it does, and its sender loses
// the link. Each shrinks by less than the greatest factor there may be.
func TestBombs(t *testing.T) {
	encoder := must(zstd.NewWriter(nil))
	const noise = 8 << 10
	schemas := func() (list []byte) {
		for i := 0; len(list) < 12<<20; i++ {
			s := must(crdt.NewSchema(fmt.Sprint("t", i), []string{"k"}, []string{"a", "b"}))
			list = append(list, item(crdt.AppendSchema(nil, s))...)
		}
		return list
	}
	for _, bomb := range []struct {
		kind replica.FrameType
		body []byte
	}{
		{replica.FrameBlocks, item(blockOf(1<<39, 0, 3<<20, noise))},
		{replica.FrameBlocks, bytes.Repeat(item(blockOf(1<<39, 0, 100, 0)), 30_000)},
		{replica.FrameSchema, schemas()},
		{replica.FrameHello, append(make([]byte, 9<<20), noiseOf(noise)...)},
		{replica.FrameHeads, append(make([]byte, 9<<20), noiseOf(noise)...)},
		{replica.FrameChunk, append(make([]byte, 65<<20), noiseOf(80<<10)...)},
	} {
		k := greeted(t)
		small := encoder.EncodeAll(bomb.body, nil)
		if len(small)*900 < len(bomb.body) {
			small = encoder.EncodeAll(append(bomb.body, noiseOf(len(bomb.body)/800)...), nil)
		}
		bounded(t, len(small), perByte, func() { k.take(replica.Frame{Type: bomb.kind, Zstd: true, Body: small}) })
		if k.open && bomb.kind != replica.FrameChunk { // one that nobody asked for is passed over
			t.Errorf("%s: %d bytes that would become %d do not end the link", bomb.kind, len(small), len(bomb.body))
		}
	}
}

// TestHiddenBomb: P17. A compressed body says how large it becomes. What follows the part that says so is not unpacked.
func TestHiddenBomb(t *testing.T) {
	encoder := must(zstd.NewWriter(nil))
	body := append(encoder.EncodeAll(make([]byte, 2000), nil), encoder.EncodeAll(make([]byte, 60<<20), nil)...)
	k := greeted(t)
	bounded(t, len(body), perByte, func() { k.take(replica.Frame{Type: replica.FrameHeads, Zstd: true, Body: body}) })
	if k.open {
		t.Error("the link goes on")
	}
}

func noiseOf(n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestMessageInParts: P17. A message that goes on and on ends the link at the limit of its kind. One that nobody asked for, or of a kind
// that nobody knows, is passed over for as long as it likes.
func TestMessageInParts(t *testing.T) {
	const size = replica.MaxFrameBytes - 4
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	for kind, most := range map[replica.FrameType]int{
		replica.FrameBlocks: 0, replica.FrameHeads: 8, replica.FrameSchema: 8, replica.FramePull: 8, replica.FrameChunk: 64, replica.FrameAudit: 8, 0x1f: 64,
	} {
		k := greeted(t)
		taken, sum := 0, uint32(0)
		for ; k.open && taken <= 64; taken++ {
			f := replica.Frame{Type: kind, More: true, Cont: taken > 0, Body: make([]byte, size)}
			before := sum
			if sum = crc32.Update(sum, castagnoli, f.Body); f.Cont {
				f.Body = append(binary.BigEndian.AppendUint32(nil, before), f.Body...)
			}
			k.take(f)
		}
		if taken != most+1 {
			t.Errorf("%s: the link ends with part %d of 1 MiB, want %d", kind, taken, most+1)
		}
	}
}

// TestSchemaFlood: P17. A peer that tells schema after schema loses its link; telling one again costs nothing.
func TestSchemaFlood(t *testing.T) {
	columns := func(length int) (names []string) {
		for i := range crdt.MaxColumns - 1 {
			names = append(names, fmt.Sprintf("%0*d", length, i))
		}
		return names
	}
	for _, flood := range []struct {
		columns []string
		most    int
	}{{[]string{"a"}, 4096}, {columns(120), 80}} {
		k := greeted(t)
		told := 1
		for ; k.open && told <= flood.most; told++ {
			s := must(crdt.NewSchema(fmt.Sprint("t", told), []string{"k"}, flood.columns))
			f := replica.Frame{Type: replica.FrameSchema, Body: item(crdt.AppendSchema(nil, s))}
			k.take(f)
			if told%100 == 1 && k.open {
				k.take(f)
			}
		}
		if k.open {
			t.Errorf("%d schemas of %d columns do not end the link", told, len(flood.columns))
		}
	}
}

// TestHeldBlocksAlone: P18. A small block that waits for the one before it does not keep the large message that it came in.
func TestHeldBlocksAlone(t *testing.T) {
	k := greeted(t)
	k.take(replica.Frame{Type: replica.FrameBlocks, Body: item(blockOf(1<<20, 0, 1, 32<<10))})
	live := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := live()
	for i := range hlc.Timestamp(400) {
		held := blockOf(1<<21+2*i+1, 1<<21+2*i, 1, 0)
		known := blockOf(1<<20, 0, 1, 60<<10)
		k.take(replica.Frame{Type: replica.FrameBlocks, Body: append(item(held), item(known)...)})
		k.sent = nil
	}
	grown := live() - before
	if h := k.r.Status().Held; !k.open || len(h) != 1 || h[0].Blocks != 400 {
		t.Fatalf("open=%v, held are %+v", k.open, h)
	}
	if grown > 4<<20 {
		t.Errorf("400 held blocks of some 50 bytes keep %d bytes", grown)
	}
}

// TestTooManyColumns: P17. Schemas that are each in order, but together make a table of more columns than there may be, end
// the link of the peer that tells the last one, and do not end the replica.
func TestTooManyColumns(t *testing.T) {
	k := greeted(t)
	for i := range hlc.Timestamp(2) {
		var names []string
		for n := range 1500 {
			names = append(names, fmt.Sprintf("c%d_%d", i, n))
		}
		s := must(crdt.NewSchema("t", []string{"k"}, names))
		at := crdt.Stamp{Time: 100 * (i + 1), Origin: writer}
		row := crdt.Op{Kind: crdt.OpInsert}.Delta(at, crdt.Stamp{})
		b := &crdt.Block{Stamp: at, Prev: 100 * i, Rows: []crdt.RowDelta{{Schema: s, Key: crdt.MustKey(crdt.Integer(1)), Row: row}}}
		k.take(replica.Frame{Type: replica.FrameSchema, Body: item(crdt.AppendSchema(nil, s))})
		k.take(replica.Frame{Type: replica.FrameBlocks, Body: item(crdt.AppendBlock(nil, b, (*crdt.Schema).Ref))})
		if k.open != (i == 0) {
			t.Errorf("after schema %d the link is open: %v", i+1, k.open)
		}
	}
	k.sound()
}

// TestSameShortName: M3-3. Two tables whose schemas have the same short name are not taken for one: the second ends the link.
func TestSameShortName(t *testing.T) {
	byRef := map[crdt.SchemaRef]*crdt.Schema{}
	var first, second *crdt.Schema
	for i := 0; first == nil; i++ {
		second = must(crdt.NewSchema(fmt.Sprint("t", i), []string{"k"}, []string{"a"}))
		ref := second.Ref()
		first, byRef[ref] = byRef[ref], second
	}
	k := greeted(t)
	for _, s := range []*crdt.Schema{first, second} {
		k.take(replica.Frame{Type: replica.FrameSchema, Body: item(crdt.AppendSchema(nil, s))})
	}
	if k.open {
		t.Errorf("%s and %s have one short name, and neither was used yet: the link is open", first, second)
	}
	k = greeted(t)
	for i, s := range []*crdt.Schema{first, second} {
		at := crdt.Stamp{Time: 100 * hlc.Timestamp(i+1), Origin: writer}
		row := crdt.Op{Kind: crdt.OpInsert}.Delta(at, crdt.Stamp{})
		b := &crdt.Block{Stamp: at, Prev: at.Time - 100, Rows: []crdt.RowDelta{{Schema: s, Key: crdt.MustKey(crdt.Integer(int64(i))), Row: row}}}
		k.take(replica.Frame{Type: replica.FrameSchema, Body: item(crdt.AppendSchema(nil, s))})
		k.take(replica.Frame{Type: replica.FrameBlocks, Body: item(crdt.AppendBlock(nil, b, (*crdt.Schema).Ref))})
	}
	if k.open || k.r.Status().Coverage[writer] != 100 {
		t.Errorf("%s and %s have one short name; open=%v, claimed is %s", first, second, k.open, k.r.Status().Coverage)
	}
}
