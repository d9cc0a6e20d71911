package main

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowmesh/rowmesh/examples/chinook"
)

// writer is a program that writes a database in plain SQL: it runs one statement and tells how many rows it
// changed.
type writer interface {
	run(query string) (changed int)
}

// shell drives a process that reads a statement a line and prints the total number of changes after it.
type shell struct {
	t     *testing.T
	in    io.Writer
	out   *bufio.Scanner
	total int
	frame func(string) string
}

func (s *shell) run(query string) int {
	if _, err := io.WriteString(s.in, s.frame(query)); err != nil {
		s.t.Errorf("write to a shell: %v", err)
		return 0
	}
	for s.out.Scan() {
		if n, ok := strings.CutPrefix(s.out.Text(), "total "); ok {
			total, err := strconv.Atoi(n)
			if err != nil {
				s.t.Error(err)
			}
			changed := total - s.total
			s.total = total
			return changed
		}
	}
	s.t.Errorf("the shell ended at: %s", query)
	return 0
}

func startShell(t *testing.T, frame func(string) string, name string, args ...string) *shell {
	t.Helper()
	c := exec.Command(name, args...)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = c.Wait() })
	return &shell{t: t, in: in, out: bufio.NewScanner(out), frame: frame}
}

func sqliteShell(t *testing.T, db string) writer {
	s := startShell(t, func(q string) string { return q + ";\nSELECT 'total ' || total_changes();\n" }, requireTool(t, "sqlite3"), "-list", db)
	s.run("PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=10000")
	return s
}

const pythonLoop = `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
db.execute("PRAGMA synchronous=NORMAL")
for line in sys.stdin:
    try:
        db.execute(line)
    except sqlite3.IntegrityError:
        pass
    print("total", db.total_changes, flush=True)
`

func pythonShell(t *testing.T, db string) writer {
	return startShell(t, func(q string) string { return q + "\n" }, requireTool(t, "python3"), "-c", pythonLoop, db)
}

type goWriter struct {
	t  *testing.T
	db *sql.DB
}

func (g goWriter) run(query string) int {
	res, err := g.db.Exec(query)
	if err != nil {
		if !strings.Contains(err.Error(), "constraint failed") {
			g.t.Errorf("%s: %v", query, err)
		}
		return 0
	}
	n, _ := res.RowsAffected()
	return int(n)
}

// edit is an acknowledged statement in terms of one row.
type edit struct {
	at    time.Time
	table string
	key   string
	kind  string // insert, update, delete, replace, move
	col   string
	val   string
	to    string // key after a move
}

// fold is the oracle: it replays the acknowledged statements of both sides in order of time, as one database
// would have seen them, and knows nothing of merging. An update of a row that is gone changes nothing.
func fold(edits []edit, base map[string]map[string]map[string]string) {
	slices.SortStableFunc(edits, func(x, y edit) int { return x.at.Compare(y.at) })
	for _, e := range edits {
		rows := base[e.table]
		switch e.kind {
		case "insert", "replace":
			rows[e.key] = map[string]string{"a": e.val, "b": "'" + e.val + "'", "c": "NULL"}
		case "update":
			if row := rows[e.key]; row != nil {
				row[e.col] = e.val
			}
		case "delete":
			delete(rows, e.key)
		case "move":
			rows[e.to] = rows[e.key]
			delete(rows, e.key)
		}
	}
}

// side is one database with three programs on it. Each key is written by one of them, so that the order of
// its statements is known.
type side struct {
	name    string
	db      *sql.DB
	writers []writer
	mu      sync.Mutex
	edits   []edit
	count   int
}

func (s *side) log(e edit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.edits = append(s.edits, e)
}

// tortureSchema has the kinds of keys. Its three tables have the same other columns, so that one generator
// serves all. account is the hard one: two UNIQUE columns, a CHECK, a reference to itself that cascades.
const tortureSchema = `
CREATE TABLE note(id TEXT PRIMARY KEY, a, b, c);
CREATE TABLE num(id INTEGER PRIMARY KEY AUTOINCREMENT, a, b, c);
CREATE TABLE flat(id TEXT PRIMARY KEY, a, b, c) WITHOUT ROWID;
CREATE TABLE pair(x INTEGER, y TEXT, a, b, c, PRIMARY KEY(x, y));
CREATE TABLE account(id TEXT PRIMARY KEY, email TEXT UNIQUE, handle TEXT UNIQUE COLLATE NOCASE, age INTEGER CHECK(age >= 0),
	boss TEXT REFERENCES account(id) ON DELETE CASCADE) WITHOUT ROWID;
`

func keyOfTable(table string, n int) (key, where string, cols string) {
	switch table {
	case "num":
		return fmt.Sprint(n), fmt.Sprintf("id = %d", n), "id"
	case "pair":
		return fmt.Sprintf("%d,'y%d'", n%7, n), fmt.Sprintf("x = %d AND y = 'y%d'", n%7, n), "x, y"
	}
	return fmt.Sprintf("'k%d'", n), fmt.Sprintf("id = 'k%d'", n), "id"
}

// write makes one random statement on a row. Shared rows are written by both sides, in turn.
func (s *side) write(rng *rand.Rand, w writer, n int, shared bool) {
	table := []string{"note", "num", "flat", "pair"}[n%4]
	key, where, cols := keyOfTable(table, n)
	e := edit{table: table, key: key, val: fmt.Sprint(rng.IntN(1e6))}
	var query string
	switch p := rng.IntN(20); {
	case p < 6:
		e.kind = "insert"
		query = fmt.Sprintf("INSERT INTO %s(%s, a, b, c) VALUES(%s, %s, '%s', NULL)", table, cols, key, e.val, e.val)
	case p < 8:
		e.kind = "insert"
		query = fmt.Sprintf("INSERT OR REPLACE INTO %s(%s, a, b, c) VALUES(%s, %s, '%s', NULL)", table, cols, key, e.val, e.val)
	case p < 15:
		e.kind, e.col = "update", []string{"a", "b", "c"}[rng.IntN(3)]
		query = fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s", table, e.col, e.val, where)
	case p < 16 && !shared && table == "note":
		e.kind, e.to = "move", fmt.Sprintf("'%s-m%d'", s.name, rng.Int())
		query = fmt.Sprintf("UPDATE note SET id = %s WHERE %s", e.to, where)
	default:
		e.kind = "delete"
		query = fmt.Sprintf("DELETE FROM %s WHERE %s", table, where)
	}
	changed := w.run(query)
	e.at = time.Now()
	if changed > 0 {
		s.log(e)
	}
	s.mu.Lock()
	s.count++
	s.mu.Unlock()
}

// disturb makes a statement whose outcome the fold does not predict: only that both sides agree on it.
func disturb(rng *rand.Rand, w writer) {
	id := fmt.Sprintf("'p%d'", rng.IntN(40))
	switch rng.IntN(6) {
	case 0, 1:
		w.run(fmt.Sprintf("INSERT OR REPLACE INTO account VALUES(%s, 'm%d', 'H%d', %d, 'p%d')", id, rng.IntN(30), rng.IntN(30), rng.IntN(90), rng.IntN(40)))
	case 2:
		w.run(fmt.Sprintf("UPDATE OR REPLACE account SET handle = 'h%d' WHERE id = %s", rng.IntN(30), id))
	case 3:
		w.run(fmt.Sprintf("INSERT INTO account VALUES(%s, 'm%d', 'h%d', 1, NULL) ON CONFLICT DO UPDATE SET age = age + 1", id, rng.IntN(30), rng.IntN(30)))
	case 4:
		w.run(fmt.Sprintf("UPDATE OR IGNORE account SET email = 'm%d' WHERE id = %s", rng.IntN(30), id))
	default:
		w.run("DELETE FROM account WHERE id = " + id)
	}
	w.run(fmt.Sprintf("UPDATE Track SET UnitPrice = UnitPrice + 0.01, Composer = 'c%d' WHERE TrackId = %d", rng.IntN(100), 1+rng.IntN(200)))
	w.run(fmt.Sprintf("DELETE FROM PlaylistTrack WHERE PlaylistId = 1 AND TrackId = %d", rng.IntN(3000)))
}

// TestTwoDatabasesUnderFire: M3-1, M3-2, M3-3, L-21, P1, P14. Three programs on each side (the sqlite3 shell,
// Python and Go) write at once while the link is cut and healed 20 times. Every fifth row is written by both
// sides. The tables must be what an independent fold of the acknowledged statements predicts, on both.
func TestTwoDatabasesUnderFire(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	a, b, link, _, _ := twoPeers(t, func(db *sql.DB) {
		if _, err := chinook.Load(db); err != nil {
			t.Fatal(err)
		}
		mustExec(t, db, tortureSchema)
	})
	var sides []*side
	for i, path := range []string{a, b} {
		db := openTestDB(t, path)
		sides = append(sides, &side{name: string(rune('a' + i)), db: db, writers: []writer{sqliteShell(t, path), pythonShell(t, path), goWriter{t, db}}})
	}
	const epochs, perEpoch, rows = 20, 90, 400
	for epoch := range epochs {
		if epoch%2 == 0 {
			link.cut()
		} else {
			link.heal()
		}
		fire(sides, epoch, perEpoch, rows)
		for _, s := range sides {
			requireCaptured(t, s.db)
		}
	}
	link.heal()
	if out, code := peerOutput(t, "sync", a, "--timeout", "60s"); code != 0 {
		t.Fatal(out)
	}
	requireSame(t, a, b)
	total := sides[0].count + sides[1].count
	t.Logf("%d statements, %d acknowledged with effect", total, len(sides[0].edits)+len(sides[1].edits))
	if total < 10_000 {
		t.Errorf("only %d statements", total)
	}
	compareWithFold(t, sides)
	for _, table := range append([]string{"account"}, chinook.Tables...) {
		if x, y := dumpTable(t, sides[0].db, table), dumpTable(t, sides[1].db, table); x != y {
			t.Errorf("table %s differs\n%s\n%s", table, x, y)
		}
	}
	const parked = `SELECT "table" || ' ' || key || ' ' || reason || ' ' || coalesce(blocked_by, '') FROM rowmesh_parked ORDER BY 1`
	if x, y := queryText(t, sides[0].db, parked), queryText(t, sides[1].db, parked); x != y {
		t.Errorf("parked rows differ\n%s\n--\n%s", x, y)
	}
	for _, s := range sides {
		if got := queryText(t, s.db, "PRAGMA integrity_check"); got != "ok" {
			t.Errorf("side %s: %s", s.name, got)
		}
	}
}

// requireCaptured waits until the peer has taken in all that was written. What is written from then on has a
// later stamp: a drain gives all statements of one burst, which has no pause of a second, the time of its last.
func requireCaptured(t *testing.T, db *sql.DB) {
	t.Helper()
	deadline := time.Now().Add(testPatience)
	for queryText(t, db, "SELECT count(*) FROM _rowmesh_outbox") != "0" {
		if time.Now().After(deadline) {
			t.Fatal("the peer does not take in what was written")
		}
	}
}

// fire lets all programs write for one epoch. A shared row belongs to one side in an epoch.
func fire(sides []*side, epoch, perEpoch, rows int) {
	var wg sync.WaitGroup
	start := time.Now()
	for si, s := range sides {
		for wi, w := range s.writers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				rng := rand.New(rand.NewPCG(uint64(epoch), uint64(si*10+wi)))
				for i := 0; i < perEpoch || time.Since(start) < time.Second; i++ {
					n := rng.IntN(rows)*3 + wi
					shared := rng.IntN(5) == 0
					if shared && (n/3+epoch)%2 != si {
						n += 3 // the neighbour is this side's in this epoch
					}
					if !shared {
						n += (si + 1) * 10_000_000
					}
					s.write(rng, w, n, shared)
					if i%4 == 0 && i < perEpoch {
						disturb(rng, w)
					}
				}
			}()
		}
	}
	wg.Wait()
}

func compareWithFold(t *testing.T, sides []*side) {
	t.Helper()
	want := map[string]map[string]map[string]string{"note": {}, "num": {}, "flat": {}, "pair": {}}
	fold(slices.Concat(sides[0].edits, sides[1].edits), want)
	for _, s := range sides {
		for table, rows := range want {
			key := "quote(id)"
			if table == "pair" {
				key = "x || ',' || quote(y)"
			}
			got := map[string]string{}
			for line := range strings.SplitSeq(queryText(t, s.db, "SELECT "+key+" || char(9) || quote(a) || ' ' || quote(b) || ' ' || quote(c) FROM "+table), "\n") {
				k, v, _ := strings.Cut(line, "\t")
				got[k] = v
			}
			delete(got, "")
			bad := 0
			for k, row := range rows {
				w := row["a"] + " " + row["b"] + " " + row["c"]
				if got[k] != w {
					if bad++; bad < 5 {
						t.Errorf("side %s: %s %s is %q, the log says %q", s.name, table, k, got[k], w)
					}
				}
				delete(got, k)
			}
			for k := range got {
				if bad++; bad < 8 {
					t.Errorf("side %s: %s %s is there, and by the log it is not", s.name, table, k)
				}
			}
		}
	}
}

func dumpTable(t *testing.T, db *sql.DB, table string) string {
	t.Helper()
	var parts []string
	for c := range strings.SplitSeq(queryText(t, db, "SELECT name FROM pragma_table_info('"+table+"') ORDER BY name"), "\n") {
		parts = append(parts, "quote("+c+") || typeof("+c+")")
	}
	return queryText(t, db, "SELECT "+strings.Join(parts, "||'|'||")+" FROM "+table+" ORDER BY 1")
}
