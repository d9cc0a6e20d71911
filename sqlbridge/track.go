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
// the tables hold are taken in with the next round. It works beside a running peer, which notices.
func (b *Bridge) Track(ctx context.Context, names []string) (TrackReport, error) {
	var rep TrackReport
	err := b.write(ctx, func() error {
		rep = TrackReport{}
		all, err := userTables(ctx, b.conn)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			names = slices.DeleteFunc(all, func(n string) bool { s := b.tables[n]; return s != nil && s.state == stateUntracked })
		}
		for _, name := range names {
			if err := b.trackOne(ctx, name, &rep); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		_ = b.reload(context.Background())
		return TrackReport{}, fmt.Errorf("sqlbridge: track: %w", explain(b.opt.Path, err))
	}
	return rep, nil
}

func (b *Bridge) trackOne(ctx context.Context, name string, rep *TrackReport) error {
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
		rep.Refused = append(rep.Refused, &RefusedError{name, fmt.Sprintf("its key has %d columns here and %d in the group", len(t.key), s.parts), "give it the group's key"})
		return nil
	}
	t.tbl = s.tbl
	rep.Tracked = append(rep.Tracked, t.name)
	rep.Warnings = append(rep.Warnings, t.warnings()...)
	if ok, err := b.triggersStand(ctx, t); err != nil || ok && s.state == stateTracked {
		return err
	}
	if err := b.install(ctx, b.conn, t); err != nil {
		return err
	}
	b.catalog[t.name] = t
	if err := b.setState(ctx, s, stateTracked, ""); err != nil {
		return err
	}
	return b.setDrift(ctx, s, true)
}

// CompareWhole has tracked tables compared as a whole with what they should show, by the next round of whoever runs: what differs was
// written without the triggers, and is taken in as edits.
func (b *Bridge) CompareWhole(ctx context.Context, names []string) error {
	err := b.write(ctx, func() error {
		for _, name := range names {
			t := b.catalog[name]
			if t == nil {
				continue
			}
			if err := b.install(ctx, b.conn, t); err != nil { // a change of the schema, which a running peer notices
				return err
			}
			if err := b.setDrift(ctx, b.tables[name], true); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		_ = b.reload(context.Background())
		return fmt.Errorf("sqlbridge: compare tables: %w", explain(b.opt.Path, err))
	}
	return nil
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
	if len(t.userTriggers) > 0 {
		out = append(out, fmt.Sprintf("table %s: its triggers (%s) also run for rows that come from other peers", t.name, strings.Join(t.userTriggers, ", ")))
	}
	return out
}

// Untrack ends the capture of the named tables, in one transaction. Their rows stay as they are; what others
// write to them is kept and forwarded, and no longer shown.
func (b *Bridge) Untrack(ctx context.Context, names []string) error {
	err := b.write(ctx, func() error {
		for _, name := range names {
			s := b.tables[name]
			if s == nil || s.state == stateUnknown {
				return fmt.Errorf("table %s is not tracked; peer status lists those that are", name)
			}
			if err := removeTriggers(ctx, b.conn, s.tbl); err != nil {
				return err
			}
			for _, of := range []string{"unshown", "parked", "claims"} {
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
	if err != nil {
		_ = b.reload(context.Background())
		return fmt.Errorf("sqlbridge: untrack: %w", explain(b.opt.Path, err))
	}
	return nil
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
