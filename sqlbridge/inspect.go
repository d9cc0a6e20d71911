package sqlbridge

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
)

// querier is a connection or a transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// column is one column of a user's table.
type column struct {
	name     string
	constant bool       // its DEFAULT is known: NULL, or a constant
	dflt     crdt.Value // that default
}

// uniqueIndex is one UNIQUE constraint or index beside the primary key.
type uniqueIndex struct {
	name       string
	columns    []string
	collations []string
}

// table is one user's table as SQLite describes it.
type table struct {
	tbl    int64 // our number for it
	name   string
	key    []string // key columns, in key order
	keyAs  []affinity
	cols   []column // the other stored columns, in order of name
	unique []uniqueIndex
	schema *crdt.Schema

	sql      string    // its CREATE TABLE statement
	indexes  []index   // made by CREATE INDEX
	rowidKey bool      // the key is the rowid (INTEGER PRIMARY KEY)
	autoinc  bool      // AUTOINCREMENT
	rowid    string    // a name for the rowid that no column hides, "" where there is none or it is the key
	checks   []trigger // of the user, which run for all rows
	effects  []trigger // of the user, which run only where a program writes: they write tables, or have rows ignored

	statements map[string]string // made for it, by what they do
	known      []string          // columns as the last projection knew them; nil: all
}

// fresh reports whether the last projection did not know a column. It shows its default, or what a column showed that was
// renamed: what others wrote to it is stored, and shown with the next commit.
func (t *table) fresh(col string) bool { return t.known != nil && !slices.Contains(t.known, col) }

// gone lists the columns that the last projection knew and that are not there any more.
func (t *table) gone() []string {
	return slices.DeleteFunc(slices.Clone(t.known), func(col string) bool { return slices.Contains(t.names(), col) })
}

// renamed reports whether a column may have another name than the last projection knew: SQLite does not say.
func (t *table) renamed() bool {
	return len(t.gone()) > 0 && slices.ContainsFunc(t.names(), t.fresh)
}

type index struct{ name, sql string }

type trigger struct{ name, sql string }

func joinNames(list []trigger) string {
	names := make([]string, len(list))
	for i, x := range list {
		names[i] = x.name
	}
	return strings.Join(names, ", ")
}

// reasonMissing is why a table is refused, or suspended, that is not there.
const reasonMissing = "there is no such table"

// names returns the columns that are not part of the key.
func (t *table) names() []string {
	out := make([]string, len(t.cols))
	for i, c := range t.cols {
		out[i] = c.name
	}
	return out
}

// Conditions on rows of sqlite_schema.
const (
	isUsers   = `type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE '\_rowmesh\_%' ESCAPE '\'`
	isVirtual = `type = 'table' AND upper(substr(sql, 1, 14)) = 'CREATE VIRTUAL'`
)

// userTables lists the ordinary tables of the user, in order of name.
func userTables(ctx context.Context, q querier) ([]string, error) {
	return texts(ctx, q, `SELECT name FROM sqlite_schema WHERE `+isUsers+` ORDER BY name`)
}

// texts runs a query for one column of text.
func texts(ctx context.Context, q querier, query string, args ...any) ([]string, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

// inspect reads the description of a table. A table that cannot be tracked gives a *RefusedError.
func inspect(ctx context.Context, q querier, name string) (*table, error) {
	t := &table{name: name}
	refuse := func(reason, fix string) (*table, error) { return nil, &RefusedError{name, reason, fix} }
	var kind string
	err := q.QueryRowContext(ctx, `SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view')`, name).Scan(&kind, &t.name, &t.sql)
	switch {
	case err == sql.ErrNoRows:
		return refuse(reasonMissing, "check the spelling; .tables in the sqlite3 shell lists them")
	case err != nil:
		return nil, err
	case kind == "view":
		return refuse("it is a view", "track the tables it reads")
	case strings.HasPrefix(strings.ToUpper(t.sql), "CREATE VIRTUAL"):
		return refuse("it is a virtual table", "track the table that feeds it")
	case strings.HasPrefix(strings.ToLower(name), reserved) || strings.HasPrefix(strings.ToLower(name), "sqlite_"):
		return refuse("its name is reserved", "rename it")
	}
	switch of, err := shadowOf(ctx, q, t.name); {
	case err != nil:
		return nil, err
	case of != "":
		return refuse(fmt.Sprintf("its name says that it is a part of the virtual table %s, which fails or crashes where others change it", of),
			"track the table that feeds "+of+"; a table that is no part of it can be renamed")
	}
	if err := crdt.CheckName(t.name); err != nil {
		return refuse(err.Error(), "rename it")
	}
	all, err := t.readColumns(ctx, q)
	if err != nil {
		return nil, err
	}
	if len(t.key) == 0 {
		return refuse("it has no primary key", "declare one, or add a column with unique values, such as a UUID, as PRIMARY KEY")
	}
	if len(t.key) > maxTriggerColumns {
		return refuse(fmt.Sprintf("its key has %d columns", len(t.key)), fmt.Sprintf("at most %d are possible", maxTriggerColumns))
	}
	if err := t.readIndexes(ctx, q); err != nil {
		return nil, err
	}
	if err := t.readTriggers(ctx, q); err != nil {
		return nil, err
	}
	for _, r := range []string{"_rowid_", "rowid", "oid"} {
		if !t.rowidKey && t.rowid == "" && !slices.ContainsFunc(all, func(c string) bool { return strings.EqualFold(c, r) }) {
			t.rowid = r
		}
	}
	if hasOption(t.sql, "WITHOUT") {
		t.rowid = ""
	}
	if t.schema, err = crdt.NewSchema(t.name, t.key, t.names()); err != nil {
		return refuse(err.Error(), "rename the column")
	}
	return t, nil
}

// shadowOf names the virtual table that a table is a part of by its name: the full-text index ft keeps its words in ft_data and others.
// PRAGMA table_list knows for certain, but not before SQLite 3.37, and only of modules that are loaded here.
func shadowOf(ctx context.Context, q querier, name string) (string, error) {
	of, err := texts(ctx, q, `SELECT name FROM sqlite_schema WHERE `+isVirtual+`
		AND lower(substr(?1, 1, length(name) + 1)) = lower(name) || '_' ORDER BY name LIMIT 1`, name)
	return strings.Join(of, ""), err
}

// readColumns fills the key and the columns and returns the names of all of them.
func (t *table) readColumns(ctx context.Context, q querier) (all []string, err error) {
	rows, err := q.QueryContext(ctx, `SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid`, t.name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	type keyColumn struct {
		name, decl string
		pk         int
	}
	var key []keyColumn
	type dflt struct{ expr, decl string }
	dflts := map[string]dflt{}
	for rows.Next() {
		var name, decl string
		var notNull, pk, hidden int
		var expr sql.NullString
		if err := rows.Scan(&name, &decl, &notNull, &expr, &pk, &hidden); err != nil {
			return nil, err
		}
		all = append(all, name)
		switch {
		case hidden != 0: // generated: every side computes its own
		case pk > 0:
			key = append(key, keyColumn{name, decl, pk})
		default:
			t.cols = append(t.cols, column{name: name, constant: !expr.Valid})
			if expr.Valid {
				dflts[name] = dflt{expr.String, decl}
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	rows.Close()
	slices.SortFunc(key, func(a, b keyColumn) int { return a.pk - b.pk })
	strict := hasOption(t.sql, "STRICT")
	affinityIn := func(decl string) affinity {
		if strict && strings.EqualFold(decl, "ANY") { // elsewhere it is a name like another
			return affinityNone
		}
		return affinityOf(decl)
	}
	for _, k := range key {
		as := affinityIn(k.decl)
		if as == affinityReal && len(key) > 1 {
			return nil, &RefusedError{t.name, fmt.Sprintf("%s, a part of its key, is a REAL", k.name), "make it an INTEGER or TEXT: as parts of a key REALs compare in ways that no byte form keeps"}
		}
		t.key, t.keyAs = append(t.key, k.name), append(t.keyAs, as)
	}
	slices.SortFunc(t.cols, func(a, b column) int { return strings.Compare(a.name, b.name) })
	t.rowidKey = len(key) == 1 && strings.EqualFold(key[0].decl, "INTEGER") // unless an index says otherwise
	t.autoinc = t.rowidKey && strings.Contains(strings.ToUpper(t.sql), "AUTOINCREMENT")
	for i := range t.cols {
		if d, ok := dflts[t.cols[i].name]; ok {
			if err := t.cols[i].readDefault(ctx, q, t.name, d.expr, affinityIn(d.decl)); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// readDefault evaluates a DEFAULT that is the same at every time and place, as the column stores it.
func (c *column) readDefault(ctx context.Context, q querier, table, expr string, as affinity) error {
	list, whole := tokens(expr)
	if !whole || slices.ContainsFunc(list, func(t token) bool { return t.is("(", "CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP") }) {
		return nil // a time or a function: only its own row's writer knows the value
	}
	var v any
	if err := q.QueryRowContext(ctx, as.stored(expr)).Scan(&v); err != nil {
		return nil //nolint:nilerr // SQLite reads a bare word as text where we cannot; leave it to SQLite
	}
	value, err := valueOf(v)
	if err != nil {
		return fmt.Errorf("sqlbridge: default of %s.%s: %w", table, c.name, err)
	}
	c.constant, c.dflt = true, value
	return nil
}

// readIndexes fills the UNIQUE constraints and the statements of other indexes, and refuses what a merge
// could not keep in order.
func (t *table) readIndexes(ctx context.Context, q querier) error {
	rows, err := q.QueryContext(ctx, `SELECT l.name, l."unique", l.origin, l.partial, coalesce(s.sql, '')
		FROM pragma_index_list(?) l LEFT JOIN sqlite_schema s ON s.type = 'index' AND s.name = l.name ORDER BY l.name`, t.name)
	if err != nil {
		return err
	}
	defer rows.Close()
	type listed struct {
		name, origin, sql string
		unique, partial   bool
	}
	var list []listed
	for rows.Next() {
		var l listed
		if err := rows.Scan(&l.name, &l.unique, &l.origin, &l.partial, &l.sql); err != nil {
			return err
		}
		list = append(list, l)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	for _, l := range list {
		if l.origin == "c" {
			t.indexes = append(t.indexes, index{l.name, l.sql})
		}
		if l.origin == "pk" {
			t.rowidKey, t.autoinc = false, false
		}
		if l.unique {
			if err := t.readUnique(ctx, q, l.name, l.origin == "pk", l.partial); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *table) readUnique(ctx context.Context, q querier, name string, pk, partial bool) error {
	rows, err := q.QueryContext(ctx, `SELECT coalesce(name, ''), coalesce(coll, 'BINARY') FROM pragma_index_xinfo(?) WHERE "key" ORDER BY seqno`, name)
	if err != nil {
		return err
	}
	defer rows.Close()
	u := uniqueIndex{name: name}
	for rows.Next() {
		var col, coll string
		if err := rows.Scan(&col, &coll); err != nil {
			return err
		}
		u.columns, u.collations = append(u.columns, col), append(u.collations, strings.ToUpper(coll))
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for i, coll := range u.collations {
		if pk && coll != "BINARY" {
			return &RefusedError{t.name, fmt.Sprintf("its key column %s has the collation %s", u.columns[i], coll),
				"give key columns the BINARY collation; others make different values one key"}
		}
		if coll != "BINARY" && coll != "NOCASE" && coll != "RTRIM" {
			return &RefusedError{t.name, fmt.Sprintf("the UNIQUE index %s uses the collation %s", name, coll), "use BINARY, NOCASE or RTRIM"}
		}
	}
	if pk {
		return nil
	}
	stored := t.names()
	for _, c := range u.columns {
		if c == "" || partial {
			return &RefusedError{t.name, fmt.Sprintf("the UNIQUE index %s is on an expression or has a WHERE clause", name),
				"make it an ordinary index and check the rule in the program, or make it UNIQUE on whole columns"}
		}
		if !slices.Contains(stored, c) && !slices.Contains(t.key, c) {
			return &RefusedError{t.name, fmt.Sprintf("the UNIQUE index %s is on the generated column %s", name, c), "make it an ordinary index"}
		}
	}
	t.unique = append(t.unique, u)
	return nil
}

// readTriggers notes the user's triggers on the table. Those that write tables must not run for rows that come from others: what they
// wrote comes as rows, too. What they write into a virtual table is as it should be: an index of the words of the rows here.
func (t *table) readTriggers(ctx context.Context, q querier) error {
	rows, err := q.QueryContext(ctx, `SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE
		AND name NOT LIKE '\_rowmesh\_%' ESCAPE '\' ORDER BY rowid`, t.name)
	if err != nil {
		return err
	}
	defer rows.Close()
	virtual, err := texts(ctx, q, `SELECT lower(name) FROM sqlite_schema WHERE `+isVirtual)
	if err != nil {
		return err
	}
	for rows.Next() {
		var x trigger
		if err := rows.Scan(&x.name, &x.sql); err != nil {
			return err
		}
		text, _ := tokens(x.sql)
		targets, ok := written(text)
		if !ok || ignores(text) || slices.ContainsFunc(targets, func(target string) bool { return !slices.Contains(virtual, strings.ToLower(target)) }) {
			t.effects = append(t.effects, x)
		} else {
			t.checks = append(t.checks, x)
		}
	}
	return rows.Err()
}
