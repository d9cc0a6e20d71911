package replica

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// Instant is a reading of the two clocks of a machine, in milliseconds: Wall since the Unix epoch, which
// stamps follow and which may jump; Mono since any fixed moment, which timers follow and which never goes
// back.
type Instant struct{ Wall, Mono int64 }

// Config says what a replica is. The ids are handed in because the core has no randomness of its own.
type Config struct {
	NewOrigin   crdt.Origin   // taken where the store has no origin yet, or where NeedOrigin is set
	NeedOrigin  bool          // the store is a copy or was restored: never write under its former origin
	Forked      bool          // a ForkError came: NeedOrigin, and what was written under the former origin is issued anew
	NewGroup    GroupID       // founded where the store belongs to no group; zero: wait to join one
	Hub         bool          // tells others that this replica serves as a hub
	Spoke       bool          // talks to hubs only
	Acks        int           // how many others must hold what was written here, for it to count as in sync; 0: a hub
	Acked       []Ack         // known before, of any origin
	After       hlc.Timestamp // own stamps are greater than this, whatever the store says; see the fence
	CacheRows   int           // decoded rows kept in memory; 0: a default
	PackBytes   int           // vectors from this size on are sent as changes against known ones; 0: a default
	ChunkBytes  int           // size to which the chunks of a session are filled; 0: a default
	StageBytes  int           // how much of a session is held in memory until it is whole; 0: a default
	PutRows     int           // changed rows of a large session that gather before they are handed to the store; 0: a default
	Scratch     Scratch       // where the rest is held; nil: in memory too
	SessionSeed uint64        // the first session number, so that numbers differ between runs
}

func (c *Config) validate() error {
	if c.NewOrigin.IsZero() {
		return errors.New("replica: Config.NewOrigin is zero: hand in 16 random bytes")
	}
	if c.CacheRows == 0 {
		c.CacheRows = defaultCacheRows
	}
	if c.PackBytes == 0 {
		c.PackBytes = defaultPackBytes
	}
	if c.ChunkBytes == 0 {
		c.ChunkBytes = defaultChunkBytes
	}
	if c.StageBytes == 0 {
		c.StageBytes = defaultStageBytes
	}
	if c.PutRows == 0 {
		c.PutRows = defaultPutRows
	}
	return nil
}

// Replica is one replica's state machine. See the package comment for how to drive it. It is not safe for
// concurrent use.
type Replica struct {
	cfg    Config
	now    Instant
	clock  hlc.Clock
	origin crdt.Origin
	group  GroupID
	ready  bool

	coverage crdt.Coverage // claimed: for each transaction in it, the rows hold its writes or newer ones
	sorted   vector        // coverage, as it crosses the wire
	hash     [16]byte      // of coverage; valid while hashed
	hashed   bool
	raisedAt int64 // when a head last rose, on the clock of Instant.Mono

	schemas *schemaSet
	rows    *rowSet
	links   []*link // in order of arrival
	held    map[crdt.Origin]*heldBlocks
	tree    map[crdt.Origin]branch
	vectors vectorCache
	pull    *pull // the session this replica is a client of, or the stage of a broken one
	served  []*served
	audit   *audit // the last that was asked for here; nil: none
	smaller int    // by how many halvings chunks are asked for smaller than usual
	session uint64 // the last number given out, of a session or of a question of an audit
	run     uint64 // the last run number given out, for sessions served

	pushes []push // blocks merged since the last Ready, for links that follow
	batch  Batch  // what the next Ready commits, but for its rows
	out    []Outgoing
	closed []Closing
	forked *ForkError
	own    ownTimes
	acks   map[string]Ack // by the name of the peer; only peers that are allowed have one
	stats  Counters
}

// Counters count what happened since the replica was loaded.
type Counters struct {
	BlocksWritten   uint64 // own transactions
	BlocksMerged    uint64 // received by push
	BlocksDuplicate uint64 // received again
	BlocksHeld      uint64 // received out of order or ahead of the clock
	BlocksAhead     uint64 // of these: ahead of the clock
	SessionsPulled  uint64 // finished as client
	SessionsServed  uint64 // finished as server
	SessionsBroken  uint64 // given up as client
	SessionsResumed uint64 // gone on with as client, where a broken one ended
	SessionsMoved   uint64 // of these: at another server
	PassesServed    uint64 // as server, beyond the first of each session
	LinksPruned     uint64 // for an origin, because a block came again on it
	LinksGrafted    uint64 // for an origin, because its blocks came late or not at all on others
	LinksReplanted  uint64 // for an origin, because the link that brought its blocks is gone
	VectorsWarm     uint64 // all heads of another, told as changes against a vector
	VectorsUnknown  uint64 // of these: such that the vector is not known here
	BlocksAnnounced uint64 // too large to push, or part of a chain
	RowsMerged      uint64 // rows changed by others
}

// New loads a replica from its store. Its first Ready may hold a new origin or group to commit.
func New(cfg Config, v View) (*Replica, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	st, err := v.Load()
	if err != nil {
		return nil, fmt.Errorf("replica: load: %w", err)
	}
	r := &Replica{
		cfg: cfg, origin: st.Origin, group: st.Group, ready: st.Ready, coverage: st.Coverage.Clone(),
		schemas: newSchemaSet(), rows: newRowSet(cfg.CacheRows), held: map[crdt.Origin]*heldBlocks{}, tree: map[crdt.Origin]branch{}, session: cfg.SessionSeed, run: cfg.SessionSeed,
	}
	for _, s := range st.Schemas {
		if err := r.schemas.load(s); err != nil {
			return nil, fmt.Errorf("replica: load: %w", err)
		}
	}
	r.clock.Update(max(r.coverage.Max(), cfg.After))
	if err := r.chooseOrigin(v); err != nil {
		return nil, fmt.Errorf("replica: load: %w", err)
	}
	if !r.ready && len(st.Copy) > 0 {
		if err := r.resumeCopy(st.Copy); err != nil {
			return nil, fmt.Errorf("replica: load: %w", err)
		}
	}
	r.loadAcks(cfg.Acked)
	if r.group == (GroupID{}) && cfg.NewGroup != (GroupID{}) {
		r.group, r.ready = cfg.NewGroup, true
		r.batch.Group, r.batch.Ready = r.group, true
	}
	return r, nil
}

// chooseOrigin takes a new origin where there is none, or where the former one must not be used.
func (r *Replica) chooseOrigin(v View) error {
	if old := r.origin; old.IsZero() || r.cfg.NeedOrigin || r.cfg.Forked {
		r.origin = successor(old, r.cfg.NewOrigin)
		r.batch.Origin = r.origin
		if r.cfg.Forked {
			if err := r.reissue(v, old); err != nil {
				return err
			}
		}
	}
	r.own.from = r.coverage[r.origin]
	r.sorted = vectorOf(r.coverage)
	return nil
}

// Outgoing is a frame for one link.
type Outgoing struct {
	Link  LinkID
	Frame Frame
}

// Closing asks for a link to be closed, after its last frames were sent.
type Closing struct {
	Link   LinkID
	Reason error
}

// Ready is what the replica wants done. It is carried out in the order of its fields; Process does so.
type Ready struct {
	Batch  Batch      // first: made durable, as one unit; where that fails, nothing below may happen
	Frames []Outgoing // then sent, in order; a frame that cannot be sent is forgotten
	Close  []Closing  // then closed
	Forked *ForkError // the replica must be loaded anew under another origin
}

// Ready returns what the inputs since the last Advance led to.
func (r *Replica) Ready() Ready {
	r.sendPushes()
	b := r.batch
	b.Rows = r.rows.changes(r.schemas)
	return Ready{Batch: b, Frames: r.out, Close: r.closed, Forked: r.forked}
}

// Advance tells the replica that its last Ready is durable and its frames are on their way.
func (r *Replica) Advance() {
	r.rows.commit()
	r.batch, r.out, r.closed = Batch{}, nil, nil
}

// Origin returns the id under which this replica writes.
func (r *Replica) Origin() crdt.Origin { return r.origin }

// IsReady reports whether the replica has founded its group or holds its first copy.
func (r *Replica) IsReady() bool { return r.ready }

// Last returns the greatest stamp time given out or merged.
func (r *Replica) Last() hlc.Timestamp { return r.clock.Last() }

// Counters returns what happened since the replica was loaded.
func (r *Replica) Counters() Counters { return r.stats }

// Dirty reports whether there is something to commit.
func (r *Replica) Dirty() bool { return !r.batch.IsZero() || r.rows.dirty() }

// raise claims everything of origin o up to h.
func (r *Replica) raise(o crdt.Origin, h hlc.Timestamp) {
	if r.claim(o, h) {
		r.sorted = r.sorted.with(o, h)
	}
}

// claim is raise, but for sorted, which the caller brings up to date. It reports whether the head rose.
func (r *Replica) claim(o crdt.Origin, h hlc.Timestamp) bool {
	if h <= r.coverage[o] {
		return false
	}
	r.coverage[o] = h
	r.hashed = false
	if r.batch.Heads == nil {
		r.batch.Heads = crdt.Coverage{}
	}
	r.batch.Heads[o] = h
	r.raisedAt = r.now.Mono
	for _, l := range r.links {
		r.compare(l, o)
	}
	return true
}

func (r *Replica) coverageHash() [16]byte {
	if !r.hashed {
		r.hash, r.hashed = r.sorted.hash(), true
	}
	return r.hash
}

// limit returns the greatest stamp time accepted now: of the direct sender's own origin, or of one it
// relays, which had its own limit at the sender.
func (r *Replica) limit(relayed bool) hlc.Timestamp {
	skew := maxSkew
	if relayed {
		skew *= 2
	}
	return hlc.FromMillis(r.now.Wall+skew.Milliseconds()) | 0xffff
}

func millis(d time.Duration) int64 { return d.Milliseconds() }

// Status is a snapshot for people and programs.
type Status struct {
	Origin   crdt.Origin
	Group    GroupID
	Ready    bool
	Coverage crdt.Coverage
	Clock    hlc.Timestamp // greatest stamp time given out or merged
	Acked    hlc.Timestamp // of the own origin: everything up to here is durable elsewhere, as Config.Acks says
	Acks     []Ack         // who holds how much of it
	Links    []LinkStatus
	Held     []HeldStatus
	Pulling  bool     // a session is on its way in
	Staged   int      // bytes of it held until it is whole
	Progress Progress // of the session that is on its way in, or was broken off
	Counters Counters
}

// HeldStatus says what is held back of one origin.
type HeldStatus struct {
	Origin crdt.Origin
	Blocks int
	First  hlc.Timestamp // time of the earliest
	Ahead  bool          // it waits for this machine's clock, and not only for a block before it
}

// Pulling returns how far the session that is on its way in has come, or the one that was broken off, and whether one is on
// its way.
func (r *Replica) Pulling() (p Progress, active bool) {
	if r.pull == nil {
		return p, false
	}
	return r.pull.progress, r.pull.active
}

// Status returns a snapshot. The caller owns it.
func (r *Replica) Status() Status {
	s := Status{
		Origin: r.origin, Group: r.group, Ready: r.ready, Coverage: r.coverage.Clone(), Clock: r.clock.Last(), Acked: r.Acked(), Acks: r.Acks(), Counters: r.stats,
	}
	for _, l := range r.links {
		s.Links = append(s.Links, l.status(r))
	}
	for _, o := range slices.SortedFunc(maps.Keys(r.held), crdt.Origin.Compare) {
		h := r.held[o]
		s.Held = append(s.Held, HeldStatus{o, len(h.blocks), h.blocks[0].stamp.Time, r.ahead(o, h.blocks[0])})
	}
	if r.pull != nil {
		s.Pulling, s.Staged, s.Progress = r.pull.active, r.pull.stage.bytes, r.pull.progress
	}
	return s
}
