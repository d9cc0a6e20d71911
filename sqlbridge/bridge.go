package sqlbridge

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// Options say how to open a bridge.
type Options struct {
	Path      string       // of the database file; identity, lock and fence live in Path + "-rowmesh"
	Inspect   bool         // only look, beside a running peer: take no lock, make no change
	Beside    bool         // track and untrack beside a running peer: take no lock, write no rows
	Tables    []string     // the only tables to show; empty: every table of the group
	Mine      bool         // when joining with rows of its own: they count as written now and win
	ClockExpr string       // SQL for wall milliseconds in triggers; "": the machine's clock
	Now       func() int64 // wall milliseconds since 1970, for leases; nil: the machine's clock
	Logger    *slog.Logger // nil: silent

	CaptureRows int // entries of the outbox that a round takes in where Prepare allows a part; 0: as many as it takes in 25 ms
	HeldEntries int // entries of the outbox that are held in memory; 0: a default
}

// Bridge is the store of one replica inside an SQLite database, with capture from and projection into the
// user's tables. It implements replica.Store. Use it from one goroutine at a time.
type Bridge struct {
	db    *sql.DB
	conn  *sql.Conn // the one connection of ours, for as long as the bridge is open
	opt   Options
	log   *slog.Logger
	stmts map[string]*sql.Stmt // prepared on conn
	fence *fence               // nil: only inspecting

	own     crdt.Origin // under which the replica writes
	origins originTable
	tables  map[string]*stored // every table that ever had a row
	byTbl   map[int64]*stored
	catalog map[string]*table // tracked tables that can take rows, by name
	reshow  map[string]bool   // tables to be shown anew, whole, at the next commit
	mine    map[string]bool   // of these: tables whose own rows stay, to be captured next
	nextRow int64             // number of the next new row
	order   rowOrder          // of the large transaction that a session is in the middle of

	modeBefore    string // journal mode that was found at open
	schemaVersion int64
	told          []string // tables that are not tracked, of which the log has a line
	dataVersion   int64
	capturedAt    int64 // the data_version of the last round that left the outbox empty: while it stands nobody has written; -1: none
	nonce         int64 // written into the file at open: it changes if another file takes its place
	commits       int64 // rounds committed
	keptLocal     map[string]int64
	driftDue      bool
	listBytes     int // see the constants, also for the next two
	heldEntries   int
	partRows      int
	counted       int64         // the last entry of the outbox that was counted in keptLocal
	ready         bool          // the replica holds its first copy, or has founded its group
	copying       bool          // there are rows of a first copy that is not whole
	ahead         *prepared     // for the next round
	ends          []int64       // entries of the outbox with which transactions of programs ended, in order
	captureRows   int           // entries that a capture of a part takes in
	busy          bool          // programs wrote between the last Prepare and its round
	take          Take          // what it said
	lockedAt      time.Time     // when the round under way got the write lock
	held          time.Duration // for how long the last round had it
	wal           walFile
	unsynced      bool // a sync of it failed: what was committed may not be on disk
	setBack       bool // the file was found in another state than this run had left it in
}

// Opened says what was found when the bridge was opened.
type Opened struct {
	NeedOrigin bool          // the file is a copy or was restored: it must not write under its former origin
	Message    string        // for people, where there is something to say
	Lease      hlc.Timestamp // own stamps must be greater than this
}

// Open pins a connection of db and makes our tables where there are none. The caller keeps db open until
// the bridge is closed.
func Open(ctx context.Context, db *sql.DB, opt Options) (*Bridge, Opened, error) {
	if opt.ClockExpr == "" {
		opt.ClockExpr = defaultClock
	}
	if opt.Now == nil {
		opt.Now = func() int64 { return time.Now().UnixMilli() }
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(opt.Path)
	if err != nil {
		return nil, Opened{}, fmt.Errorf("sqlbridge: %s: %w", opt.Path, err)
	}
	opt.Path = realPath(path)
	b := &Bridge{
		listBytes: listBytes, heldEntries: cmp.Or(opt.HeldEntries, heldEntries), partRows: partRows,
		db: db, opt: opt, log: opt.Logger, stmts: map[string]*sql.Stmt{}, tables: map[string]*stored{}, byTbl: map[int64]*stored{},
		catalog: map[string]*table{}, reshow: map[string]bool{}, mine: map[string]bool{},
		keptLocal: map[string]int64{}, wal: walFile{sync: syncData},
	}
	if n := db.Stats().MaxOpenConnections; n == 1 {
		return nil, Opened{}, fmt.Errorf("sqlbridge: %s: the handle allows one connection, which the bridge would keep for itself: call db.SetMaxOpenConns(2) or more", opt.Path)
	}
	if b.conn, err = db.Conn(ctx); err != nil {
		return nil, Opened{}, fmt.Errorf("sqlbridge: open %s: %w", opt.Path, explain(opt.Path, err))
	}
	opened, err := b.open(ctx)
	if err != nil {
		b.Close()
		return nil, Opened{}, explain(opt.Path, err)
	}
	return b, opened, nil
}

func (b *Bridge) open(ctx context.Context) (Opened, error) {
	if err := b.check(ctx); err != nil {
		return Opened{}, err
	}
	if b.opt.Inspect {
		return Opened{}, b.reload(ctx)
	}
	var err error
	if !b.opt.Beside {
		if b.fence, err = lockFence(b.opt.Path); err != nil {
			return Opened{}, err
		}
	}
	if err := b.ensureTables(ctx); err != nil {
		return Opened{}, err
	}
	if err := b.reload(ctx); err != nil || b.opt.Beside {
		return Opened{}, err
	}
	return b.enter(ctx)
}

// check refuses what cannot work and sets up the connection.
func (b *Bridge) check(ctx context.Context) error {
	var version, file, encoding, mode string
	if err := b.conn.QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&version); err != nil {
		return explain(b.opt.Path, fmt.Errorf("sqlbridge: read %s: %w", b.opt.Path, err))
	}
	if err := b.conn.QueryRowContext(ctx, `SELECT coalesce(file, '') FROM pragma_database_list WHERE name = 'main'`).Scan(&file); err != nil {
		return fmt.Errorf("sqlbridge: %s: %w", b.opt.Path, err)
	}
	if file == "" {
		return fmt.Errorf("sqlbridge: %s: an in-memory database cannot be tracked, for nothing outside can see it: use a file", b.opt.Path)
	}
	if err := b.conn.QueryRowContext(ctx, `PRAGMA encoding`).Scan(&encoding); err != nil {
		return fmt.Errorf("sqlbridge: %s: %w", b.opt.Path, err)
	}
	if encoding != "UTF-8" {
		return fmt.Errorf("sqlbridge: %s keeps its text in %s, which sorts otherwise than on other peers: make a copy in UTF-8 (sqlite3 old.db .dump | sqlite3 new.db)", b.opt.Path, encoding)
	}
	if wal := file + "-wal"; wal != b.wal.path {
		_ = b.wal.Close()
		b.wal.path = wal
	}
	for _, p := range []string{ // commit syncs what synchronous=NORMAL does not
		fmt.Sprintf("busy_timeout=%d", lockRetry.Milliseconds()), "foreign_keys=OFF", "recursive_triggers=OFF", "synchronous=NORMAL", "temp_store=FILE", "cache_spill=ON",
		fmt.Sprintf("wal_autocheckpoint=%d", autocheckpoint),
	} {
		if _, err := b.conn.ExecContext(ctx, "PRAGMA "+p); err != nil {
			return fmt.Errorf("sqlbridge: %s: PRAGMA %s: %w", b.opt.Path, p, err)
		}
	}
	if err := b.conn.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&mode); err != nil {
		return fmt.Errorf("sqlbridge: %s: %w", b.opt.Path, err)
	}
	b.modeBefore = mode
	if mode == "wal" || b.opt.Inspect {
		return nil
	}
	b.log.Info("journal mode changed to WAL, which lets others read and write while the peer works", "database", b.opt.Path, "was", mode)
	return b.retry(ctx, func() error {
		var now string
		if err := b.conn.QueryRowContext(ctx, `PRAGMA journal_mode=WAL`).Scan(&now); err != nil {
			return err
		}
		if now != "wal" {
			return fmt.Errorf("sqlbridge: %s stays in journal mode %s: WAL needs a local disk and no other connection in a transaction", b.opt.Path, now)
		}
		return nil
	})
}

// retry calls f until it does not fail for a lock, or ctx ends.
func (b *Bridge) retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !isBusy(err) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("sqlbridge: %s: waiting for another program's transaction to end: %w", b.opt.Path, ctx.Err())
		}
	}
}

// tracked reports whether the file holds our tables.
func (b *Bridge) tracked(ctx context.Context) (bool, error) {
	var n int
	err := b.conn.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = '_rowmesh_meta'`).Scan(&n)
	return n > 0, err
}

func (b *Bridge) ensureTables(ctx context.Context) error {
	if have, err := b.tracked(ctx); err != nil || have {
		return err
	}
	return b.write(ctx, func() error {
		if have, err := b.tracked(ctx); err != nil || have {
			return err
		}
		for _, stmt := range ddl {
			if _, err := b.conn.ExecContext(ctx, stmt); err != nil {
				return fmt.Errorf("sqlbridge: make our tables in %s: %w", b.opt.Path, err)
			}
		}
		return errors.Join(b.setMeta(ctx, "format", format), b.setMeta(ctx, "journal_mode_before", b.modeBefore))
	})
}

// write runs f in one write transaction.
func (b *Bridge) write(ctx context.Context, f func() error) error {
	if err := b.retry(ctx, func() error { return b.exec(ctx, "BEGIN IMMEDIATE") }); err != nil {
		return err
	}
	if err := f(); err != nil {
		b.rollback()
		return err
	}
	return b.commit(ctx)
}

// commit ends the transaction and waits until it is on disk. What could not be synced can be seen all the same; see makeDurable.
func (b *Bridge) commit(ctx context.Context) error {
	if err := b.commitUnsynced(ctx); err != nil {
		return err
	}
	return b.sync()
}

// sync fails from the first failure on, until makeDurable: a later success says nothing of what the earlier one was to sync.
func (b *Bridge) sync() error {
	if b.unsynced {
		return &syncError{b.opt.Path, errors.New("an earlier sync failed")}
	}
	if err := b.wal.Sync(); err != nil {
		b.unsynced = true
		return &syncError{b.opt.Path, err}
	}
	return nil
}

func (b *Bridge) commitUnsynced(ctx context.Context) error {
	err := b.retry(ctx, func() error { return b.exec(ctx, "COMMIT") })
	if err != nil {
		b.rollback()
	}
	return err
}

// makeDurable moves the -wal into the database after a sync of it failed. To sync it once more would prove nothing: a system may count
// pages as written that it could not write (Rebello et al., Can Applications Recover from fsync Failures?, USENIX ATC 2020).
func (b *Bridge) makeDurable(ctx context.Context) error {
	if !b.unsynced {
		return nil
	}
	var busy, pages, moved int
	if err := b.conn.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &pages, &moved); err != nil {
		return fmt.Errorf("sqlbridge: %s: move what could not be synced into the database: %w", b.opt.Path, err)
	}
	if busy != 0 {
		return fmt.Errorf("sqlbridge: %s: after a sync that failed all that was committed is moved into the database, for which no other program may be in a transaction: waiting for one to end", b.opt.Path)
	}
	b.unsynced = false
	return nil
}

// rollback ends a transaction even where ctx has ended; it may already be over.
func (b *Bridge) rollback() { _ = b.exec(context.Background(), "ROLLBACK") }

// Close ends the connection: its settings are not for other users of the handle. A round that is open is lost.
func (b *Bridge) Close() error {
	var err error
	if b.conn != nil {
		b.closeStatements()
		if !b.opt.Inspect {
			_, _ = b.conn.ExecContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)")
		}
		err = b.wal.Close()
		drop(b.conn)
		b.conn = nil
	}
	return errors.Join(err, b.fence.release())
}

// closeStatements ends what is under way and the prepared statements.
func (b *Bridge) closeStatements() {
	b.rollback()
	for _, s := range b.stmts {
		s.Close()
	}
	clear(b.stmts)
}

// A statement that has begun runs to its end: ctx is looked at between statements. To watch it during each takes a goroutine
// or two, which is as much again as a small statement.

// stmt prepares a statement once.
func (b *Bridge) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := b.stmts[query]; s != nil {
		return s, nil
	}
	s, err := b.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("sqlbridge: prepare %s: %w", strings.Join(strings.Fields(query), " "), err)
	}
	b.stmts[query] = s
	return s, nil
}

func (b *Bridge) exec(ctx context.Context, query string, args ...any) error {
	s, err := b.stmt(ctx, query)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(context.WithoutCancel(ctx), args...)
	return err
}

func (b *Bridge) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := b.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(context.WithoutCancel(ctx), args...)
}

// one runs a query that gives one row, and scans it.
func (b *Bridge) one(ctx context.Context, query string, args []any, dest ...any) error {
	s, err := b.stmt(ctx, query)
	if err != nil {
		return err
	}
	return s.QueryRowContext(context.WithoutCancel(ctx), args...).Scan(dest...)
}

// inList makes the condition that a column is one of the last arguments, those after fixed others, of which there is at least one
// and at most readKeys. So that a few statements serve all numbers of them, the first is repeated up to the next width.
func inList(column string, args []any, fixed int) (condition string, padded []any) {
	width := readKeys
	for _, w := range [...]int{1, 8} {
		if len(args)-fixed <= w {
			width = w
			break
		}
	}
	for len(args)-fixed < width {
		args = append(args, args[fixed])
	}
	return column + " IN (" + marks(width) + ")", args
}

func (b *Bridge) setMeta(ctx context.Context, name string, value any) error {
	return b.exec(ctx, `INSERT INTO _rowmesh_meta VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value = excluded.value`, name, value)
}

// meta scans a remembered value; dest keeps its value where there is none.
func (b *Bridge) meta(ctx context.Context, name string, dest any) error {
	err := b.one(ctx, `SELECT value FROM _rowmesh_meta WHERE name = ?`, []any{name}, dest)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

func (b *Bridge) pragma(ctx context.Context, name string) (v int64, err error) {
	err = b.one(ctx, "PRAGMA "+name, nil, &v)
	return v, err
}

// Trim gives back the memory in which SQLite keeps pages.
func (b *Bridge) Trim(ctx context.Context) { _, _ = b.conn.ExecContext(ctx, "PRAGMA shrink_memory") }

// Poll reports whether somebody else may have written the database since the last round. It reads two
// numbers and takes no lock.
func (b *Bridge) Poll(ctx context.Context) (bool, error) {
	v, err := b.pragma(ctx, "data_version")
	if err != nil {
		return false, explain(b.opt.Path, err)
	}
	moved := v != b.dataVersion
	b.dataVersion = v
	if moved {
		b.noteLast(ctx)
	}
	return moved || b.driftDue && b.ready, nil // before, nothing is captured
}

// Reopen takes a new connection and looks at the file as Open did, after a round failed or the file turned out
// to be another one.
func (b *Bridge) Reopen(ctx context.Context) (Opened, error) {
	if _, _, err := fileID(b.opt.Path); errors.Is(err, os.ErrNotExist) { // SQLite would make an empty one
		return Opened{}, fmt.Errorf("sqlbridge: %s: %w", b.opt.Path, errGone)
	}
	if b.conn != nil {
		b.closeStatements()
		drop(b.conn)
	}
	for range b.db.Stats().Idle { // they may still be on the file that was here before
		if idle, err := b.db.Conn(ctx); err == nil {
			drop(idle)
		}
	}
	conn, err := b.db.Conn(ctx)
	if err != nil { // the connection that was dropped stays: it answers with an error
		return Opened{}, fmt.Errorf("sqlbridge: open %s: %w", b.opt.Path, explain(b.opt.Path, err))
	}
	b.conn = conn
	opened, err := b.reopen(ctx)
	return opened, explain(b.opt.Path, err)
}

// drop closes a connection for good, instead of giving it back to the pool.
func drop(c *sql.Conn) {
	_ = c.Raw(func(any) error { return driver.ErrBadConn })
	_ = c.Close()
}

func (b *Bridge) reopen(ctx context.Context) (Opened, error) {
	if err := b.check(ctx); err != nil {
		return Opened{}, err
	}
	if err := b.makeDurable(ctx); err != nil {
		return Opened{}, err
	}
	if err := b.ensureTables(ctx); err != nil {
		return Opened{}, err
	}
	b.schemaVersion = 0
	if err := b.reload(ctx); err != nil {
		return Opened{}, err
	}
	return b.enter(ctx)
}

// Path returns the absolute path of the database.
func (b *Bridge) Path() string { return b.opt.Path }

// originTable numbers origins, as the tables do.
type originTable struct {
	number map[crdt.Origin]uint64
	id     map[uint64]crdt.Origin
	fresh  []crdt.Origin // numbered since the last commit
}

// Number returns the number of an origin, a new one where it has none.
func (t *originTable) Number(o crdt.Origin) uint64 {
	n, ok := t.number[o]
	if !ok {
		n = uint64(len(t.number) + 1)
		t.number[o], t.id[n] = n, o
		t.fresh = append(t.fresh, o)
	}
	return n
}

// Origin returns the origin of a number.
func (t *originTable) Origin(n uint64) (crdt.Origin, bool) {
	o, ok := t.id[n]
	return o, ok
}

var _ replica.Store = (*Bridge)(nil)
