package fuzz

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/sim"
)

// Decoders allocate in proportion to their input (P17). A row takes 120 bytes of memory and a cell 56, and as little as
// one byte each on the wire, so rows have a factor of their own.
const (
	perByte    = 8
	perRowByte = 160
	anyway     = 64 << 10
)

// bounded runs f and fails where it allocates more than so many bytes for each byte of its input.
func bounded(t *testing.T, input, factor int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if n := int(after.TotalAlloc - before.TotalAlloc); n > factor*input+anyway {
		t.Errorf("%d bytes are allocated for an input of %d", n, input)
	}
}

// seed adds the protocol's example encodings of one kind.
func seed(f *testing.F, what string) {
	b, err := os.ReadFile("../docs/vectors.json")
	if err != nil {
		f.Fatal(err)
	}
	var vectors []struct{ What, Bytes string }
	if err := json.Unmarshal(b, &vectors); err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors {
		if v.What == what {
			raw, err := hex.DecodeString(v.Bytes)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw)
		}
	}
}

func FuzzValue(f *testing.F) {
	seed(f, "value")
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), perByte, func() {
			if v, err := crdt.ParseValue(string(b)); err == nil && v.Encoded() != string(b) {
				t.Errorf("%x is encoded again as %x", b, v.Encoded())
			}
		})
	})
}

func FuzzKey(f *testing.F) {
	seed(f, "key")
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), perRowByte, func() {
			k, err := crdt.ParseKey(string(b))
			if err != nil {
				return
			}
			if again, err := crdt.KeyOf(k.Values()...); err != nil || again.Encoded() != string(b) {
				t.Errorf("the values of %x make %x, %v", b, again.Encoded(), err)
			}
		})
	})
}

func FuzzSchema(f *testing.F) {
	seed(f, "schema")
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), perRowByte, func() {
			if s, err := crdt.ParseSchema(b); err == nil && !bytes.Equal(crdt.AppendSchema(nil, s), b) {
				t.Errorf("%x is encoded again as %x", b, crdt.AppendSchema(nil, s))
			}
		})
	})
}

// customers is the schema of the example blocks.
var customers = must(crdt.NewSchema("customers", []string{"id"}, []string{"amount", "email", "name", "status"}))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// wide has more columns than fit into a number.
var wide = must(crdt.NewSchema("wide", []string{"id"}, manyNames(90)))

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("c", i))
	}
	return names
}

// wideRef is a short name of one byte, which the search finds more often than a hash.
const wideRef crdt.SchemaRef = 5

func refOf(s *crdt.Schema) crdt.SchemaRef {
	if s == wide {
		return wideRef
	}
	return customersRef
}

var customersRef = customers.Ref()

// both knows the two schemas.
type both struct{}

func (both) Schema(r crdt.SchemaRef) *crdt.Schema {
	switch r {
	case wideRef:
		return wide
	case customersRef:
		return customers
	}
	return nil
}

func deltaOf(rows []crdt.RowDelta) []byte {
	var d crdt.DeltaBuilder
	for _, r := range rows {
		d.Add(r.Schema, refOf(r.Schema), r.Key, r.Row)
	}
	return d.Finish()
}

// wideRow is a row with a column of each of the mask's two forms.
func wideRow(kind crdt.OpKind, at crdt.Stamp, columns ...string) crdt.RowDelta {
	op := crdt.Op{Kind: kind}
	for _, c := range columns {
		op.Sets = append(op.Sets, crdt.Set{Column: c, Value: crdt.Integer(1)})
	}
	return crdt.RowDelta{Schema: wide, Key: crdt.MustKey(crdt.Integer(1)), Row: op.Delta(at, crdt.Stamp{})}
}

// unchanged rewrites an encoding with the keys and values that it has.
var unchanged = crdt.Rewrite{
	Key:   func(k crdt.Key) (crdt.Key, error) { return k, nil },
	Value: func(v crdt.Value) (crdt.Value, error) { return v, nil },
}

func FuzzBlock(f *testing.F) {
	seed(f, "block")
	at := crdt.Stamp{Time: 1 << 40, Origin: writer}
	f.Add(crdt.AppendBlock(nil, &crdt.Block{Stamp: at, Rows: []crdt.RowDelta{wideRow(crdt.OpInsert, at, "c1", "c2"), wideRow(crdt.OpUpdate, at, "c7", "c88"), wideRow(crdt.OpDelete, at)}}, refOf))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), perRowByte, func() {
			block, err := crdt.ParseBlock(string(b), both{})
			head, prev, headErr := crdt.ParseBlockHead(string(b))
			same, rewriteErr := unchanged.Block(string(b))
			if err != nil {
				return
			}
			if rewriteErr != nil || same != string(b) {
				t.Errorf("%x is rewritten as %x, %v", b, same, rewriteErr)
			}
			if headErr != nil || head != block.Stamp || prev != block.Prev {
				t.Errorf("the head of %x is %s after %s, %v", b, head, prev, headErr)
			}
			if again := crdt.AppendBlock(nil, block, refOf); !bytes.Equal(again, b) {
				t.Errorf("%x is encoded again as %x", b, again)
			}
			for _, d := range block.Rows {
				if m := d.Row.Merge(d.Row); !m.Equal(d.Row) {
					t.Errorf("a row that is not in normal form: %s", d.Row)
				}
			}
		})
	})
}

func FuzzDelta(f *testing.F) {
	seed(f, "delta")
	at := crdt.Stamp{Time: 1 << 40, Origin: writer}
	f.Add(deltaOf([]crdt.RowDelta{wideRow(crdt.OpInsert, at, "c1", "c2"), wideRow(crdt.OpReplace, at, "c7", "c88"), wideRow(crdt.OpDelete, at)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), perRowByte, func() {
			rows, err := crdt.ParseDelta(string(b), both{}, 1<<16)
			same, rewriteErr := unchanged.Delta(string(b))
			if err != nil {
				return
			}
			if rewriteErr != nil || same != string(b) {
				t.Errorf("%x is rewritten as %x, %v", b, same, rewriteErr)
			}
			again := deltaOf(rows)
			if back, err := crdt.ParseDelta(string(again), both{}, 1<<16); err != nil || !bytes.Equal(deltaOf(back), again) {
				t.Errorf("%x is encoded again as %x, and that is not stable: %v", b, again, err)
			}
			for _, d := range rows {
				if m := d.Row.Merge(crdt.Row{}); !m.Equal(d.Row) {
					t.Errorf("a row that is not in normal form: %s", d.Row)
				}
			}
		})
	})
}

// someOrigins knows three origins.
type someOrigins struct{}

func (someOrigins) Origin(n uint64) (crdt.Origin, bool) { return crdt.Origin{byte(n)}, n > 0 && n < 4 }

func (someOrigins) Number(o crdt.Origin) uint64 { return uint64(o[0]) }

func FuzzStoredRow(f *testing.F) {
	base := crdt.Stamp{Time: 1 << 40, Origin: crdt.Origin{1}}
	cols := customers.Numbering()
	for _, op := range []crdt.Op{{Kind: crdt.OpDelete}, {Kind: crdt.OpReplace, Sets: []crdt.Set{{Column: "name", Value: crdt.Text("Ada")}}}} {
		f.Add(uint64(base.Time), crdt.AppendRow(nil, op.Delta(base, crdt.Stamp{Time: 9, Origin: crdt.Origin{2}}), someOrigins{}, cols))
	}
	f.Add(uint64(hlc.Max), []byte{0x05, 0x02, 0x20})
	f.Fuzz(func(t *testing.T, time uint64, b []byte) {
		base := crdt.Stamp{Time: hlc.Timestamp(time) & hlc.Max, Origin: base.Origin}
		bounded(t, len(b), perRowByte, func() {
			row, err := crdt.ParseRow(base, string(b), someOrigins{}, cols)
			if err != nil {
				return
			}
			if again := crdt.AppendRow(nil, row, someOrigins{}, cols); row.Base() != base || !bytes.Equal(again, b) {
				t.Errorf("%x is encoded again as %x", b, again)
			}
		})
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(replica.AppendFrame(nil, replica.Frame{Type: replica.FrameHello, Critical: true, Body: []byte{0xa0}}))
	f.Add([]byte{0x0e, 0xff, 0xff, 0xff, 0x7f})
	seed(f, "frame")
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), perByte, func() { readFrames(t, b) })
	})
}

// readFrames reads all frames of a stream.
func readFrames(t *testing.T, b []byte) {
	r := bufio.NewReaderSize(bytes.NewReader(b), 16)
	for {
		read := 0
		frame, err := replica.ReadFrame(r, func(n int) error {
			if read = n; n > len(b) {
				return os.ErrInvalid // the caller's accounting: it would wait for more than there is
			}
			return nil
		})
		if err != nil {
			return
		}
		if len(frame.Body) != read {
			t.Errorf("%d bytes were announced, %d came", read, len(frame.Body))
		}
		again, err := replica.ReadFrame(bufio.NewReaderSize(bytes.NewReader(replica.AppendFrame(nil, frame)), 16), nil)
		if err != nil || again.Type != frame.Type || !bytes.Equal(again.Body, frame.Body) {
			t.Errorf("%v comes back as %v, %v", frame, again, err)
		}
	}
}

func FuzzTimestamp(f *testing.F) {
	f.Add(hlc.FromMillis(1_700_000_000_000).String())
	f.Fuzz(func(t *testing.T, s string) {
		bounded(t, len(s), perByte, func() {
			if at, err := hlc.Parse(s); err == nil && at.String() != s {
				t.Errorf("%q is read as %s", s, at)
			}
		})
	})
}

func FuzzCase(f *testing.F) {
	f.Add(sim.Plan(sim.Config{Seed: 1, Steps: 60}).String())
	f.Fuzz(func(t *testing.T, s string) {
		c, err := sim.ParseCase(s)
		if err != nil {
			return
		}
		if again, err := sim.ParseCase(c.String()); err != nil || again.String() != c.String() {
			t.Errorf("the case changes when it is printed and read: %v\n%s\n%s", err, c, again)
		}
	})
}
