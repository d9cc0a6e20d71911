package fuzz

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"runtime"
	"testing"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/network"
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

// anySchema gives every short name the same schema.
type anySchema struct{}

func (anySchema) Schema(crdt.SchemaRef) *crdt.Schema { return customers }

func FuzzBlock(f *testing.F) {
	seed(f, "block")
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), perRowByte, func() {
			block, err := crdt.ParseBlock(string(b), anySchema{})
			head, prev, headErr := crdt.ParseBlockHead(string(b))
			if err != nil {
				return
			}
			if headErr != nil || head != block.Stamp || prev != block.Prev {
				t.Errorf("the head of %x is %s after %s, %v", b, head, prev, headErr)
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
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), perRowByte, func() {
			rows, err := crdt.ParseDelta(string(b), anySchema{})
			if err != nil {
				return
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
		f.Add(crdt.AppendRow(nil, op.Delta(base, crdt.Stamp{Time: 9, Origin: crdt.Origin{2}}), someOrigins{}, cols))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, len(b), perRowByte, func() {
			row, err := crdt.ParseRow(base, string(b), someOrigins{}, cols)
			if err != nil {
				return
			}
			if again := crdt.AppendRow(nil, row, someOrigins{}, cols); row.Base() == base && !bytes.Equal(again, b) {
				t.Errorf("%x is encoded again as %x", b, again)
			}
		})
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(replica.AppendFrame(nil, replica.Frame{Type: replica.FrameHello, Critical: true, Body: []byte{0xa0}}))
	f.Add([]byte{0x0e, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
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
			again, err := replica.ReadFrame(bufio.NewReader(bytes.NewReader(replica.AppendFrame(nil, frame))), nil)
			if err != nil || again.Type != frame.Type || !bytes.Equal(again.Body, frame.Body) {
				t.Errorf("%v comes back as %v, %v", frame, again, err)
			}
		}
	})
}

func FuzzTimestamp(f *testing.F) {
	f.Add(hlc.FromMillis(1_700_000_000_000).String())
	f.Fuzz(func(t *testing.T, s string) {
		if at, err := hlc.Parse(s); err == nil && at.String() != s {
			t.Errorf("%q is read as %s", s, at)
		}
	})
}

func FuzzURI(f *testing.F) {
	f.Add("file:app.db?node=secondary&connect=tcp://10.0.0.1:7070&hub=0&mode=rw")
	f.Add("file:/a%20b?_pragma=x&tables=a,b")
	f.Fuzz(func(t *testing.T, s string) {
		c, rest, err := rowmesh.ParseURI(s)
		if err == nil && (c.Path == "" || rest == "") {
			t.Errorf("%q names no file: %+v, %q", s, c, rest)
		}
	})
}

func FuzzAddr(f *testing.F) {
	f.Add("tcp://10.0.0.1:7070")
	f.Add("/ip4/127.0.0.1/tcp/1/p2p/12D3KooWQNV2UvRQVmA1rjVRcRdhLMzzYPCYkEC6KpM2BgzPLhyY")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := network.ParseAddr(s)
		if err != nil {
			return
		}
		if b, err := network.ParseAddr(a.String()); err != nil || b.String() != a.String() {
			t.Errorf("%q is read as %s, and that as %s, %v", s, a, b, err)
		}
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
