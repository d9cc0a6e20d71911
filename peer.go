package rowmesh

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/network"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/trace"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// Peer is a running replica. Its methods may be called from any goroutine.
type Peer struct {
	cfg    Config
	log    *slog.Logger
	db     *sql.DB // nil without SQL
	ownDB  bool
	bridge *sqlbridge.Bridge // nil without SQL
	store  replica.Store
	reopen func(context.Context) (sqlbridge.Opened, error) // of the store, after it failed
	net    *network.Network
	id     network.Identity
	began  time.Time

	calls chan func() // run by the runner, between rounds
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once
	ready chan struct{} // closed when the replica is ready

	// Owned by the runner.
	ctx      context.Context // ends soon after Close
	core     *replica.Replica
	seed     uint64          // of its session numbers
	tape     *trace.Recorder // nil: nobody records
	tapeFile *os.File
	scratch  scratchFile
	in       []replica.Input
	capture  bool    // programs have written
	manners  manners // towards them
	links    map[replica.LinkID]network.PeerID
	retryAt  time.Time
	pause    time.Duration
	problem  error // why there is no core
	watchers map[*watcher]struct{}
	signs    <-chan struct{}
	looked   time.Time
	worked   int       // rows committed since memory was last given back
	trimAt   time.Time // when it is to be given back
	lookAt   time.Time // next look at the database
	lookStep time.Duration
	waits    []*syncWait
	audit    *auditWait    // nil: nobody waits for one
	auditID  uint64        // of the last
	liveKey  string        // what the database says of how things stand
	liveAt   time.Time     // when that was looked at last
	liveDue  time.Time     // when it must be looked at again; zero: when something happens
	hubs     *replica.Hubs // the choice of a spoke; nil: it is none
	reach    int           // links are wanted to so many of its hubs
	pace     meter         // of a copy on its way in
	acks     []replica.Ack // what others held before the replica was loaded
	need     bool          // the next load takes a new origin
	forked   bool          // and issues anew what was written under the former one

	refused map[string]string // why the last link to a peer was closed, until there is one on which both sides talk

	mu        sync.Mutex
	strangers []network.Refused
	failed    map[string]string // why an address is not reached
	report    sqlbridge.TrackReport
	notice    string
}

// Open opens or makes the database that the URI names, with the peer's own SQLite, and starts the peer. See
// ParseURI for the keys.
func Open(ctx context.Context, uri string, opts ...Option) (*Peer, error) {
	cfg, rest, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	for _, o := range opts {
		o(&cfg)
	}
	return openPath(ctx, cfg, rest)
}

// OpenConfig is Open for a program that has its settings in a Config.
func OpenConfig(ctx context.Context, cfg Config) (*Peer, error) {
	uri, err := fileURI(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("rowmesh: the path %q %w", cfg.Path, err)
	}
	return openPath(ctx, cfg, uri)
}

func openPath(ctx context.Context, cfg Config, uri string) (*Peer, error) {
	db, err := openSQLite(uri)
	if err != nil {
		return nil, fmt.Errorf("rowmesh: open %s: %w", cfg.Path, err)
	}
	p, err := OpenDB(ctx, db, WithConfig(cfg))
	if err != nil {
		db.Close()
		return nil, err
	}
	p.ownDB = true
	return p, nil
}

// OpenDB starts a peer on the database of a handle, which stays the caller's and must outlive the peer. The
// handle may be of any SQLite driver; it must allow at least two connections.
func OpenDB(ctx context.Context, db *sql.DB, opts ...Option) (*Peer, error) {
	var cfg Config
	for _, o := range opts {
		o(&cfg)
	}
	if cfg.Path == "" {
		if err := db.QueryRowContext(ctx, `SELECT coalesce(file, '') FROM pragma_database_list WHERE name = 'main'`).Scan(&cfg.Path); err != nil {
			return nil, fmt.Errorf("rowmesh: ask the handle for its file: %w", err)
		}
	}
	p := newPeer(cfg)
	p.db = db
	b, opened, err := sqlbridge.Open(ctx, db, sqlbridge.Options{Path: cfg.Path, Tables: cfg.Tables, Mine: cfg.Mine, Logger: p.log})
	if err != nil {
		return nil, err
	}
	p.bridge, p.store, p.reopen = b, b, b.Reopen
	p.need, p.notice = opened.NeedOrigin, opened.Message
	p.loadAcks(ctx)
	p.cfg.Identity = cmp.Or(p.cfg.Identity, IdentityFile(b.Path()))
	if err := p.start(ctx, filepath.Join(sqlbridge.Dir(b.Path()), "stage"), opened); err != nil {
		_ = b.Close()
		return nil, err
	}
	return p, nil
}

func newPeer(cfg Config) *Peer {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Peer{
		cfg: cfg, log: cfg.Logger, began: time.Now(), calls: make(chan func()), stop: make(chan struct{}), done: make(chan struct{}),
		ready: make(chan struct{}), links: map[replica.LinkID]network.PeerID{}, watchers: map[*watcher]struct{}{}, failed: map[string]string{}, refused: map[string]string{},
	}
}

// start loads the replica, opens the network and starts the runner. stage is the file for large sessions.
func (p *Peer) start(ctx context.Context, stage string, opened sqlbridge.Opened) (err error) {
	defer func() {
		if err != nil && p.tapeFile != nil { // the next try may use the name
			err = errors.Join(err, p.tapeFile.Close(), os.Remove(p.cfg.Record))
		}
	}()
	if err := p.cfg.Check(); err != nil {
		return err
	}
	if p.id, err = network.LoadIdentity(p.cfg.Identity); err != nil {
		return err
	}
	p.scratch.path = stage
	if opened.Message != "" {
		p.log.Warn(opened.Message, "database", p.cfg.Path)
	}
	if err := p.record(); err != nil {
		return err
	}
	if err := p.load(ctx, opened); err != nil {
		return err
	}
	if err := p.trackAtStart(ctx); err != nil {
		return err
	}
	if err := p.process(ctx, p.instant(), true, nil); err != nil {
		return fmt.Errorf("rowmesh: first round: %w", err)
	}
	if err := p.openNetwork(); err != nil {
		return err
	}
	go p.run()
	return nil
}

// record begins a recording, where one is wanted.
func (p *Peer) record() (err error) {
	if p.cfg.Record == "" {
		return nil
	}
	p.tapeFile, err = os.OpenFile(p.cfg.Record, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("rowmesh: record to %s: there is such a file already: remove it, or name another", p.cfg.Record)
	}
	if err != nil {
		return fmt.Errorf("rowmesh: record to a file: %w", err)
	}
	var mask *[32]byte
	if p.cfg.Masked {
		mask = new([32]byte)
		_, _ = rand.Read(mask[:])
	}
	p.tape, err = trace.New(p.tapeFile, 0, mask)
	return err
}

// load makes the core from the store: at a start, and after every failure.
func (p *Peer) load(ctx context.Context, opened sqlbridge.Opened) error {
	if err := p.scratch.Reset(); err != nil {
		return err
	}
	cfg := replica.Config{
		NeedOrigin: p.need, Forked: p.forked, Hub: p.cfg.Hub, Spoke: p.cfg.spoke(), Acks: p.cfg.acks(), Acked: p.acks,
		After: opened.Lease, SessionSeed: nextSeed(p.seed, time.Now()), Scratch: &p.scratch,
	}
	p.seed = cfg.SessionSeed
	_, _ = rand.Read(cfg.NewOrigin[:])
	if p.cfg.founds(p.ID()) {
		_, _ = rand.Read(cfg.NewGroup[:])
	}
	core, err := p.tape.Load(ctx, cfg, p.store)
	if err != nil {
		return fmt.Errorf("rowmesh: load the replica: %w", err)
	}
	p.core = core
	for link, peer := range p.links {
		p.in = append(p.in, replica.Input{Up: &replica.LinkUp{Link: link, Peer: peer.String()}})
	}
	return nil
}

// nextSeed returns where the session numbers of a load begin. Links outlive a load, and the other side passes over numbers that are not
// greater than the last on its link: so they are beyond those of the load before, also where the clock was set back.
func nextSeed(before uint64, now time.Time) uint64 {
	return max(uint64(max(now.UnixNano(), 0)), before+1<<32)
}

// trackAtStart tracks tables when a group is founded: all that can be, or those named. A database that has a
// group keeps what it tracks, and takes in those named.
func (p *Peer) trackAtStart(ctx context.Context) error {
	if p.bridge == nil || !p.core.IsReady() {
		return nil
	}
	facts, err := p.bridge.Facts(ctx)
	if err != nil {
		return err
	}
	if facts.Ready && len(p.cfg.Tables) == 0 {
		return nil
	}
	p.report, err = p.bridge.Track(ctx, p.cfg.Tables, false)
	return err
}

// ID returns the peer's id, which others allow.
func (p *Peer) ID() network.PeerID { return p.id.PeerID() }

// Addrs returns where the peer listens, with its id, ready to be handed to others.
func (p *Peer) Addrs() []string { return p.net.Addrs() }

// DB returns the handle of the database, nil without SQL. Programs write through it, or through any other
// handle or process, in plain SQL.
func (p *Peer) DB() *sql.DB { return p.db }

// TrackedAtStart says what became of the tables when the group was founded here by this Open. It does not change afterwards: Status has
// the tables that are tracked.
func (p *Peer) TrackedAtStart() sqlbridge.TrackReport { return p.report }

// Track begins to track tables that were made since the group was founded, all that can be where none is named, and takes in their
// rows. Until then what is written to them stays in this database. A named table that is tracked already is compared with what it should
// show, and what was written past its triggers is taken in as edits. Tables that cannot be tracked are in the report, each with
// what would help, and are no error.
func (p *Peer) Track(ctx context.Context, tables ...string) (rep sqlbridge.TrackReport, err error) {
	err = p.onTables(ctx, func() (err error) {
		rep, err = p.bridge.Track(p.ctx, tables, len(tables) > 0)
		return err
	})
	return rep, err
}

// Untrack ends the tracking of tables. Their rows stay as they are here and with the others; what others write to them is kept, forwarded
// and not shown.
func (p *Peer) Untrack(ctx context.Context, tables ...string) error {
	return p.onTables(ctx, func() error { return p.bridge.Untrack(p.ctx, tables) })
}

// onTables runs f, which changes what is tracked, between rounds, and then a round.
func (p *Peer) onTables(ctx context.Context, f func() error) error {
	if p.bridge == nil {
		return errors.New("rowmesh: this peer has no SQL tables")
	}
	return p.doReady(ctx, func() error {
		err := f()
		if err == nil {
			p.takeInNow()
		}
		return err
	})
}

// takeInNow makes a round that captures, on the runner.
func (p *Peer) takeInNow() {
	p.capture, p.manners.urgent = true, true
	p.turn(p.ctx)
}

// Notice is what people should know of the database as it was found, "" for nothing.
func (p *Peer) Notice() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.notice
}

// ErrClosed is returned by the methods of a closed peer.
var ErrClosed = errors.New("rowmesh: the peer is closed")

// do runs f on the runner, between rounds.
func (p *Peer) do(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case p.calls <- func() { defer close(ran); f() }:
	case <-p.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-ran:
		return nil
	case <-p.done:
		select {
		case <-ran:
			return nil
		default:
		}
		return ErrClosed
	}
}

// doReady runs f on the runner, between rounds, where a replica runs and is ready.
func (p *Peer) doReady(ctx context.Context, f func() error) (err error) {
	ran := p.do(ctx, func() {
		switch {
		case p.core == nil:
			err = p.halted()
		case !p.core.IsReady():
			err = errors.New("rowmesh: not ready yet: the first copy has not come; WaitReady waits for it")
		default:
			err = f()
		}
	})
	return errors.Join(err, ran)
}

// WaitReady waits until the replica has founded a group or holds its first copy.
func (p *Peer) WaitReady(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	case <-p.done:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("rowmesh: not ready yet: %w", ctx.Err())
	}
}

// Write runs f in a transaction of the database and returns when it is committed there and the replica has
// taken it in; of tables that are not tracked (see Track) it takes in nothing. An error of f rolls back. ErrUnknown says
// that the commit's outcome could not be learnt, ErrLater that it is committed and was not waited for.
func (p *Peer) Write(ctx context.Context, f func(tx *sql.Tx) error) error {
	if p.db == nil {
		return errors.New("rowmesh: this peer has no SQL: use WriteRows")
	}
	select {
	case <-p.done:
		return ErrClosed
	default:
	}
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("rowmesh: write: %w", err)
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if err := p.do(ctx, p.takeInNow); err != nil {
		return fmt.Errorf("%w: %w", ErrLater, err)
	}
	return nil
}

// WriteRows makes one transaction of operations on a peer without SQL, and returns when it is durable. schemas describes
// their tables. An operation says what happens to its row as an SQL statement would: an insert gives all columns, an
// update those that change, in any order.
func (p *Peer) WriteRows(ctx context.Context, schemas []*crdt.Schema, ops ...crdt.Op) (err error) {
	if p.bridge != nil {
		return errors.New("rowmesh: this peer has SQL: write to its tables")
	}
	if ops, err = checkOps(schemas, ops); err != nil {
		return err
	}
	drain := replica.Drain{Schemas: schemas, Groups: []replica.Group{{Ops: ops}}}
	return p.doReady(ctx, func() error {
		if err := p.agree(p.ctx, schemas); err != nil {
			return err
		}
		in := append(p.in, replica.Input{Write: &drain})
		p.in = nil
		if err := p.process(p.ctx, p.instant(), false, in); err != nil {
			p.fail(err)
			return fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		return nil
	})
}

// ErrLater says that a transaction is committed, and that Write could not wait until the replica had taken it in: it does so later, at the
// latest at the next start. It must not be repeated.
var ErrLater = errors.New("rowmesh: the transaction is committed, and taken in by the replica later")

// ErrUnknown says that a write may or may not have happened: read to learn which.
var ErrUnknown = errors.New("rowmesh: the outcome of the write is unknown")

// Verify compares every tracked table with the merged state.
func (p *Peer) Verify(ctx context.Context) (diffs []sqlbridge.Difference, err error) {
	if p.bridge == nil {
		return nil, errors.New("rowmesh: this peer has no SQL tables")
	}
	ran := p.do(ctx, func() {
		if p.core == nil {
			err = p.halted()
			return
		}
		diffs, err = p.bridge.Verify(ctx)
	})
	return diffs, errors.Join(ran, err)
}

// Digest is equal on replicas that hold the same rows, with SQL or without.
func (p *Peer) Digest(ctx context.Context) (sum [32]byte, err error) {
	err = p.read(ctx, func(v replica.View) (err error) {
		sum, err = replica.Digest(v)
		return err
	})
	return sum, err
}

// halted is the answer while no replica runs.
func (p *Peer) halted() error {
	return fmt.Errorf("rowmesh: the replica does not run at the moment: %w", p.problem)
}

// read calls f with a view of the committed rows, between two rounds.
func (p *Peer) read(ctx context.Context, f func(replica.View) error) (err error) {
	ran := p.do(ctx, func() {
		if p.core == nil {
			err = p.halted()
			return
		}
		err = p.store.Read(ctx, f)
	})
	return errors.Join(ran, err)
}

// Rows reads merged rows by key, the zero Row for each that nobody wrote.
func (p *Peer) Rows(ctx context.Context, keys ...replica.RowKey) (rows []crdt.Row, err error) {
	err = p.read(ctx, func(v replica.View) error {
		rows, err = v.Rows(keys)
		return err
	})
	return rows, err
}

// Scan calls yield for every merged row of a table that is alive, in no particular order, until it returns false. The
// replica stands still meanwhile.
func (p *Peer) Scan(ctx context.Context, table string, yield func(crdt.Key, crdt.Row) bool) error {
	return p.read(ctx, func(v replica.View) error {
		return v.Scan(table, crdt.Key{}, func(page []replica.RowState) bool {
			for _, r := range page {
				if r.Row.Alive() && !yield(r.Key, r.Row) {
					return false
				}
			}
			return true
		})
	})
}

// Close takes in what was written last, ends the links and closes the database if Open opened it.
func (p *Peer) Close() error {
	var err error
	p.once.Do(func() {
		close(p.stop)
		<-p.done
		if p.ownDB {
			err = p.db.Close()
		}
	})
	return err
}
