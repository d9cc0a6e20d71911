package sqlbridge

import (
	"context"
	"fmt"
	"strings"
)

// The operations in the outbox. They are hints: what counts is the row as the drain finds it. An insert, a
// delete or a move says that the row may have lived and died in between, so that a change is a replacement.
const (
	hintInsert = "i"
	hintUpdate = "u"
	hintDelete = "d"
	hintMove   = "m" // the key changed: logged for the old and the new one
	hintLook   = "l" // about to collide in a UNIQUE index, and gone if the statement says REPLACE
)

// defaultClock gives the wall clock in every SQLite since 3.24, as the day that wallMillis reads: a program pays for no arithmetic.
const defaultClock = `julianday('now')`

// triggers returns the statements that make the capture triggers of a table. They name key and UNIQUE
// columns only: a trigger that names a column keeps the user from dropping it. They read a flag, so that
// projected rows are not captured again, but where none ever moves a key or chooses a rowid, and write one line without any
// constraint, so that they never fail the user's statement.
func (t *table) triggers(clock string) []string {
	const on = ` WHEN (SELECT on_ FROM _rowmesh_suppress) = 0`
	into := "INSERT INTO _rowmesh_outbox(tbl, op, ms" + keyNames(len(t.key)) + ") "
	entry := func(op, keys string) string { return fmt.Sprintf("%d, '%s', %s, %s", t.tbl, op, clock, keys) }
	log := func(op, keys string) string { return into + "VALUES(" + entry(op, keys) + ");" } // cheaper than a SELECT
	newKey, oldKey := quoteAll(t.key, "NEW."), quoteAll(t.key, "OLD.")
	name := func(suffix string) string { return quote(fmt.Sprintf("%s%d_%s", reserved, t.tbl, suffix)) }
	tbl := quote(t.name)
	look := func(where string) string {
		return into + "SELECT " + entry(hintLook, quoteAll(t.key, "")) + " FROM " + tbl + " WHERE " + where + ";"
	}
	ofKey := " OF " + quoteAll(t.key, "")
	if t.rowidKey { // UPDATE t SET rowid = ... does not name it
		ofKey = ""
	}
	out := []string{
		"CREATE TRIGGER " + name("ai") + " AFTER INSERT ON " + tbl + on + " BEGIN " + log(hintInsert, newKey) + " END",
		"CREATE TRIGGER " + name("ad") + " AFTER DELETE ON " + tbl + on + " BEGIN " + log(hintDelete, oldKey) + " END",
		"CREATE TRIGGER " + name("au") + " AFTER UPDATE ON " + tbl + on + " BEGIN " + log(hintUpdate, newKey) + " END",
		"CREATE TRIGGER " + name("am") + " AFTER UPDATE" + ofKey + " ON " + tbl + " WHEN " + t.keyMoved() +
			" BEGIN " + log(hintMove, newKey) + " " + log(hintMove, oldKey) + " END",
	}
	if t.rowid != "" { // -1 stands for one that SQLite will choose: nearly every insert, and a look for each would cost a third of it
		out = append(out, fmt.Sprintf("CREATE TRIGGER %s BEFORE INSERT ON %s WHEN NEW.%s <> -1 BEGIN %s END",
			name("br"), tbl, t.rowid, look(t.rowid+" = NEW."+t.rowid)))
	}
	looks := t.looks()
	if len(looks) == 0 {
		return out
	}
	var insert []string
	for i, where := range looks {
		insert = append(insert, look(where))
		out = append(out, fmt.Sprintf("CREATE TRIGGER %s BEFORE UPDATE OF %s ON %s%s BEGIN %s END",
			name(fmt.Sprintf("bu%d", i)), quoteAll(t.unique[i].columns, ""), tbl, on, look(where)))
	}
	return append(out, "CREATE TRIGGER "+name("bi")+" BEFORE INSERT ON "+tbl+on+" BEGIN "+strings.Join(insert, " ")+" END")
}

func (t *table) keyMoved() string {
	parts := make([]string, len(t.key))
	for i, k := range t.key {
		parts[i] = fmt.Sprintf("OLD.%s IS NOT NEW.%s", quote(k), quote(k))
	}
	return strings.Join(parts, " OR ")
}

// looks returns, for each UNIQUE index, the condition under which a stored row collides with NEW.
func (t *table) looks() []string {
	out := make([]string, len(t.unique))
	for i, u := range t.unique {
		parts := make([]string, len(u.columns))
		for j, c := range u.columns {
			parts[j] = fmt.Sprintf("%s = NEW.%s COLLATE %s", quote(c), quote(c), u.collations[j])
		}
		out[i] = strings.Join(parts, " AND ")
	}
	return out
}

// install makes the triggers of a table anew, and room in the outbox for its key.
func (b *Bridge) install(ctx context.Context, q querier, t *table) error {
	if err := removeTriggers(ctx, q, t.tbl); err != nil {
		return err
	}
	have, err := texts(ctx, q, `SELECT name FROM pragma_table_info('_rowmesh_outbox') WHERE name LIKE 'k%'`)
	if err != nil {
		return err
	}
	for i := len(have); i < len(t.key); i++ {
		if _, err := q.ExecContext(ctx, fmt.Sprintf(`ALTER TABLE _rowmesh_outbox ADD COLUMN k%d`, i+1)); err != nil {
			return fmt.Errorf("sqlbridge: widen the outbox: %w", err)
		}
	}
	for _, stmt := range t.triggers(b.opt.ClockExpr) {
		if _, err := q.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("sqlbridge: track %s: %w", t.name, err)
		}
	}
	return nil
}

// triggerNames lists our triggers for a table number.
func triggerNames(ctx context.Context, q querier, tbl int64) ([]string, error) {
	return texts(ctx, q, `SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE ? ESCAPE '\' ORDER BY name`,
		fmt.Sprintf(`\_rowmesh\_%d\_%%`, tbl))
}

func removeTriggers(ctx context.Context, q querier, tbl int64) error {
	names, err := triggerNames(ctx, q, tbl)
	if err != nil {
		return err
	}
	for _, n := range names {
		if _, err := q.ExecContext(ctx, "DROP TRIGGER "+quote(n)); err != nil {
			return fmt.Errorf("sqlbridge: remove trigger %s: %w", n, err)
		}
	}
	return nil
}
