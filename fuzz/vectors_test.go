package fuzz

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/dsstore"
)

var update = flag.Bool("update", false, "write docs/vectors.json anew")

const vectorsFile = "../docs/vectors.json"

// vector is one encoding of the protocol, for those who write another implementation.
type vector struct {
	What  string `json:"what"`
	Means string `json:"means"`
	Bytes string `json:"bytes"` // hexadecimal
}

func vectors(t *testing.T) (out []vector) {
	add := func(what, means string, b []byte) { out = append(out, vector{what, means, hex.EncodeToString(b)}) }
	for _, v := range []crdt.Value{
		{}, crdt.Integer(0), crdt.Integer(23), crdt.Integer(24), crdt.Integer(-1), crdt.Integer(1<<63 - 1), crdt.Integer(-1 << 63), crdt.Real(1), crdt.Real(149.5), crdt.Real(0.1),
		crdt.Real(math.Copysign(0, -1)), crdt.Real(math.Inf(-1)), crdt.Real(1 << 20), crdt.Real(1 << 53),
		crdt.Text(""), crdt.Text("paused"), crdt.Text("a\x00b"), crdt.Text("\xff"), crdt.Blob(nil), crdt.Blob([]byte{1, 2}),
	} {
		add("value", v.Kind().String()+" "+v.String(), []byte(v.Encoded()))
	}
	for _, k := range []crdt.Key{
		crdt.MustKey(crdt.Integer(7)), crdt.MustKey(crdt.Real(7)), crdt.MustKey(crdt.Text("k")), crdt.MustKey(crdt.Integer(1), crdt.Text("x"), crdt.Blob([]byte{0})),
	} {
		add("key", k.String(), []byte(k.Encoded()))
	}
	s := customers
	add("schema", s.String(), crdt.AppendSchema(nil, s))
	origin, other := crdt.Origin{0x7b, 0x1e}, crdt.Origin{0x01}
	at := crdt.Stamp{Time: hlc.FromMillis(1_760_000_012_345), Origin: origin}
	birth := crdt.Stamp{Time: at.Time - 1500<<16, Origin: other}
	key := crdt.MustKey(crdt.Text("c-17"))
	all := []crdt.Set{{Column: "amount", Value: crdt.Real(149.5)}, {Column: "email", Value: crdt.Text("a@b.c")}, {Column: "name", Value: crdt.Text("Ada")}, {Column: "status", Value: crdt.Text("open")}}
	for _, op := range []crdt.Op{
		{Kind: crdt.OpInsert, Sets: all}, {Kind: crdt.OpUpdate, Sets: []crdt.Set{{Column: "status", Value: crdt.Text("paused")}}}, {Kind: crdt.OpDelete}, {Kind: crdt.OpReplace, Sets: all},
	} {
		d := crdt.RowDelta{Schema: s, Key: key, Row: op.Delta(at, birth)}
		b := &crdt.Block{Stamp: at, Prev: at.Time - 100<<16, Rows: []crdt.RowDelta{d}}
		add("block", op.Kind.String()+" of one row at "+at.Time.String()+", born "+birth.Time.String()+" elsewhere", crdt.AppendBlock(nil, b, (*crdt.Schema).Ref))
		var delta crdt.DeltaBuilder
		delta.Add(s, s.Ref(), key, d.Row)
		delta.Add(s, s.Ref(), crdt.MustKey(crdt.Text("c-18")), d.Row)
		add("delta", op.Kind.String()+" of two rows", delta.Finish())
	}
	mixed := crdt.Op{Kind: crdt.OpInsert, Sets: all}.Delta(birth, crdt.Stamp{}).Merge(crdt.Op{Kind: crdt.OpUpdate, Sets: all[:1]}.Delta(at, crdt.Stamp{}))
	var delta crdt.DeltaBuilder
	delta.Add(s, s.Ref(), key, mixed)
	add("delta", "a row with one column of a later transaction", delta.Finish())
	hash := crdt.Coverage{origin: at.Time, other: birth.Time}.Hash()
	cols := s.Numbering()
	for _, r := range []crdt.Row{mixed, crdt.Op{Kind: crdt.OpDelete}.Delta(at, birth)} {
		add("stored row", "based on "+r.Base().String()+", columns as in the schema, origin numbers are their first bytes: "+r.String(), crdt.AppendRow(nil, r, firstByte{}, cols))
	}
	for _, at := range []hlc.Timestamp{1, hlc.FromMillis(1_760_000_012_345) + 0xff, hlc.Max} {
		add("timestamp", at.String(), binary.BigEndian.AppendUint64(nil, uint64(at)))
	}
	add("coverage hash", "two heads: "+crdt.Coverage{origin: at.Time, other: birth.Time}.String(), hash[:])
	for _, said := range conversation(t) {
		add("frame", said.from+" sends "+said.frame.String(), replica.AppendFrame(nil, said.frame))
	}
	return out
}

// firstByte numbers origins by their first bytes.
type firstByte struct{}

func (firstByte) Number(o crdt.Origin) uint64 { return uint64(o[0]) }

// said is one frame of a conversation.
type said struct {
	from  string
	frame replica.Frame
}

// conversation is what two replicas say to each other, in order, and then what one of them says to a third: A has rows and
// founds the group, B joins with its first copy, follows, and loses a row, which an audit brings back; C belongs to another group. It holds every type of frame that
// is in use.
func conversation(t testing.TB) (out []said) {
	a, b, c := speaker(t, "A", 0x0a, 7), speaker(t, "B", 0x0b, 0), speaker(t, "C", 0x0c, 8)
	note := func(k *talker, f replica.Frame) replica.Frame {
		out = append(out, said{k.name, f})
		return f
	}
	for n := range int64(9) {
		a.step(replica.Input{Write: customer(n)})
	}
	a.connect()
	b.connect()
	talk(a, b, note)
	a.step(replica.Input{Write: customer(20)}) // pushed
	talk(a, b, note)
	for _, k := range []*talker{a, b} {
		k.step(replica.Input{Up: &replica.LinkUp{Link: 2, Peer: "fuzz"}})
	}
	talk(a, b, note)
	a.step(replica.Input{Write: customer(23)}) // pushed on both links, and B prunes one
	talk(a, b, note)
	for _, k := range []*talker{a, b} {
		k.step(replica.Input{Down: 1}) // B grafts the other
	}
	talk(a, b, note)
	a.step(replica.Input{Write: customer(21, 22)}) // announced, for it is one unit of two blocks
	talk(a, b, note)
	b.lose()
	a.step(replica.Input{Audit: &replica.Audit{}})
	talk(a, b, note)
	a.step(replica.Input{Down: 2})
	a.connect()
	c.connect()
	talk(a, c, note)
	return out
}

// customer makes transactions of one new customer each.
func customer(numbers ...int64) *replica.Drain {
	d := replica.Drain{Schemas: []*crdt.Schema{customers}}
	for _, n := range numbers {
		op := crdt.Op{Table: "customers", Key: crdt.MustKey(crdt.Integer(n)), Kind: crdt.OpInsert, Sets: []crdt.Set{{Column: "name", Value: crdt.Text(fmt.Sprint("customer ", n))}}}
		d.Groups = append(d.Groups, replica.Group{Ops: []crdt.Op{op}})
	}
	return &d
}

// talk lets two replicas talk for two seconds. Each frame goes through a function on its way.
func talk(x, y *talker, pass func(*talker, replica.Frame) replica.Frame) {
	for range 100 {
		for i, f := range x.sent {
			if pass != nil {
				f = pass(x, f)
			}
			y.in = append(y.in, replica.Input{From: x.via[len(x.via)-len(x.sent)+i], Frame: &f})
		}
		x.sent, x.via = nil, nil
		x, y = y, x
		x.step(x.in...)
		x.in = nil
	}
}

// lose takes the record of one row away, as no transaction does.
func (k *talker) lose() {
	rows := must(must(k.disk.Query(context.Background(), query.Query{Prefix: "/r", KeysOnly: true, Orders: []query.Order{query.OrderByKey{}}})).Rest())
	if len(rows) == 0 {
		k.t.Fatal("there is no row to lose")
	}
	if err := k.disk.Delete(context.Background(), ds.RawKey(rows[0].Key)); err != nil {
		k.t.Fatal(err)
	}
}

// speaker is a replica that sends chunks of two rows, and packs every vector.
func speaker(t testing.TB, name string, origin, group byte) *talker {
	disk := ds.NewMapDatastore()
	k := &talker{t: t, name: name, now: 1_760_000_000_000, disk: disk, store: must(dsstore.Open(context.Background(), disk))}
	cfg := replica.Config{NewOrigin: crdt.Origin{origin}, ChunkBytes: 50, PackBytes: 1}
	if group != 0 {
		cfg.NewGroup = replica.GroupID{group}
	}
	k.load(cfg)
	return k
}

// TestConversation: the example conversation says something of every type that is in use.
func TestConversation(t *testing.T) {
	seen := map[replica.FrameType]int{}
	for _, s := range conversation(t) {
		seen[s.frame.Type]++
	}
	for _, kind := range []replica.FrameType{
		replica.FrameHello, replica.FramePull, replica.FrameChunk, replica.FrameDone, replica.FrameHeads, replica.FrameReject,
		replica.FrameSchema, replica.FramePrune, replica.FrameAnnounce, replica.FrameBlocks, replica.FrameCredit,
		replica.FrameAudit, replica.FrameAudited, replica.FrameMend,
	} {
		if seen[kind] == 0 {
			t.Errorf("no %s in %v", kind, seen)
		}
	}
}

// TestVectors: M3-20, P24. The encodings are those of docs/vectors.json, byte for byte: peers of different versions
// and other implementations count on them.
func TestVectors(t *testing.T) {
	got := vectors(t)
	if *update {
		b, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorsFile, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var want []vector
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d vectors, the file has %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s (%s) is\n%s\nwant (%s)\n%s", got[i].What, got[i].Means, got[i].Bytes, want[i].Means, want[i].Bytes)
		}
	}
}
