package sim

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// Medium is what a machine keeps its replica on. It outlives crashes.
type Medium interface {
	// Open mounts what is durable.
	Open() (replica.Store, error)
	// Crash stops the machine: what was not made durable may be lost.
	Crash(*rand.Rand)
	// Copy returns another medium with what is durable now.
	Copy() Medium
	// Set arms a fault of the medium. One that the medium cannot have does nothing.
	Set(Trouble)
}

// Trouble is a fault of a medium.
type Trouble struct {
	StopAfter int64 // the machine stops in the middle of this operation from now on; 0: never
	FailAfter int64 // this operation fails; 0: none
	Full      bool  // writes fail until it is cleared
}

// Errors of a simulated medium.
var (
	ErrStopped = errors.New("sim: the machine stops here")
	ErrIO      = errors.New("sim: input/output error")
	ErrFull    = errors.New("sim: no space left on device")
)

// memory keeps a replica in maps, durable at once. It is the fastest medium, for runs that are about the
// protocol and not about the disk.
type memory struct {
	state replica.State
	rows  map[replica.RowKey]crdt.Row
	refs  map[crdt.Stamp]map[replica.RowKey]struct{}
	times map[crdt.Origin][]hlc.Timestamp // of refs, sorted
	Trouble
}

func newMemory() *memory {
	return &memory{
		state: replica.State{Coverage: crdt.Coverage{}}, rows: map[replica.RowKey]crdt.Row{},
		refs: map[crdt.Stamp]map[replica.RowKey]struct{}{}, times: map[crdt.Origin][]hlc.Timestamp{},
	}
}

func (m *memory) Open() (replica.Store, error) { return m, nil }

func (m *memory) Crash(*rand.Rand) { m.Trouble = Trouble{} }

func (m *memory) Set(t Trouble) { m.Trouble = t }

func (m *memory) Copy() Medium {
	c := newMemory()
	c.state = m.state
	c.state.Coverage, c.state.Schemas = m.state.Coverage.Clone(), slices.Clone(m.state.Schemas)
	c.rows = maps.Clone(m.rows)
	for s, keys := range m.refs {
		c.refs[s] = maps.Clone(keys)
	}
	for o, t := range m.times {
		c.times[o] = slices.Clone(t)
	}
	return c
}

func (m *memory) Load() (replica.State, error) {
	st := m.state
	st.Coverage, st.Schemas = st.Coverage.Clone(), slices.Clone(st.Schemas)
	return st, nil
}

func (m *memory) Rows(keys []replica.RowKey) ([]crdt.Row, error) {
	out := make([]crdt.Row, len(keys))
	for i, k := range keys {
		out[i] = m.rows[k]
	}
	return out, nil
}

func (m *memory) Changed(in, notIn crdt.Coverage, after replica.Position, yield func(crdt.Stamp, []replica.RowState) bool) error {
	for _, o := range in.Origins() {
		if o.Compare(after.Stamp.Origin) < 0 {
			continue
		}
		times := m.times[o]
		i, _ := slices.BinarySearch(times, notIn[o]+1)
		for _, h := range times[i:] {
			s := crdt.Stamp{Time: h, Origin: o}
			if h > in[o] {
				break
			}
			if o == after.Stamp.Origin && h < after.Stamp.Time {
				continue
			}
			if rows := m.naming(s, after); len(rows) > 0 && !yield(s, rows) {
				return nil
			}
		}
	}
	return nil
}

func (m *memory) naming(s crdt.Stamp, after replica.Position) (rows []replica.RowState) {
	for k := range m.refs[s] {
		if s != after.Stamp || after.Key.IsZero() || k.Compare(after.RowKey) > 0 {
			rows = append(rows, replica.RowState{RowKey: k, Row: m.rows[k]})
		}
	}
	slices.SortFunc(rows, func(a, b replica.RowState) int { return a.Compare(b.RowKey) })
	return rows
}

func (m *memory) Scan(table string, after crdt.Key, yield func([]replica.RowState) bool) error {
	var rows []replica.RowState
	for k, row := range m.rows {
		if k.Table == table && k.Key.Compare(after) > 0 {
			rows = append(rows, replica.RowState{RowKey: k, Row: row})
		}
	}
	slices.SortFunc(rows, func(a, b replica.RowState) int { return a.Compare(b.RowKey) })
	if len(rows) > 0 {
		yield(rows)
	}
	return nil
}

func (m *memory) Count() (uint64, error) { return uint64(len(m.rows)), nil }

func (m *memory) Tolerant() replica.View { return m }

func (m *memory) Begin(context.Context) (replica.Round, error) { return &memoryRound{memory: m}, nil }

func (m *memory) Read(_ context.Context, f func(replica.View) error) error { return f(m) }

func (m *memory) Close() error { return nil }

type memoryRound struct {
	*memory
	ahead replica.Ahead
}

func (m *memoryRound) Capture() (replica.Drain, error) { return replica.Drain{}, nil }

func (m *memoryRound) Abort() {}

func (m *memoryRound) Tolerant() replica.View { return m }

func (m *memoryRound) Put(rows []replica.RowChange) error {
	m.ahead.Put(rows)
	return nil
}

func (m *memoryRound) Rows(keys []replica.RowKey) ([]crdt.Row, error) {
	out, err := m.memory.Rows(keys)
	m.ahead.Over(keys, out)
	return out, err
}

// Commit takes the batch in, unless a fault is armed: then it fails before or after that.
func (m *memoryRound) Commit(b replica.Batch) error {
	if m.Full {
		return ErrFull
	}
	fail := error(nil)
	switch {
	case m.StopAfter > 0:
		fail = ErrStopped
	case m.FailAfter > 0:
		fail = ErrIO
	}
	if before := max(m.StopAfter, m.FailAfter)%2 == 1; fail != nil && before {
		m.Trouble = Trouble{}
		return fail
	}
	m.Trouble = Trouble{}
	m.take(b)
	return fail
}

func (m *memoryRound) take(b replica.Batch) {
	m.state.Apply(b)
	if b.Restart {
		clear(m.rows)
		clear(m.refs)
		clear(m.times)
	}
	for _, c := range m.ahead.With(b) {
		k := replica.RowKey{Table: c.Schema.Table, Key: c.Key}
		for _, s := range m.rows[k].Stamps(nil) {
			m.unref(s, k)
		}
		m.rows[k] = c.New
		for _, s := range c.New.Stamps(nil) {
			m.ref(s, k)
		}
	}
}

func (m *memory) ref(s crdt.Stamp, k replica.RowKey) {
	if m.refs[s] == nil {
		m.refs[s] = map[replica.RowKey]struct{}{}
		i, _ := slices.BinarySearch(m.times[s.Origin], s.Time)
		m.times[s.Origin] = slices.Insert(m.times[s.Origin], i, s.Time)
	}
	m.refs[s][k] = struct{}{}
}

func (m *memory) unref(s crdt.Stamp, k replica.RowKey) {
	if _, ok := m.refs[s][k]; !ok {
		return // it was damaged
	}
	delete(m.refs[s], k)
	if len(m.refs[s]) == 0 {
		delete(m.refs, s)
		i, _ := slices.BinarySearch(m.times[s.Origin], s.Time)
		m.times[s.Origin] = slices.Delete(m.times[s.Origin], i, i+1)
	}
}
