package sqlworld

import (
	"database/sql"
	"fmt"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/sim"
)

// What programs on a machine do. Nothing here uses the bridge.

// Exec runs statements in one transaction, at the machine's wall time.
func (m *medium) Exec(stmts ...sim.Statement) error {
	db, err := m.program()
	if err != nil {
		return err
	}
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec("UPDATE "+clockTable+" SET ms = ?", m.wall()); err != nil {
		return err
	}
	for _, s := range stmts {
		if _, err := tx.Exec(s.Query, s.Args...); err != nil {
			return fmt.Errorf("%s: %w", s.Query, err)
		}
	}
	return tx.Commit()
}

// Query reads.
func (m *medium) Query(query string, args ...any) (out [][]any, err error) {
	db, err := m.program()
	if err != nil {
		return nil, err
	}
	rows, err := db.Query(query, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	return all(rows)
}

// all reads rows to their end.
func all(rows *sql.Rows) (out [][]any, err error) {
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		vals, dest := make([]any, len(cols)), make([]any, len(cols))
		for i := range vals {
			dest[i] = &vals[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		out = append(out, vals)
	}
	return out, rows.Err()
}

// Tables reads every table that is not ours.
func (m *medium) Tables() (map[string]*sim.Table, error) {
	if err := m.look(); err != nil {
		return nil, err
	}
	out := map[string]*sim.Table{}
	for name, form := range m.forms {
		var err error
		if out[name], err = m.rows(form); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// form is what a table is without its rows, and how they are read.
type form struct {
	sim.Table
	cols []string // beside the key
	read *sql.Stmt
}

// look reads the forms of the tables, where they may have changed: that takes longer than to read the rows.
func (m *medium) look() error {
	version, err := m.Query("PRAGMA schema_version")
	if err != nil || m.forms != nil && m.version == version[0][0] {
		return err
	}
	m.version, m.forms = version[0][0], map[string]*form{}
	names, err := m.Query(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE '\_rowmesh\_%' ESCAPE '\'`)
	for i := 0; err == nil && i < len(names); i++ {
		name := names[i][0].(string)
		m.forms[name], err = m.form(name)
	}
	return err
}

func (m *medium) form(name string) (*form, error) {
	t := &form{Table: sim.Table{Cols: map[string]sim.Default{}}}
	info, err := m.Query(`SELECT name, dflt_value, pk FROM pragma_table_xinfo(?) WHERE hidden = 0 ORDER BY pk, name`, name)
	if err != nil {
		return nil, err
	}
	for _, c := range info {
		if c[2].(int64) > 0 {
			t.Key = append(t.Key, c[0].(string))
			continue
		}
		t.cols = append(t.cols, c[0].(string))
		if t.Cols[c[0].(string)], err = m.defaultOf(c[1]); err != nil {
			return nil, err
		}
	}
	if err := m.readUnique(name, &t.Table); err != nil {
		return nil, err
	}
	all := append(append([]string{}, t.Key...), t.cols...)
	for i, c := range all {
		all[i] = `+"` + c + `"`
	}
	t.read, err = m.users.Prepare(`SELECT ` + strings.Join(all, ", ") + ` FROM "` + name + `"`)
	return t, err
}

func (m *medium) rows(f *form) (*sim.Table, error) {
	t := f.Table
	t.Rows = map[crdt.Key]map[string]crdt.Value{}
	read, err := f.read.Query()
	if err != nil {
		return nil, err
	}
	rows, err := all(read)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		var key []crdt.Value
		row := map[string]crdt.Value{}
		for i, v := range r {
			if i < len(t.Key) {
				key = append(key, value(v))
			} else {
				row[f.cols[i-len(t.Key)]] = value(v)
			}
		}
		k, err := crdt.KeyOf(key...)
		if err != nil {
			continue // a NULL in its key: it stays here
		}
		t.Rows[k] = row
	}
	return &t, nil
}

// defaultOf evaluates a DEFAULT that is a constant.
func (m *medium) defaultOf(dflt any) (sim.Default, error) {
	text, ok := dflt.(string)
	if !ok {
		return sim.Default{Known: true}, nil
	}
	if strings.ContainsAny(text, "(") || strings.HasPrefix(strings.ToUpper(text), "CURRENT_") {
		return sim.Default{}, nil
	}
	v, err := m.Query("SELECT " + text)
	if err != nil {
		return sim.Default{}, err
	}
	return sim.Default{Value: value(v[0][0]), Known: true}, nil
}

func (m *medium) readUnique(name string, t *sim.Table) error {
	list, err := m.Query(`SELECT name FROM pragma_index_list(?) WHERE "unique" AND origin <> 'pk' AND NOT partial ORDER BY name`, name)
	if err != nil {
		return err
	}
	for _, ix := range list {
		cols, err := m.Query(`SELECT name FROM pragma_index_info(?) ORDER BY seqno`, ix[0])
		if err != nil {
			return err
		}
		var u []string
		for _, c := range cols {
			u = append(u, c[0].(string))
		}
		t.Unique = append(t.Unique, u)
	}
	return nil
}

// value is what SQLite returned, with its storage class.
func value(v any) crdt.Value {
	switch v := v.(type) {
	case int64:
		return crdt.Integer(v)
	case float64:
		return crdt.Real(v)
	case string:
		return crdt.Text(v)
	case []byte:
		return crdt.Blob(v)
	case nil:
		return crdt.Value{}
	}
	panic(fmt.Sprintf("sqlworld: SQLite returned a %T", v))
}

// Damage does to our tables what no program may: it takes a row away, gives one the stamp of nobody, or empties an entry of
// the index.
func (m *medium) Damage(n int64) {
	query := []string{
		`DELETE FROM _rowmesh_rows WHERE n = (SELECT n FROM rows)`,
		`UPDATE _rowmesh_rows SET h = h - 1 WHERE n = (SELECT n FROM rows)`,
		`UPDATE _rowmesh_txns SET rows = x'' WHERE (o, h) = (SELECT o, h FROM rows)`,
	}[n%3]
	_ = m.Exec(sim.Statement{Query: `WITH rows AS (SELECT n, o, h FROM _rowmesh_rows WHERE tbl IN (SELECT tbl FROM _rowmesh_tables WHERE substr(name, 1, 9) <> '_rowmesh_')
		ORDER BY n * ? % 1009 LIMIT 1) ` + query, Args: []any{n}})
}
