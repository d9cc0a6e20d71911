package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// Medium is what a store lies on, with a way to stop it in the middle.
type Medium interface {
	// Open opens the store on what is there.
	Open() (replica.Store, error)
	// StopAfter lets the n-th operation from now on that writes fail, and every one after it. 0: none.
	StopAfter(n int)
	// Stopped reports whether an operation failed for StopAfter.
	Stopped() bool
	// Crash loses any part of what was not made durable, chosen by the seed, and ends the stop.
	Crash(seed uint64)
}

// crashCommits is how many commits a sweep of RunCrashes makes before it ends.
const crashCommits = 12

// RunCrashes stops a store at every operation of its medium in turn, loses what may be lost, and opens it again, in
// part with a second stop while it recovers. What is found is the state before the commit that was broken off, or
// the one after it, and the store goes on from there. Commits that had ended are never lost.
func RunCrashes(t *testing.T, empty func() Medium) {
	found := map[outcome]int{}
	for _, seed := range []uint64{1, 2, 3} {
		for n := 1; !t.Failed(); n++ {
			o := crashAt(t, empty(), n, seed)
			if o == notStopped {
				break
			}
			found[o]++
		}
	}
	if !t.Failed() && (found[asBefore] < crashCommits || found[asAfter] < crashCommits) {
		t.Errorf("the states found are %v: the medium does not stop where it matters", found)
	}
}

// outcome is what a commit that was broken off has come to.
type outcome string

const (
	notStopped outcome = "not stopped"
	asBefore   outcome = "as before"
	asAfter    outcome = "as after"
	wrong      outcome = "wrong"
)

// crashAt makes commits on a medium that stops at its n-th operation.
func crashAt(t *testing.T, m Medium, n int, seed uint64) outcome {
	t.Helper()
	g := newGenerator(seed)
	before := g.m.clone()
	m.StopAfter(n)
	s, err := m.Open()
	for i := 0; err == nil && i < crashCommits; i++ {
		before = g.m.clone()
		err = try(s, g.batch())
	}
	switch {
	case m.Stopped():
		return reopen(t, m, n, seed, before, *g.m)
	case err != nil:
		t.Errorf("the store fails without a stop: %v", err)
		return wrong
	}
	return notStopped
}

// reopen crashes and opens the store, and demands one of two states; then that it can be written.
func reopen(t *testing.T, m Medium, n int, seed uint64, before, after model) outcome {
	t.Helper()
	s, err := openAgain(m, n, uint64(n)*seed)
	if err != nil {
		t.Errorf("seed %d, stopped at operation %d: open: %v", seed, n, err)
		return wrong
	}
	defer s.Close()
	g, o := newGenerator(seed+100), asBefore
	got, err := dump(s)
	switch *g.m = before; {
	case err == nil && got == after.dump():
		*g.m, o = after, asAfter
	case err != nil || got != before.dump():
		t.Errorf("seed %d, stopped at operation %d: neither as before the commit nor as after it (%v):\n%s\nbefore\n%s\nafter\n%s", seed, n, err, got, before.dump(), after.dump())
		return wrong
	}
	for _, schema := range g.m.state.Schemas {
		g.schemas[schema.Table] = schema
	}
	for range 4 {
		err = errors.Join(err, try(s, g.batch()))
	}
	if got, bad := dump(s); errors.Join(err, bad) != nil || got != g.m.dump() {
		t.Errorf("seed %d, stopped at operation %d: after more commits (%v) it holds\n%s\nwant\n%s", seed, n, errors.Join(err, bad), got, g.m.dump())
	}
	return o
}

// openAgain opens the store after a crash, often with a second crash while it recovers.
func openAgain(m Medium, n int, seed uint64) (replica.Store, error) {
	m.Crash(seed)
	m.StopAfter(n % 9)
	s, err := m.Open()
	if m.Stopped() {
		m.Crash(seed * 31)
		s, err = m.Open()
	}
	m.StopAfter(0)
	return s, err
}

// try commits a batch, and ends the round whatever happens.
func try(s replica.Store, b replica.Batch) error {
	r, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer r.Abort()
	return r.Commit(b)
}

func (m *model) clone() model {
	c := *m
	c.rows, c.state.Coverage, c.state.Schemas = maps.Clone(m.rows), m.state.Coverage.Clone(), slices.Clone(m.state.Schemas)
	return c
}

// dump is all that a store holds, as text. The model has the same.
func dump(s replica.Store) (text string, err error) {
	err = s.Read(ctx, func(v replica.View) error {
		st, err := v.Load()
		if err != nil {
			return err
		}
		var rows, visits []string
		for _, table := range tableNames {
			if err := v.Scan(table, crdt.Key{}, func(page []replica.RowState) bool {
				for _, r := range page {
					rows = append(rows, line(r.RowKey, r.Row))
				}
				return true
			}); err != nil {
				return err
			}
		}
		err = v.Changed(st.Coverage, nil, replica.Position{}, func(at crdt.Stamp, page []replica.RowState) bool {
			for _, r := range page {
				visits = append(visits, visit{replica.Position{Stamp: at, RowKey: r.RowKey}, r.Row}.String())
			}
			return true
		})
		text = describe(st, rows, visits)
		return err
	})
	return text, err
}

func (m *model) dump() string {
	var rows, visits []string
	for k, row := range m.rows {
		rows = append(rows, line(k, row))
	}
	for _, v := range m.changed(m.state.Coverage, nil, replica.Position{}) {
		visits = append(visits, v.String())
	}
	return describe(m.state, rows, visits)
}

func line(k replica.RowKey, r crdt.Row) string { return k.String() + ": " + r.String() }

func describe(st replica.State, rows, visits []string) string {
	slices.Sort(rows)
	return fmt.Sprintf("%s %x %v %s %v\n%q\n%q", st.Origin, st.Group, st.Ready, st.Coverage, st.Schemas, rows, visits)
}
