package crdt

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rowmesh/rowmesh/hlc"
)

// TestStorageClasses: P14. SQLite's storage classes stay apart, and each value comes back as it was.
func TestStorageClasses(t *testing.T) {
	values := []Value{
		{}, Integer(0), Integer(1), Integer(-1), Integer(math.MaxInt64), Integer(math.MinInt64), Integer(1 << 53), Integer(1<<53 + 1),
		Real(0), Real(math.Copysign(0, -1)), Real(1), Real(-1), Real(0.1), Real(149.5), Real(math.MaxFloat64), Real(math.SmallestNonzeroFloat64),
		Real(math.Inf(1)), Real(math.Inf(-1)), Real(math.MaxInt64), Real(1 << 53),
		Text(""), Text("1"), Text("1.0"), Text("a\x00b"), Text("über"), Text("\xff\xfe"), Text(strings.Repeat("x", 70000)),
		Blob(nil), Blob([]byte("1")), Blob([]byte{0}), Blob([]byte("\xff\xfe")),
	}
	for i, v := range values {
		back, err := ParseValue(v.Encoded())
		if err != nil || back != v {
			t.Errorf("%s comes back as %s, %v", v, back, err)
		}
		for j, w := range values {
			if (v == w) != (i == j) {
				t.Errorf("%s and %s: equal is %v", v, w, v == w)
			}
		}
	}
	if v := Real(math.NaN()); !v.IsNull() {
		t.Errorf("NaN is %s, want NULL as in SQLite", v)
	}
	if got := Integer(math.MinInt64).Integer(); got != math.MinInt64 {
		t.Errorf("the least integer is %d", got)
	}
	if got := Real(math.Copysign(0, -1)).Real(); !math.Signbit(got) {
		t.Error("-0.0 loses its sign")
	}
	if Text("\xff").Kind() != KindRawText || Text("\xff").Bytes() != "\xff" {
		t.Error("text that is not UTF-8 does not come back")
	}
}

// valueGen draws values of every kind.
var valueGen = rapid.Custom(func(t *rapid.T) Value {
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		return Value{}
	case 1:
		return Integer(rapid.Int64().Draw(t, "integer"))
	case 2:
		return Real(rapid.Float64().Draw(t, "real"))
	case 3:
		return Text(rapid.String().Draw(t, "text"))
	case 4:
		return Text(string(rapid.SliceOf(rapid.Byte()).Draw(t, "raw text")))
	}
	return Blob(rapid.SliceOf(rapid.Byte()).Draw(t, "blob"))
})

// keyGen draws keys of one part or several.
var keyGen = rapid.Custom(func(t *rapid.T) Key {
	for {
		k, err := KeyOf(rapid.SliceOfN(valueGen, 1, 3).Draw(t, "parts")...)
		if err == nil {
			return k
		}
	}
})

// TestKeys: numerically equal keys are one key; a key comes back; what is no key is refused.
func TestKeys(t *testing.T) {
	for _, same := range [][2]Value{{Integer(2), Real(2)}, {Integer(0), Real(math.Copysign(0, -1))}, {Integer(math.MinInt64), Real(math.MinInt64)}} {
		if MustKey(same[0]) != MustKey(same[1]) {
			t.Errorf("%s and %s are two keys", same[0], same[1])
		}
	}
	for _, other := range [][2]Value{{Integer(1), Text("1")}, {Text("a"), Blob([]byte("a"))}, {Real(0.5), Text("0.5")}, {Integer(math.MaxInt64), Real(math.MaxInt64)}} {
		if MustKey(other[0]) == MustKey(other[1]) {
			t.Errorf("%s and %s are one key", other[0], other[1])
		}
	}
	if MustKey(Text("a"), Text("bc")) == MustKey(Text("ab"), Text("c")) {
		t.Error("parts run into each other")
	}
	for _, parts := range [][]Value{nil, {{}}, {Integer(1), {}}, {Integer(1), Real(0.5)}, {Text(strings.Repeat("x", MaxKeyBytes+1))}, slices.Repeat([]Value{Integer(1)}, MaxKeyParts+1)} {
		if k, err := KeyOf(parts...); !errors.Is(err, ErrKey) {
			t.Errorf("%v is the key %s, %v", parts, k, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		k := keyGen.Draw(t, "key")
		back, err := ParseKey(k.Encoded())
		if err != nil || back != k {
			t.Fatalf("%s comes back as %s, %v", k, back, err)
		}
		again, err := KeyOf(k.Values()...)
		if err != nil || again != k {
			t.Fatalf("the values of %s make %s, %v", k, again, err)
		}
	})
}

// dictionary numbers origins, for rows as a store keeps them.
type dictionary struct{ ids []Origin }

func (d *dictionary) Number(o Origin) uint64 {
	i := slices.Index(d.ids, o)
	if i < 0 {
		i, d.ids = len(d.ids), append(d.ids, o)
	}
	return uint64(i + 1)
}

func (d *dictionary) Origin(n uint64) (Origin, bool) {
	if n == 0 || n > uint64(len(d.ids)) {
		return Origin{}, false
	}
	return d.ids[n-1], true
}

// TestStoredRow: a row comes back from the bytes that a store keeps, also when columns were learnt in any order.
func TestStoredRow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rowGen.Draw(t, "row")
		if r.IsZero() {
			return
		}
		names := rapid.Permutation([]string{"c", "a", "zz", "b", "aa"}).Draw(t, "columns")
		d, cols := &dictionary{}, NewColumns(names)
		body := AppendRow(nil, r, d, cols)
		back, err := ParseRow(r.Base(), string(body), d, cols)
		if err != nil || !back.Equal(r) {
			t.Fatalf("%s comes back as %s, %v", r, back, err)
		}
		if len(body) > 1 {
			if got, err := ParseRow(r.Base(), string(body[:len(body)-1]), d, cols); err == nil {
				t.Fatalf("a part of %s is read as %s", r, got)
			}
		}
		if _, err := ParseRow(r.Base(), string(append(body, 0)), d, cols); err == nil {
			t.Fatal("bytes after a row are read over")
		}
	})
}

// wide is a schema with more columns than fit into one number.
func wide(t interface{ Fatal(...any) }) *Schema {
	var cols []string
	for i := range 150 {
		cols = append(cols, fmt.Sprintf("c%d", i))
	}
	s, err := NewSchema("wide", []string{"id"}, cols)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type known map[SchemaRef]*Schema

func (k known) Schema(r SchemaRef) *Schema { return k[r] }

// TestBlock: a block comes back, and is the same bytes when it is encoded again.
func TestBlock(t *testing.T) {
	abc, err := NewSchema("t", []string{"id"}, []string{"a", "b", "c"})
	if err != nil {
		t.Fatal(err)
	}
	w := wide(t)
	schemas := known{abc.Ref(): abc, w.Ref(): w}
	rapid.Check(t, func(t *rapid.T) {
		b := &Block{Stamp: Stamp{Time: hlc.Timestamp(rapid.Uint64Range(10, 1<<60).Draw(t, "time")), Origin: Origin{7}}}
		b.Prev = hlc.Timestamp(rapid.Uint64Range(0, uint64(b.Stamp.Time)-1).Draw(t, "prev"))
		used := map[Key]bool{}
		for range rapid.IntRange(0, 8).Draw(t, "rows") {
			s := rapid.SampledFrom([]*Schema{abc, w}).Draw(t, "schema")
			op := Op{Table: s.Table, Key: keyGen.Draw(t, "key"), Kind: rapid.SampledFrom([]OpKind{OpInsert, OpUpdate, OpDelete, OpReplace}).Draw(t, "kind")}
			if len(op.Key.Values()) != 1 || used[op.Key] {
				continue
			}
			used[op.Key] = true
			for _, c := range s.Columns {
				if rapid.IntRange(0, 4).Draw(t, "set") == 0 {
					op.Sets = append(op.Sets, Set{c, valueGen.Draw(t, "value")})
				}
			}
			if op.Kind == OpUpdate && len(op.Sets) == 0 {
				continue
			}
			var seen Stamp
			if rapid.Bool().Draw(t, "seen") {
				seen = Stamp{Time: b.Stamp.Time - 5, Origin: Origin{byte(rapid.IntRange(7, 8).Draw(t, "origin"))}}
			}
			b.Rows = append(b.Rows, RowDelta{s, op.Key, op.Delta(b.Stamp, seen)})
		}
		raw := AppendBlock(nil, b, (*Schema).Ref)
		back, err := ParseBlock(string(raw), schemas)
		if err != nil {
			t.Fatal(err)
		}
		if back.Stamp != b.Stamp || back.Prev != b.Prev || len(back.Rows) != len(b.Rows) {
			t.Fatalf("%+v comes back as %+v", b, back)
		}
		for i, d := range back.Rows {
			if d.Key != b.Rows[i].Key || !d.Row.Equal(b.Rows[i].Row) {
				t.Fatalf("row %s comes back as %s", b.Rows[i].Row, d.Row)
			}
		}
		if again := AppendBlock(nil, back, (*Schema).Ref); !bytes.Equal(again, raw) {
			t.Fatalf("%x is encoded again as %x", raw, again)
		}
		stamp, prev, err := ParseBlockHead(string(raw))
		if err != nil || stamp != b.Stamp || prev != b.Prev {
			t.Fatalf("its head is %s after %s, %v", stamp, prev, err)
		}
	})
	raw := AppendBlock(nil, &Block{Stamp: Stamp{Time: 9, Origin: Origin{1}}, Rows: []RowDelta{{w, MustKey(Integer(1)), Row{Tomb: Stamp{Time: 9, Origin: Origin{1}}}}}}, (*Schema).Ref)
	var unknown UnknownSchemaError
	if _, err := ParseBlock(string(raw), known{}); !errors.As(err, &unknown) || unknown.Ref != w.Ref() {
		t.Errorf("a block of an unknown schema: %v", err)
	}
}

// TestDelta: the parts of rows in a session come back.
func TestDelta(t *testing.T) {
	abc, err := NewSchema("t", []string{"id"}, []string{"a", "b", "c"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewSchema("u", []string{"id"}, []string{"a", "b", "c", "d"})
	if err != nil {
		t.Fatal(err)
	}
	schemas := known{abc.Ref(): abc, other.Ref(): other}
	rapid.Check(t, func(t *rapid.T) {
		var d DeltaBuilder
		var want []RowDelta
		for i := range rapid.IntRange(0, 12).Draw(t, "rows") {
			r := rowGen.Draw(t, "row")
			if r.IsZero() {
				continue
			}
			s := rapid.SampledFrom([]*Schema{abc, other}).Draw(t, "schema")
			k := MustKey(Integer(int64(i)))
			d.Add(s, s.Ref(), k, r)
			want = append(want, RowDelta{s, k, r})
		}
		if d.Rows() != len(want) {
			t.Fatalf("%d rows, want %d", d.Rows(), len(want))
		}
		got, err := ParseDelta(string(d.Finish()), schemas, 100)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d rows come back, want %d: %v", len(got), len(want), err)
		}
		for i := range got {
			if got[i].Schema != want[i].Schema || got[i].Key != want[i].Key || !got[i].Row.Equal(want[i].Row) {
				t.Fatalf("row %s comes back as %s", want[i].Row, got[i].Row)
			}
		}
	})
}

// TestSchemas: a schema comes back, its short name is that of its bytes, and what is none is refused.
// TestDeltaOfTooMuch: what a delta says it holds is compared with the limits before there is memory for it.
func TestDeltaOfTooMuch(t *testing.T) {
	s, err := NewSchema("t", []string{"id"}, []string{"a", "b", "c", "d"})
	if err != nil {
		t.Fatal(err)
	}
	rows := func(n int, cells int) string {
		var d DeltaBuilder
		r := Row{Birth: Stamp{Time: 9, Origin: Origin{1}}}
		for _, c := range s.Columns[:cells] {
			r.Cells = append(r.Cells, Cell{Column: c, Stamp: r.Birth})
		}
		for i := range n {
			d.Add(s, s.Ref(), MustKey(Integer(int64(i))), r)
		}
		return string(d.Finish())
	}
	for _, c := range []struct {
		rows, cells, max int
		ok               bool
	}{{3, 4, 3, true}, {4, 4, 3, false}, {MaxDeltaItems / 5, 4, MaxDeltaItems, true}, {MaxDeltaItems/5 + 1, 4, MaxDeltaItems, false}} {
		got, err := ParseDelta(rows(c.rows, c.cells), known{s.Ref(): s}, c.max)
		if (err == nil) != c.ok || c.ok && len(got) != c.rows || err != nil && !errors.Is(err, ErrEncoding) {
			t.Errorf("%d rows of %d cells, %d at most: %d are read, %v", c.rows, c.cells, c.max, len(got), err)
		}
	}
	const most = 1 << 20
	large := rows(most, 0)
	if n := testing.AllocsPerRun(1, func() { _, err = ParseDelta(large, known{s.Ref(): s}, 1<<16) }); err == nil || n > 20 {
		t.Errorf("%v after %v allocations", err, n)
	}
}

// TestKeysOfOtherTables: a key must have as many parts as its table's.
func TestKeysOfOtherTables(t *testing.T) {
	one, err1 := NewSchema("t", []string{"id"}, []string{"a"})
	two, err2 := NewSchema("u", []string{"id", "n"}, []string{"a"})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	schemas := known{one.Ref(): one, two.Ref(): two}
	stamp := Stamp{Time: 9, Origin: Origin{1}}
	keys := []Key{MustKey(Integer(1)), MustKey(Integer(1), Integer(2)), MustKey(Integer(1), Integer(2), Integer(3))}
	for i, s := range []*Schema{one, two} {
		for j, key := range keys {
			row := Row{Birth: stamp}
			block := AppendBlock(nil, &Block{Stamp: stamp, Rows: []RowDelta{{s, key, row}}}, (*Schema).Ref)
			if _, err := ParseBlock(string(block), schemas); (err == nil) != (i == j) || err != nil && !errors.Is(err, ErrEncoding) {
				t.Errorf("a block with the key %s of %s: %v", key, s, err)
			}
			var d DeltaBuilder
			d.Add(s, s.Ref(), key, row)
			if _, err := ParseDelta(string(d.Finish()), schemas, 100); (err == nil) != (i == j) || err != nil && !errors.Is(err, ErrEncoding) {
				t.Errorf("a delta with the key %s of %s: %v", key, s, err)
			}
		}
	}
}

func TestSchemas(t *testing.T) {
	s, err := NewSchema("t", []string{"k2", "k1"}, []string{"b", "a"})
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseSchema(AppendSchema(nil, s))
	if err != nil || !back.Equal(s) || back.Ref() != s.Ref() || back.String() != "t(k2, k1; a, b)" {
		t.Errorf("%s comes back as %s, %v", s, back, err)
	}
	more, err := s.With([]string{"c", "a"})
	if err != nil || more.String() != "t(k2, k1; a, b, c)" || more.Ref() == s.Ref() {
		t.Errorf("with another column it is %s, %v", more, err)
	}
	if same, _ := s.With([]string{"a"}); same != s {
		t.Error("with nothing new it is another schema")
	}
	long := strings.Repeat("x", MaxNameBytes+1)
	for _, bad := range []struct {
		table     string
		key, cols []string
	}{
		{"", []string{"k"}, nil}, {"t", nil, []string{"a"}}, {"t", []string{"k"}, []string{"a", "a"}}, {"t", []string{"k", "k"}, nil}, {"t", []string{"k"}, []string{"a", "k"}}, {"t\x00", []string{"k"}, nil}, {long, []string{"k"}, nil},
		{"t", []string{"k"}, []string{""}}, {"t", []string{"k"}, []string{long}}, {"t\xff", []string{"k"}, nil}, {"t", strings.Fields("a b c d e f g h i j k l m n o p q r s t u v w x y z aa ab ac ad ae af ag"), nil},
	} {
		if s, err := NewSchema(bad.table, bad.key, bad.cols); !errors.Is(err, ErrSchema) {
			t.Errorf("%q %q %q is the schema %v, %v", bad.table, bad.key, bad.cols, s, err)
		}
	}
}

// TestCoverage: what is covered, and that equal coverages have equal hashes.
func TestCoverage(t *testing.T) {
	a, b := Origin{1}, Origin{2}
	c := Coverage{a: 5}
	if !c.Covers(Stamp{Time: 5, Origin: a}) || c.Covers(Stamp{Time: 6, Origin: a}) || c.Covers(Stamp{Time: 1, Origin: b}) || !c.Covers(Stamp{}) {
		t.Error("it covers something else than its heads")
	}
	d := Coverage{a: 3, b: 9}
	if c.Includes(d) || d.Includes(c) || !d.Includes(Coverage{a: 3}) {
		t.Error("wrong inclusion")
	}
	c.Add(d)
	if c.Hash() != (Coverage{b: 9, a: 5}).Hash() || c.Hash() == d.Hash() || c.Hash() != (Coverage{a: 5, b: 9, Origin{3}: 0}).Hash() {
		t.Error("the hash is not that of the heads")
	}
	if o, err := ParseOrigin(a.String()); err != nil || o != a {
		t.Errorf("%s is read as %s, %v", a, o, err)
	}
	if _, err := ParseOrigin(a.Short()); err == nil {
		t.Error("a shortened id is read")
	}
}
