package replica

import (
	"context"
	"errors"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
)

// memStore is the plainest store there can be: one map, committed as a whole. It is the model for others
// and the base of the scripts and worlds in this package's tests.
type memStore struct {
	state   State
	rows    map[RowKey]crdt.Row
	drain   Drain // what the next Capture finds
	commits int
	failing bool // the next commit fails
}

var errDisk = errors.New("memstore: the disk is full")

func newMemStore() *memStore {
	return &memStore{state: State{Coverage: crdt.Coverage{}}, rows: map[RowKey]crdt.Row{}}
}

func (m *memStore) Load() (State, error) {
	st := m.state
	st.Coverage, st.Schemas = st.Coverage.Clone(), slices.Clone(st.Schemas)
	return st, nil
}

func (m *memStore) Rows(keys []RowKey) ([]crdt.Row, error) {
	out := make([]crdt.Row, len(keys))
	for i, k := range keys {
		out[i] = m.rows[k]
	}
	return out, nil
}

func (m *memStore) Changed(in, notIn crdt.Coverage, after Position, yield func(crdt.Stamp, []RowState) bool) error {
	byStamp := map[crdt.Stamp][]RowState{}
	for k, row := range m.rows {
		for _, s := range row.Stamps(nil) {
			if in.Covers(s) && !notIn.Covers(s) {
				byStamp[s] = append(byStamp[s], RowState{k, row})
			}
		}
	}
	stamps := make([]crdt.Stamp, 0, len(byStamp))
	for s := range byStamp {
		stamps = append(stamps, s)
	}
	slices.SortFunc(stamps, visitOrder)
	for _, s := range stamps {
		if visitOrder(s, after.Stamp) < 0 {
			continue
		}
		rows := byStamp[s]
		slices.SortFunc(rows, func(a, b RowState) int { return a.Compare(b.RowKey) })
		if s == after.Stamp {
			rows = slices.DeleteFunc(rows, func(r RowState) bool { return !after.Key.IsZero() && r.Compare(after.RowKey) <= 0 })
		}
		if len(rows) > 0 && !yield(s, rows) {
			return nil
		}
	}
	return nil
}

func (m *memStore) Scan(table string, after crdt.Key, yield func([]RowState) bool) error {
	var rows []RowState
	for k, row := range m.rows {
		if k.Table == table && k.Key.Compare(after) > 0 {
			rows = append(rows, RowState{k, row})
		}
	}
	slices.SortFunc(rows, func(a, b RowState) int { return a.Compare(b.RowKey) })
	if len(rows) > 0 {
		yield(rows)
	}
	return nil
}

func (m *memStore) Count() (uint64, error) { return uint64(len(m.rows)), nil }

func (m *memStore) Tolerant() View { return m }

func (m *memStore) Begin(context.Context) (Round, error) { return &memRound{memStore: m}, nil }

func (m *memStore) Read(_ context.Context, f func(View) error) error { return f(m) }

func (m *memStore) Close() error { return nil }

// memRound shows rows that were put ahead over those of the store.
type memRound struct {
	*memStore
	ahead    Ahead
	captured bool
}

func (m *memRound) Capture() (Drain, error) {
	m.captured = true
	return m.drain, nil
}

func (m *memRound) Tolerant() View { return m }

func (m *memRound) Put(rows []RowChange) error {
	m.ahead.Put(rows)
	return nil
}

func (m *memRound) Rows(keys []RowKey) ([]crdt.Row, error) {
	out, err := m.memStore.Rows(keys)
	m.ahead.Over(keys, out)
	return out, err
}

func (m *memRound) Commit(b Batch) error {
	if m.failing {
		return errDisk
	}
	m.commits++
	m.state.Apply(b)
	if b.Restart {
		clear(m.rows)
	}
	for _, c := range m.ahead.With(b) {
		m.rows[RowKey{c.Schema.Table, c.Key}] = c.New
	}
	if m.captured {
		m.memStore.drain = Drain{}
	}
	return nil
}

func (m *memRound) Abort() {}
