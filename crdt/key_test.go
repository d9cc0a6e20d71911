package crdt

import (
	"cmp"
	"math"
	"slices"
	"testing"
)

// The order is that of SQLite, which every store scans in; storetest compares with real indexes.
func TestKeysAreOrderedAsSQLiteOrdersThem(t *testing.T) {
	single := []Key{
		{}, MustKey(Real(math.Inf(-1))), MustKey(Integer(math.MinInt64)), MustKey(Integer(-10)), MustKey(Integer(-9)), MustKey(Real(-0.5)),
		MustKey(Integer(0)), MustKey(Real(0.5)), MustKey(Integer(2)), MustKey(Real(2.5)), MustKey(Integer(10)), MustKey(Integer(1 << 53)),
		MustKey(Integer(1<<53 + 1)), MustKey(Integer(math.MaxInt64)), MustKey(Real(1e19)),
		MustKey(Text("")), MustKey(Text("a\x00")), MustKey(Text("ab")), MustKey(Text("b")), MustKey(Text("\xff")), MustKey(Blob(nil)), MustKey(Blob([]byte("a"))),
	}
	composite := []Key{
		MustKey(Blob([]byte{1}), Integer(1)), MustKey(Integer(-5), Text("x")), MustKey(Integer(1), Text("")), MustKey(Integer(1), Text("a")),
		MustKey(Integer(1), Text("ab")), MustKey(Integer(10), Text("a")), MustKey(Integer(2), Text("a")), MustKey(Text("a"), Blob(nil)), MustKey(Text("a"), Integer(0)),
	}
	keys := slices.Concat(single, composite)
	for i, k := range keys {
		for j, l := range keys {
			if got := k.Compare(l); got != cmp.Compare(i, j) {
				t.Errorf("%s compared with %s is %d, want %d", k, l, got, cmp.Compare(i, j))
			}
		}
	}
}
