package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// soon is how long a peer may take to end. It takes milliseconds on an idle machine, and a second where another program holds
// the lock; what the tests let it wait for never comes.
const soon = 15 * time.Second

// requireEndsSoon presses Ctrl-C: the peer ends at once and in order, and the next one can start.
func requireEndsSoon(t *testing.T, p *process) {
	t.Helper()
	began := time.Now()
	if code := p.interrupt(); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, p.text())
	}
	if took := time.Since(began); took > soon {
		t.Errorf("it took %s to end:\n%s", took, p.text())
	}
}

// lockDB holds the database's write lock until unlock is called.
func lockDB(t *testing.T, path string) (unlock func()) {
	t.Helper()
	conn, err := openTestDB(t, path).Conn(context.Background())
	if err == nil {
		_, err = conn.ExecContext(context.Background(), "BEGIN IMMEDIATE")
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := conn.ExecContext(context.Background(), "COMMIT"); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}

// TestCtrlC: in every state Ctrl-C ends the peer soon, with exit code 0, and leaves a database on which the next
// one starts under the same origin.
func TestCtrlC(t *testing.T) {
	a := filepath.Join(t.TempDir(), "a.db")
	db := openTestDB(t, a)
	mustExec(t, db, killSchema)
	requireEndsSoon(t, startPeer(t, true, a))
	const origin = "SELECT hex(value) FROM _rowmesh_meta WHERE name = 'origin'"
	want := queryText(t, db, origin)

	t.Run("joining", func(t *testing.T) {
		b := filepath.Join(t.TempDir(), "b.db")
		nobody := newCable(t, "")
		requireEndsSoon(t, startPeer(t, false, b, "--connect", nobody.addr(peerID(t, a))))
	})
	t.Run("first copy", func(t *testing.T) {
		b := filepath.Join(t.TempDir(), "b.db")
		m := &mortal{t: t, path: a}
		if err := m.append(db, "x", 0, 30_000); err != nil {
			t.Fatal(err)
		}
		pa := startPeer(t, true, a, "--bind", "tcp://127.0.0.1:0", "--allow", peerID(t, b))
		requireEndsSoon(t, startPeer(t, false, b, "--connect", pa.addr))
		requireEndsSoon(t, startPeer(t, true, b, "--connect", pa.addr))
		requireEndsSoon(t, pa)
	})
	t.Run("a writer holds the lock", func(t *testing.T) {
		p := startPeer(t, true, a)
		unlock := lockDB(t, a)
		requireEndsSoon(t, p)
		unlock()
	})
	t.Run("a start on a locked database", func(t *testing.T) {
		unlock := lockDB(t, a)
		p := launchPeer(t, peerCommand("run", a))
		waitFor(t, "the peer has its own lock", func() bool {
			holder, _ := os.ReadFile(a + "-rowmesh/lock")
			return string(holder) == fmt.Sprint(p.cmd.Process.Pid)
		})
		requireEndsSoon(t, p)
		unlock()
	})
	requireEndsSoon(t, startPeer(t, true, a))
	if got := queryText(t, db, origin); got != want {
		t.Errorf("the database goes on as %s, it was %s", got, want)
	}
}

// TestIdlePeersAreSilent: P2, P14. Two peers that are level come to commit nothing: not for each other, not for status.
func TestIdlePeersAreSilent(t *testing.T) {
	a, b, _, _, _ := twoPeers(t, func(db *sql.DB) { mustExec(t, db, killSchema) })
	if out, code := peerOutput(t, "sync", b); code != 0 {
		t.Fatal(out)
	}
	for _, path := range []string{a, b} {
		db := openTestDB(t, path)
		waitFor(t, "status says level", func() bool {
			return strings.Contains(queryText(t, db, "SELECT status FROM rowmesh_status"), `"state":"level"`)
		})
	}
	conns := map[string]*sql.Conn{}
	version := func(path string) (v int) {
		if err := conns[path].QueryRowContext(context.Background(), "PRAGMA data_version").Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, path := range []string{a, b} {
		conn, err := openTestDB(t, path).Conn(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns[path] = conn
	}
	const silence = 6 * time.Second // longer than the period of digests and of every pause
	var written string
	for end := time.Now().Add(testPatience); time.Now().Before(end); {
		before := map[string]int{a: version(a), b: version(b)}
		<-time.After(silence)
		written = ""
		for path, v := range before {
			if version(path) != v {
				written += " " + filepath.Base(path)
			}
		}
		if written == "" {
			return
		}
	}
	t.Errorf("written while nothing happened:%s", written)
}

// TestDiskFull: P16. The peer may make no file longer than a bound, as on a full disk. It lives, says so in one
// sentence, answers, and goes on by itself when there is room again.
func TestDiskFull(t *testing.T) {
	prlimit := requireTool(t, "prlimit")
	a, b, _, _, pb := twoPeers(t, func(db *sql.DB) { mustExec(t, db, killSchema) })
	limit := func(bytes string) {
		t.Helper()
		if out, err := exec.Command(prlimit, "--pid", fmt.Sprint(pb.cmd.Process.Pid), "--fsize="+bytes+":").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	m := &mortal{t: t, path: a}
	limit("65536")
	if err := m.append(openTestDB(t, a), "x", 0, 5000); err != nil {
		t.Fatal(err)
	}
	pb.awaitText("the replica stopped and is loaded again")
	if got := queryText(t, openTestDB(t, b), "SELECT count(*) FROM line"); got != "0" {
		t.Errorf("the table shows %s rows", got)
	}
	if !strings.Contains(pb.text(), "the disk cannot be read or written: see whether it is full or failing; nothing was lost") {
		t.Errorf("the peer does not say so:\n%s", pb.text())
	}
	limit("unlimited")
	db := openTestDB(t, b)
	waitFor(t, "the rows come when there is room", func() bool { return queryText(t, db, "SELECT count(*) FROM line") == "5000" })
	requireSame(t, a, b)
	requireEndsSoon(t, pb)
}
