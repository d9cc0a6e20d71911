package sqlbridge

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// numbers are the rows 1 to n.
func numbers(n int) string {
	return fmt.Sprintf(`(WITH RECURSIVE g(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM g WHERE value < %d) SELECT value FROM g)`, n)
}

// captured returns the groups of a capture, which is then given up, and the most operations of a part.
func (s *side) captured() (groups []string, most int) {
	s.t.Helper()
	r, err := s.b.Begin(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Abort()
	d, err := r.Capture()
	for _, g := range d.Groups {
		text := ""
		if err == nil {
			err = g.Each(func(part []crdt.Op) error {
				most = max(most, len(part))
				for _, op := range part {
					text += fmt.Sprintf("%s %s %s", op.Kind, op.Table, op.Key)
					for _, set := range op.Sets {
						text += fmt.Sprintf(" %s=%s", set.Column, set.Value)
					}
					text += "\n"
				}
				return nil
			})
		}
		if text != "" {
			groups = append(groups, fmt.Sprintf("at %d\n%s", g.WallMillis, text))
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return groups, most
}

// TestStreamedCaptureIsTheSame: what programs wrote while no replica ran makes the same groups, with the same times and operations,
// whether its entries are held in memory or more than that.
func TestStreamedCaptureIsTheSame(t *testing.T) {
	const clock = `CREATE TABLE _rowmesh_clock(ms); INSERT INTO _rowmesh_clock VALUES(1000);`
	for _, c := range oneSided {
		t.Run(c.name, func(t *testing.T) {
			schema := c.schema
			if schema == "" {
				schema = oneSided[0].schema
			}
			now, all := int64(1000), [2][]string{}
			for i, most := range []int{0, 1} {
				s := newSide(t, 'a', &now, clock+schema, Options{ClockExpr: "(SELECT ms FROM _rowmesh_clock)", HeldEntries: most})
				s.db.SetMaxOpenConns(1)
				s.b.partRows = 100
				for _, turn := range c.turns {
					s.exec(`UPDATE _rowmesh_clock SET ms = ms + 1001`)
					s.exec(series(turn))
				}
				var part int
				if all[i], part = s.captured(); part > s.b.partRows {
					t.Errorf("a part has %d operations", part)
				}
			}
			if !slices.Equal(all[0], all[1]) {
				t.Errorf("held in memory:\n%s\nstreamed:\n%s", strings.Join(all[0], ""), strings.Join(all[1], ""))
			}
		})
	}
}

// TestStreamedCaptureHoldsNoRows: of a transaction that is larger than what is held nothing is read ahead, and nothing but parts is
// in memory.
func TestStreamedCaptureHoldsNoRows(t *testing.T) {
	now := int64(0)
	s := newSide(t, 'a', &now, `CREATE TABLE t(id INTEGER PRIMARY KEY, v)`, Options{HeldEntries: 100, CaptureRows: 10})
	s.put, s.b.partRows = 50, 50
	s.exec(`INSERT INTO t VALUES(-1, 0)`)
	if _, err := s.b.Poll(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.exec(`INSERT INTO t SELECT value, value FROM ` + numbers(3000))
	if _, err := s.b.Poll(context.Background()); err != nil {
		t.Fatal(err)
	}
	prepare := func(want bool) {
		t.Helper()
		if more, err := s.b.Prepare(context.Background(), TakePart); err != nil || more != want {
			t.Fatalf("prepare: more is %v, %v; expected %v", more, err, want)
		}
	}
	prepare(true) // the first transaction is a part
	if n, m := len(s.b.ahead.hints), len(s.b.ahead.named); n != 100 || m != 100 || s.b.ahead.entries() != 3001 {
		t.Errorf("%d entries are held, which name %d rows; %d were read", n, m, s.b.ahead.entries())
	}
	s.round()
	if got := s.query(`SELECT count(*) FROM _rowmesh_outbox`); got != "3000" {
		t.Errorf("%s entries wait after the part", got)
	}
	prepare(false)
	if s.b.ahead != nil {
		t.Error("something was read ahead")
	}
	before := s.r.Counters().BlocksWritten
	rv, err := s.b.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r := &watchedRound{round: rv.(*round)}
	d, err := r.Capture()
	if err == nil {
		_, err = s.r.Write(r, replica.Instant{}, d)
	}
	if err == nil {
		err = r.Commit(s.r.Ready().Batch)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r.most > 50 || r.puts < 3000/50-1 || r.memo > 200 || r.ahead != nil {
		t.Errorf("%d rows were put at once, in %d puts; %d rows were kept", r.most, r.puts, r.memo)
	}
	if n := s.r.Counters().BlocksWritten - before; n != 1 {
		t.Errorf("one transaction became %d blocks", n)
	}
	if got := s.query(`SELECT count(*) FROM _rowmesh_outbox`); got != "0" {
		t.Errorf("%s entries wait", got)
	}
	var left int
	if err := s.b.conn.QueryRowContext(context.Background(), `SELECT count(*) FROM sqlite_temp_schema`).Scan(&left); err != nil || left > 0 {
		t.Errorf("%d temporary tables are left, %v", left, err)
	}
}

// watchedRound notes how much a capture hands on at once.
type watchedRound struct {
	*round
	most, puts, memo int
}

func (r *watchedRound) Put(rows []replica.RowChange) error {
	r.most, r.puts, r.memo = max(r.most, len(rows)), r.puts+1, max(r.memo, len(r.round.memo)+len(r.round.n))
	return r.round.Put(rows)
}

// TestStreamedCaptureIsAtomic: P1, P3. A kill right before the commit of a capture that was handed on in parts leaves nothing of it, and one
// right after leaves all. It arrives at others whole.
func TestStreamedCaptureIsAtomic(t *testing.T) {
	const rows = 6000 // more than SQLite keeps in its cache
	now := int64(1000)
	a := newSide(t, 'a', &now, `CREATE TABLE t(id INTEGER PRIMARY KEY, v, u UNIQUE)`, Options{HeldEntries: 100})
	b := newSide(t, 'b', &now, "", Options{})
	b.put = 500
	sync(t, a, b)
	a.b.partRows = 500
	a.exec(`INSERT INTO t SELECT value, printf('%200d', value), value FROM ` + numbers(rows))
	store := &killed{Store: a.b, path: a.path, to: t.TempDir()}
	in := replica.Instant{Wall: 1, Mono: now}
	if err := replica.Process(context.Background(), store, a.r, in, true, nil, a); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"before": "1|6000", "after": "6001|0"} { // with the definition of the table
		db := openDB(t, filepath.Join(store.to, name+".db"))
		got, err := texts(context.Background(), db, `SELECT (SELECT count(*) FROM _rowmesh_rows) || '|' || (SELECT count(*) FROM _rowmesh_outbox)`)
		if err != nil || got[0] != want {
			t.Errorf("killed %s the commit: %s, %v; expected %s", name, got, err, want)
		}
		if name == "before" {
			c := openCopy(t, 'c', &now, filepath.Join(store.to, name+".db"))
			c.round()
			if got := c.query(`SELECT count(*) FROM _rowmesh_rows`); got != "6001" {
				t.Errorf("started again after the kill, %s rows are stored", got)
			}
		}
	}
	seen := map[string]bool{}
	b.watch = func() { seen[b.query(`SELECT count(*) FROM t`)] = true }
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	if !seen["0"] || !seen["6000"] || len(seen) != 2 {
		t.Errorf("the other side showed %v rows", seen)
	}
}

// killed copies the database, as a kill would leave it, before and after each commit.
type killed struct {
	replica.Store
	path, to string
}

func (k *killed) Begin(ctx context.Context) (replica.Round, error) {
	r, err := k.Store.Begin(ctx)
	return &killedRound{r, k}, err
}

type killedRound struct {
	replica.Round
	k *killed
}

func (r *killedRound) Commit(b replica.Batch) error {
	k := r.k
	k.snapshot("before")
	err := r.Round.Commit(b)
	k.snapshot("after")
	return err
}

func (k *killed) snapshot(name string) {
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(k.path + suffix)
		if err == nil {
			err = os.WriteFile(filepath.Join(k.to, name+".db"+suffix), data, 0o600)
		}
		if err != nil {
			panic(err)
		}
	}
}

// TestCapturedBeforeItIsShown: P8. A column is added here whose values others wrote before, and in the same go a program writes more rows
// than one part has. The table is shown anew when all of them are captured, not after the first part.
func TestCapturedBeforeItIsShown(t *testing.T) { bothWays(t, capturedBeforeItIsShown) }

func capturedBeforeItIsShown(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t SELECT value, 0 FROM `+numbers(20))
	a.exec(`ALTER TABLE t ADD COLUMN d DEFAULT 0`)
	a.exec(`UPDATE t SET d = 7`)
	sync(t, a, b)
	b.exec(`ALTER TABLE t ADD COLUMN d DEFAULT 0`)
	b.exec(`UPDATE t SET v = id`)
	b.round()
	if got := b.query(`SELECT count(*) FROM t WHERE v = id AND d = 7`); got != "20" {
		t.Errorf("%s rows of 20 show what was written here and there", got)
	}
	sync(t, a, b)
	requireEqual(t, a, b, "t")
}

// TestCapturedRowsMakeRoom: P14. A row waits for a unique value; a program gives it up in a transaction that is captured in several parts,
// and takes another that is waited for.
func TestCapturedRowsMakeRoom(t *testing.T) { bothWays(t, capturedRowsMakeRoom) }

func capturedRowsMakeRoom(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE); INSERT INTO t SELECT value, value FROM `+numbers(20))
	a.exec(`UPDATE t SET u = 100 WHERE id = 1`)
	a.round()
	b.exec(`UPDATE t SET u = 100 WHERE id = 20`)
	sync(t, a, b)
	if got := b.query(`SELECT key FROM rowmesh_parked`); got != "20" {
		t.Fatalf("parked is %q", got)
	}
	b.exec(`UPDATE t SET u = u + 1000`)
	b.round()
	if got := b.query(`SELECT (SELECT u FROM t WHERE id = 20) || '|' || (SELECT count(*) FROM rowmesh_parked) || '|' || (SELECT count(*) FROM _rowmesh_claims)`); got != "100|0|0" {
		t.Errorf("the row that waited shows: %s", got)
	}
	sync(t, a, b)
	requireEqual(t, a, b, "t")
}

// TestGroupsAreBounded: of an outbox with more pauses than that, neighbouring runs share a group and the time of the last, everywhere as
// many.
func TestGroupsAreBounded(t *testing.T) {
	var line timeline
	const n = 15 * maxRuns
	for i := range int64(n) {
		line.add(hint{seq: i, ms: i * 2000})
		if len(line.runs) > maxRuns {
			t.Fatalf("%d runs after %d entries", len(line.runs), i+1)
		}
	}
	last := int64(-1)
	for _, r := range line.runs {
		if r.ms != r.seq*2000 || r.seq != min(last+16, n-1) {
			t.Fatalf("a run of entries %d to %d has the time %d", last+1, r.seq, r.ms)
		}
		last = r.seq
	}
	if last != n-1 {
		t.Errorf("the last run ends with entry %d", last)
	}
}
