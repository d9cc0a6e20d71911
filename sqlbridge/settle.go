package sqlbridge

import (
	"database/sql"
	"fmt"

	"github.com/rowmesh/rowmesh/replica"
)

// unsettledTable lists rows that Capture has handed on, and what was shown of them before.
const unsettledTable = "temp._rowmesh_unsettled"

// unsettle has captured rows wait for settle, where showing them may change others: until all is captured, a row may be there that
// is not stored yet, or stored with a value that it has given up.
func (r *round) unsettle(rows []replica.RowChange) error {
	parked, err := r.anyParked()
	if err != nil {
		return err
	}
	for _, c := range rows {
		t := r.b.catalog[c.Schema.Table]
		if t == nil || len(t.unique) == 0 && !parked {
			continue
		}
		if !r.unsettled {
			if _, err := r.b.conn.ExecContext(r.ctx, `CREATE TABLE `+unsettledTable+`(n INTEGER PRIMARY KEY, tbl, k, old)`); err != nil {
				return err
			}
			r.unsettled = true
		}
		old := r.b.image(r.b.tables[t.name], c.Old)
		if err := r.b.exec(r.ctx, `INSERT INTO `+unsettledTable+`(tbl, k, old) VALUES(?, ?, ?)`, t.tbl, keyColumn(c.Key), old); err != nil {
			return err
		}
	}
	return nil
}

// settle decides who holds the values of captured rows, once all of them are stored.
func (r *round) settle() error {
	if !r.unsettled {
		return nil
	}
	r.unsettled = false
	for after, more := int64(0), true; more; {
		changes, err := r.unsettledPage(&after)
		if err == nil {
			err = r.newStates(changes)
		}
		if more = len(changes) > 0; err == nil && more {
			err = r.b.project(r, changes)
			clear(r.n)
			clear(r.memo)
		}
		if err != nil {
			return fmt.Errorf("sqlbridge: settle captured rows: %w", err)
		}
	}
	_, err := r.b.conn.ExecContext(r.ctx, `DROP TABLE `+unsettledTable)
	return err
}

func (r *round) unsettledPage(after *int64) (changes []replica.RowChange, err error) {
	rows, err := r.b.query(r.ctx, `SELECT n, tbl, k, old FROM `+unsettledTable+` WHERE n > ? ORDER BY n LIMIT ?`, *after, readPage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var tbl int64
		var k any
		var old sql.RawBytes
		if err := rows.Scan(after, &tbl, &k, &old); err != nil {
			return nil, err
		}
		s := r.b.byTbl[tbl]
		c := replica.RowChange{Schema: r.b.catalog[s.name].schema, Local: true}
		if c.Key, err = parseKeyColumn(k, s.parts); err != nil {
			return nil, err
		}
		if c.Old, err = r.b.parseImage(s, string(old)); err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	return changes, rows.Err()
}

// newStates reads what is stored of the rows.
func (r *round) newStates(changes []replica.RowChange) error {
	keys := make([]replica.RowKey, len(changes))
	for i, c := range changes {
		keys[i] = replica.RowKey{Table: c.Schema.Table, Key: c.Key}
	}
	rows, err := r.Rows(keys)
	for i := range rows {
		changes[i].New = rows[i]
	}
	return err
}
