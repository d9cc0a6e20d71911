package sqlbridge

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// The definitions of tables and indexes are rows of two tables of our own, merged and sent like any others.
// They have no SQL table. A replica that comes to a group makes the tables from them.
const (
	tableRegistry = reserved + "table"
	indexRegistry = reserved + "index"
)

func mustSchema(s *crdt.Schema, err error) *crdt.Schema {
	if err != nil {
		panic(err)
	}
	return s
}

var registrySchemas = []*crdt.Schema{
	mustSchema(crdt.NewSchema(tableRegistry, []string{"name"}, []string{"sql"})),
	mustSchema(crdt.NewSchema(indexRegistry, []string{"name"}, []string{"sql", "table"})),
}

// registryOps returns what the group must be told of the definitions here: those it does not know, and those
// that were changed here. A definition that differs from the group's from the start is left alone: two
// replicas would correct each other for ever.
func (r *round) registryOps() (ops []crdt.Op, err error) {
	for _, name := range r.b.tableNames() {
		s, t := r.b.tables[name], r.b.catalog[name]
		if t == nil || s.sql == t.definition() {
			continue
		}
		defs := []crdt.Op{{Table: tableRegistry, Key: textKey(t.name), Sets: []crdt.Set{{Column: "sql", Value: crdt.Text(t.sql)}}}}
		for _, ix := range t.indexes {
			defs = append(defs, crdt.Op{Table: indexRegistry, Key: textKey(ix.name), Sets: []crdt.Set{
				{Column: "sql", Value: crdt.Text(ix.sql)}, {Column: "table", Value: crdt.Text(t.name)}}})
		}
		for _, op := range defs {
			rows, err := r.Rows([]replica.RowKey{{Table: op.Table, Key: op.Key}})
			if err != nil {
				return nil, err
			}
			cell, _ := rows[0].Cell("sql")
			switch {
			case op.Table == indexRegistry && !rows[0].Alive() && strings.Contains(s.sql, op.Sets[0].Value.Bytes()):
				continue // another dropped it
			case !rows[0].Alive():
				op.Kind = crdt.OpInsert
			case s.sql == "" || cell.Value == op.Sets[0].Value:
				continue
			default:
				op.Kind = crdt.OpUpdate
			}
			ops = append(ops, op)
		}
		if s.sql != "" {
			if ops, err = r.droppedIndexes(s, t, ops); err != nil {
				return nil, err
			}
		}
		s.sql = t.definition()
		if err := r.b.exec(r.ctx, `UPDATE _rowmesh_tables SET sql = ? WHERE tbl = ?`, s.sql, s.tbl); err != nil {
			return nil, err
		}
	}
	return ops, nil
}

// droppedIndexes adds the deletions of indexes that stood here and were dropped: a replica that comes to the group does not make them.
func (r *round) droppedIndexes(s *stored, t *table, ops []crdt.Op) ([]crdt.Op, error) {
	err := r.Scan(indexRegistry, crdt.Key{}, func(rows []replica.RowState) bool {
		for _, st := range rows {
			name, of, def := st.Key.Values()[0].Bytes(), text(st.Row, "table"), text(st.Row, "sql")
			stands := slices.ContainsFunc(t.indexes, func(ix index) bool { return ix.name == name })
			if st.Row.Alive() && of == t.name && def != "" && strings.Contains(s.sql, def) && !stands {
				ops = append(ops, crdt.Op{Table: indexRegistry, Key: st.Key, Kind: crdt.OpDelete})
			}
		}
		return true
	})
	return ops, err
}

// text returns what a register holds.
func text(row crdt.Row, col string) string {
	cell, _ := row.Cell(col)
	return cell.Value.Bytes()
}

// definition is all that the registry holds of a table.
func (t *table) definition() string {
	parts := []string{t.sql}
	for _, ix := range t.indexes {
		parts = append(parts, ix.sql)
	}
	return strings.Join(parts, ";\n")
}

func textKey(s string) crdt.Key { return crdt.MustKey(crdt.Text(s)) }

// applyRegistry makes the tables and indexes that the group has and this database lacks, and takes part with
// tables that are here already.
func (b *Bridge) applyRegistry(r *round, byTable map[string][]replica.RowChange) error {
	for _, kind := range []string{tableRegistry, indexRegistry} {
		changes := slices.Clone(byTable[kind])
		slices.SortFunc(changes, func(x, y replica.RowChange) int { return x.Key.Compare(y.Key) })
		for _, c := range changes {
			if c.Local || !c.New.Alive() {
				continue
			}
			name := c.Key.Values()[0].Bytes()
			def := text(c.New, "sql")
			var err error
			if kind == tableRegistry {
				err = b.adopt(r, name, def)
			} else {
				err = b.adoptIndex(r, name, text(c.New, "table"), def)
			}
			if err != nil {
				return fmt.Errorf("sqlbridge: definition of %s: %w", name, err)
			}
		}
	}
	return nil
}

// wanted reports whether a table of the group is to be shown here.
func (b *Bridge) wanted(name string) bool {
	return len(b.opt.Tables) == 0 || slices.Contains(b.opt.Tables, name)
}

// adopt takes part with a table of the group: it is made where it is missing; one that is here already gets
// the group's rows first, and what it has beyond them counts as written now.
func (b *Bridge) adopt(r *round, name, def string) error {
	if s := b.tables[name]; s != nil && s.state != stateUnknown || !b.wanted(name) {
		return nil
	}
	var here int
	err := b.conn.QueryRowContext(r.ctx, `SELECT count(*) FROM sqlite_schema WHERE name = ? COLLATE NOCASE`, name).Scan(&here)
	if err != nil {
		return err
	}
	if here == 0 {
		if err := b.tryDefinition(r.ctx, "table", name, []string{def}); err != nil {
			b.log.Warn("a table of the group is not made here; its rows are kept and forwarded", "table", name, "reason", err)
			return nil
		}
		if _, err := b.conn.ExecContext(r.ctx, def); err != nil {
			return err
		}
		r.made[name] = true
	}
	t, err := inspect(r.ctx, b.conn, name)
	if err == nil && t.name != name {
		err = &RefusedError{name, "the table here is called " + t.name, "rename it: names are compared letter by letter"}
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		b.log.Warn("a table of the group cannot be tracked here; its rows are kept and forwarded", "table", name, "reason", refused.Reason, "fix", refused.Fix)
		return nil
	}
	if err != nil {
		return err
	}
	return b.takePart(r, t, here > 0)
}

func (b *Bridge) takePart(r *round, t *table, hadRows bool) error {
	s, err := b.storedTable(r.ctx, t.schema)
	if err != nil {
		return err
	}
	if s.parts != len(t.key) {
		return errors.Join(b.setDrift(r.ctx, s, driftFirst), b.setState(r.ctx, s, stateSuspended, otherKey(t, s).Reason))
	}
	t.tbl = s.tbl
	if err := b.install(r.ctx, b.conn, t); err != nil {
		return err
	}
	b.catalog[t.name], b.reshow[t.name] = t, true
	b.mine[t.name] = hadRows && b.opt.Mine
	if err := b.setState(r.ctx, s, stateTracked, ""); err != nil {
		return err
	}
	if !hadRows {
		return b.setDrift(r.ctx, s, driftNone)
	}
	return b.setDrift(r.ctx, s, driftEdits) // in the round after this, which shows the group's rows
}

// adoptIndex makes an index of the group on a table that was made just now. On one that was here it is for programs to make: their
// migrations do so on every machine, and an index that is there already would make them fail.
func (b *Bridge) adoptIndex(r *round, name, of, def string) error {
	t := b.catalog[of]
	if t == nil || !r.made[of] {
		return nil
	}
	var here int
	err := b.conn.QueryRowContext(r.ctx, `SELECT count(*) FROM sqlite_schema WHERE name = ? COLLATE NOCASE`, name).Scan(&here)
	if err != nil || here > 0 {
		return err
	}
	if err := b.tryDefinition(r.ctx, "index", name, []string{t.sql, def}); err != nil {
		b.log.Warn("an index of the group is not made here", "index", name, "table", of, "reason", err)
		return nil
	}
	if _, err := b.conn.ExecContext(r.ctx, def); err != nil {
		b.log.Warn("an index of the group cannot be made here", "index", name, "table", of, "reason", err)
		return nil
	}
	fresh, err := inspect(r.ctx, b.conn, of)
	if err != nil {
		return nil //nolint:nilerr // a table that can no longer be tracked is suspended when the round after this looks
	}
	fresh.tbl = t.tbl
	b.catalog[of] = fresh
	parked, err := b.parks(r.ctx, fresh)
	if parked { // their claims in this index are not known yet
		b.reshow[of] = true
	}
	return errors.Join(err, b.install(r.ctx, b.conn, fresh))
}

// tryDefinition runs the definitions in an empty database in memory, and refuses unless the last of them
// makes exactly one object of that kind and name and nothing else. Only a statement that has passed is ever
// run on the user's file.
func (b *Bridge) tryDefinition(ctx context.Context, kind, name string, defs []string) error {
	for _, d := range defs {
		if !singleStatement(d) {
			return errors.New("the definition is not one single statement")
		}
	}
	if low := strings.ToLower(name); strings.HasPrefix(low, reserved) || strings.HasPrefix(low, reservedView) || strings.HasPrefix(low, "sqlite_") {
		return errors.New("the name is reserved")
	}
	db := sql.OpenDB(scratch{b.db.Driver()})
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, d := range defs {
		if !strings.HasPrefix(strings.ToUpper(strings.TrimSpace(d)), "CREATE ") {
			return errors.New("the definition does not begin with CREATE")
		}
		if _, err := db.ExecContext(ctx, d); err != nil {
			return fmt.Errorf("the definition does not run: %w", err)
		}
	}
	rows, err := texts(ctx, db, `SELECT type || ' ' || name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY rowid`)
	if err != nil {
		return err
	}
	if len(rows) != len(defs) || rows[len(rows)-1] != kind+" "+name {
		return fmt.Errorf("the definition makes %s instead of the %s %s", strings.Join(rows, " and "), kind, name)
	}
	var kept string
	if err := db.QueryRowContext(ctx, `SELECT sql FROM sqlite_schema WHERE name = ?`, name).Scan(&kept); err != nil {
		return err
	}
	if kept != defs[len(defs)-1] { // CREATE TABLE AS, which would run a query
		return errors.New("the definition is not as SQLite keeps it")
	}
	return nil
}

// scratch opens empty databases in memory, with the driver of the user's handle.
type scratch struct{ d driver.Driver }

func (s scratch) Connect(context.Context) (driver.Conn, error) { return s.d.Open(":memory:") }
func (s scratch) Driver() driver.Driver                        { return s.d }
