package sqlbridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// TrackReport says what became of the tables that were to be tracked.
type TrackReport struct {
	Tracked  []string        // newly, or already
	Refused  []*RefusedError // with the reason and what would help
	Warnings []string        // about tables that are tracked
}

// Track makes the capture of the named tables, or of all that can be tracked, in one transaction. Rows that
// the tables hold are taken in with the next round. It works beside a running peer, which notices. With compare the tables
// that are tracked already are compared as a whole with what they should show: what was written without the triggers is taken in
// as edits.
func (b *Bridge) Track(ctx context.Context, names []string, compare bool) (TrackReport, error) {
	var rep TrackReport
	err := b.alter(ctx, "track", func() error {
		rep = TrackReport{}
		all, err := userTables(ctx, b.conn)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			names = slices.DeleteFunc(all, func(n string) bool { s := b.tables[n]; return s != nil && s.state == stateUntracked })
		}
		for _, name := range names {
			if err := b.trackOne(ctx, name, compare, &rep); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return TrackReport{}, err
	}
	return rep, nil
}

// alter changes which tables are tracked, in one transaction and on the tables as they are in it: another process may have the
// database too.
func (b *Bridge) alter(ctx context.Context, what string, f func() error) error {
	err := b.write(ctx, func() error {
		if err := b.loadTables(ctx); err != nil {
			return err
		}
		if err := b.readCatalog(ctx, b.conn); err != nil {
			return err
		}
		return f()
	})
	if err != nil {
		_ = b.reload(context.Background())
		return fmt.Errorf("sqlbridge: %s: %w", what, explain(b.opt.Path, err))
	}
	return nil
}

func (b *Bridge) trackOne(ctx context.Context, name string, compare bool, rep *TrackReport) error {
	t, err := inspect(ctx, b.conn, name)
	var refused *RefusedError
	if errors.As(err, &refused) {
		rep.Refused = append(rep.Refused, refused)
		return nil
	}
	if err != nil {
		return err
	}
	s, err := b.storedTable(ctx, t.schema)
	if err != nil {
		return err
	}
	if s.parts != len(t.key) {
		rep.Refused = append(rep.Refused, otherKey(t, s))
		return nil
	}
	t.tbl = s.tbl
	rep.Tracked = append(rep.Tracked, t.name)
	rep.Warnings = append(rep.Warnings, t.warnings()...)
	if s.state == stateSuspended { // it fits now: the next round finds that
		return nil
	}
	stand, _, err := b.triggersStand(ctx, t)
	if err != nil || stand && s.state == stateTracked && !compare {
		return err
	}
	need, err := b.needs(ctx, s)
	if err != nil {
		return err
	}
	if err := b.install(ctx, b.conn, t); err != nil { // a change of the schema, which a running peer notices
		return err
	}
	b.catalog[t.name] = t
	if err := b.setState(ctx, s, stateTracked, ""); err != nil {
		return err
	}
	return b.setDrift(ctx, s, max(s.drift, need))
}

// needs says how a table that is now tracked must be compared.
func (b *Bridge) needs(ctx context.Context, s *stored) (drift, error) {
	var rows bool
	if err := b.one(ctx, `SELECT EXISTS(SELECT 1 FROM _rowmesh_rows WHERE tbl = ?)`, []any{s.tbl}, &rows); err != nil {
		return driftNone, err
	}
	switch {
	case !rows || s.state == stateTracked:
		return driftEdits, nil
	case s.state == stateUntracked:
		return driftReturned, nil
	}
	return driftFirst, nil
}

// warnings says what the user of a tracked table should know.
func (t *table) warnings() (out []string) {
	if t.rowidKey {
		what := "INTEGER PRIMARY KEY"
		if t.autoinc {
			what += " AUTOINCREMENT"
		}
		out = append(out, fmt.Sprintf("table %s: the key is an %s: where two sides give out the same number while apart, the two rows become one; keys such as UUIDs do not meet", t.name, what))
	}
	if len(t.effects) > 0 {
		out = append(out, fmt.Sprintf("table %s: its triggers that write or ignore rows (%s) run only where a program writes; what they write to tracked tables comes to other peers as rows", t.name, joinNames(t.effects)))
	}
	if len(t.checks) > 0 {
		out = append(out, fmt.Sprintf("table %s: its triggers (%s) also run for rows that come from other peers", t.name, joinNames(t.checks)))
	}
	return out
}

// Untrack ends the capture of the named tables, in one transaction. Their rows stay as they are; what others
// write to them is kept and forwarded, and no longer shown.
func (b *Bridge) Untrack(ctx context.Context, names []string) error {
	return b.alter(ctx, "untrack", func() error {
		for _, name := range names {
			s := b.tables[name]
			if s == nil || s.state == stateUnknown {
				return fmt.Errorf("table %s is not tracked; peer status lists those that are", name)
			}
			if err := removeTriggers(ctx, b.conn, s.tbl); err != nil {
				return err
			}
			for _, of := range []string{"parked", "claims"} {
				if _, err := b.conn.ExecContext(ctx, "DELETE FROM "+reserved+of+" WHERE tbl = ?", s.tbl); err != nil {
					return err
				}
			}
			if err := b.setState(ctx, s, stateUntracked, ""); err != nil {
				return err
			}
			delete(b.catalog, name)
		}
		return nil
	})
}

// Remove takes everything of ours out of the database and gives it back its journal mode. The user's tables
// stay as they are. No peer may run on it.
func (b *Bridge) Remove(ctx context.Context) error {
	mode := "delete"
	if err := b.meta(ctx, "journal_mode_before", &mode); err != nil {
		return err
	}
	for _, s := range b.stmts {
		s.Close()
	}
	clear(b.stmts)
	err := b.write(ctx, func() error {
		for _, kind := range []string{"trigger", "view", "table"} {
			names, err := texts(ctx, b.conn, `SELECT name FROM sqlite_schema WHERE type = ? AND (name LIKE '\_rowmesh\_%' ESCAPE '\' OR type = 'view' AND name LIKE 'rowmesh\_%' ESCAPE '\')`, kind)
			if err != nil {
				return err
			}
			for _, n := range names {
				if _, err := b.conn.ExecContext(ctx, "DROP "+strings.ToUpper(kind)+" "+quote(n)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sqlbridge: untrack: %w", explain(b.opt.Path, err))
	}
	var now string
	if err := b.conn.QueryRowContext(ctx, "PRAGMA journal_mode="+mode).Scan(&now); err != nil || now != mode {
		return fmt.Errorf("sqlbridge: %s is clean, but stays in journal mode %s because another program has it open", b.opt.Path, now)
	}
	return nil
}

// Tracked lists the tracked tables that take rows, in order of name.
func (b *Bridge) Tracked() []string {
	out := make([]string, 0, len(b.catalog))
	for n := range b.catalog {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
