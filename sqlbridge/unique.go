package sqlbridge

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// Two rows made apart may claim one value of a UNIQUE index. The merge keeps both; the table can show one.
// The earliest claim holds the value: a row's claim is the greatest stamp of the registers that make up its
// tuple, ties go by key. Every other row with the tuple is parked. A parked row keeps its claims on its other
// tuples, so who holds a tuple depends on the merged rows alone and not on the order in which they came.

// tuple returns a row's values in a UNIQUE index, folded as its collations compare them, and the stamp of its
// claim. A tuple with a NULL claims nothing.
func (t *table) tuple(u uniqueIndex, k crdt.Key, row crdt.Row) (tuple string, claim crdt.Stamp, ok bool) {
	var b strings.Builder
	claim = row.Birth
	for i, name := range u.columns {
		v, stamp := t.valueOf(name, k, row)
		if v.IsNull() {
			return "", claim, false
		}
		if claim.Less(stamp) {
			claim = stamp
		}
		b.WriteString(fold(v, u.collations[i]).Encoded())
	}
	return b.String(), claim, true
}

// valueOf returns what a row shows in a column, and the stamp of the register it comes from.
func (t *table) valueOf(name string, k crdt.Key, row crdt.Row) (crdt.Value, crdt.Stamp) {
	if i := slices.Index(t.key, name); i >= 0 {
		return k.Values()[i], row.Birth
	}
	if c, ok := row.Cell(name); ok {
		return c.Value, c.Stamp
	}
	for _, c := range t.cols {
		if c.name == name {
			return c.dflt, row.Birth
		}
	}
	return crdt.Value{}, row.Birth
}

// fold maps values that a collation holds equal to one value.
func fold(v crdt.Value, collation string) crdt.Value {
	switch v.Kind() {
	case crdt.KindReal: // 1.0 and 1 are one value to an index
		if f := v.Real(); -1<<63 <= f && f < 1<<63 && f == float64(int64(f)) {
			return crdt.Integer(int64(f))
		}
	case crdt.KindText, crdt.KindRawText:
		switch collation {
		case "NOCASE":
			text, rest, cut := strings.Cut(v.Bytes(), "\x00")
			if text = lowerASCII(text); cut { // SQLite compares up to there, and then how long they are
				text += "\x00" + strconv.Itoa(len(rest))
			}
			return crdt.Text(text)
		case "RTRIM":
			return crdt.Text(strings.TrimRight(v.Bytes(), " "))
		}
	}
	return v
}

// lowerASCII folds the 26 letters that NOCASE folds, and no others.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// claimID names a tuple of an index.
type claimID struct{ index, tuple string }

// arbiter decides who holds the tuples that a batch touches.
type arbiter struct {
	r       *round
	t       *table
	batch   map[crdt.Key]replica.RowChange
	claims  map[claimID][]crdt.Key // of the batch
	states  map[crdt.Key]crdt.Row  // of other rows, as read
	holders map[claimID]crdt.Key
	rivals  map[crdt.Key]bool // every row that claims a touched tuple
}

func newArbiter(r *round, t *table, changes []replica.RowChange) *arbiter {
	a := &arbiter{
		r: r, t: t, batch: map[crdt.Key]replica.RowChange{}, claims: map[claimID][]crdt.Key{}, states: map[crdt.Key]crdt.Row{},
		holders: map[claimID]crdt.Key{}, rivals: map[crdt.Key]bool{},
	}
	for _, c := range changes {
		a.batch[c.Key] = c
		for _, id := range t.claimsOf(c.Key, c.New) {
			a.claims[id] = append(a.claims[id], c.Key)
		}
	}
	return a
}

// claimsOf returns the tuples that an alive row claims.
func (t *table) claimsOf(k crdt.Key, row crdt.Row) (ids []claimID) {
	if !row.Alive() {
		return nil
	}
	for _, u := range t.unique {
		if tuple, _, ok := t.tuple(u, k, row); ok {
			ids = append(ids, claimID{u.name, tuple})
		}
	}
	return ids
}

// judge finds every row whose place the batch may change, and returns them in order of their keys.
func (a *arbiter) judge() ([]crdt.Key, error) {
	for k, c := range a.batch {
		a.rivals[k] = true
		for _, row := range []crdt.Row{c.Old, c.New} {
			if err := a.touch(k, row); err != nil {
				return nil, err
			}
		}
	}
	keys := make([]crdt.Key, 0, len(a.rivals))
	for k := range a.rivals {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, crdt.Key.Compare)
	return keys, nil
}

func (a *arbiter) touch(k crdt.Key, row crdt.Row) error {
	if !row.Alive() {
		return nil
	}
	for _, u := range a.t.unique {
		tuple, _, ok := a.t.tuple(u, k, row)
		if !ok {
			continue
		}
		rivals, err := a.claimants(u, claimID{u.name, tuple}, k, row)
		if err != nil {
			return err
		}
		for _, rival := range rivals {
			a.rivals[rival] = true
		}
	}
	return nil
}

// claimants returns every alive row that claims the tuple, which the row k also has.
func (a *arbiter) claimants(u uniqueIndex, id claimID, k crdt.Key, row crdt.Row) ([]crdt.Key, error) {
	keys := slices.Clone(a.claims[id])
	where := make([]string, len(u.columns))
	args := make([]any, len(u.columns))
	for i, c := range u.columns {
		v, _ := a.t.valueOf(c, k, row)
		where[i] = quote(c) + " = ? COLLATE " + u.collations[i]
		args[i] = bind(v)
	}
	query := a.t.selectRows() + " WHERE " + strings.Join(where, " AND ")
	if err := a.r.scanTable(a.t, query, args, func(k crdt.Key, _ tableRow) { keys = append(keys, k) }); err != nil {
		return nil, err
	}
	rows, err := a.r.b.query(a.r.ctx, `SELECT k FROM _rowmesh_claims WHERE tbl = ? AND idx = ? AND tuple = ?`, a.t.tbl, id.index, []byte(id.tuple))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v any
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		key, err := parseKeyColumn(v, len(a.t.key))
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return a.onlyClaiming(u, id, keys)
}

// onlyClaiming drops the rows whose merged state does not claim the tuple any more.
func (a *arbiter) onlyClaiming(u uniqueIndex, id claimID, keys []crdt.Key) ([]crdt.Key, error) {
	slices.SortFunc(keys, crdt.Key.Compare)
	keys = slices.Compact(keys)
	var out []crdt.Key
	for _, k := range keys {
		row, err := a.state(k)
		if err != nil {
			return nil, err
		}
		if tuple, _, ok := a.t.tuple(u, k, row); ok && row.Alive() && tuple == id.tuple {
			out = append(out, k)
		}
	}
	return out, nil
}

// state returns a row's merged state.
func (a *arbiter) state(k crdt.Key) (crdt.Row, error) {
	if c, ok := a.batch[k]; ok {
		return c.New, nil
	}
	if row, ok := a.states[k]; ok {
		return row, nil
	}
	rows, err := a.r.Rows([]replica.RowKey{{Table: a.t.name, Key: k}})
	if err != nil {
		return crdt.Row{}, err
	}
	a.states[k] = rows[0]
	return rows[0], nil
}

// blocked returns the index in which another row has the earlier claim, and that row.
func (a *arbiter) blocked(k crdt.Key, row crdt.Row) (index string, by crdt.Key, err error) {
	for _, u := range a.t.unique {
		tuple, _, ok := a.t.tuple(u, k, row)
		if !ok {
			continue
		}
		id := claimID{u.name, tuple}
		holder, known := a.holders[id]
		if !known {
			if holder, err = a.earliest(u, id, k, row); err != nil {
				return "", crdt.Key{}, err
			}
			a.holders[id] = holder
		}
		if holder != k {
			return u.name, holder, nil
		}
	}
	return "", crdt.Key{}, nil
}

func (a *arbiter) earliest(u uniqueIndex, id claimID, k crdt.Key, row crdt.Row) (crdt.Key, error) {
	keys, err := a.claimants(u, id, k, row)
	if err != nil {
		return crdt.Key{}, err
	}
	type claim struct {
		key crdt.Key
		at  crdt.Stamp
	}
	claims := make([]claim, len(keys))
	for i, key := range keys {
		row, err := a.state(key)
		if err != nil {
			return crdt.Key{}, err
		}
		_, at, _ := a.t.tuple(u, key, row)
		claims[i] = claim{key, at}
	}
	first := slices.MinFunc(claims, func(x, y claim) int { return cmp.Or(x.at.Compare(y.at), x.key.Compare(y.key)) })
	return first.key, nil
}
