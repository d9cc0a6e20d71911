package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/dsstore"
	"github.com/rowmesh/rowmesh/replica/trace"
)

// machine is one computer with a replica on it.
type machine struct {
	w      *World
	id     int
	clock  wallClock
	medium Medium
	edges  map[replica.LinkID]*edge

	tape    *trace.Recorder // nil: nobody records
	store   replica.Store
	core    *replica.Replica // nil: stopped, or waiting to load again
	running bool
	gone    bool // for ever
	founder bool
	liar    bool
	copied  bool          // the medium is a copy or was set back: a new origin is due
	reissue bool          // a fork was found: a new origin is due, for all that was written under the former one
	writer  crdt.Origin   // under which it writes
	rotten  int           // damaged records on its medium
	after   hlc.Timestamp // which own stamps must exceed
	lives   uint64
	columns int // of the tables, as this machine knows them
	in      []replica.Input
	busy    int64 // until then it does nothing: it is paused, or its disk is slow
	slow    int64 // what a commit takes, until slowEnd
	slowEnd int64
	wakeAt  int64
	pending bool // a run is due
	backup  *saved

	rows    map[replica.RowKey]crdt.Row // as committed; what a reader would see
	claimed crdt.Coverage               // as committed
	ready   bool                        // as committed
	seen    hlc.Timestamp               // the greatest time of a row merged since the start: liars send rows that they do not claim
	copy    []byte                      // the state of an unfinished first copy, as committed
	writing []replica.Group             // the local transactions on their way
	doubt   *replica.Batch              // a commit whose outcome is unknown
	unsure  []stamped                   // the local transactions in it
	counted replica.Counters            // of them, those turned into marks

	own bool // the medium is the machine's first, and was never replaced

	// Of a spoke only.
	star    []*edge       // to the hubs
	hubs    *replica.Hubs // the choice among them
	reach   int           // links are wanted to so many
	lastHub int           // the last in use, from 1; 0: none so far

	// With SQL only.
	unseen   bool     // a program wrote, and the replica has not looked yet
	replaced bool     // another database was put in the place of the machine's own
	part     bool     // the round under way takes in a part of what programs wrote
	touched  bool     // a program wrote since the last capture
	shape    shape    // of the tables at the last commit
	added    []string // columns since the last capture, each after its table and a point
	lived    rowSet   // rows that programs left in a table in one of their transactions since the last capture that was committed
	free     bool     // programs write what they like, so that nobody knows what they made anew
	remade   rowSet   // rows that programs inserted, deleted or moved since then
	loose    []string // tables whose values nobody wrote since then: a column was renamed, or all of it made anew
}

// saved is a medium set aside, with what was committed on it.
type saved struct {
	medium  Medium
	rows    map[replica.RowKey]crdt.Row
	claimed crdt.Coverage
	shape   shape
	remade  rowSet
	loose   []string
	writer  crdt.Origin
}

// newSaved returns one that is empty, of the kind of a medium.
func newSaved(like Medium) *saved {
	return &saved{medium: newMediumLike(like), rows: map[replica.RowKey]crdt.Row{}, claimed: crdt.Coverage{}}
}

// on returns a copy on a medium, which holds the same.
func (s *saved) on(medium Medium) *saved {
	c := *s
	c.medium, c.rows, c.claimed = medium, maps.Clone(s.rows), s.claimed.Clone()
	return &c
}

// stamped is a local transaction with its stamp.
type stamped struct {
	at  hlc.Timestamp
	ops []crdt.Op
}

func (m *machine) name() string { return fmt.Sprintf("m%d", m.id) }

func (m *machine) up() bool { return m.running && !m.gone }

// lag is how much later than computed its frames leave, because its disk is slow.
func (m *machine) lag() int64 {
	if m.w.now < m.slowEnd {
		return m.slow
	}
	return 0
}

func (m *machine) instant() replica.Instant {
	return replica.Instant{Wall: m.clock.read(m.w.now), Mono: m.w.now}
}

// id16 is a made-up id, different for each purpose, machine and life.
func (m *machine) id16(purpose uint64) (id [16]byte) {
	h := mix(m.w.c.Seed ^ purpose<<56 ^ uint64(m.id)<<32 ^ m.lives)
	binary.BigEndian.PutUint64(id[:], h|1)
	binary.BigEndian.PutUint64(id[8:], mix(h))
	return id
}

// mount gives the medium what it needs of the machine.
func (m *machine) mount() {
	if s := m.sql(); s != nil {
		s.Clock(func() int64 { return m.instant().Wall })
	}
}

// start turns the machine on.
func (m *machine) start() {
	if m.gone || m.running {
		return
	}
	m.running = true
	m.load()
}

// blinded takes note that a machine which was set back is started anew after it wrote: it cannot tell the branches apart any more.
func (m *machine) blinded() {
	if f := m.branch(); f != nil && len(f.new) > 0 && !m.reissue {
		f.blind = true
	}
}

// load makes the core from what is durable, at a start and after every failure.
func (m *machine) load() {
	defer m.act()()
	m.lives++
	m.blinded()
	m.core, m.in, m.counted, m.pending = nil, nil, replica.Counters{}, false
	err := m.open()
	m.blinded() // by a commit of unknown outcome that was kept
	if err == nil {
		m.w.trace("load", m, m.core.Origin().Short())
		for id, e := range m.links() {
			m.in = append(m.in, replica.Input{Up: &replica.LinkUp{Link: id, Peer: e.ends[1-e.index(m)].name()}})
		}
		m.schedule(m.w.now)
		for _, e := range m.w.edgesOf(m) {
			m.w.dial(e)
		}
		return
	}
	m.failed(fmt.Errorf("load: %w", err))
}

func (m *machine) open() (err error) {
	if m.store, err = m.medium.Open(); err != nil {
		return err
	}
	if s := m.sql(); s != nil {
		if err := m.foundSQL(s); err != nil {
			return err
		}
	}
	cfg := replica.Config{
		NewOrigin: m.id16(1), NeedOrigin: m.copied, Forked: m.reissue, After: m.after, Hub: m.isHub(), Spoke: m.isSpoke(), ChunkBytes: m.w.c.Chunk, CacheRows: m.w.c.Cache, StageBytes: m.w.c.Chunk, PutRows: 1 + m.w.c.Chunk/60,
		SessionSeed: m.lives << 32,
	}
	if m.w.c.Chunk > 0 { // rare paths are common
		cfg.PackBytes = 1
	}
	if m.founder {
		cfg.NewGroup = replica.GroupID{1}
	}
	var st replica.State
	rows := map[replica.RowKey]crdt.Row{}
	err = m.store.Read(context.Background(), func(v replica.View) (err error) {
		if st, err = v.Load(); err != nil {
			return err
		}
		scanned := map[string]bool{}
		for _, s := range st.Schemas {
			if scanned[s.Table] {
				continue
			}
			scanned[s.Table] = true
			if err := v.Scan(s.Table, crdt.Key{}, func(part []replica.RowState) bool {
				for _, r := range part {
					rows[r.RowKey] = r.Row
				}
				return true
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		m.core, err = m.tape.Load(context.Background(), cfg, m.store)
	}
	if err != nil {
		m.core = nil
		return err
	}
	m.seen = 0
	if m.ready = st.Ready; len(st.Copy) > 0 {
		m.w.mark("first copy gone on with after a restart")
	}
	m.beginHubs()
	m.w.found(m, rows, st)
	m.writer = m.core.Origin()
	if m.liar {
		m.w.lies.origins[m.writer] = true
	}
	if s := m.sql(); s != nil && m.core.IsReady() && !st.Ready {
		return s.Track()
	}
	return nil
}

// foundSQL takes in what the bridge says of a database that was just opened.
func (m *machine) foundSQL(s SQL) error {
	copied, after := s.Found()
	f := m.branch()
	if copied && f != nil && len(f.new) == 0 {
		delete(m.w.forks, m.writer) // the fence could tell: it is like a backup that was restored
	} else if copied != m.replaced && len(m.claimed) > 0 {
		m.w.violate("P9", "%s: its database was replaced: %v; it was taken for a copy: %v", m.name(), m.replaced, copied)
	}
	m.copied, m.replaced, m.after, m.unseen = m.copied || copied, false, after, true
	return nil
}

// links returns the machine's links that are up, in order.
func (m *machine) links() func(func(replica.LinkID, *edge) bool) {
	return func(yield func(replica.LinkID, *edge) bool) {
		for _, id := range slices.Sorted(maps.Keys(m.edges)) {
			if !yield(id, m.edges[id]) {
				return
			}
		}
	}
}

// crash stops the machine: everything in memory is lost, and what was not synced may be.
func (m *machine) crash() {
	if !m.running {
		return
	}
	m.w.trace("crash", m, "")
	m.running, m.core, m.in, m.reissue = false, nil, nil, false
	m.medium.Crash(rng(m.w.c.Seed, 0xc4a5, uint64(m.id), m.lives))
	for _, e := range m.w.edgesOf(m) {
		m.w.disconnect(e)
	}
}

// input hands something to the replica, which takes it in as soon as the machine runs.
func (m *machine) input(in replica.Input) {
	if m.core == nil {
		return
	}
	m.in = append(m.in, in)
	m.schedule(m.w.now)
}

// schedule lets the machine run at a moment, or when it is free.
func (m *machine) schedule(at int64) {
	at = max(at, m.busy, m.w.now)
	if m.pending && m.wakeAt <= at {
		return
	}
	m.pending, m.wakeAt = true, at
	m.w.at(at, func() {
		if !m.pending || m.wakeAt != m.w.now || m.core == nil {
			return
		}
		if m.w.now < m.busy {
			m.pending = false
			m.schedule(m.busy)
			return
		}
		m.pending = false
		m.run()
	})
}

// act notes that this machine's replica runs, until the function that it returns is called.
func (m *machine) act() (done func()) {
	before := m.w.acting
	m.w.acting = m
	return func() { m.w.acting = before }
}

// run is one round.
func (m *machine) run() {
	in := m.in
	m.in = nil
	m.process(in)
	if m.core != nil {
		m.chooseHub()
		m.schedule(m.wake())
	}
}

// wake is when time alone next gives the machine something to do.
func (m *machine) wake() int64 {
	if m.isSpoke() {
		return min(m.core.Wake(), m.hubs.Wake())
	}
	return m.core.Wake()
}

func (m *machine) process(in []replica.Input) {
	defer m.act()()
	defer func() {
		if r := recover(); r != nil {
			m.w.violate("P17", "%s panics: %v", m.name(), r)
		}
	}()
	for m.unseen && m.core.IsReady() && !m.core.Writes(m.instant(), nil) && m.readAhead(true) { // as a peer does in a flood of writes
		m.w.mark("a part of the outbox captured")
		m.part = true
		m.round(true, nil)
		if m.part = false; m.core == nil {
			return
		}
	}
	capture := m.unseen && m.core.IsReady()
	m.unseen = m.unseen && !capture
	m.round(capture, in)
}

func (m *machine) round(capture bool, in []replica.Input) {
	fork := m.toldOfFork(in)
	err := m.tape.Process(context.Background(), watched{m.store, m}, m.core, m.instant(), capture, in, m)
	m.w.trace("run", m, "")
	var found *replica.ForkError
	switch {
	case err == nil:
		if fork != nil {
			m.w.violate("P22", "%s was told of a transaction of its own that it forgot, and goes on", m.name())
		}
		m.w.watch(m)
		if m.w.c.Liar > 0 && m.w.stats.Events%32 == 0 {
			m.w.checkBounds(m)
		}
	case errors.As(err, &found):
		m.w.foundFork(m, found)
	default:
		m.failed(err)
	}
}

// failed throws the core away. The machine stops where its disk did, else it loads again after a pause.
func (m *machine) failed(err error) {
	m.core, m.in = nil, nil
	m.w.trace("failed", m, err.Error())
	if errors.Is(err, ErrStopped) {
		m.w.mark("stopped in a commit")
		m.crash()
		m.w.after(1000, m.start)
		return
	}
	if errors.Is(err, dsstore.ErrCorrupt) && m.rotten > 0 { // as the operator is told: begin anew
		m.w.mark("damage found")
		m.w.replace(m, newSaved(m.medium), 1000, false)
		return
	}
	if !errors.Is(err, ErrIO) && !errors.Is(err, ErrFull) {
		m.w.violate("P16", "%s: its store fails without a fault: %v", m.name(), err)
		return
	}
	m.w.mark("store failed")
	lives := m.lives
	m.w.after(retryAfter.Milliseconds(), func() {
		if m.running && m.core == nil && m.lives == lives {
			m.load()
		}
	})
}

// write makes a local transaction, as programs on the machine would.
func (m *machine) write(groups [][]Op) {
	if m.liar {
		return // what it writes are lies
	}
	if m.sql() != nil {
		m.writeSQL(groups)
		return
	}
	if m.core == nil || !m.core.IsReady() || m.w.now < m.busy {
		return
	}
	d := replica.Drain{}
	for _, t := range tableNames {
		d.Schemas = append(d.Schemas, tables[t][m.columns-firstColumns])
	}
	for _, g := range groups {
		var out []crdt.Op
		for _, op := range g {
			if o, ok := op.operation(m.rows[rowKey(op.Table, op.Key)], m.columns); ok {
				out = append(out, o)
			}
		}
		if len(out) > 0 {
			d.Groups = append(d.Groups, replica.Group{WallMillis: m.instant().Wall, Ops: out})
		}
	}
	if len(d.Groups) == 0 {
		return
	}
	m.writing = d.Groups
	m.process([]replica.Input{{Write: &d}})
	m.writing = nil
	if m.core != nil {
		m.schedule(m.wake())
	}
}

// Send, CloseLink and Show carry out what the replica wants done.

// Send sends a frame.
func (m *machine) Send(l replica.LinkID, f replica.Frame) {
	m.w.checkSend(m, f)
	if e := m.edges[l]; e != nil {
		m.w.send(e, e.index(m), f)
	}
}

// CloseLink closes a link.
func (m *machine) CloseLink(l replica.LinkID, reason error) {
	m.w.checkClose(m, l, reason)
	if e := m.edges[l]; e != nil {
		m.w.disconnect(e)
	}
}

// Show is told of committed rows; the store's watcher has looked at them already.
func (m *machine) Show(replica.Batch) {}

// watched is a machine's store with the checkers at its commits.
type watched struct {
	replica.Store
	m *machine
}

func (s watched) Begin(ctx context.Context) (replica.Round, error) {
	r, err := s.Store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &watchedRound{Round: r, m: s.m}, nil
}

type watchedRound struct {
	replica.Round
	m     *machine
	ahead replica.Ahead
}

// Put notes the rows for the checkers, who look at them when they are committed.
func (r *watchedRound) Put(rows []replica.RowChange) error {
	r.ahead.Put(rows)
	r.m.w.mark("rows put ahead of their commit")
	return r.Round.Put(rows)
}

// Capture has what the store captured checked, and notes it.
func (r *watchedRound) Capture() (replica.Drain, error) {
	d, err := r.Round.Capture()
	if err != nil || r.m.sql() == nil {
		return d, err
	}
	r.watch(d)
	return d, nil
}

// watch notes what a drain yields, makes smaller parts of it at times, and has all of it checked once the last of it has been
// written.
func (r *watchedRound) watch(d replica.Drain) {
	groups := make([]replica.Group, len(d.Groups))
	most := 1 + r.m.w.c.Chunk/60
	if r.m.w.oracle.size()%4 > 0 {
		most = math.MaxInt
	}
	end := func() {
		r.m.w.checkCapture(r.m, replica.Drain{Schemas: d.Schemas, Groups: groups})
		if r.m.writing = groups; !r.m.part {
			r.m.touched, r.m.added = false, nil
		}
	}
	for i, g := range d.Groups {
		groups[i].WallMillis = g.WallMillis
		d.Groups[i].Parts = func(yield func([]crdt.Op) error) error {
			err := g.Each(func(ops []crdt.Op) error {
				groups[i].Ops = append(groups[i].Ops, ops...)
				for part := range slices.Chunk(ops, most) {
					if err := yield(part); err != nil {
						return err
					}
				}
				return nil
			})
			if err == nil && i == len(groups)-1 {
				end()
			}
			return err
		}
	}
	if len(groups) == 0 {
		end()
	}
}

// Commit commits, and has the outcome checked before anything is sent.
func (r *watchedRound) Commit(b replica.Batch) error {
	m := r.m
	own := m.stamp(m.writing)
	m.writing = nil
	m.w.checkClock(m, b.Heads)
	err := r.Round.Commit(b)
	b.Rows = r.ahead.With(b)
	if err != nil {
		b.Heads = maps.Clone(b.Heads)
		m.doubt, m.unsure = &b, own
		return err
	}
	m.w.committed(m, b, own)
	return nil
}

// stamp says which stamps local transactions must get: each the wall time at which it was made, and greater than all that
// the machine has seen.
func (m *machine) stamp(groups []replica.Group) (out []stamped) {
	last := max(m.claimed.Max(), m.after, m.seen)
	for _, g := range groups {
		if len(g.Ops) == 0 {
			continue
		}
		wall := m.instant().Wall
		if g.WallMillis > 0 {
			wall = min(wall, g.WallMillis)
		}
		last = max(hlc.FromMillis(wall), last+1)
		out = append(out, stamped{last, g.Ops})
	}
	return out
}

// wallClock is a machine's wall clock, which may be wrong.
type wallClock struct {
	offset  int64 // milliseconds ahead of true time
	drift   int64 // thousandths
	since   int64 // true time when the drift began
	frozen  int64 // true time at which it stopped; 0: it runs
	frozenN int64 // until
}

func (c *wallClock) read(now int64) int64 {
	if c.frozen > 0 && now < c.frozenN {
		now = c.frozen
	}
	return max(now+c.offset+(now-c.since)*c.drift/1000, 0)
}

// settle folds the drift so far into the offset.
func (c *wallClock) settle(now int64) {
	c.offset += (now - c.since) * c.drift / 1000
	c.since = now
}
