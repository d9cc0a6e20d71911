package trace

import (
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rowmesh/rowmesh/crdt"
)

// TestMaskIsAPermutation: values keep their kind and the length of their encoding; different ones stay different, also where there are
// few of a kind; and what is a whole number, by which keys are told apart, is one still.
func TestMaskIsAPermutation(t *testing.T) {
	m := newMask([32]byte{1})
	var all []crdt.Value
	for i := int64(-300); i < 300; i++ {
		all = append(all, crdt.Integer(i))
	}
	for i := range 62 {
		all = append(all, crdt.Integer(1<<i+1), crdt.Integer(-1<<i-7), crdt.Real(math.Ldexp(1, i)), crdt.Real(math.Ldexp(1.0000001, -i)), crdt.Real(math.Ldexp(1.1, i)))
	}
	all = append(all, crdt.Integer(math.MaxInt64), crdt.Integer(math.MinInt64), crdt.Real(math.Inf(1)), crdt.Real(math.Copysign(0, -1)), crdt.Real(0.5), crdt.Real(100000.5), crdt.Value{})
	for c := range rune(0x900) {
		all = append(all, crdt.Text(string(c)), crdt.Text(string(c)+"é"))
	}
	for _, s := range []string{"", "ab", "ba", "日本", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff", strings.Repeat("x", 300)} {
		all = append(all, crdt.Text(s), crdt.Blob([]byte(s)), crdt.Text(s+"\xff"))
	}
	for i := range 256 {
		all = append(all, crdt.Blob([]byte{byte(i)}), crdt.Blob([]byte{byte(i), 7}), crdt.Text(string([]byte{byte(i), 0xff})))
	}
	seen := map[crdt.Value]crdt.Value{}
	changed := 0
	for _, v := range all {
		got, err := m.value(v)
		if err != nil || got.Kind() != v.Kind() || got.Size() != v.Size() {
			t.Fatalf("%s of %d bytes becomes %s of %d: %v", v, v.Size(), got, got.Size(), err)
		}
		if before, taken := seen[got]; taken && before != v {
			t.Fatalf("%s and %s both become %s", v, before, got)
		}
		if v.Kind() == crdt.KindText && utf8.RuneCountInString(v.Bytes()) != utf8.RuneCountInString(got.Bytes()) {
			t.Errorf("%s has another number of characters than %s", got, v)
		}
		seen[got] = v
		if got != v {
			changed++
		}
	}
	if changed < len(all)*9/10 {
		t.Errorf("only %d of %d values are masked", changed, len(all))
	}
	other := newMask([32]byte{2})
	if a, _ := m.value(crdt.Text("secret")); a == must(other.value(crdt.Text("secret"))) {
		t.Error("two keys mask alike")
	}
}

func must(v crdt.Value, err error) crdt.Value {
	if err != nil {
		panic(err)
	}
	return v
}
