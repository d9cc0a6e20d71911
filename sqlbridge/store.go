package sqlbridge

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// The states of a table.
const (
	stateTracked   = "tracked"
	stateUntracked = "untracked" // by the user; it stays so
	stateUnknown   = "unknown"   // its rows are kept and forwarded; there is no such SQL table here
	stateSuspended = "suspended" // its rows are kept; the SQL table cannot take them, for a reason
)

// stored is a table as our tables know it.
type stored struct {
	tbl    int64
	name   string
	parts  int           // columns of its key
	cols   *crdt.Columns // numbered in the order in which they were first stored
	state  string
	drift  drift
	reason string
	sql    string // its definition when the registry was last told
}

// drift says whether a table must be compared, as a whole, with what it should show: it was written without the triggers. While the
// table cannot be used the greatest need is kept.
type drift int

const (
	driftNone     drift = iota
	driftEdits          // what differs is an edit, what is missing was deleted
	driftReturned       // the table was away: what is missing in it was not deleted
	driftFirst          // it never showed the group's rows: these are shown first, and what it has beyond them is taken in
)

// reload reads what we remember of tables and origins.
func (b *Bridge) reload(ctx context.Context) error {
	b.ahead, b.ends, b.captureRows, b.capturedAt = nil, nil, cmp.Or(b.opt.CaptureRows, firstRows), -1
	b.origins = originTable{number: map[crdt.Origin]uint64{}, id: map[uint64]crdt.Origin{}}
	have, err := b.tracked(ctx)
	if err != nil || !have {
		clear(b.tables)
		clear(b.byTbl)
		return err
	}
	var f int
	var copying []byte
	if err := b.meta(ctx, "format", &f); err != nil {
		return err
	}
	if f != format {
		return fmt.Errorf("sqlbridge: %s has tables of format %d, this program knows %d: update the older program", b.opt.Path, f, format)
	}
	if err := b.loadOrigins(ctx); err != nil {
		return err
	}
	if err := b.loadTables(ctx); err != nil {
		return err
	}
	if err := b.conn.QueryRowContext(ctx, `SELECT coalesce(max(n), 0) + 1 FROM _rowmesh_rows`).Scan(&b.nextRow); err != nil {
		return err
	}
	b.ready = false
	for name, dest := range map[string]any{"commits": &b.commits, "ready": &b.ready, "copy": &copying} {
		if err := b.meta(ctx, name, dest); err != nil {
			return err
		}
	}
	b.copying = len(copying) > 0
	return b.readCatalog(ctx, b.conn)
}

func (b *Bridge) loadOrigins(ctx context.Context) error {
	rows, err := b.conn.QueryContext(ctx, `SELECT o, id FROM _rowmesh_origins`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var n uint64
		var id []byte
		if err := rows.Scan(&n, &id); err != nil {
			return err
		}
		if len(id) != len(crdt.Origin{}) {
			return fmt.Errorf("sqlbridge: %w: an origin id of %d bytes", ErrCorrupt, len(id))
		}
		b.origins.number[crdt.Origin(id)], b.origins.id[n] = n, crdt.Origin(id)
	}
	return rows.Err()
}

func (b *Bridge) loadTables(ctx context.Context) error {
	clear(b.tables)
	clear(b.byTbl)
	rows, err := b.conn.QueryContext(ctx, `SELECT tbl, name, parts, cols, state, drift, reason, sql FROM _rowmesh_tables`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var s stored
		var cols string
		if err := rows.Scan(&s.tbl, &s.name, &s.parts, &cols, &s.state, &s.drift, &s.reason, &s.sql); err != nil {
			return err
		}
		var names []string
		if err := json.Unmarshal([]byte(cols), &names); err != nil {
			return fmt.Errorf("sqlbridge: %w: the columns of table %s: %w", ErrCorrupt, s.name, err)
		}
		s.cols = crdt.NewColumns(names)
		b.tables[s.name], b.byTbl[s.tbl] = &s, &s
	}
	return rows.Err()
}

// storedTable returns the number and columns of a table, entering it or new columns where need be. It is
// called inside a write transaction.
func (b *Bridge) storedTable(ctx context.Context, schema *crdt.Schema) (*stored, error) {
	s := b.tables[schema.Table]
	if s == nil {
		s = &stored{tbl: int64(len(b.tables) + 1), name: schema.Table, parts: len(schema.Key), cols: crdt.NewColumns(nil), state: stateUnknown}
		for b.byTbl[s.tbl] != nil {
			s.tbl++
		}
		if err := b.exec(ctx, `INSERT INTO _rowmesh_tables(tbl, name, parts, cols) VALUES(?, ?, ?, '[]')`, s.tbl, s.name, s.parts); err != nil {
			return nil, err
		}
		b.tables[s.name], b.byTbl[s.tbl] = s, s
	}
	names := s.cols.Names()
	for _, c := range schema.Columns {
		if !slices.Contains(s.cols.Names(), c) {
			names = append(names, c)
		}
	}
	if len(names) == len(s.cols.Names()) {
		return s, nil
	}
	text, err := json.Marshal(names)
	if err != nil {
		return nil, err
	}
	s.cols = crdt.NewColumns(names)
	return s, b.exec(ctx, `UPDATE _rowmesh_tables SET cols = ? WHERE tbl = ?`, string(text), s.tbl)
}

// setState changes what becomes of a table's rows.
func (b *Bridge) setState(ctx context.Context, s *stored, state, reason string) error {
	s.state, s.reason = state, reason
	return b.exec(ctx, `UPDATE _rowmesh_tables SET state = ?, reason = ? WHERE tbl = ?`, state, reason, s.tbl)
}

func (b *Bridge) setDrift(ctx context.Context, s *stored, d drift) error {
	s.drift = d
	b.driftDue = b.driftDue || d != driftNone
	return b.exec(ctx, `UPDATE _rowmesh_tables SET drift = ? WHERE tbl = ?`, d, s.tbl)
}

// view reads the rows within the transaction that is open on the connection.
type view struct {
	b   *Bridge
	ctx context.Context          // of statements: it is never cancelled, because a driver starts a goroutine for each statement that could be
	n   map[replica.RowKey]int64 // row numbers found so far

	// caller is the context of whoever waits for the view or round. It is looked at from row to row.
	caller context.Context

	// memo keeps rows that a round has read: the capture compares with them, and the merge that follows reads them again.
	// It is nil where nothing is kept.
	memo map[replica.RowKey]crdt.Row

	passes bool // over rows that cannot be read
}

func (b *Bridge) view(ctx context.Context) view {
	return view{b: b, ctx: context.WithoutCancel(ctx), caller: ctx, n: map[replica.RowKey]int64{}}
}

// Tolerant returns a view that passes over rows that cannot be read.
func (v *view) Tolerant() replica.View {
	t := *v
	t.passes, t.memo = true, nil
	return &t
}

// passed reports whether an error of a row is passed over.
func (v *view) passed(err error) bool { return v.passes && errors.Is(err, ErrCorrupt) }

// Load reads the replica's state.
func (v *view) Load() (replica.State, error) {
	b, ctx := v.b, v.ctx
	st := replica.State{Coverage: crdt.Coverage{}}
	var origin, group []byte
	for name, dest := range map[string]any{"origin": &origin, "group": &group, "ready": &st.Ready, "copy": &st.Copy} {
		if err := b.meta(ctx, name, dest); err != nil {
			return st, fmt.Errorf("sqlbridge: load %s: %w", name, err)
		}
	}
	copy(st.Origin[:], origin)
	b.own = st.Origin
	copy(st.Group[:], group)
	if err := v.heads(st.Coverage); err != nil {
		return st, fmt.Errorf("sqlbridge: load heads: %w", err)
	}
	rows, err := b.conn.QueryContext(ctx, `SELECT def FROM _rowmesh_schemas ORDER BY n`)
	if err != nil {
		return st, err
	}
	defer rows.Close()
	for rows.Next() {
		var def []byte
		if err := rows.Scan(&def); err != nil {
			return st, err
		}
		s, err := crdt.ParseSchema(def)
		if err != nil {
			return st, fmt.Errorf("sqlbridge: %w: %w", ErrCorrupt, err)
		}
		st.Schemas = append(st.Schemas, s)
	}
	return st, rows.Err()
}

func (v *view) heads(c crdt.Coverage) error {
	rows, err := v.b.conn.QueryContext(v.ctx, `SELECT id, head FROM _rowmesh_origins WHERE head > 0`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id []byte
		var head int64
		if err := rows.Scan(&id, &head); err != nil {
			return err
		}
		c[crdt.Origin(id)] = hlc.Timestamp(head)
	}
	return rows.Err()
}

// Rows reads rows by key.
func (v *view) Rows(keys []replica.RowKey) ([]crdt.Row, error) {
	out := make([]crdt.Row, len(keys))
	byTable := map[string][]int{}
	for i, k := range keys {
		if row, ok := v.memo[k]; ok {
			out[i] = row
			continue
		}
		byTable[k.Table] = append(byTable[k.Table], i)
	}
	for name, at := range byTable {
		s := v.b.tables[name]
		if s == nil {
			continue
		}
		for part := range slices.Chunk(at, readKeys) {
			if err := v.rowsOf(s, keys, part, out); err != nil {
				return nil, fmt.Errorf("sqlbridge: read rows of %s: %w", name, err)
			}
			if v.memo != nil && len(v.memo) < memoRows {
				for _, i := range part {
					v.memo[keys[i]] = out[i]
				}
			}
		}
	}
	return out, nil
}

// rowsOf reads the rows at some positions of keys, which are all of one table.
func (v *view) rowsOf(s *stored, keys []replica.RowKey, at []int, out []crdt.Row) error {
	if err := v.caller.Err(); err != nil {
		return err
	}
	args := make([]any, 1, readKeys+1)
	args[0] = s.tbl
	index := make(map[crdt.Key]int, len(at))
	for _, i := range at {
		args = append(args, keyColumn(keys[i].Key))
		index[keys[i].Key] = i
	}
	these, args := inList("k", args, 1)
	rows, err := v.b.query(v.ctx, `SELECT n, k, o, h, v FROM _rowmesh_rows WHERE tbl = ? AND `+these, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		n, st, err := v.scan(rows, s)
		if err != nil && !v.passed(err) {
			return err
		}
		if i, ok := index[st.Key]; ok {
			out[i] = st.Row
			v.n[st.RowKey] = n
		}
	}
	return rows.Err()
}

// scan reads n, k, o, h, v of a row.
func (v *view) scan(rows *sql.Rows, s *stored) (n int64, st replica.RowState, err error) {
	var k any
	var o uint64
	var h int64
	var body sql.RawBytes
	if err = rows.Scan(&n, &k, &o, &h, &body); err != nil {
		return 0, st, err
	}
	st.Table = s.name
	if st.Key, err = parseKeyColumn(k, s.parts); err != nil {
		return 0, st, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	st.Row, err = v.b.parseRow(s, o, h, string(body))
	return n, st, err
}

func (b *Bridge) parseRow(s *stored, o uint64, h int64, body string) (crdt.Row, error) {
	id, ok := b.origins.Origin(o)
	if !ok {
		return crdt.Row{}, fmt.Errorf("%w: a row of %s names origin number %d, which is not known", ErrCorrupt, s.name, o)
	}
	row, err := crdt.ParseRow(crdt.Stamp{Time: hlc.Timestamp(h), Origin: id}, body, &b.origins, s.cols)
	if err != nil {
		return crdt.Row{}, fmt.Errorf("%w: a row of %s: %w", ErrCorrupt, s.name, err)
	}
	return row, nil
}

// Scan visits the rows of a table in the order of the index on (tbl, k), which is that of crdt.Key.
func (v *view) Scan(name string, after crdt.Key, yield func([]replica.RowState) bool) error {
	s := v.b.tables[name]
	if s == nil {
		return nil
	}
	for {
		page, err := v.scanPage(s, after)
		if err != nil {
			return fmt.Errorf("sqlbridge: scan %s: %w", name, err)
		}
		if len(page) == 0 || !yield(page) {
			return nil
		}
		after = page[len(page)-1].Key
	}
}

func (v *view) scanPage(s *stored, after crdt.Key) (page []replica.RowState, err error) {
	if err := v.caller.Err(); err != nil {
		return nil, err
	}
	query, args := `SELECT n, k, o, h, v FROM _rowmesh_rows WHERE tbl = ? ORDER BY k LIMIT ?`, []any{s.tbl, readPage}
	if !after.IsZero() {
		query, args = `SELECT n, k, o, h, v FROM _rowmesh_rows WHERE tbl = ? AND k > ? ORDER BY k LIMIT ?`, []any{s.tbl, keyColumn(after), readPage}
	}
	rows, err := v.b.query(v.ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		_, st, err := v.scan(rows, s)
		if err != nil && !v.passed(err) {
			return nil, err
		}
		if !st.Key.IsZero() {
			page = append(page, st)
		}
	}
	return page, rows.Err()
}

// Count returns the greatest row number: no row of the merged state is ever deleted.
func (v *view) Count() (n uint64, err error) {
	err = v.b.one(v.ctx, `SELECT coalesce(max(n), 0) FROM _rowmesh_rows`, nil, &n)
	return n, err
}

func appendNumbers(list []byte, numbers []int64) []byte {
	for _, n := range numbers {
		list = binary.AppendUvarint(list, uint64(n))
	}
	return list
}

func parseNumbers(list []byte) []int64 {
	var out []int64
	for len(list) > 0 {
		n, size := binary.Uvarint(list)
		if size <= 0 {
			break // the rest is damaged; a lost number is repaired by the audit
		}
		out = append(out, int64(n))
		list = list[size:]
	}
	slices.SortFunc(out, cmp.Compare)
	return slices.Compact(out)
}
