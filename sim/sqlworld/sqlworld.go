// Package sqlworld lets simulated machines keep their replicas in real SQLite files, in whose tables simulated programs write.
// The bridge with its triggers, capture and projection is the one that users run; time is the simulator's.
//
//	lab, err := sqlworld.NewLab(sim.Schema)
//	defer lab.Close()
//	r := sim.Run(c, sim.Options{SQL: lab.Medium})
package sqlworld

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver

	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/sim"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// clockTable holds the wall time of the program that writes, for the triggers to read.
const clockTable = "_rowmesh_clock"

// Lab makes databases in a directory of its own, in memory where the system has such a place.
type Lab struct {
	dir    string
	schema []string
	n      int
	media  []*medium
}

// NewLab returns a Lab whose first database in each group is made by the statements of schema; the others get their tables
// from it.
func NewLab(schema []string) (*Lab, error) {
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "rowmesh-sim-")
	if err != nil {
		return nil, fmt.Errorf("sqlworld: %w", err)
	}
	return &Lab{dir: dir, schema: schema}, nil
}

// Medium returns a new, empty database.
func (l *Lab) Medium() sim.SQL {
	l.n++
	m := &medium{lab: l, path: filepath.Join(l.dir, fmt.Sprintf("%d.db", l.n))}
	l.media = append(l.media, m)
	return m
}

// Close closes all databases and removes them.
func (l *Lab) Close() error {
	for _, m := range l.media {
		m.close()
	}
	return os.RemoveAll(l.dir)
}

// medium is one database file, with the bridge on it while the machine runs.
type medium struct {
	lab    *Lab
	path   string
	wall   func() int64
	users  *sql.DB // as programs use it
	peer   *sql.DB // the bridge's own
	bridge *sqlbridge.Bridge
	opened sqlbridge.Opened
	copied fence // of a copy: what the fence of its original said, and how many rounds it holds itself

	forms   map[string]*form // of the users' tables ...
	version any              // ... at this version of the schema
	sim.Trouble
}

func (m *medium) Clock(wall func() int64) { m.wall = wall }

// Empty returns another, empty database.
func (m *medium) Empty() sim.Medium { return m.lab.Medium() }

func (m *medium) Set(t sim.Trouble) { m.Trouble = t }

// Open opens the bridge, as the start of a peer does.
func (m *medium) Open() (replica.Store, error) {
	if err := m.kill(); err != nil {
		return nil, err
	}
	ctx := context.Background()
	if _, err := m.program(); err != nil {
		return nil, err
	}
	var err error
	if m.peer, err = sql.Open("sqlite", m.path); err != nil {
		return nil, err
	}
	m.bridge, m.opened, err = sqlbridge.Open(ctx, m.peer, sqlbridge.Options{
		CaptureRows: 2, HeldEntries: 6,
		Path: m.path, Now: m.wall, ClockExpr: "(SELECT ms FROM " + clockTable + ")",
	})
	if err != nil {
		return nil, errors.Join(err, m.peer.Close())
	}
	return &store{m.bridge, m}, nil
}

// program returns the handle of the machine's programs.
func (m *medium) program() (*sql.DB, error) {
	if m.users != nil {
		return m.users, nil
	}
	db, err := sql.Open("sqlite", m.path)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	for _, q := range []string{"PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "PRAGMA foreign_keys=ON",
		"CREATE TABLE IF NOT EXISTS " + clockTable + "(ms)", "INSERT INTO " + clockTable + " SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM " + clockTable + ")"} {
		if _, err := db.Exec(q); err != nil {
			return nil, errors.Join(fmt.Errorf("sqlworld: %s: %w", q, err), db.Close())
		}
	}
	m.users = db
	return db, nil
}

// kill ends the bridge as SIGKILL ends a process: nothing is written any more, and what was not committed is gone. Programs go on.
func (m *medium) kill() error {
	if m.bridge == nil {
		return nil
	}
	before, err := m.files()
	if err != nil {
		return err
	}
	m.close()
	return m.put(before)
}

// Discard closes the database and removes it.
func (m *medium) Discard() {
	m.close()
	_ = m.put(nil)
	_ = os.RemoveAll(sqlbridge.Dir(m.path))
}

func (m *medium) close() {
	if m.bridge != nil {
		_ = m.bridge.Close()
		_ = m.peer.Close()
	}
	if m.users != nil {
		_ = m.users.Close()
	}
	m.bridge, m.peer, m.users, m.forms = nil, nil, nil, nil
}

// suffixes are those of the files that make up a database.
var suffixes = []string{"", "-wal"}

// files reads what is on the disk.
func (m *medium) files() (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, s := range suffixes {
		b, err := os.ReadFile(m.path + s)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err == nil {
			out[s] = b
		}
	}
	return out, nil
}

// put writes the files back in their place. Nobody has them open.
func (m *medium) put(files map[string][]byte) error {
	for _, s := range append(suffixes, "-shm") {
		var err error
		if b, ok := files[s]; ok {
			err = os.WriteFile(m.path+s, b, 0o600)
		} else {
			err = os.Remove(m.path + s)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Crash stops the peer. What is committed stays: the bridge syncs what it commits.
func (m *medium) Crash(*rand.Rand) {
	if err := m.kill(); err != nil {
		panic(err) // the lab's own directory is gone
	}
	m.Trouble = sim.Trouble{}
}

// Copy copies the files of the database, without what lies beside it.
func (m *medium) Copy() sim.Medium {
	files, err := m.files()
	c := m.lab.Medium().(*medium)
	if c.copied = m.fence(); c.copied.Token == 0 {
		c.copied = m.copied
	} else if rounds, err := m.Query(`SELECT value FROM _rowmesh_meta WHERE name = 'commits'`); err == nil && len(rounds) > 0 {
		c.copied.Commits = rounds[0][0].(int64)
	}
	if err == nil {
		err = c.put(files)
	}
	if err != nil {
		panic(err)
	}
	return c
}

// fence is of the fence of a database: the two tokens that it accepts, and how many rounds there must be at least.
type fence struct{ Token, Before, Commits int64 }

func (m *medium) fence() (f fence) {
	b, _ := os.ReadFile(filepath.Join(sqlbridge.Dir(m.path), "fence"))
	_ = json.Unmarshal(b, &f)
	return f
}

// Replace puts this database where another was, into the same file. Where the fence still accepts the token of the copy, which
// it does for seconds, nobody could tell: then the copy lies elsewhere, without a fence.
func (m *medium) Replace(old sim.Medium) {
	if o := old.(*medium); !m.accepted(o) {
		m.move(o)
	}
}

// SetBack puts this database where another was, if the fence there accepts it.
func (m *medium) SetBack(old sim.Medium) bool {
	o := old.(*medium)
	if m.copied.Token == 0 || !m.accepted(o) {
		return false
	}
	m.move(o)
	return true
}

// accepted reports whether the fence of a database takes this one for it.
func (m *medium) accepted(o *medium) bool {
	f := o.fence()
	return (m.copied.Token == f.Token || m.copied.Token == f.Before) && m.copied.Commits >= f.Commits
}

func (m *medium) move(o *medium) {
	files, err := m.files()
	o.close()
	m.close()
	m.path = o.path
	if err == nil {
		err = m.put(files)
	}
	if err != nil {
		panic(err)
	}
}

func (m *medium) Found() (bool, hlc.Timestamp) { return m.opened.NeedOrigin, m.opened.Lease }

// Track makes the tables, as the programs of the founder do, and captures them.
func (m *medium) Track() error {
	stmts := make([]sim.Statement, len(m.lab.schema))
	for i, q := range m.lab.schema {
		stmts[i].Query = q
	}
	if err := m.Exec(stmts...); err != nil {
		return err
	}
	_, err := m.bridge.Track(context.Background(), nil, false)
	return err
}

// Prepare reads ahead, where the bridge is open.
func (m *medium) Prepare(part bool) (more bool, err error) {
	if m.bridge == nil {
		return false, nil
	}
	take := sqlbridge.TakeAll
	if part {
		take = sqlbridge.TakePart
	}
	return m.bridge.Prepare(context.Background(), take)
}

// store fails where the simulator says so.
type store struct {
	*sqlbridge.Bridge
	m *medium
}

func (s *store) Begin(ctx context.Context) (replica.Round, error) {
	if s.m.strikes(3) {
		return nil, s.m.strike()
	}
	r, err := s.Bridge.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &round{r, s.m}, nil
}

type round struct {
	replica.Round
	m *medium
}

func (r *round) Capture() (replica.Drain, error) {
	if r.m.strikes(2) {
		return replica.Drain{}, r.m.strike()
	}
	return r.Round.Capture()
}

// Commit fails before or after what it does, or does it.
func (r *round) Commit(b replica.Batch) error {
	if r.m.Full {
		return sim.ErrFull
	}
	if r.m.strikes(1) {
		return r.m.strike()
	}
	if err := r.Round.Commit(b); err != nil {
		return err
	}
	if r.m.strikes(0) {
		return r.m.strike()
	}
	return nil
}

// strikes reports whether the armed fault is to happen at this of the four places in a round.
func (m *medium) strikes(place int64) bool {
	n := max(m.StopAfter, m.FailAfter)
	return n > 0 && n%4 == place
}

// strike disarms the fault and returns its error.
func (m *medium) strike() error {
	err := sim.ErrIO
	if m.StopAfter > 0 {
		err = sim.ErrStopped
	}
	m.Trouble = sim.Trouble{}
	return err
}

var _ sim.SQL = (*medium)(nil)
var _ sim.Damager = (*medium)(nil)
