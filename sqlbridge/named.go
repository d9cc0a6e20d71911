package sqlbridge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rowmesh/rowmesh/replica"
)

// named are the rows that a capture takes in, each once: as its last entry, with hintInsert where any entry says that it may have
// lived and died in between.
type named interface {
	// next returns the next rows in order of their last entries, after one and up to another, and moves *after on; it stays
	// where it is when there are no more.
	next(after *int64, to int64) ([]hint, error)
	// has reports whether a row is one of them.
	has(k replica.RowKey) (bool, error)
}

// heldRows are named rows in memory.
type heldRows struct {
	rows []hint
	set  map[replica.RowKey]bool // whether they may have lived and died
}

// hold makes them of entries, without those that a later capture takes in.
func hold(entries []hint, later func(replica.RowKey) bool) *heldRows {
	h := &heldRows{set: map[replica.RowKey]bool{}}
	for _, e := range slices.Backward(entries) {
		k := e.row()
		reborn, ok := h.set[k]
		if !ok {
			if later(k) {
				continue
			}
			h.rows = append(h.rows, e)
		}
		h.set[k] = reborn || e.reborn()
	}
	slices.Reverse(h.rows)
	for i, e := range h.rows {
		h.rows[i].op = hintUpdate
		if h.set[e.row()] {
			h.rows[i].op = hintInsert
		}
	}
	return h
}

func (h *heldRows) next(after *int64, to int64) ([]hint, error) {
	from := searchSeq(h.rows, *after+1)
	end := min(searchSeq(h.rows, to+1), from+readPage)
	page := h.rows[from:end]
	if len(page) > 0 {
		*after = page[len(page)-1].seq
	}
	return page, nil
}

func (h *heldRows) has(k replica.RowKey) (bool, error) {
	_, ok := h.set[k]
	return ok, nil
}

// gathered are named rows in a temporary table, which SQLite keeps on disk: an outbox with one entry a row.
type gathered struct {
	v     *view
	index bool // the table has an index on keys
}

// gather makes them of the whole outbox.
func (v *view) gather() (*gathered, error) {
	keys := keyNames(v.b.keyWidth())
	if err := v.dropGathered(); err != nil {
		return nil, err
	}
	for _, q := range []string{
		`CREATE TABLE ` + namedTable + `(seq INTEGER PRIMARY KEY, tbl, op, ms` + keys + `)`,
		fmt.Sprintf(`INSERT INTO %s(seq, tbl, op%s) SELECT max(seq) AS last, tbl, CASE max(op IN ('%s', '%s', '%s')) WHEN 1 THEN '%s' ELSE '%s' END%s FROM %s GROUP BY tbl%s ORDER BY last`,
			namedTable, keys, hintInsert, hintDelete, hintMove, hintInsert, hintUpdate, keys, outboxTable, keys),
	} {
		if _, err := v.b.conn.ExecContext(v.ctx, q); err != nil {
			return nil, err
		}
	}
	return &gathered{v: v}, nil
}

func (v *view) dropGathered() error {
	_, err := v.b.conn.ExecContext(v.ctx, `DROP TABLE IF EXISTS `+namedTable)
	return err
}

func (g *gathered) next(after *int64, to int64) (page []hint, err error) {
	err = g.v.entries(namedTable, after, to, readPage, func(h hint) error { page = append(page, h); return nil })
	return page, err
}

func (g *gathered) has(k replica.RowKey) (found bool, err error) {
	v := g.v
	if !g.index {
		keys := strings.TrimPrefix(keyNames(v.b.keyWidth()), ", ")
		if _, err := v.b.conn.ExecContext(v.ctx, `CREATE INDEX `+namedTable+`_key ON _rowmesh_named(`+keys+`, tbl)`); err != nil {
			return false, err
		}
		g.index = true
	}
	args := keyArgs(k.Key)
	query := `SELECT EXISTS(SELECT 1 FROM ` + namedTable + ` WHERE tbl = ?`
	for i := range args {
		query += fmt.Sprintf(" AND k%d = ?", i+1)
	}
	err = v.b.one(v.ctx, query+`)`, append([]any{v.b.tables[k.Table].tbl}, args...), &found)
	return found, err
}
