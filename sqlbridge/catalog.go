package sqlbridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// readCatalog inspects the tracked tables. One that does not fit is left out; schemaMoved says why in the
// file, when it may write.
func (b *Bridge) readCatalog(ctx context.Context, q querier) error {
	clear(b.catalog)
	for _, s := range b.tables {
		if s.state != stateTracked {
			continue
		}
		t, err := b.inspectStored(ctx, q, s)
		var refused *RefusedError
		if errors.As(err, &refused) {
			continue
		}
		if err != nil {
			return err
		}
		b.catalog[s.name] = t
	}
	b.driftDue = b.anyDrift()
	return nil
}

// anyDrift reports whether a tracked table is still to be compared as a whole.
func (b *Bridge) anyDrift() bool {
	for _, s := range b.tables {
		if s.drift != driftNone && s.state == stateTracked {
			return true
		}
	}
	return false
}

// inspectStored inspects a table whose rows we hold, and refuses it if its key is another than theirs.
func (b *Bridge) inspectStored(ctx context.Context, q querier, s *stored) (*table, error) {
	t, err := inspect(ctx, q, s.name)
	if err != nil {
		return nil, err
	}
	if t.name != s.name {
		return nil, &RefusedError{s.name, fmt.Sprintf("the table here is called %s", t.name), "rename it: names are compared letter by letter"}
	}
	t.tbl = s.tbl
	if len(t.key) != s.parts {
		return nil, otherKey(t, s)
	}
	names := columnList(t) // where nothing is noted
	err = b.meta(ctx, columnsMeta(t), &names)
	t.known = strings.FieldsFunc(names, func(r rune) bool { return r == '\n' }) // not nil, even where there are none
	return t, err
}

func otherKey(t *table, s *stored) *RefusedError {
	return &RefusedError{s.name, fmt.Sprintf("its key has %d columns here and %d in the group", len(t.key), s.parts), "give it the group's key"}
}

// noteColumns notes that the table now shows all of its columns.
func (b *Bridge) noteColumns(ctx context.Context, t *table) error {
	t.known = nil
	return b.setMeta(ctx, columnsMeta(t), columnList(t))
}

func columnsMeta(t *table) string { return fmt.Sprintf("columns of %d", t.tbl) }

// columnList has no name twice and none with a line feed, which names must not have.
func columnList(t *table) string { return strings.Join(t.names(), "\n") }

// schemaMoved looks at the tables again after somebody changed the schema: triggers that a rebuild of a table
// lost are made anew and the table is compared with what it should show, before anything is projected over
// it. A table that is gone or cannot take its rows is suspended; one that can again goes on.
func (b *Bridge) schemaMoved(ctx context.Context) error {
	if err := b.loadTables(ctx); err != nil {
		return err
	}
	b.catalog = map[string]*table{}
	for _, name := range b.tableNames() {
		s := b.tables[name]
		if s.state != stateTracked && s.state != stateSuspended {
			continue
		}
		t, err := b.inspectStored(ctx, b.conn, s)
		var refused *RefusedError
		switch {
		case errors.As(err, &refused):
			if s.state != stateSuspended || s.reason != refused.Reason {
				b.log.Warn("table suspended: its rows are kept and forwarded, and shown again when it fits", "table", name, "reason", refused.Reason, "fix", refused.Fix)
			}
			err = b.setState(ctx, s, stateSuspended, refused.Reason)
		case err == nil:
			err = b.fits(ctx, s, t)
		}
		if err != nil {
			return fmt.Errorf("sqlbridge: table %s after a change of the schema: %w", name, err)
		}
	}
	b.driftDue = b.anyDrift()
	others, err := b.others(ctx)
	if err != nil {
		return err
	}
	for _, name := range others {
		if !slices.Contains(b.told, name) {
			b.log.Warn("a table is not tracked: its rows stay on this machine until peer track names it", "table", name)
		}
	}
	b.told = others
	v, err := b.pragma(ctx, "schema_version")
	b.schemaVersion = v
	return err
}

// fits takes a table into the catalog.
func (b *Bridge) fits(ctx context.Context, s *stored, t *table) error {
	b.catalog[s.name] = t
	same := slices.Equal(t.known, t.names())
	if same {
		if err := b.noteColumns(ctx, t); err != nil {
			return err
		}
	}
	stand, some, err := b.triggersStand(ctx, t)
	if err != nil {
		return err
	}
	need := s.drift
	if !stand || t.renamed() {
		need = max(need, driftEdits)
	}
	away := s.state == stateSuspended
	if away { // what the outbox said of it meanwhile was passed over
		need = max(need, driftEdits)
		if err := b.setState(ctx, s, stateTracked, ""); err != nil {
			return err
		}
	}
	if !some { // it was made anew
		empty, err := b.empty(ctx, t)
		if err != nil {
			return err
		}
		if away || empty {
			need = max(need, driftReturned)
		}
	}
	anew := away || !same || need > driftEdits
	if !stand {
		if err := b.install(ctx, b.conn, t); err != nil {
			return err
		}
		if !anew { // a UNIQUE index that came or went, or a rebuild, may make room for rows that are parked
			if anew, err = b.parks(ctx, t); err != nil {
				return err
			}
		}
	}
	if anew {
		b.reshow[s.name] = true
	}
	if need == s.drift {
		return nil
	}
	return b.setDrift(ctx, s, need)
}

// empty reports whether a table has no rows.
func (b *Bridge) empty(ctx context.Context, t *table) (bool, error) {
	var rows bool
	err := b.conn.QueryRowContext(ctx, "SELECT EXISTS(SELECT 1 FROM "+quote(t.name)+")").Scan(&rows)
	return !rows, err
}

// triggersStand reports whether the capture triggers of a table are all there, as they should be, and whether any are.
func (b *Bridge) triggersStand(ctx context.Context, t *table) (all, some bool, err error) {
	have, err := texts(ctx, b.conn, `SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? AND name LIKE ? ESCAPE '\'`, t.name, fmt.Sprintf(`\_rowmesh\_%d\_%%`, t.tbl))
	if err != nil {
		return false, false, err
	}
	want := t.triggers(b.opt.ClockExpr)
	slices.Sort(have)
	slices.Sort(want)
	return slices.Equal(have, want), len(have) > 0, nil
}

// parks reports whether rows of a table are parked.
func (b *Bridge) parks(ctx context.Context, t *table) (parked bool, err error) {
	err = b.one(ctx, `SELECT EXISTS(SELECT 1 FROM _rowmesh_parked WHERE tbl = ?)`, []any{t.tbl}, &parked)
	return parked, err
}

// tableNames lists the tables that have rows, in order of name, those of the registry first.
func (b *Bridge) tableNames() []string {
	names := make([]string, 0, len(b.tables))
	for n := range b.tables {
		names = append(names, n)
	}
	slices.SortFunc(names, func(x, y string) int {
		if a, b := strings.HasPrefix(x, reserved), strings.HasPrefix(y, reserved); a != b {
			if a {
				return -1
			}
			return 1
		}
		return strings.Compare(x, y)
	})
	return names
}
