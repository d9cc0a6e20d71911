// Package storetest is the suite that every replica.Store passes.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// Open opens the store under test; every call after the first opens again what the one before left behind.
type Open func(t *testing.T) replica.Store

// Run checks that a store keeps what it is given. open is called once for each subtest, with a new, empty place
// behind it, and returns the function that opens that place.
func Run(t *testing.T, open func(t *testing.T) Open) {
	t.Run("empty", func(t *testing.T) { testEmpty(t, open(t)) })
	t.Run("against a model", func(t *testing.T) {
		seeds := uint64(6)
		if testing.Short() {
			seeds = 2
		}
		for seed := range seeds {
			testModel(t, open(t), seed)
		}
	})
	t.Run("a claim given up", func(t *testing.T) { testUnclaimed(t, open(t)) })
	t.Run("a table that grows", func(t *testing.T) { testGrowing(t, open(t)) })
	t.Run("abort", func(t *testing.T) { testAbort(t, open(t)) })
	t.Run("a large transaction", func(t *testing.T) { testLarge(t, open(t)) })
	t.Run("a first copy", func(t *testing.T) { testCopy(t, open(t)) })
	t.Run("whole replicas", func(t *testing.T) { testReplicas(t, open(t), open(t)) })
}

var ctx = context.Background()

// commit writes a batch in a round of its own.
func commit(t *testing.T, s replica.Store, b replica.Batch) {
	t.Helper()
	r, err := s.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Abort()
	if d, err := r.Capture(); err != nil || len(d.Groups) > 0 {
		t.Fatalf("captured %v, %v", d, err)
	}
	if b.Put {
		b.Rows = putHalf(t, r, b.Rows)
	}
	if err := r.Commit(b); err != nil {
		t.Fatal(err)
	}
}

// putHalf puts half of the rows ahead of the commit, reads them in the same round, and returns the rest.
func putHalf(t *testing.T, r replica.Round, rows []replica.RowChange) (rest []replica.RowChange) {
	t.Helper()
	half := rows[:len(rows)/2]
	if err := r.Put(half); err != nil {
		t.Fatal(err)
	}
	for _, c := range half {
		k := replica.RowKey{Table: c.Schema.Table, Key: c.Key}
		got, err := r.Rows([]replica.RowKey{k})
		if all, failed := r.Tolerant().Rows([]replica.RowKey{k}); failed != nil || err == nil && !all[0].Equal(got[0]) {
			t.Errorf("row %s is %v, and tolerantly read %v, %v", k, got, all, failed)
		}
		if err != nil || !got[0].Equal(c.New) {
			t.Errorf("row %s was put as %s and is read as %v, %v", k, c.New, got, err)
		}
	}
	return rows[len(rows)/2:]
}

func read(t *testing.T, s replica.Store, f func(v replica.View)) {
	t.Helper()
	if err := s.Read(ctx, func(v replica.View) error { f(v); return nil }); err != nil {
		t.Fatal(err)
	}
}

func testEmpty(t *testing.T, open Open) {
	s := open(t)
	defer s.Close()
	read(t, s, func(v replica.View) {
		st, err := v.Load()
		if err != nil || !st.Origin.IsZero() || st.Group != (replica.GroupID{}) || st.Ready || len(st.Coverage) > 0 || len(st.Schemas) > 0 {
			t.Errorf("an empty store holds %+v, %v", st, err)
		}
		rows, err := v.Rows([]replica.RowKey{{Table: "t", Key: crdt.MustKey(crdt.Integer(1))}})
		if err != nil || len(rows) != 1 || !rows[0].IsZero() {
			t.Errorf("an empty store has rows %v, %v", rows, err)
		}
		if err := v.Scan("t", crdt.Key{}, func([]replica.RowState) bool { t.Error("an empty store has rows to scan"); return true }); err != nil {
			t.Error(err)
		}
	})
}

// testModel commits random batches and compares everything that can be read with the model, before and after the store
// is opened again.
func testModel(t *testing.T, open Open, seed uint64) {
	g := newGenerator(seed)
	s := open(t)
	for i := range 60 {
		b := g.batch()
		b.Put = g.IntN(3) == 0
		commit(t, s, b)
		if i%20 == 19 {
			read(t, s, func(v replica.View) { compare(t, g, v) })
			s.Close()
			s = open(t)
			read(t, s, func(v replica.View) { compare(t, g, v) })
		}
	}
	s.Close()
}

func compare(t *testing.T, g *generator, v replica.View) {
	t.Helper()
	st, err := v.Load()
	if err != nil {
		t.Fatal(err)
	}
	want := g.m.state
	if st.Origin != want.Origin || st.Group != want.Group || st.Ready != want.Ready || st.Coverage.String() != want.Coverage.String() {
		t.Errorf("state is %+v, want %+v", st, want)
	}
	if fmt.Sprint(st.Schemas) != fmt.Sprint(want.Schemas) {
		t.Errorf("schemas are %v, want %v", st.Schemas, want.Schemas)
	}
	compareRows(t, g, v)
	for range 12 {
		compareChanged(t, g, v)
	}
}

func compareRows(t *testing.T, g *generator, v replica.View) {
	t.Helper()
	var keys []replica.RowKey
	left := map[replica.RowKey]crdt.Row{}
	for k, row := range g.m.rows {
		keys = append(keys, k)
		left[k] = row
	}
	rows, err := v.Rows(keys)
	if err != nil {
		t.Fatal(err)
	}
	all, err := v.Tolerant().Rows(keys)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		if !rows[i].Equal(left[k]) || !all[i].Equal(left[k]) {
			t.Errorf("row %s is %s, tolerantly read %s, want %s", k, rows[i], all[i], left[k])
		}
	}
	for _, table := range tableNames {
		whole := scan(t, g, v, table, false)
		for i, r := range whole {
			if !left[r.RowKey].Equal(r.Row) || r.Row.IsZero() {
				t.Errorf("scan shows %s as %s, want %s", r.RowKey, r.Row, left[r.RowKey])
			}
			if i > 0 && whole[i-1].Compare(r.RowKey) >= 0 {
				t.Errorf("scan shows %s after %s", r.RowKey, whole[i-1].RowKey)
			}
			delete(left, r.RowKey)
		}
		if broken := scan(t, g, v, table, true); !slices.EqualFunc(whole, broken, func(a, b replica.RowState) bool { return a.RowKey == b.RowKey }) {
			t.Errorf("a scan of %s that was broken off shows %v, a whole one %v", table, broken, whole)
		}
	}
	for k := range left {
		t.Errorf("scan does not show %s", k)
	}
}

// scan reads a table, in one go or broken off after rows of every page.
func scan(t *testing.T, g *generator, v replica.View, table string, broken bool) (out []replica.RowState) {
	t.Helper()
	var after crdt.Key
	for more := true; more; {
		more = false
		if err := v.Scan(table, after, func(rows []replica.RowState) bool {
			if len(rows) == 0 {
				t.Error("scan yields no rows")
			}
			if broken {
				rows = rows[:1+g.IntN(len(rows))]
				more = true
			}
			out = append(out, rows...)
			after = rows[len(rows)-1].Key
			return !broken
		}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// compareChanged reads what changed between two random coverages, from a random position, in one go and broken off
// after every row.
func compareChanged(t *testing.T, g *generator, v replica.View) {
	t.Helper()
	in, notIn := crdt.Coverage{}, crdt.Coverage{}
	for o, h := range g.m.state.Coverage {
		in[o] = h - hlc.Timestamp(g.Uint64N(uint64(h)/3*uint64(g.IntN(2))+1))
		notIn[o] = hlc.Timestamp(g.Uint64N(uint64(h)) * uint64(g.IntN(2)))
	}
	all := g.m.changed(in, notIn, replica.Position{})
	var after replica.Position
	if len(all) > 0 && g.IntN(3) > 0 {
		after = all[g.IntN(len(all))].Position
		if g.IntN(4) == 0 {
			after.RowKey = replica.RowKey{}
		}
	}
	want := g.m.changed(in, notIn, after)
	for _, limit := range []int{1 << 30, 1 + g.IntN(5)} {
		if got := changed(t, v, in, notIn, after, limit); !slices.EqualFunc(got, want, visit.equal) {
			t.Fatalf("changed in %s not in %s after %v, %d at a time:\n%v\nwant\n%v", in, notIn, after, limit, got, want)
		}
	}
}

// changed collects what Changed shows, in several calls of at most limit rows.
func changed(t *testing.T, v replica.View, in, notIn crdt.Coverage, after replica.Position, limit int) (out []visit) {
	t.Helper()
	for {
		n := 0
		err := v.Changed(in, notIn, after, func(at crdt.Stamp, rows []replica.RowState) bool {
			for _, r := range rows {
				if n == limit {
					return false
				}
				n++
				after = replica.Position{Stamp: at, RowKey: r.RowKey}
				out = append(out, visit{after, r.Row})
			}
			return n < limit
		})
		if err != nil {
			t.Fatal(err)
		}
		if n < limit {
			return out
		}
	}
}

// testUnclaimed takes back what is claimed of an origin, as a replica does that finds itself to be a fork.
func testUnclaimed(t *testing.T, open Open) {
	s := open(t)
	g := newGenerator(3)
	for range 5 {
		commit(t, s, g.batch())
	}
	o := g.m.state.Coverage.Origins()[0]
	b := replica.Batch{Origin: crdt.Origin{0xfe}, Heads: crdt.Coverage{o: 0}}
	g.m.commit(b)
	commit(t, s, b)
	read(t, s, func(v replica.View) { compare(t, g, v) })
	s.Close()
	s = open(t)
	read(t, s, func(v replica.View) { compare(t, g, v) })
	s.Close()
}

// testCopy keeps the parts of a first copy with its state, gives it up, and keeps another to its end.
func testCopy(t *testing.T, open Open) {
	s := open(t)
	g := newGenerator(3)
	g.m.state.Origin = g.origins[0] // no batch founds a group
	next := func(state string, change func(*replica.Batch)) {
		t.Helper()
		b := g.batch()
		change(&b)
		g.m.state.Copy = []byte(state)
		commit(t, s, b)
		s.Close()
		s = open(t)
		read(t, s, func(v replica.View) {
			if n, err := v.Count(); err != nil || n < uint64(len(g.m.rows)) {
				t.Errorf("%d rows are counted as %d, %v", len(g.m.rows), n, err)
			}
			st, err := v.Load()
			if err != nil || string(st.Copy) != state || len(st.Coverage) > 0 && !st.Ready {
				t.Errorf("a first copy %q is found as %+v, %v", state, st, err)
			}
			compareRows(t, g, v)
		})
	}
	part := func(b *replica.Batch) { b.Heads, b.Put, b.Copy = nil, true, []byte("one") }
	commit(t, s, replica.Batch{Origin: g.origins[0]})
	clear(g.m.state.Coverage)
	next("one", part)
	next("one", part)
	kept := g.m.rows
	next("two", func(b *replica.Batch) {
		b.Heads, b.Restart, b.Copy = nil, true, []byte("two")
		for k := range kept {
			if !slices.ContainsFunc(b.Rows, func(c replica.RowChange) bool { return c.Schema.Table == k.Table && c.Key == k.Key }) {
				delete(g.m.rows, k)
			}
		}
		for i := range b.Rows {
			b.Rows[i].Old = crdt.Row{}
		}
	})
	s = restartAfterPut(t, open, s, g)
	next("", func(b *replica.Batch) { b.Ready, b.Copy = true, []byte{} })
	s.Close()
}

// restartAfterPut puts rows, and then has all rows forgotten in the same round.
func restartAfterPut(t *testing.T, open Open, s replica.Store, g *generator) replica.Store {
	t.Helper()
	b := g.batch()
	r, err := s.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Put(b.Rows); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(replica.Batch{Schemas: b.Schemas, Put: true, Restart: true, Copy: []byte{}}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t)
	clear(g.m.rows)
	read(t, s, func(v replica.View) {
		if n, err := v.Count(); err != nil || n != 0 {
			t.Errorf("%d rows are left after a restart, %v", n, err)
		}
		compareRows(t, g, v)
	})
	return s
}

// testGrowing puts a row ahead, and commits one with a column that its table got in between.
func testGrowing(t *testing.T, open Open) {
	s := open(t)
	defer s.Close()
	at := crdt.Stamp{Time: 7, Origin: crdt.Origin{1}}
	b := replica.Batch{Origin: at.Origin, Heads: crdt.Coverage{at.Origin: at.Time}, Put: true}
	columns := []string{"a", "b"}
	for i := range columns {
		schema, err := crdt.NewSchema("t", []string{"id"}, columns[:i+1])
		if err != nil {
			t.Fatal(err)
		}
		op := crdt.Op{Kind: crdt.OpInsert, Sets: []crdt.Set{{Column: columns[i], Value: crdt.Integer(5)}}}
		b.Schemas = append(b.Schemas, schema)
		b.Rows = append(b.Rows, replica.RowChange{Schema: schema, Key: crdt.MustKey(crdt.Integer(int64(i))), New: op.Delta(at, crdt.Stamp{})})
	}
	commit(t, s, b)
	read(t, s, func(v replica.View) {
		for _, c := range b.Rows {
			if got, err := v.Rows([]replica.RowKey{{Table: "t", Key: c.Key}}); err != nil || !got[0].Equal(c.New) {
				t.Errorf("row %s was committed as %s and is read as %v, %v", c.Key, c.New, got, err)
			}
		}
	})
}

func testAbort(t *testing.T, open Open) {
	s := open(t)
	g := newGenerator(1)
	commit(t, s, g.batch())
	kept := *g.m
	r, err := s.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.Abort()
	read(t, s, func(v replica.View) { compare(t, g, v) })
	g.m = &kept
	commit(t, s, g.batch())
	read(t, s, func(v replica.View) { compare(t, g, v) })
	s.Close()
}

// testLarge commits one transaction of many rows, replaces half of them, and reads what still names the first.
func testLarge(t *testing.T, open Open) {
	s := open(t)
	defer s.Close()
	g := newGenerator(2)
	schema, _ := crdt.NewSchema("t", []string{"k"}, []string{"c"})
	const rows = 3000
	put := func(h hlc.Timestamp, every int) {
		b := replica.Batch{Schemas: []*crdt.Schema{schema}, Heads: crdt.Coverage{g.origins[0]: h}, Ready: true}
		at := crdt.Stamp{Time: h, Origin: g.origins[0]}
		for i := 0; i < rows; i += every {
			k := replica.RowKey{Table: "t", Key: crdt.MustKey(crdt.Integer(int64(i)))}
			op := crdt.Op{Table: "t", Key: k.Key, Kind: crdt.OpReplace, Sets: []crdt.Set{{Column: "c", Value: crdt.Integer(int64(h))}}}
			old := g.m.rows[k]
			b.Rows = append(b.Rows, replica.RowChange{Schema: schema, Key: k.Key, Old: old, New: old.Merge(op.Delta(at, old.Birth))})
		}
		g.m.commit(b)
		commit(t, s, b)
	}
	put(1<<40, 1)
	put(2<<40, 2)
	for _, limit := range []int{1 << 30, 700} {
		read(t, s, func(v replica.View) {
			got := changed(t, v, g.m.state.Coverage, nil, replica.Position{}, limit)
			if want := g.m.changed(g.m.state.Coverage, nil, replica.Position{}); !slices.EqualFunc(got, want, visit.equal) {
				t.Errorf("%d rows a time: %d visits, want %d", limit, len(got), len(want))
			}
		})
	}
}

// testReplicas lets two replicas on two stores write and exchange everything, with both opened again on the way.
func testReplicas(t *testing.T, openA, openB Open) {
	a, b := newEnd(t, openA, true), newEnd(t, openB, false)
	schema, _ := crdt.NewSchema("t", []string{"k"}, []string{"c"})
	for round := range 3 {
		a.other, b.other = b, a
		a.load(t)
		b.load(t)
		a.step(t, replica.Input{Up: &replica.LinkUp{Link: 1, Peer: "b"}})
		b.step(t, replica.Input{Up: &replica.LinkUp{Link: 1, Peer: "a"}})
		settle(t, a, b)
		for i := range 50 {
			e := []*end{a, b}[i%2]
			op := crdt.Op{Table: "t", Key: crdt.MustKey(crdt.Integer(int64(i % 17))), Kind: crdt.OpReplace, Sets: []crdt.Set{{Column: "c", Value: crdt.Integer(int64(round*100 + i))}}}
			e.step(t, replica.Input{Write: &replica.Drain{Schemas: []*crdt.Schema{schema}, Groups: []replica.Group{{Ops: []crdt.Op{op}}}}})
		}
		settle(t, a, b)
		if x, y := a.rows(t), b.rows(t); x != y || len(x) < 100 {
			t.Fatalf("round %d: the replicas differ:\n%s\n%s", round, x, y)
		}
	}
}

// end is one replica with what is on its way to it.
type end struct {
	open  Open
	store replica.Store
	r     *replica.Replica
	found bool
	other *end
	in    []replica.Input
	now   int64
	lives byte
}

func newEnd(t *testing.T, open Open, found bool) *end {
	return &end{open: open, found: found, now: 1 << 40}
}

func (e *end) load(t *testing.T) {
	t.Helper()
	if e.store != nil {
		e.store.Close()
	}
	e.store, e.in = e.open(t), nil
	e.lives++
	cfg := replica.Config{NewOrigin: crdt.Origin{1, e.lives}, SessionSeed: uint64(e.lives) << 32}
	if e.found {
		cfg.NewOrigin[0], cfg.NewGroup = 2, replica.GroupID{9}
	}
	read(t, e.store, func(v replica.View) {
		var err error
		if e.r, err = replica.New(cfg, v); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { e.store.Close() })
}

func (e *end) step(t *testing.T, in ...replica.Input) {
	t.Helper()
	e.now += 5
	if err := replica.Process(ctx, e.store, e.r, replica.Instant{Wall: e.now, Mono: e.now}, false, in, e); err != nil {
		t.Fatal(err)
	}
}

// Send, CloseLink and Show make the end an Output.
func (e *end) Send(_ replica.LinkID, f replica.Frame) {
	e.other.in = append(e.other.in, replica.Input{From: 1, Frame: &f})
}

func (e *end) CloseLink(_ replica.LinkID, reason error) { panic(reason) }

func (e *end) Show(replica.Batch) {}

func settle(t *testing.T, ends ...*end) {
	for range 400 {
		for _, e := range ends {
			in := e.in
			e.in = nil
			e.step(t, in...)
		}
	}
}

func (e *end) rows(t *testing.T) (s string) {
	var lines []string
	read(t, e.store, func(v replica.View) {
		if err := v.Scan("t", crdt.Key{}, func(rows []replica.RowState) bool {
			for _, r := range rows {
				lines = append(lines, r.RowKey.String()+" "+r.Row.String())
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
	})
	slices.Sort(lines)
	return fmt.Sprint(lines)
}
