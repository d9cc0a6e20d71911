package sqlbridge

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// _rowmesh_unshown lists the rows whose merged state is not what the table shows: parked rows, and rows of
// tables that are suspended or not tracked any more. Its image is what the table shows instead, NULL for nothing. An entry stands from the
// transaction that merges without showing to the one that shows, so that the row is never taken for a
// local edit.

// unshown returns the images of the keys that are listed.
func (v *view) unshown(t *table, keys []crdt.Key) (map[crdt.Key]crdt.Row, error) {
	var listed bool
	if err := v.b.one(v.ctx, `SELECT EXISTS(SELECT 1 FROM _rowmesh_unshown WHERE tbl = ?)`, []any{t.tbl}, &listed); err != nil || !listed {
		return nil, err
	}
	out := map[crdt.Key]crdt.Row{}
	for part := range slices.Chunk(keys, readKeys) {
		args := []any{t.tbl}
		for _, k := range part {
			args = append(args, keyColumn(k))
		}
		if err := v.scanUnshown(t, args, out); err != nil {
			return nil, fmt.Errorf("sqlbridge: read unshown rows of %s: %w", t.name, err)
		}
	}
	return out, nil
}

func (v *view) scanUnshown(t *table, args []any, out map[crdt.Key]crdt.Row) error {
	these, args := inList("k", args, 1)
	rows, err := v.b.query(v.ctx, `SELECT k, image FROM _rowmesh_unshown WHERE tbl = ? AND `+these, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var k any
		var image sql.RawBytes
		if err := rows.Scan(&k, &image); err != nil {
			return err
		}
		key, err := parseKeyColumn(k, len(t.key))
		if err != nil {
			return err
		}
		if out[key], err = v.b.parseImage(v.b.byTbl[t.tbl], string(image)); err != nil {
			return err
		}
	}
	return rows.Err()
}

// image encodes a row with its base: origin number, time, row. A row that is not in the table is NULL.
func (b *Bridge) image(s *stored, row crdt.Row) any {
	if !row.Alive() {
		return nil
	}
	base := row.Base()
	out := binary.AppendUvarint(nil, b.origins.Number(base.Origin))
	out = binary.AppendUvarint(out, uint64(base.Time))
	return crdt.AppendRow(out, row, &b.origins, s.cols)
}

func (b *Bridge) parseImage(s *stored, image string) (crdt.Row, error) {
	if image == "" {
		return crdt.Row{}, nil
	}
	raw := []byte(image)
	o, n := binary.Uvarint(raw)
	h, m := binary.Uvarint(raw[max(n, 0):])
	if n <= 0 || m <= 0 {
		return crdt.Row{}, fmt.Errorf("%w: the image of an unshown row", ErrCorrupt)
	}
	return b.parseRow(s, o, int64(h), image[n+m:])
}

// setUnshown lists a row, unless it is listed.
func (r *round) setUnshown(s *stored, k crdt.Key, shows crdt.Row) error {
	return r.b.exec(r.ctx, `INSERT INTO _rowmesh_unshown(tbl, k, image) VALUES(?, ?, ?) ON CONFLICT DO NOTHING`, s.tbl, keyColumn(k), r.b.image(s, shows))
}

// hideMissing notes that a table that was away shows nothing of the rows that are not in it, so that they are shown and not
// taken for deleted.
func (r *round) hideMissing(s *stored, t *table) error {
	var failed error
	err := r.Scan(t.name, crdt.Key{}, func(rows []replica.RowState) bool {
		missing, err := r.notHere(t, rows)
		for _, st := range missing {
			if err == nil {
				err = r.b.exec(r.ctx, `INSERT INTO _rowmesh_unshown(tbl, k, image) VALUES(?, ?, NULL) ON CONFLICT DO UPDATE SET image = NULL`, s.tbl, keyColumn(st.Key))
			}
		}
		failed = err
		return err == nil
	})
	return errors.Join(err, failed)
}
