package sqlbridge

import (
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// txn is a transaction with the numbers of its rows.
type txn struct {
	at    crdt.Stamp
	rows  []int64
	large bool // too many to list: rows is empty
}

// Changed visits the rows of the transactions that are in `in` but not in notIn.
func (v *view) Changed(in, notIn crdt.Coverage, after replica.Position, yield func(crdt.Stamp, []replica.RowState) bool) error {
	for _, o := range in.Origins() {
		n, ok := v.b.origins.number[o]
		if !ok || o.Compare(after.Stamp.Origin) < 0 {
			continue
		}
		from := notIn[o]
		resume := o == after.Stamp.Origin && after.Stamp.Time > from
		if resume {
			from = after.Stamp.Time - 1
		}
		for from < in[o] {
			page, err := v.txns(o, n, from, in[o])
			if err != nil {
				return fmt.Errorf("sqlbridge: read transactions of %s: %w", o.Short(), err)
			}
			if len(page) == 0 {
				break
			}
			from = page[len(page)-1].at.Time
			if more, err := v.visit(page, after, yield); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

// txns reads the next transactions of an origin, about a page of rows.
func (v *view) txns(o crdt.Origin, number uint64, from, to hlc.Timestamp) ([]txn, error) {
	rows, err := v.b.query(v.ctx, `SELECT h, rows FROM _rowmesh_txns WHERE o = ? AND h > ? AND h <= ? ORDER BY h LIMIT ?`,
		number, int64(from), int64(to), readPage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []txn
	total := 0
	for total < readPage && rows.Next() {
		var h int64
		var list sql.RawBytes
		if err := rows.Scan(&h, &list); err != nil {
			return nil, err
		}
		t := txn{at: crdt.Stamp{Time: hlc.Timestamp(h), Origin: o}, large: len(list) > v.b.listBytes}
		if t.large {
			total = readPage
		} else {
			t.rows = parseNumbers(list)
			total += len(t.rows)
		}
		out = append(out, t)
	}
	return out, rows.Err()
}

// visit hands on the rows of some transactions, of which the last may be a large one.
func (v *view) visit(page []txn, after replica.Position, yield func(crdt.Stamp, []replica.RowState) bool) (more bool, err error) {
	if last := page[len(page)-1]; last.large || len(last.rows) > readPage {
		if more, err := v.visitSmall(page[:len(page)-1], after, yield); err != nil || !more {
			return more, err
		}
		return v.visitLarge(last, after, yield)
	}
	return v.visitSmall(page, after, yield)
}

// visitLarge hands on the rows of one transaction page by page. A session comes back to it for every chunk, so the order
// of its rows is kept from one visit to the next. Of a transaction of more rows than should be kept, all rows of its tables
// are looked at, in the order of the index.
func (v *view) visitLarge(t txn, after replica.Position, yield func(crdt.Stamp, []replica.RowState) bool) (more bool, err error) {
	if t.large {
		return v.visitAll(t.at, after, yield)
	}
	if err := v.orderRows(t); err != nil {
		return false, fmt.Errorf("sqlbridge: read rows: %w", err)
	}
	order := v.b.order.rows
	if t.at == after.Stamp && !after.Key.IsZero() {
		i, found := slices.BinarySearchFunc(order, after.RowKey, func(o orderedRow, k replica.RowKey) int { return o.key.Compare(k) })
		if found {
			i++
		}
		order = order[i:]
	}
	states := map[int64]replica.RowState{}
	for page := range slices.Chunk(order, readPage) {
		clear(states)
		for part := range slices.Chunk(page, readKeys) {
			if err := v.byNumber(numbersOf(part), states); err != nil {
				return false, fmt.Errorf("sqlbridge: read rows: %w", err)
			}
		}
		var rows []replica.RowState
		for _, o := range page {
			if st, ok := states[o.n]; ok && st.Row.Names(t.at) {
				rows = append(rows, st)
			}
		}
		if len(rows) > 0 && !yield(t.at, rows) {
			return false, nil
		}
	}
	v.b.order = rowOrder{}
	return true, nil
}

// visitAll hands on the rows of a transaction by scanning the tables.
func (v *view) visitAll(at crdt.Stamp, after replica.Position, yield func(crdt.Stamp, []replica.RowState) bool) (more bool, err error) {
	more = true
	for _, name := range slices.Sorted(maps.Keys(v.b.tables)) {
		var from crdt.Key
		if at == after.Stamp && !after.Key.IsZero() {
			if name < after.Table {
				continue
			}
			if name == after.Table {
				from = after.Key
			}
		}
		err := v.Scan(name, from, func(page []replica.RowState) bool {
			var rows []replica.RowState
			for _, st := range page {
				if st.Row.Names(at) {
					rows = append(rows, st)
				}
			}
			more = len(rows) == 0 || yield(at, rows)
			return more
		})
		if err != nil || !more {
			return more, err
		}
	}
	return true, nil
}

// orderedRow is a row of a large transaction, rowOrder all of them in order of their keys.
type orderedRow struct {
	key replica.RowKey
	n   int64
}

type rowOrder struct {
	of     txn
	passes bool // made by a view that passes over damaged rows
	rows   []orderedRow
}

func numbersOf(rows []orderedRow) []int64 {
	out := make([]int64, len(rows))
	for i, o := range rows {
		out[i] = o.n
	}
	return out
}

// orderRows sorts the rows of a transaction, unless that was done for the visit before.
func (v *view) orderRows(t txn) error {
	if v.b.order.passes == v.passes && v.b.order.of.at == t.at && slices.Equal(v.b.order.of.rows, t.rows) {
		return nil
	}
	order := rowOrder{of: t, passes: v.passes, rows: make([]orderedRow, 0, len(t.rows))}
	states := map[int64]replica.RowState{}
	for part := range slices.Chunk(t.rows, readKeys) {
		clear(states)
		if err := v.byNumber(part, states); err != nil {
			return err
		}
		for n, st := range states {
			order.rows = append(order.rows, orderedRow{st.RowKey, n})
		}
	}
	slices.SortFunc(order.rows, func(x, y orderedRow) int { return x.key.Compare(y.key) })
	v.b.order = order
	return nil
}

// visitSmall hands on the rows of transactions that are read at once.
func (v *view) visitSmall(page []txn, after replica.Position, yield func(crdt.Stamp, []replica.RowState) bool) (more bool, err error) {
	var numbers []int64
	for _, t := range page {
		numbers = append(numbers, t.rows...)
	}
	states := make(map[int64]replica.RowState, len(numbers))
	for part := range slices.Chunk(numbers, readKeys) {
		if err := v.byNumber(part, states); err != nil {
			return false, fmt.Errorf("sqlbridge: read rows: %w", err)
		}
	}
	for _, t := range page {
		var rows []replica.RowState
		for _, n := range t.rows {
			st, ok := states[n]
			if !ok || !st.Row.Names(t.at) || t.at == after.Stamp && !after.Key.IsZero() && st.Compare(after.RowKey) <= 0 {
				continue
			}
			rows = append(rows, st)
		}
		slices.SortFunc(rows, func(x, y replica.RowState) int { return x.Compare(y.RowKey) })
		if len(rows) > 0 && !yield(t.at, rows) {
			return false, nil
		}
	}
	return true, nil
}

func (v *view) byNumber(numbers []int64, states map[int64]replica.RowState) error {
	if err := v.caller.Err(); err != nil {
		return err
	}
	args := make([]any, 0, readKeys)
	for _, n := range numbers {
		args = append(args, n)
	}
	these, args := inList("n", args, 0)
	rows, err := v.b.query(v.ctx, `SELECT tbl, n, k, o, h, v FROM _rowmesh_rows WHERE `+these, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		st, n, err := v.scanAny(rows)
		if err != nil && !v.passed(err) {
			return err
		}
		states[n] = st
	}
	return rows.Err()
}

// scanAny reads tbl, n, k, o, h, v of a row of any table.
func (v *view) scanAny(rows *sql.Rows) (st replica.RowState, n int64, err error) {
	var tbl, h int64
	var k any
	var o uint64
	var body sql.RawBytes
	if err = rows.Scan(&tbl, &n, &k, &o, &h, &body); err != nil {
		return st, 0, err
	}
	s := v.b.byTbl[tbl]
	if s == nil {
		return st, 0, fmt.Errorf("%w: a row of table number %d, which is not known", ErrCorrupt, tbl)
	}
	st.Table = s.name
	if st.Key, err = parseKeyColumn(k, s.parts); err != nil {
		return st, 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	st.Row, err = v.b.parseRow(s, o, h, string(body))
	return st, n, err
}
