package crdt

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rowmesh/rowmesh/hlc"
)

// rowGen draws rows in normal form. Stamps are few, so that they meet; a stamp names one transaction, so each has one
// value for each column.
var rowGen = rapid.Custom(func(t *rapid.T) Row {
	r := Row{Birth: stampGen.Draw(t, "birth"), Tomb: stampGen.Draw(t, "tomb")}
	if !r.Tomb.IsZero() {
		r.Seen = seenOf(r.Tomb)
	}
	for _, c := range []string{"a", "b", "c"} {
		if s := stampGen.Draw(t, "stamp"); !s.IsZero() {
			r.Cells = append(r.Cells, Cell{c, s, Text(c + s.String())})
		}
	}
	return r.Merge(Row{})
})

var stampGen = rapid.Custom(func(t *rapid.T) Stamp {
	s := Stamp{Time: hlc.Timestamp(rapid.IntRange(0, 6).Draw(t, "time"))}
	if s.Time > 0 {
		s.Origin[0] = byte(rapid.IntRange(1, 3).Draw(t, "origin"))
	}
	return s
})

// seenOf is the birth that the deleter saw: a function of the deletion, as in life.
func seenOf(tomb Stamp) Stamp {
	return Stamp{Time: tomb.Time / 2, Origin: Origin{byte(tomb.Time/2%3 + 1)}}.orZero()
}

func (s Stamp) orZero() Stamp {
	if s.Time == 0 {
		return Stamp{}
	}
	return s
}

// TestMergeLaws: P1, P7. Merging is commutative, associative and idempotent, grows, and what it drops early it would drop late.
func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := rowGen.Draw(t, "a"), rowGen.Draw(t, "b"), rowGen.Draw(t, "c")
		ab := a.Merge(b)
		for _, law := range []struct {
			name      string
			got, want Row
		}{
			{"commutative", b.Merge(a), ab},
			{"associative", ab.Merge(c), a.Merge(b.Merge(c))},
			{"idempotent", a.Merge(a), a},
			{"a part adds nothing", ab.Merge(a), ab},
			{"the zero row is neutral", a.Merge(Row{}), a},
		} {
			if !law.got.Equal(law.want) {
				t.Fatalf("%s: %s, want %s", law.name, law.got, law.want)
			}
		}
		if !ab.Dominates(a) || !ab.Dominates(b) || a.Dominates(b) && !a.Equal(ab) {
			t.Fatalf("%s does not dominate %s and %s as it should", ab, a, b)
		}
		if a.Alive() && b.Alive() && !ab.Alive() && !ab.Birth.Less(ab.Tomb) {
			t.Fatalf("%s and %s are alive, %s is not", a, b, ab)
		}
	})
}

// TestDropIsACongruence: dropping registers below the floor at once, or only at the end, gives one result. Rows that are
// not in normal form stand for a replica that drops nothing.
func TestDropIsACongruence(t *testing.T) {
	full := func(a, b Row) Row { // the merge without dropping
		out := Row{Birth: maxStamp(a.Birth, b.Birth), Tomb: a.Tomb, Seen: a.Seen}
		if a.Tomb.Less(b.Tomb) {
			out.Tomb, out.Seen = b.Tomb, b.Seen
		}
		out.Cells = mergeCells(a.Cells, b.Cells, Stamp{})
		return out
	}
	raw := rapid.Custom(func(t *rapid.T) Row {
		r := rowGen.Draw(t, "row")
		r.Birth = maxStamp(r.Birth, stampGen.Draw(t, "old birth"))
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(raw, 1, 6).Draw(t, "rows")
		var early, late Row
		for _, r := range rows {
			early, late = early.Merge(r), full(late, r)
		}
		if late = late.Merge(Row{}); !early.Equal(late) {
			t.Fatalf("early %s, late %s", early, late)
		}
	})
}

// TestWithout: the part that a coverage lacks is what makes a replica that holds the rest hold everything.
func TestWithout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		server, client := rowGen.Draw(t, "server"), rowGen.Draw(t, "client")
		cover := Coverage{}
		for i := range 3 {
			if h := rapid.IntRange(0, 6).Draw(t, "head"); h > 0 {
				cover[Origin{byte(i + 1)}] = hlc.Timestamp(h)
			}
		}
		part := server.Without(cover)
		for _, s := range part.Stamps(nil) {
			if cover.Covers(s) {
				t.Fatalf("%s is sent, and is covered by %s", s, cover)
			}
		}
		// A client that holds all it covers, or newer.
		client = client.Merge(server.Within(cover))
		if got := client.Merge(part); !got.Dominates(server) {
			t.Fatalf("client %s with %s lacks some of %s", client, part, server)
		}
		if !slices.Equal(server.Stamps(nil), slices.Compact(server.Stamps(nil))) {
			t.Fatalf("stamps of %s repeat", server)
		}
	})
}

// TestParts: a row is the join of what a coverage has of it and what it lacks, and of what each transaction wrote.
func TestParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row, cover := rowGen.Draw(t, "row"), Coverage{}
		for i := range 3 {
			cover[Origin{byte(i + 1)}] = hlc.Timestamp(rapid.IntRange(0, 6).Draw(t, "head"))
		}
		in, out := row.Within(cover), row.Without(cover)
		for _, s := range in.Stamps(nil) {
			if !cover.Covers(s) || out.Names(s) {
				t.Fatalf("%s is within %s: %s and %s", s, cover, in, out)
			}
		}
		whole := Row{}
		for _, s := range row.Stamps(nil) {
			part := row.Of(s)
			if !slices.Equal(part.Stamps(nil), []Stamp{s}) {
				t.Fatalf("the registers of %s are %s", s, part)
			}
			whole = whole.Merge(part)
		}
		if got := in.Merge(out); !got.Equal(row) || !whole.Equal(row) {
			t.Fatalf("%s falls apart into %s and %s, and its transactions make %s", row, in, out, whole)
		}
	})
}

// TestKnownShapes: P12. Histories that other systems got wrong, and the four of docs/PROTOCOL.md about forgotten tombstones.
func TestKnownShapes(t *testing.T) {
	at := func(n int, origin byte) Stamp { return Stamp{Time: hlc.Timestamp(n), Origin: Origin{origin}} }
	op := func(k OpKind, s Stamp, seen Stamp, cols ...string) Row {
		o := Op{Kind: k}
		for _, c := range cols {
			o.Sets = append(o.Sets, Set{c, Text(c + s.String())})
		}
		return o.Delta(s, seen)
	}
	insert := func(s Stamp) Row { return op(OpInsert, s, Stamp{}, "a", "b", "c") }
	update := func(s Stamp, col string) Row { return op(OpUpdate, s, Stamp{}, col) }
	del := func(s, seen Stamp) Row { return op(OpDelete, s, seen) }
	for _, c := range []struct {
		name  string
		rows  []Row
		alive bool
	}{
		{"go-ds-crdt #238: put, put and delete on one side, a put on the other: the delete is newest", []Row{insert(at(1, 1)), update(at(2, 1), "a"), del(at(5, 1), at(1, 1)), insert(at(3, 2))}, false},
		{"go-ds-crdt #238: the put is newest", []Row{insert(at(1, 1)), update(at(2, 1), "a"), del(at(3, 1), at(1, 1)), insert(at(5, 2))}, true},
		{"corrosion #352: two deletes of one row", []Row{insert(at(1, 1)), del(at(2, 1), at(1, 1)), del(at(3, 2), at(1, 1))}, false},
		{"cr-sqlite #299: delete and insert again, out of order", []Row{op(OpReplace, at(3, 1), at(1, 1), "a", "b", "c"), del(at(2, 2), at(1, 1)), insert(at(1, 1))}, true},
		{"cr-sqlite #98: a tie of time", []Row{insert(at(1, 1)), update(at(2, 1), "a"), update(at(2, 2), "a")}, true},
		{"a delete beats a later update that did not know of it", []Row{insert(at(1, 1)), del(at(2, 2), at(1, 1)), update(at(3, 1), "a")}, false},
		{"an update of a row whose insert has not come", []Row{update(at(2, 1), "a")}, false},
		{"G2: a late update where the tomb was forgotten", []Row{update(at(50, 1), "a")}, false},
		{"G3: a late insert of a row that was deleted, where the tomb is kept", []Row{insert(at(1, 1)), del(at(2, 2), at(1, 1)), insert(at(1, 3))}, false},
		{"G3: the same where the tomb was forgotten: it comes back, which is why nobody forgets a tomb that somebody may lack", []Row{insert(at(1, 3))}, true},
		{"G1: an insert after the forgotten delete", []Row{insert(at(50, 1)), del(at(2, 2), at(1, 1))}, true},
	} {
		var first Row
		for i, order := range permutations(len(c.rows)) {
			var r Row
			for _, j := range order {
				r = r.Merge(c.rows[j])
			}
			if r.Alive() != c.alive {
				t.Errorf("%s: in the order %v it is %s", c.name, order, r)
			}
			if i == 0 {
				first = r
			} else if !r.Equal(first) {
				t.Errorf("%s: the order %v gives %s, the first gave %s", c.name, order, r, first)
			}
		}
	}
	// G4: of two replicas one has forgotten the tomb. Both show the same.
	late := update(at(50, 1), "a")
	if x, y := late, del(at(2, 2), at(1, 1)).Merge(late); x.Alive() || y.Alive() {
		t.Errorf("G4: %s and %s", x, y)
	}
	// The columns of a row that was put twice at once are all of one put, and updates of the life before are gone.
	again := insert(at(1, 1)).Merge(update(at(3, 1), "a")).Merge(del(at(4, 2), at(1, 1))).Merge(insert(at(5, 3))).Merge(update(at(2, 2), "b"))
	for _, c := range again.Cells {
		if c.Stamp != at(5, 3) || len(again.Cells) != 3 {
			t.Errorf("put, deleted and put again it is %s", again)
		}
	}
	tie := insert(at(1, 1)).Merge(update(at(2, 1), "a")).Merge(update(at(2, 2), "a"))
	if c, _ := tie.Cell("a"); c.Stamp != at(2, 2) {
		t.Errorf("the tie goes to %s, want the greater origin", c.Stamp)
	}
}

func permutations(n int) (out [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, p := range permutations(n - 1) {
		for i := range n {
			out = append(out, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return out
}

// TestOneStampTwoValues: where two values have one stamp, all replicas keep the same. Each value here goes before those to its left.
func TestOneStampTwoValues(t *testing.T) {
	cell := func(v Value) Row { return Row{Cells: []Cell{{"a", Stamp{Time: 1, Origin: Origin{1}}, v}}} }
	values := []Value{{}, Integer(0), Integer(1), Integer(500), Integer(-1), Blob(nil), Text(""), Text("b"), Text("aa"), Text("\xff"), Real(1), Real(0.1)}
	for i, v := range values {
		for j, w := range values {
			if got, want := cell(v).Merge(cell(w)), cell(values[max(i, j)]); !got.Equal(want) {
				t.Errorf("%s and %s are joined to %s", v, w, got)
			}
		}
	}
}

// TestRowString: rows print on one line, for logs and failures.
func TestRowString(t *testing.T) {
	s := Stamp{Time: hlc.FromMillis(1_700_000_000_000), Origin: Origin{0xab}}
	r := Op{Kind: OpInsert, Sets: []Set{{"a", Integer(1)}, {"b", Text("x")}}}.Delta(s, Stamp{})
	if got := r.String(); strings.Contains(got, "\n") || !strings.HasPrefix(got, "alive 2023-") || !strings.HasSuffix(got, "a=1 b='x'") {
		t.Errorf("it prints as %q", got)
	}
}
