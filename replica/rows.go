package replica

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/rowmesh/rowmesh/crdt"
)

// rowSet is what the replica knows of rows between two commits: those changed since the last one, and a
// cache of committed ones. The replica is the only writer of its rows, so the cache is stale only where a row was damaged.
type rowSet struct {
	changed map[RowKey]*changedRow
	order   []RowKey // the keys of changed, in the order of their first change
	cache   *lru.TwoQueueCache[RowKey, crdt.Row]
}

type changedRow struct {
	old, new crdt.Row
	local    bool
	anew     bool
}

func newRowSet(cacheRows int) *rowSet {
	return &rowSet{changed: map[RowKey]*changedRow{}, cache: must(lru.New2Q[RowKey, crdt.Row](cacheRows))}
}

func (s *rowSet) dirty() bool { return len(s.order) > 0 }

// merge joins deltas into their rows and returns how many rows changed by it.
func (s *rowSet) merge(v View, deltas []crdt.RowDelta, local bool) (changed int, err error) {
	for len(deltas) > 0 {
		n := min(len(deltas), readBatch)
		committed, err := s.read(v, deltas[:n])
		if err != nil {
			return 0, err
		}
		for _, d := range deltas[:n] {
			if s.mergeOne(RowKey{d.Schema.Table, d.Key}, d.Row, committed, local) {
				changed++
			}
		}
		deltas = deltas[n:]
	}
	return changed, nil
}

// add takes in rows that nobody has written before.
func (s *rowSet) add(deltas []crdt.RowDelta) {
	for _, d := range deltas {
		s.mergeOne(RowKey{d.Schema.Table, d.Key}, d.Row, nil, false)
	}
}

func (s *rowSet) mergeOne(k RowKey, delta crdt.Row, committed map[RowKey]crdt.Row, local bool) bool {
	c := s.changed[k]
	if c == nil {
		old := committed[k]
		row := old.Merge(delta)
		if row.Equal(old) {
			return false
		}
		s.changed[k] = &changedRow{old: old, new: row, local: local}
		s.order = append(s.order, k)
		return true
	}
	row := c.new.Merge(delta)
	if row.Equal(c.new) {
		return false
	}
	c.new, c.local = row, c.local && local
	return true
}

// set replaces a committed row.
func (s *rowSet) set(k RowKey, old, row crdt.Row) {
	if s.changed[k] == nil {
		s.changed[k] = &changedRow{old: old, new: row}
		s.order = append(s.order, k)
	}
}

// read returns the committed state of the rows that have not changed since the last commit.
func (s *rowSet) read(v View, deltas []crdt.RowDelta) (map[RowKey]crdt.Row, error) {
	rows := make(map[RowKey]crdt.Row, len(deltas))
	var missing []RowKey
	for _, d := range deltas {
		k := RowKey{d.Schema.Table, d.Key}
		if _, ok := rows[k]; ok || s.changed[k] != nil {
			continue
		}
		row, ok := s.cache.Get(k)
		rows[k] = row
		if !ok {
			missing = append(missing, k)
		}
	}
	if len(missing) == 0 {
		return rows, nil
	}
	found, err := v.Rows(missing)
	if err != nil {
		return nil, err
	}
	for i, k := range missing {
		rows[k] = found[i]
	}
	return rows, nil
}

// birth returns the present birth of a row that read has brought.
func (s *rowSet) birth(k RowKey, committed map[RowKey]crdt.Row) crdt.Stamp {
	if c := s.changed[k]; c != nil {
		return c.new.Birth
	}
	return committed[k].Birth
}

func (s *rowSet) changes(schemas *schemaSet) []RowChange {
	if len(s.order) == 0 {
		return nil
	}
	out := make([]RowChange, len(s.order))
	for i, k := range s.order {
		c := s.changed[k]
		out[i] = RowChange{Schema: schemas.current[k.Table], Key: k.Key, Old: c.old, New: c.new, Anew: c.anew, Local: c.local}
	}
	return out
}

// flush takes the changes as written by the open round, which reads show from now on.
func (s *rowSet) flush() {
	for _, k := range s.order {
		s.cache.Remove(k)
	}
	clear(s.changed)
	s.order = s.order[:0]
}

// clear forgets all rows, those not committed and those kept.
func (s *rowSet) clear() {
	clear(s.changed)
	s.order = s.order[:0]
	s.cache.Purge()
}

// commit takes the changes as committed.
func (s *rowSet) commit() {
	if len(s.order) == 0 {
		return
	}
	for _, k := range s.order {
		if len(s.order) <= cacheBatch || s.cache.Contains(k) {
			s.cache.Add(k, s.changed[k].new)
		}
	}
	clear(s.changed)
	s.order = s.order[:0]
}

// fresh reads rows as they are now, from the store and not from the cache: what changed them may be no transaction.
func (s *rowSet) fresh(v View, keys []RowKey) ([]crdt.Row, error) {
	rows, err := v.Rows(keys)
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		s.cache.Remove(k)
		if c := s.changed[k]; c != nil {
			rows[i] = c.new
		}
	}
	return rows, nil
}

// anew has a row that fresh has read, joined with what it lacks, stored, indexed and shown as if nothing were known of it.
func (s *rowSet) anew(k RowKey, fresh, row crdt.Row) {
	s.set(k, fresh, row)
	c := s.changed[k]
	c.new, c.local, c.anew = c.new.Merge(row), false, true
}
