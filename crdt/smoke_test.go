package crdt

import "testing"

type oneSchema struct{ s *Schema }

func (o oneSchema) Schema(SchemaRef) *Schema { return o.s }

func TestSmoke(t *testing.T) {
	s, _ := NewSchema("t", []string{"id"}, []string{"b", "a"})
	st := Stamp{1000, Origin{1}}
	b := &Block{Stamp: st, Prev: 0, Rows: []RowDelta{
		{s, MustKey(Integer(1)), Op{Kind: OpInsert, Sets: []Set{{"a", Real(149.5)}, {"b", Text("x\xff")}}}.Delta(st, Stamp{})},
		{s, MustKey(Text("q")), Op{Kind: OpDelete}.Delta(st, Stamp{5, Origin{2}})},
	}}
	enc := AppendBlock(nil, b, (*Schema).Ref)
	got, err := ParseBlock(string(enc), oneSchema{s})
	if err != nil {
		t.Fatal(err)
	}
	if string(AppendBlock(nil, got, (*Schema).Ref)) != string(enc) {
		t.Fatal("differs")
	}
	var d DeltaBuilder
	for _, r := range b.Rows {
		d.Add(s, s.Ref(), r.Key, r.Row)
	}
	d.Add(s, s.Ref(), MustKey(Integer(5)), Row{Birth: Stamp{5000, Origin{9}}, Tomb: Stamp{30, Origin{2}}, Cells: []Cell{{"a", Stamp{9999, Origin{4}}, Integer(-5)}, {"b", Stamp{5000, Origin{9}}, Value{}}}})
	rows, err := ParseDelta(string(d.Finish()), oneSchema{s})
	if err != nil || len(rows) != 3 {
		t.Fatal(err, rows)
	}
	t.Log(rows)
}
