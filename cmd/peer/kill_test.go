package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowmesh/rowmesh"
)

// soaking reports whether the long form of the tests is wanted.
func soaking() bool { return os.Getenv("ROWMESH_SOAK") == "1" }

// mortal is one database whose peer is killed again and again. Programs go on writing it all the while.
type mortal struct {
	t     *testing.T
	path  string
	args  []string
	cable *cable // on which the other side reaches it
	proc  *process

	mu    sync.Mutex
	acked []string // ids of the rows whose statement, or whose transaction, has returned
}

// start runs the peer and goes on at once.
func (m *mortal) start() {
	p := launchPeer(m.t, peerCommand(append([]string{"run", m.path, "-v", "--bind", "tcp://127.0.0.1:0"}, m.args...)...))
	m.proc = p
	go func() {
		for line := range p.said {
			if strings.HasPrefix(line, "listening ") {
				m.cable.moveTo(addrIn(line))
			}
		}
	}()
}

// die kills the peer, which must have been alive.
func (m *mortal) die() {
	select {
	case <-m.proc.ends:
		m.t.Fatalf("the peer of %s ended by itself:\n%s", filepath.Base(m.path), m.proc.text())
	default:
		m.proc.kill()
	}
}

func (m *mortal) log(ids ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acked = append(m.acked, ids...)
}

// append adds rows to the append-only table in one transaction, each with a shadow in another table.
func (m *mortal) append(db *sql.DB, who string, from, n int) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%s-%d", filepath.Base(m.path), who, from+i)
		if _, err := tx.Exec("INSERT INTO line(id, v) VALUES(?, ?)", ids[i], from+i); err != nil {
			return err
		}
	}
	if _, err := tx.Exec("INSERT INTO total(id, n) VALUES(?, ?) ON CONFLICT(id) DO UPDATE SET n = n + excluded.n", filepath.Base(m.path)+"-"+who, n); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	m.log(ids...)
	return nil
}

// keepWriting appends a few rows every few milliseconds until stop is closed.
func (m *mortal) keepWriting(who string, stop <-chan struct{}) {
	db := openTestDB(m.t, m.path)
	db.SetMaxOpenConns(1)
	tick := time.NewTicker(8 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		k := 1 + n%3
		if err := m.append(db, who, n, k); err != nil {
			m.t.Errorf("%s: a program could not write: %v", m.path, err)
			return
		}
		n += k
	}
}

const killSchema = `CREATE TABLE line(id TEXT PRIMARY KEY, v INTEGER); CREATE TABLE total(id TEXT PRIMARY KEY, n INTEGER)`

// newMortals makes two databases, the first of which has the tables, and two cables between them.
func newMortals(t *testing.T) (a, b *mortal) {
	dir := t.TempDir()
	a, b = &mortal{t: t, path: filepath.Join(dir, "a.db")}, &mortal{t: t, path: filepath.Join(dir, "b.db")}
	mustExec(t, openTestDB(t, a.path), killSchema)
	a.cable, b.cable = newCable(t, ""), newCable(t, "")
	ida, idb := peerID(t, a.path), peerID(t, b.path)
	a.args = []string{"--new", "--connect", b.cable.addr(idb)}
	b.args = []string{"--connect", a.cable.addr(ida)}
	return a, b
}

// TestKillAtAnyMoment: P3, P5, P14. Either of two peers is killed with SIGKILL at random moments, in its start,
// in rounds and in sessions, while programs on both sides write single rows and transactions of 20,000. It is
// started again on the same files and by the same command. In the end both sides hold exactly what was
// acknowledged, each row under the one origin of its writer: nothing was lost, nothing taken in twice.
func TestKillAtAnyMoment(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	kills := 100
	if soaking() {
		kills = 1000
	}
	a, b := newMortals(t)
	sides := []*mortal{a, b}
	a.start()
	a.proc.awaitText("ready ")
	b.start()
	b.proc.awaitText("ready ")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	stop := make(chan struct{})
	var writers sync.WaitGroup
	write := func(f func()) { writers.Add(1); go func() { defer writers.Done(); f() }() }
	for _, m := range sides {
		write(func() { m.keepWriting("x", stop) })
		write(func() { m.keepWriting("y", stop) })
	}
	for n := range kills {
		if n%40 == 10 {
			m := sides[n/40%2]
			write(func() {
				if err := m.append(openTestDB(t, m.path), fmt.Sprintf("big%d", n), 0, 20_000); err != nil {
					t.Errorf("a big transaction: %v", err)
				}
			})
		}
		<-time.After(time.Duration(rng.IntN(400)) * time.Millisecond) // the moment of the fault
		m := sides[rng.IntN(2)]
		m.die()
		m.start()
	}
	close(stop)
	writers.Wait()
	requireExactly(t, a, b)
}

// requireExactly waits until both sides hold the same, and checks that it is what was acknowledged.
func requireExactly(t *testing.T, sides ...*mortal) {
	t.Helper()
	var want []string
	for _, m := range sides {
		m.proc.awaitText("ready ")
		want = append(want, m.acked...)
	}
	slices.Sort(want)
	t.Logf("%d rows acknowledged", len(want))
	for _, m := range sides {
		if out, code := peerOutput(t, "sync", m.path, "--timeout", "60s"); code != 0 {
			t.Fatalf("sync: %s\n%s\n---\n%s", out, sides[0].proc.text(), sides[1].proc.text())
		}
	}
	requireSame(t, sides[0].path, sides[1].path)
	for _, m := range sides {
		db := openTestDB(t, m.path)
		name := filepath.Base(m.path)
		if got := queryText(t, db, "PRAGMA integrity_check"); got != "ok" {
			t.Errorf("%s: %s", name, got)
		}
		got := strings.Split(queryText(t, db, "SELECT id FROM line ORDER BY id"), "\n")
		if missing, extra := notIn(want, got), notIn(got, want); len(missing)+len(extra) > 0 {
			t.Errorf("%s: %d rows lost, such as %.3v; %d that nobody wrote, such as %.3v", name, len(missing), missing, len(extra), extra)
		}
		if wrong := queryText(t, db, `SELECT id || ' is ' || n FROM total WHERE n <> (SELECT count(*) FROM line WHERE substr(line.id, 1, length(total.id) + 1) = total.id || '-')`); wrong != "" {
			t.Errorf("%s: totals are wrong: %s", name, wrong)
		}
		// One origin a side: no kill made a peer forget who it is. Each row has its writer's.
		if got := queryText(t, db, `SELECT count(DISTINCT o) || ' for ' || substr(k, 1, 4) FROM _rowmesh_rows JOIN _rowmesh_tables USING(tbl)
			WHERE name = 'line' GROUP BY substr(k, 1, 4) ORDER BY 1`); got != "1 for a.db\n1 for b.db" {
			t.Errorf("%s: origins of the rows: %s", name, got)
		}
		if got := queryText(t, db, "SELECT count(*) FROM _rowmesh_origins"); got != "2" {
			t.Errorf("%s: %s origins", name, got)
		}
	}
}

// notIn returns what a has and b lacks. Both are sorted.
func notIn(a, b []string) (out []string) {
	for _, s := range a {
		if _, found := slices.BinarySearch(b, s); !found {
			out = append(out, s)
		}
	}
	return out
}

// TestKillInFirstCopy: P3, L-3, L-13. A joiner is killed again and again while it fetches its first copy of 50,000
// rows. Its table never shows a part of them, and the copy is complete in the end.
func TestKillInFirstCopy(t *testing.T) {
	if testing.Short() {
		t.Skip("takes several seconds")
	}
	a, b := newMortals(t)
	const rows = 50_000
	if err := a.append(openTestDB(t, a.path), "x", 0, rows); err != nil {
		t.Fatal(err)
	}
	a.start()
	a.proc.awaitText("ready ")
	mustExec(t, openTestDB(t, b.path), killSchema)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	db := openTestDB(t, b.path)
	seen := map[string]int{}
	for range 15 {
		b.start()
		<-time.After(time.Duration(rng.IntN(500)) * time.Millisecond) // the moment of the fault
		b.die()
		seen[queryText(t, db, "SELECT count(*) FROM line")]++
	}
	t.Logf("rows seen after a kill: %v", seen)
	for n := range seen {
		if n != "0" && n != fmt.Sprint(rows) {
			t.Errorf("the joiner showed %s of %d rows", n, rows)
		}
	}
	b.start()
	b.proc.awaitText("ready ")
	if err := b.append(openTestDB(t, b.path), "late", 0, 1); err != nil {
		t.Fatal(err)
	}
	requireExactly(t, a, b)
}

// embeddedMain is a program with a peer in it, which appends rows through the peer's own API and prints the id of
// each when the write has returned.
func embeddedMain() {
	p, err := rowmesh.Open(context.Background(), "file:"+os.Args[1])
	if err == nil {
		fmt.Println("open")
		for i := 0; err == nil; i++ {
			id := fmt.Sprintf("a.db-%d-%d", os.Getpid(), i)
			err = p.Write(context.Background(), func(tx *sql.Tx) error {
				_, err := tx.Exec("INSERT INTO line(id, v) VALUES(?, ?)", id, i)
				return err
			})
			if err == nil {
				fmt.Println(id)
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKillEmbedded: P3. A program that writes through an embedded peer is killed at random moments. What it was
// told is written is there, in the table and in the merged state.
func TestKillEmbedded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := openTestDB(t, path)
	mustExec(t, db, killSchema)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	acked := map[string]bool{}
	for range 10 {
		cmd := exec.Command(os.Args[0], path)
		cmd.Env = append(os.Environ(), "ROWMESH_TEST_PEER=embedded")
		p := launchPeer(t, cmd)
		die := 1 + rng.IntN(200)
		for line := range p.said {
			if line != "open" {
				acked[line] = true
			}
			if die--; die == 0 {
				p.kill()
			}
		}
		if die > 0 {
			t.Fatalf("the program ended by itself:\n%s", p.text())
		}
	}
	t.Logf("%d rows acknowledged", len(acked))
	merged := strings.Split(queryText(t, db, "SELECT k FROM _rowmesh_rows JOIN _rowmesh_tables USING(tbl) WHERE name = 'line'"), "\n")
	there := strings.Split(queryText(t, db, "SELECT id FROM line"), "\n")
	slices.Sort(merged)
	slices.Sort(there)
	for id := range acked {
		if len(notIn([]string{id}, there)) > 0 {
			t.Errorf("%s was acknowledged and is not in the table", id)
		}
		if len(notIn([]string{id}, merged)) > 0 {
			t.Errorf("%s was acknowledged and is not in the merged state", id)
		}
	}
	if out, code := peerOutput(t, "verify", path); code != 0 {
		t.Error(out)
	}
}
