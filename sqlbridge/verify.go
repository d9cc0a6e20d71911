package sqlbridge

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// Difference is a row of a table that is not what the merged state says it should be, and that no program's
// pending edit explains.
type Difference struct {
	Table, Key string
	What       string // missing, unexpected, or the columns that differ
}

// Verify compares every tracked table with the merged state. Edits that wait in the outbox are not
// differences.
func (b *Bridge) Verify(ctx context.Context) (diffs []Difference, err error) {
	err = b.Read(ctx, func(rv replica.View) error {
		r := rv.(*view)
		var last int64
		pending := map[replica.RowKey]bool{}
		err := r.entries(outboxTable, &last, math.MaxInt64, -1, func(h hint) error { pending[h.row()] = true; return nil })
		if err != nil {
			return err
		}
		for _, name := range b.Tracked() {
			err := r.differences(b.catalog[name], checked, func(op crdt.Op) error {
				if !pending[replica.RowKey{Table: op.Table, Key: op.Key}] {
					diffs = append(diffs, differenceOf(op))
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("sqlbridge: verify %s: %w", name, err)
			}
		}
		return nil
	})
	return diffs, err
}

func differenceOf(op crdt.Op) Difference {
	d := Difference{Table: op.Table, Key: op.Key.String()}
	switch op.Kind {
	case crdt.OpDelete:
		d.What = "missing from the table"
	case crdt.OpInsert:
		d.What = "in the table, but not in the merged state"
	default:
		d.What = "differs in"
		for _, s := range op.Sets {
			d.What += " " + s.Column
		}
	}
	return d
}

// Digest is the SHA-256 over all merged rows; see replica.Digest.
func (b *Bridge) Digest(ctx context.Context) (sum [sha256.Size]byte, err error) {
	err = b.Read(ctx, func(v replica.View) error {
		sum, err = replica.Digest(v)
		return err
	})
	return sum, err
}

// Facts are the counts that a status shows.
type Facts struct {
	Origin  crdt.Origin
	Group   replica.GroupID
	Ready   bool
	Heads   crdt.Coverage
	Rows    int64
	Outbox  int64
	Parked  int64
	Unshown int64
	Local   int64 // rows kept on this machine, for a NULL in their key or a value that is too large, seen since the peer started
	Tables  []TableFacts
	Others  []string // tables of the user that nobody began to track, those of virtual tables left out

	SchemaVersion int64 // SQLite's: it grows with every change of the schema
}

// TableFacts is how one table stands.
type TableFacts struct {
	Name, State, Reason string
	Rows                int64 // merged rows, also deleted ones
}

// Facts reads the counts.
func (b *Bridge) Facts(ctx context.Context) (f Facts, err error) {
	if have, err := b.tracked(ctx); err != nil || !have {
		return f, err
	}
	err = b.Read(ctx, func(v replica.View) error {
		st, err := v.Load()
		if err != nil {
			return err
		}
		if f.SchemaVersion, err = b.pragma(ctx, "schema_version"); err != nil {
			return err
		}
		f.Origin, f.Group, f.Ready, f.Heads = st.Origin, st.Group, st.Ready, st.Coverage
		err = b.conn.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM _rowmesh_rows), (SELECT count(*) FROM _rowmesh_outbox),
			(SELECT count(*) FROM _rowmesh_parked), (SELECT count(*) FROM _rowmesh_unshown)`).Scan(&f.Rows, &f.Outbox, &f.Parked, &f.Unshown)
		if err != nil {
			return err
		}
		for _, n := range b.keptLocal {
			f.Local += n
		}
		rows, err := b.conn.QueryContext(ctx, `SELECT name, state, reason, (SELECT count(*) FROM _rowmesh_rows r WHERE r.tbl = t.tbl)
			FROM _rowmesh_tables t WHERE substr(name, 1, 9) <> '_rowmesh_' ORDER BY name`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var t TableFacts
			if err := rows.Scan(&t.Name, &t.State, &t.Reason, &t.Rows); err != nil {
				return err
			}
			f.Tables = append(f.Tables, t)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		f.Others, err = b.others(ctx)
		return err
	})
	return f, err
}

// others lists the tables of the user that nobody began to track.
func (b *Bridge) others(ctx context.Context) ([]string, error) {
	return texts(ctx, b.conn, `SELECT name FROM sqlite_schema t WHERE `+isUsers+` AND NOT (`+isVirtual+`) AND name NOT IN (SELECT name FROM _rowmesh_tables)
		AND NOT EXISTS (SELECT 1 FROM sqlite_schema v WHERE `+isVirtual+` AND lower(substr(t.name, 1, length(name) + 1)) = lower(name) || '_')
		ORDER BY name`)
}

// LastHead returns the greatest time that the replica has claimed, for a check of the clock.
func (f Facts) LastHead() hlc.Timestamp { return f.Heads.Max() }
