package replica

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
)

// Digest is the SHA-256 over all merged rows of a store, alive or not, in order of table and encoded key: equal on
// replicas that hold the same. Each row counts with its table, key, stamps with full origin ids, and typed cells.
func Digest(v View) (sum [sha256.Size]byte, err error) {
	st, err := v.Load()
	if err != nil {
		return sum, err
	}
	var tables []string
	for _, s := range st.Schemas {
		tables = append(tables, s.Table)
	}
	slices.Sort(tables)
	h := sha256.New()
	for _, table := range slices.Compact(tables) {
		var rows []RowState
		err := v.Scan(table, crdt.Key{}, func(page []RowState) bool {
			rows = append(rows, page...)
			return true
		})
		if err != nil {
			return sum, err
		}
		slices.SortFunc(rows, func(x, y RowState) int { return x.Compare(y.RowKey) })
		for _, r := range rows {
			h.Write(appendDigest(nil, r))
		}
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

func appendDigest(out []byte, r RowState) []byte {
	field := func(s string) { out = append(binary.AppendUvarint(out, uint64(len(s))), s...) }
	stamp := func(s crdt.Stamp) {
		out = append(binary.BigEndian.AppendUint64(out, uint64(s.Time)), s.Origin[:]...)
	}
	field(r.Table)
	field(r.Key.Encoded())
	stamp(r.Row.Birth)
	stamp(r.Row.Tomb)
	stamp(r.Row.Seen)
	out = binary.AppendUvarint(out, uint64(len(r.Row.Cells)))
	for _, c := range r.Row.Cells {
		field(c.Column)
		stamp(c.Stamp)
		field(c.Value.Encoded())
	}
	return out
}
