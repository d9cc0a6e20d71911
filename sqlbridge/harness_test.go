package sqlbridge

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// side is one database with a real replica on it. The frames between two sides are carried by hand, on a
// clock that stands still unless a test moves it.
type side struct {
	t      testing.TB
	name   byte
	path   string
	db     *sql.DB // as a program uses it
	peerDB *sql.DB // the bridge's own handle
	b      *Bridge
	r      *replica.Replica
	now    *int64
	in     []replica.Input
	out    []replica.Frame
	opt    Options
	put    int    // replica.Config.PutRows
	watch  func() // called after each round; nil: not
}

func openDB(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// newSide makes a database, lets a program run the schema, and starts a replica on it.
func newSide(t testing.TB, name byte, now *int64, schema string, opt Options) *side {
	t.Helper()
	s := &side{t: t, name: name, path: filepath.Join(t.TempDir(), string(name)+".db"), now: now, opt: opt}
	s.db = openDB(t, s.path)
	if schema != "" {
		s.exec(schema)
	}
	s.start(name == 'a')
	return s
}

var incarnation byte

// streamed has all that programs write in one go captured page by page, in small parts.
var streamed bool

// bothWays runs a test with entries of the outbox that are held in memory, and with more than are held.
func bothWays(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	defer func() { streamed = false }()
	for _, way := range []string{"held", "streamed"} {
		streamed = way == "streamed"
		t.Run(way, f)
	}
}

func (s *side) start(found bool) {
	s.t.Helper()
	s.opt.Path = s.path
	if streamed {
		s.opt.HeldEntries, s.put = 1, 5
	}
	s.peerDB = openDB(s.t, s.path)
	b, opened, err := Open(context.Background(), s.peerDB, s.opt)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { b.Close() })
	s.b = b
	if streamed {
		b.partRows = 7
	}
	incarnation++
	cfg := replica.Config{NewOrigin: crdt.Origin{s.name, incarnation, 1}, NeedOrigin: opened.NeedOrigin, After: opened.Lease, PutRows: s.put}
	if found {
		cfg.NewGroup = replica.GroupID{1}
		if _, err := b.Track(context.Background(), s.opt.Tables, false); err != nil {
			s.t.Fatal(err)
		}
	}
	err = b.Read(context.Background(), func(v replica.View) error {
		s.r, err = replica.New(cfg, v)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.in, s.out = nil, nil
	s.round()
}

// stop ends the replica in order, as Ctrl-C does.
func (s *side) stop() {
	s.t.Helper()
	if err := s.b.Leave(); err != nil {
		s.t.Fatal(err)
	}
	s.b.Close()
	s.peerDB.Close()
}

func (s *side) Send(_ replica.LinkID, f replica.Frame) { s.out = append(s.out, f) }
func (s *side) CloseLink(_ replica.LinkID, err error) {
	s.t.Fatalf("side %c closed the link: %v", s.name, err)
}
func (s *side) Show(replica.Batch) {}

func (s *side) round() {
	s.t.Helper()
	in := s.in
	s.in = nil
	if err := replica.Process(context.Background(), s.b, s.r, replica.Instant{Wall: time.Now().UnixMilli(), Mono: *s.now}, true, in, s); err != nil {
		s.t.Fatalf("side %c: %v", s.name, err)
	}
	if s.watch != nil {
		s.watch()
	}
}

// sync connects two sides, carries their frames until both are silent, and takes the link down.
func sync(t *testing.T, a, b *side) {
	t.Helper()
	*a.now++
	link := replica.LinkID(*a.now)
	for _, s := range []*side{a, b} {
		s.out = nil
		s.in = append(s.in, replica.Input{Up: &replica.LinkUp{Link: link, Peer: "other"}})
	}
	for i := 0; i < 200; i++ {
		a.round()
		b.round()
		quiet := len(a.out) == 0 && len(b.out) == 0
		b.take(a, link)
		a.take(b, link)
		*a.now += 60
		if quiet && i > 6 {
			a.in = append(a.in, replica.Input{Down: link})
			b.in = append(b.in, replica.Input{Down: link})
			return
		}
	}
	t.Fatal("two replicas do not fall silent")
}

// take gives a side the frames that another has sent.
func (s *side) take(from *side, link replica.LinkID) {
	for _, f := range from.out {
		s.in = append(s.in, replica.Input{From: link, Frame: &f})
	}
	from.out = nil
}

// meet links two sides for good.
func meet(x, y *side) {
	for _, s := range []*side{x, y} {
		s.in = append(s.in, replica.Input{Up: &replica.LinkUp{Link: 1, Peer: "other"}})
		s.round()
	}
	for range 20 {
		*x.now += 200
		y.take(x, 1)
		y.round()
		x.take(y, 1)
		x.round()
	}
}

func (s *side) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.db.Exec(query, args...); err != nil {
		s.t.Fatalf("side %c: %s: %v", s.name, query, err)
	}
}

// dump shows a table with storage classes, in order of its first columns.
func (s *side) dump(table string) string {
	s.t.Helper()
	cols, err := texts(context.Background(), s.db, `SELECT name FROM pragma_table_info(?) ORDER BY name`, table)
	if err != nil {
		s.t.Fatal(err)
	}
	parts := make([]string, len(cols))
	for i, c := range cols {
		parts[i] = fmt.Sprintf("coalesce(hex(%s), '') || ' ' || quote(%s) || ' ' || typeof(%s)", quote(c), quote(c), quote(c))
	}
	rows, err := texts(context.Background(), s.db, "SELECT "+strings.Join(parts, "||'|'||")+" FROM "+quote(table)+" ORDER BY 1")
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Join(rows, "\n")
}

func (s *side) query(q string) string {
	s.t.Helper()
	rows, err := texts(context.Background(), s.db, q)
	if err != nil {
		s.t.Fatalf("%s: %v", q, err)
	}
	return strings.Join(rows, "\n")
}

// requireEqual demands equal tables, equal merged state and tables that show it.
func requireEqual(t *testing.T, a, b *side, tables ...string) {
	t.Helper()
	for _, name := range tables {
		if x, y := a.dump(name), b.dump(name); x != y {
			t.Errorf("table %s differs\n--- a\n%s\n--- b\n%s", name, x, y)
		}
	}
	da, err1 := a.b.Digest(context.Background())
	db, err2 := b.b.Digest(context.Background())
	if err1 != nil || err2 != nil || da != db {
		t.Errorf("digests differ: %x %v and %x %v", da[:4], err1, db[:4], err2)
	}
	const parked = `SELECT "table" || key || reason || coalesce(blocked_by, '-') FROM rowmesh_parked ORDER BY 1`
	if x, y := a.query(parked), b.query(parked); x != y {
		t.Errorf("parked rows differ\n--- a\n%s\n--- b\n%s", x, y)
	}
	for _, s := range []*side{a, b} {
		diffs, err := s.b.Verify(context.Background())
		if err != nil || len(diffs) > 0 {
			t.Errorf("side %c: tables are not the merged state: %v %v", s.name, diffs, err)
		}
		if s.query("PRAGMA integrity_check") != "ok" {
			t.Errorf("side %c: integrity check failed", s.name)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}
