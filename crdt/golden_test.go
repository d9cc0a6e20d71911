package crdt_test

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
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
		crdt.Text(""), crdt.Text("paused"), crdt.Text("a\x00b"), crdt.Text("\xff"), crdt.Blob(nil), crdt.Blob([]byte{1, 2}),
	} {
		add("value", v.Kind().String()+" "+v.String(), []byte(v.Encoded()))
	}
	for _, k := range []crdt.Key{
		crdt.MustKey(crdt.Integer(7)), crdt.MustKey(crdt.Real(7)), crdt.MustKey(crdt.Text("k")), crdt.MustKey(crdt.Integer(1), crdt.Text("x"), crdt.Blob([]byte{0})),
	} {
		add("key", k.String(), []byte(k.Encoded()))
	}
	s, err := crdt.NewSchema("customers", []string{"id"}, []string{"amount", "email", "name", "status"})
	if err != nil {
		t.Fatal(err)
	}
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
	add("coverage hash", "two heads: "+crdt.Coverage{origin: at.Time, other: birth.Time}.String(), hash[:])
	return out
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
