package replica

import (
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
)

// Ahead holds the rows that a round put ahead of its commit, for a store that writes nothing before that. The zero Ahead holds none.
type Ahead struct {
	rows   []RowChange
	latest map[RowKey]crdt.Row
}

// Put adds rows.
func (a *Ahead) Put(rows []RowChange) {
	if a.latest == nil {
		a.latest = map[RowKey]crdt.Row{}
	}
	a.rows = append(a.rows, rows...)
	for _, c := range rows {
		a.latest[RowKey{c.Schema.Table, c.Key}] = c.New
	}
}

// Over lays what was put over rows that were read by their keys.
func (a *Ahead) Over(keys []RowKey, rows []crdt.Row) {
	for i, k := range keys {
		if row, ok := a.latest[k]; ok {
			rows[i] = row
		}
	}
}

// With returns all rows that a commit writes, in order: what was put, unless the batch restarts, and then what it has itself.
func (a *Ahead) With(b Batch) []RowChange {
	if b.Restart {
		return b.Rows
	}
	return slices.Concat(a.rows, b.Rows)
}
