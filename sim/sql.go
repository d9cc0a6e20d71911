package sim

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// SQL is a medium that is a database: programs write its tables, and the replica's store captures what they wrote and shows
// in them what others wrote. Package sqlworld has it.
type SQL interface {
	Medium
	// Clock hands in the machine's wall clock, in milliseconds since 1970, before the first Open.
	Clock(wall func() int64)
	// Found says what the last Open found: whether the database is a copy, which must not write under its former origin, and
	// the time that own stamps must exceed.
	Found() (copied bool, after hlc.Timestamp)
	// Track begins the capture of every table. The founder of a group does so once.
	Track() error
	// Prepare lets the store read ahead what programs wrote, as a peer does before it takes the lock. With part the next round may
	// take in a part, and more tells that it will: then it must change no row but by its capture.
	Prepare(part bool) (more bool, err error)
	// Exec runs statements in one transaction, as a program does. An error rolls all of them back.
	Exec(...Statement) error
	// Query reads, as a program does.
	Query(query string, args ...any) ([][]any, error)
	// Tables reads every table of the user.
	Tables() (map[string]*Table, error)
	// Replace puts this database in the place of another, beside what lies there that does not travel with a copied file.
	Replace(old Medium)
	// SetBack does the same where the fence that lies there cannot tell, and reports whether that is so.
	SetBack(old Medium) bool
}

// Statement is one SQL statement with its arguments.
type Statement struct {
	Query string
	Args  []any
}

// Table is what a program sees of a table.
type Table struct {
	Key    []string
	Cols   map[string]Default // the other columns
	Unique [][]string         // columns of UNIQUE constraints beside the key
	Rows   map[crdt.Key]map[string]crdt.Value
}

// Default is what a column shows that nobody set.
type Default struct {
	Value crdt.Value
	Known bool // else only SQLite knows it
}

// Schema makes the simulated tables in a database.
var Schema = []string{
	`CREATE TABLE t(id TEXT PRIMARY KEY, a, b, c)`,
	`CREATE TABLE u(x INTEGER, y TEXT, a, b, c, PRIMARY KEY(x, y)) WITHOUT ROWID`,
	`CREATE TABLE v(id TEXT PRIMARY KEY, a UNIQUE, b, c)`,
}

// sql is the machine's database, nil where it has none.
func (m *machine) sql() SQL {
	s, _ := m.medium.(SQL)
	return s
}

// writeSQL lets a program carry out the groups of a planned write, each as a transaction. It does so also while the replica
// does not run. The replica notices a little later.
func (m *machine) writeSQL(groups [][]Op) {
	for _, g := range groups {
		tables := m.tables()
		var stmts []Statement
		for _, op := range g {
			if t := tables[op.Table]; t != nil {
				stmts = append(stmts, op.statement(t))
				if op.Verb != "set" || op.moves() {
					add(&m.remade, rowKey(op.Table, op.Key))
					add(&m.remade, rowKey(op.Table, op.Key+1))
				}
			}
		}
		if err := m.sql().Exec(stmts...); err != nil {
			m.w.mark("statement refused by a constraint")
		}
		for name, t := range m.tables() {
			for k := range t.Rows {
				add(&m.lived, replica.RowKey{Table: name, Key: k})
			}
		}
		if m.w.oracle.size()%2 == 0 { // others may write before the round comes
			m.readAhead(false)
		}
	}
	m.noticeSoon()
}

// readAhead lets the replica's store read what programs wrote before the round comes in which it is captured.
func (m *machine) readAhead(part bool) (more bool) {
	if m.core == nil || m.sql() == nil {
		return false
	}
	more, err := m.sql().Prepare(part)
	if err != nil {
		m.w.violate("harness", "%s: read ahead: %v", m.name(), err)
	}
	return more
}

// rowSet is a set of rows.
type rowSet map[replica.RowKey]bool

func add(s *rowSet, k replica.RowKey) {
	if *s == nil {
		*s = rowSet{}
	}
	(*s)[k] = true
}

// tables reads the tables of the machine's database.
func (m *machine) tables() map[string]*Table {
	t, err := m.sql().Tables()
	if err != nil {
		m.w.violate("harness", "%s: read the tables: %v", m.name(), err)
	}
	return t
}

// noticeSoon lets the replica look at its database within the time in which a peer notices a commit.
func (m *machine) noticeSoon() {
	m.unseen, m.touched = true, true
	m.schedule(m.w.now + 1 + int64(m.w.oracle.size()%70))
}

// statement is what a program says to make the change.
func (op Op) statement(t *Table) Statement {
	key := rowKey(op.Table, op.Key).Key.Values()
	var names []string
	var args []any
	for i, c := range op.Cols {
		if _, ok := t.Cols[string(c)]; !ok {
			continue
		}
		names = append(names, string(c))
		switch {
		case op.Pad > 0 && i == 0:
			args = append(args, pad(op.Value, op.Pad))
		case op.Table == "v" && c == 'a':
			args = append(args, op.Value%7) // few, so that two rows claim one
		default:
			args = append(args, op.Value+int64(i))
		}
	}
	where := strings.Join(t.Key, " = ? AND ") + " = ?"
	keyArgs := make([]any, len(key))
	for i, k := range key {
		keyArgs[i] = k.Bytes()
		if k.Kind() == crdt.KindInteger {
			keyArgs[i] = k.Integer()
		}
	}
	sets := func(from string) string {
		out := make([]string, len(names))
		for i, n := range names {
			out[i] = n + " = " + strings.ReplaceAll(from, "*", n)
		}
		return strings.Join(out, ", ")
	}
	insert := func(or string) string {
		all := slices.Concat(t.Key, names)
		return fmt.Sprintf("INSERT %sINTO %s(%s) VALUES(?%s)", or, op.Table, strings.Join(all, ", "), strings.Repeat(", ?", len(all)-1))
	}
	switch {
	case op.Verb == "del":
		return Statement{"DELETE FROM " + op.Table + " WHERE " + where, keyArgs}
	case op.Verb == "rep":
		return Statement{insert("OR REPLACE "), slices.Concat(keyArgs, args)}
	case op.Verb == "put" && len(names) > 0:
		return Statement{insert("") + fmt.Sprintf(" ON CONFLICT(%s) DO UPDATE SET %s", strings.Join(t.Key, ", "), sets("excluded.*")), slices.Concat(keyArgs, args)}
	case op.Verb == "put":
		return Statement{insert("OR IGNORE "), keyArgs}
	case op.moves(): // the key moves to one that is taken, or not
		to := rowKey(op.Table, op.Key+1).Key.Values()[0].Bytes()
		return Statement{fmt.Sprintf("UPDATE OR %s %s SET %s = ? WHERE %s", []string{"IGNORE", "REPLACE"}[op.Value/70%2], op.Table, t.Key[0], where), slices.Concat([]any{to}, keyArgs)}
	case len(names) == 0:
		return Statement{"SELECT 1", nil}
	}
	return Statement{fmt.Sprintf("UPDATE OR %s %s SET %s WHERE %s", []string{"IGNORE", "REPLACE"}[op.Value/10%2], op.Table, sets("?"), where), slices.Concat(args, keyArgs)}
}

// moves reports whether a statement that sets columns changes the key instead.
func (op Op) moves() bool { return op.Verb == "set" && op.Value%70 == 0 && op.Table != "u" }

// addColumn lets a program add a column to the tables, as an update of it would.
func (m *machine) addColumn(name string) {
	for _, t := range tableNames {
		if err := m.sql().Exec(Statement{Query: fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s", t, name)}); err == nil {
			m.added = append(m.added, t+"."+name)
		} // otherwise the table is not there yet, or has it already
	}
	m.noticeSoon()
}

// alterations are what programs do to tables beside adding columns.
var alterations = []struct {
	mark  string
	loose bool   // the table holds other values than were shown, or none: how much of that is an edit cannot be told from outside
	query string // $t is the table, $is what its CREATE statement says of it, $here its row that a trigger is for
}{
	{"trigger that writes made", false, `CREATE TRIGGER touch_$t AFTER UPDATE OF a ON $t BEGIN UPDATE $t SET c = coalesce(c, 0) + 1 WHERE $here; END`},
	{"trigger that writes dropped", false, `DROP TRIGGER touch_$t`},
	{"UNIQUE index made", false, `CREATE UNIQUE INDEX once_$t ON $t(c)`},
	{"UNIQUE index dropped", false, `DROP INDEX once_$t`},
	{"table rebuilt", false, `CREATE TABLE fresh$is; INSERT INTO fresh SELECT * FROM $t; DROP TABLE $t; ALTER TABLE fresh RENAME TO $t`},
	{"table dropped and made anew", true, `DROP TABLE $t; CREATE TABLE $t$is`},
	{"column renamed", true, `ALTER TABLE $t RENAME COLUMN c TO d`},
	{"column renamed", true, `ALTER TABLE $t RENAME COLUMN d TO c`},
}

// alter lets a program alter a table, in one transaction. Where it cannot, the table stays as it is.
func (m *machine) alter(n int64) {
	kinds := int64(len(alterations))
	a, name := alterations[n%kinds], tableNames[n/kinds%int64(len(tableNames))]
	t := m.tables()[name]
	if t == nil {
		return
	}
	made, err := m.sql().Query("SELECT substr(sql, instr(sql, '(')) FROM sqlite_schema WHERE type = 'table' AND name = ?", name)
	if err != nil {
		m.w.violate("harness", "%s: read the schema: %v", m.name(), err)
		return
	}
	var here []string
	for _, k := range t.Key {
		here = append(here, k+" = new."+k)
	}
	query := strings.NewReplacer("$t", name, "$is", made[0][0].(string), "$here", strings.Join(here, " AND ")).Replace(a.query)
	if m.sql().Exec(Statement{Query: query}) != nil {
		return
	}
	m.w.mark(a.mark)
	if a.loose {
		m.loose = append(m.loose, name)
	}
	m.noticeSoon()
}

// shape is which columns of which tables the last commit showed.
type shape map[string][]string

// shows reports whether a column was there at the last commit.
func (s shape) shows(table, col string) bool { return slices.Contains(s[table], col) }

// checkCapture checks that what is captured explains exactly how the tables came to differ from what was shown: no write of a
// program is missed, and nothing is taken for one that is none.
func (w *World) checkCapture(m *machine, d replica.Drain) {
	for name, t := range m.tables() {
		if m.shape[name] == nil || slices.Contains(m.loose, name) {
			continue // it was made after the last commit, or holds what nobody wrote
		}
		want := m.shown(name, t)
		for _, row := range want {
			for c, d := range t.Cols {
				if !m.shape.shows(name, c) { // added since: it shows its default until the commit
					row[c] = d.Value
				}
			}
		}
		gone := maps.Clone(m.lived) // rows that came and went
		for k := range want {
			delete(gone, replica.RowKey{Table: name, Key: k})
		}
		captured := map[crdt.Key]bool{}
		for op := range opsOn(d, name) {
			captured[op.Key] = true
			k := replica.RowKey{Table: name, Key: op.Key}
			delete(gone, k)
			if op.Kind == crdt.OpReplace && !m.free && !m.remade[k] && len(t.Unique) == 0 {
				w.violate("P8", "%s: an update of %s was captured as if the row had been made anew", m.name(), k)
			}
			for _, set := range op.Sets {
				if !m.shape.shows(name, set.Column) && op.Kind == crdt.OpUpdate && set.Value == t.Cols[set.Column].Value {
					w.violate("P13", "%s: the default of the new column %s of %s was captured as an edit", m.name(), set.Column, k)
				}
			}
			applyOp(want, t, op)
		}
		if m.part { // of the rest nothing is known yet
			other := func(k crdt.Key) bool { return !captured[k] }
			maps.DeleteFunc(want, func(k crdt.Key, _ map[string]crdt.Value) bool { return other(k) })
			maps.DeleteFunc(t.Rows, func(k crdt.Key, _ map[string]crdt.Value) bool { return other(k) })
			gone = nil
		}
		for k := range gone {
			if _, here := t.Rows[k.Key]; k.Table == name && !here {
				w.violate("P8", "%s: %s came and went, and nothing was captured of it", m.name(), k)
			}
		}
		if diff := differ(want, t); diff != "" {
			w.violate("P8", "%s: what was captured does not explain table %s: %s", m.name(), name, diff)
		}
	}
}

// checkShown checks that every table shows the merged rows and nothing else, unless a program has written since.
func (w *World) checkShown(m *machine) {
	m.shape = shape{}
	if !m.touched {
		m.loose = nil
	}
	for name, t := range m.tables() {
		m.shape[name] = slices.DeleteFunc(slices.Sorted(maps.Keys(t.Cols)), func(c string) bool { return slices.Contains(m.added, name+"."+c) })
		if m.touched {
			continue
		}
		if diff := differ(m.shown(name, t), t); diff != "" {
			w.violate("P14", "%s: table %s does not show the merged rows: %s", m.name(), name, diff)
		}
	}
}

// opsOn yields the operations on a table.
func opsOn(d replica.Drain, table string) iter.Seq[crdt.Op] {
	return func(yield func(crdt.Op) bool) {
		for _, g := range d.Groups {
			for _, op := range g.Ops {
				if op.Table == table && !yield(op) {
					return
				}
			}
		}
	}
}

// applyOp carries out an operation on expected rows.
func applyOp(rows map[crdt.Key]map[string]crdt.Value, t *Table, op crdt.Op) {
	switch op.Kind {
	case crdt.OpDelete:
		delete(rows, op.Key)
		return
	case crdt.OpInsert, crdt.OpReplace:
		rows[op.Key] = map[string]crdt.Value{}
		for c, d := range t.Cols {
			rows[op.Key][c] = d.Value
		}
	}
	if rows[op.Key] == nil {
		rows[op.Key] = map[string]crdt.Value{}
	}
	for _, s := range op.Sets {
		rows[op.Key][s.Column] = s.Value
	}
}

// shown is what a table shows of the machine's merged rows: those that are alive, but for rows whose value in a UNIQUE
// constraint another row claimed before.
func (m *machine) shown(name string, t *Table) map[crdt.Key]map[string]crdt.Value {
	out := map[crdt.Key]map[string]crdt.Value{}
	first := map[string]claim{} // by constraint and value
	losers := map[crdt.Key]bool{}
	for k, row := range m.rows {
		if k.Table != name || !row.Alive() {
			continue
		}
		out[k.Key] = map[string]crdt.Value{}
		for c, d := range t.Cols {
			out[k.Key][c] = d.Value
			if cell, ok := row.Cell(c); ok {
				out[k.Key][c] = cell.Value
			}
		}
		for i, u := range t.Unique {
			c := claim{key: k.Key, at: row.Birth}
			value := fmt.Sprint(i)
			null := false
			for _, col := range u {
				v := out[k.Key][col]
				null = null || v.IsNull()
				value += " " + v.Encoded()
				if cell, ok := row.Cell(col); ok && c.at.Less(cell.Stamp) {
					c.at = cell.Stamp
				}
			}
			switch old, taken := first[value]; {
			case null:
			case !taken:
				first[value] = c
			case c.before(old):
				first[value] = c
				losers[old.key] = true
			default:
				losers[c.key] = true
			}
		}
	}
	for k := range losers {
		m.w.mark("row parked")
		delete(out, k)
	}
	return out
}

// claim is a row's claim to a unique value.
type claim struct {
	key crdt.Key
	at  crdt.Stamp
}

func (c claim) before(d claim) bool {
	return c.at.Less(d.at) || c.at == d.at && c.key.Compare(d.key) < 0
}

// differ says how a table differs from what is expected, "" where it does not.
func differ(want map[crdt.Key]map[string]crdt.Value, t *Table) string {
	for _, k := range slices.SortedFunc(maps.Keys(want), crdt.Key.Compare) {
		got, ok := t.Rows[k]
		if !ok {
			return fmt.Sprintf("row %s is missing", k)
		}
		for _, c := range slices.Sorted(maps.Keys(t.Cols)) {
			if w := want[k][c]; got[c] != w && (t.Cols[c].Known || !w.IsNull()) {
				return fmt.Sprintf("row %s has %s = %s, expected %s", k, c, got[c], w)
			}
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(t.Rows), crdt.Key.Compare) {
		if want[k] == nil {
			return fmt.Sprintf("row %s should not be there", k)
		}
	}
	return ""
}
