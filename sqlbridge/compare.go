package sqlbridge

import (
	"errors"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// tableRow is a row as a table holds it: the values of the columns in order of t.cols.
type tableRow []crdt.Value

// selectRows is the query for rows of a table, its key columns first.
func (t *table) selectRows() string {
	cols := quoteAll(t.key, "+")
	if len(t.cols) > 0 {
		cols += ", " + quoteAll(t.names(), "+")
	}
	return "SELECT " + cols + " FROM " + quote(t.name)
}

// current reads rows of a table by key; a row that is not there is missing from the map.
func (v *view) current(t *table, keys []crdt.Key) (map[crdt.Key]tableRow, error) {
	out := make(map[crdt.Key]tableRow, len(keys))
	if len(t.key) == 1 {
		args := make([]any, 0, readKeys)
		for _, k := range keys {
			args = append(args, bind(k.Values()[0]))
		}
		these, args := inList(quote(t.key[0]), args, 0)
		return out, v.scanTable(t, t.selectRows()+" WHERE "+these, args, func(k crdt.Key, row tableRow) { out[k] = row })
	}
	query := t.selectRows() + " WHERE " + t.keyIs()
	for _, k := range keys {
		if err := v.scanTable(t, query, keyArgs(k), func(k crdt.Key, row tableRow) { out[k] = row }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// keyIs is the condition that selects one row by its key.
func (t *table) keyIs() string {
	var s string
	for i, k := range t.key {
		if i > 0 {
			s += " AND "
		}
		s += quote(k) + " = ?"
	}
	return s
}

func keyArgs(k crdt.Key) []any {
	parts := k.Values()
	args := make([]any, len(parts))
	for i, p := range parts {
		args[i] = bind(p)
	}
	return args
}

// scanTable runs a query made by selectRows. Rows with a NULL in the key are passed over: they stay local.
func (v *view) scanTable(t *table, query string, args []any, yield func(crdt.Key, tableRow)) error {
	rows, err := v.b.query(v.ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	vals := make([]any, len(t.key)+len(t.cols))
	dest := make([]any, len(vals))
	for i := range vals {
		dest[i] = &vals[i]
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		key, err := keyOf(vals[:len(t.key)])
		if err != nil {
			continue
		}
		row := make(tableRow, len(t.cols))
		for i := range row {
			if row[i], err = valueOf(vals[len(t.key)+i]); err != nil {
				return err
			}
		}
		yield(key, row)
	}
	return rows.Err()
}

// shown returns, for each key, the row that the last projection left in the table; a row that is not alive
// is not in the table. It is the merged state, except where _rowmesh_unshown says otherwise.
func (v *view) shown(t *table, keys []crdt.Key) ([]crdt.Row, error) {
	rowKeys := make([]replica.RowKey, len(keys))
	for i, k := range keys {
		rowKeys[i] = replica.RowKey{Table: t.name, Key: k}
	}
	rows, err := v.Rows(rowKeys)
	if err != nil {
		return nil, err
	}
	images, err := v.unshown(t, keys)
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		if image, ok := images[k]; ok {
			rows[i] = image
		}
	}
	return rows, nil
}

// compare returns the operations that explain how rows of a table came to differ from what was shown.
func (r *round) compare(t *table, keys []crdt.Key, reborn func(crdt.Key) bool) (ops []crdt.Op, err error) {
	now, err := r.present(t, keys)
	if err != nil {
		return nil, err
	}
	was, err := r.shown(t, keys)
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		row, here := now[k]
		if row.tooLarge() {
			r.b.keptLocal[t.name]++
			r.b.log.Warn("a row stays on this machine: one of its values is larger than 16 MiB", "table", t.name, "key", k)
		}
		if op, differs := t.difference(k, was[i], row, here, reborn(k), entered); differs {
			ops = append(ops, op)
		}
	}
	return ops, nil
}

// difference compares what was shown with what is there:
//
//	shown  there           operation
//	no     yes             insert
//	yes    no              delete
//	yes    yes, equal      none
//	yes    yes, different  replace where the row may have been reborn, else an update of what differs
func (t *table) difference(k crdt.Key, was crdt.Row, row tableRow, here, reborn bool, why occasion) (crdt.Op, bool) {
	op := crdt.Op{Table: t.name, Key: k}
	switch {
	case here && row.tooLarge():
		return op, false
	case !was.Alive() && !here:
		// It came and went in between. Another replica may hold a row of this key from before, which this deletion ends.
		op.Kind = crdt.OpDelete
		return op, reborn
	case !here:
		op.Kind = crdt.OpDelete
		return op, true
	case !was.Alive():
		op.Kind = crdt.OpInsert
	case t.differing(was, row, why) == nil:
		return op, false
	case reborn:
		op.Kind = crdt.OpReplace
	default:
		op.Sets = t.differing(was, row, why)
		return op, true
	}
	for i, c := range t.cols {
		op.Sets = append(op.Sets, crdt.Set{Column: c.name, Value: row[i]})
	}
	return op, true
}

// tooLarge reports whether a value of the row is larger than a replica takes. Such a row stays local.
func (row tableRow) tooLarge() bool {
	return slices.ContainsFunc(row, func(v crdt.Value) bool { return v.Size() > crdt.MaxValueBytes })
}

// occasion says why a row is compared.
type occasion int

const (
	entered occasion = iota // an entry of the outbox names it
	drifted                 // all of its table is compared, because edits may have gone unnoticed
	checked                 // the user wants to know what differs
)

// differing returns the columns in which a row differs from what was shown.
func (t *table) differing(was crdt.Row, row tableRow, why occasion) (sets []crdt.Set) {
	for i, c := range t.cols {
		cell, ok := was.Cell(c.name)
		fresh := t.fresh(c.name)
		value := cell.Value
		switch {
		case ok && !fresh:
		case ok && why == drifted && len(t.gone()) == 0:
			continue // what others wrote to the new column is worth more than what a migration filled in
		case c.constant:
			value = c.dflt
		case ok || why == checked || why == drifted && !fresh:
			continue // SQLite chose the value when the row was shown, or when the column was made; nobody can say if it changed
		default: // the same, but somebody wrote: the value goes along, so that the others show it too
			sets = append(sets, crdt.Set{Column: c.name, Value: row[i]})
			continue
		}
		if value != row[i] && !(ok && fresh && t.older(was, cell, row[i])) {
			sets = append(sets, crdt.Set{Column: c.name, Value: row[i]})
		}
	}
	return sets
}

// older reports whether the value of a fresh column is one that a column showed which is gone, and so may have been renamed, and
// that was written before what others wrote under the new name: they renamed theirs earlier.
func (t *table) older(was crdt.Row, others crdt.Cell, value crdt.Value) bool {
	return slices.ContainsFunc(t.gone(), func(col string) bool {
		cell, ok := was.Cell(col)
		return ok && cell.Value == value && cell.Stamp.Less(others.Stamp)
	})
}

// differences compares a whole table with what it should show and calls yield for each difference.
func (v *view) differences(t *table, why occasion, yield func(crdt.Op) error) error {
	if err := v.missing(t, yield); err != nil { // first, so that what is yielded may be stored meanwhile
		return err
	}
	var keys []crdt.Key
	var page []tableRow
	var failed error
	flush := func() {
		was, err := v.shown(t, keys)
		if err != nil {
			failed = err
			return
		}
		for i, k := range keys {
			if op, differs := t.difference(k, was[i], page[i], true, false, why); differs && failed == nil {
				failed = yield(op)
			}
		}
		keys, page = keys[:0], page[:0]
	}
	err := v.scanTable(t, t.selectRows(), nil, func(k crdt.Key, row tableRow) {
		keys, page = append(keys, k), append(page, row)
		if len(keys) == readPage && failed == nil {
			flush()
		}
	})
	if failed == nil && err == nil {
		flush()
	}
	return errors.Join(err, failed)
}

// missing finds the rows that should be shown and are not in the table.
func (v *view) missing(t *table, yield func(crdt.Op) error) error {
	var failed error
	err := v.Scan(t.name, crdt.Key{}, func(rows []replica.RowState) bool {
		for part := range slices.Chunk(rows, readKeys) {
			keys := make([]crdt.Key, len(part))
			for i, st := range part {
				keys[i] = st.Key
			}
			if failed = v.missingOf(t, keys, yield); failed != nil {
				return false
			}
		}
		return true
	})
	return errors.Join(err, failed)
}

// missingOf finds them among some rows.
func (v *view) missingOf(t *table, keys []crdt.Key, yield func(crdt.Op) error) error {
	here, err := v.current(t, keys)
	if err != nil {
		return err
	}
	keys = slices.DeleteFunc(keys, func(k crdt.Key) bool { _, ok := here[k]; return ok })
	if len(keys) == 0 {
		return nil
	}
	was, err := v.shown(t, keys)
	if err != nil {
		return err
	}
	for i, k := range keys {
		if was[i].Alive() {
			if err := yield(crdt.Op{Table: t.name, Key: k, Kind: crdt.OpDelete}); err != nil {
				return err
			}
		}
	}
	return nil
}
