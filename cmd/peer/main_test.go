package main

import (
	"bufio"
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets the test binary be the peer, or a program with a peer in it: tests start it as a real process.
func TestMain(m *testing.M) {
	switch os.Getenv("ROWMESH_TEST_PEER") {
	case "1":
		main()
		return
	case "embedded":
		embeddedMain()
		return
	}
	os.Exit(m.Run())
}

// patience bounds the wait for something that must happen.
const testPatience = 60 * time.Second

// peerCommand is a run of the binary.
func peerCommand(args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), "ROWMESH_TEST_PEER=1")
	return c
}

// peerOutput runs the binary to its end and returns what it printed and its exit code.
func peerOutput(t *testing.T, args ...string) (string, int) {
	t.Helper()
	out, err := peerCommand(args...).CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	code := 0
	if err != nil {
		code = err.(*exec.ExitError).ExitCode()
	}
	return strings.TrimSpace(string(out)), code
}

// process is a running peer.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	addr string // set when it has said that it is ready, or listens
	mu   sync.Mutex
	log  bytes.Buffer
	said chan string   // its lines, closed at its end
	ends chan struct{} // closed when it has ended
}

// startPeer starts peer run and waits until it listens, and with ready until it is ready.
func startPeer(t *testing.T, ready bool, args ...string) *process {
	t.Helper()
	p := launchPeer(t, peerCommand(append([]string{"run"}, args...)...))
	if ready {
		p.await("ready")
	} else {
		p.await("listening")
	}
	return p
}

// launchPeer starts a command and waits for nothing.
func launchPeer(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p, err := startCommand(cmd)
	if err != nil {
		t.Fatal(err)
	}
	p.t = t
	t.Cleanup(p.kill)
	return p
}

func startCommand(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, said: make(chan string, 1000), ends: make(chan struct{})}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = p
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		for sc := bufio.NewScanner(out); sc.Scan(); {
			fmt.Fprintln(p, sc.Text())
			p.said <- sc.Text()
		}
		close(p.said)
		_ = cmd.Wait()
		close(p.ends)
	}()
	return p, nil
}

// await waits until the peer says that it is "listening" or "ready".
func (p *process) await(what string) {
	p.t.Helper()
	line, err := p.line(what)
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = addrIn(line)
}

// line waits for the line that begins with a word.
func (p *process) line(what string) (string, error) {
	late := time.After(testPatience)
	for {
		select {
		case line, ok := <-p.said:
			if !ok {
				return "", fmt.Errorf("the peer ended:\n%s", p.text())
			}
			if strings.HasPrefix(line, what+" ") {
				return line, nil
			}
		case <-late:
			return "", fmt.Errorf("the peer is not %s:\n%s", what, p.text())
		}
	}
}

// addrIn is the address in a line that the peer prints.
func addrIn(line string) string {
	_, rest, _ := strings.Cut(line, "addr=")
	addr, _, _ := strings.Cut(rest, " ")
	return addr
}

// awaitText waits until the peer has printed something.
func (p *process) awaitText(want string) {
	p.t.Helper()
	waitFor(p.t, "the peer says "+want, func() bool { return strings.Contains(p.text(), want) })
}

// waitFor polls until ok holds.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.After(testPatience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not in %s: %s", testPatience, what)
		}
	}
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ends
}

// interrupt is Ctrl-C.
func (p *process) interrupt() int {
	p.t.Helper()
	code, err := p.end()
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

func (p *process) end() (code int, err error) {
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.ends:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(testPatience):
		return 0, fmt.Errorf("Ctrl-C does not end the peer:\n%s", p.text())
	}
}

func peerID(t *testing.T, db string) string {
	t.Helper()
	id, code := peerOutput(t, "id", db)
	if code != 0 {
		t.Fatal(id)
	}
	return id
}

// openTestDB is a program's own plain SQLite connection.
func openTestDB(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)&_pragma=synchronous(normal)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func mustExec(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func queryText(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return strings.Join(out, "\n")
}

// requireSame waits until peers with running processes hold the same, and checks that their tables show it.
func requireSame(t *testing.T, dbs ...string) {
	t.Helper()
	deadline := time.Now().Add(testPatience)
	for {
		var digests []string
		for _, db := range dbs {
			d, code := peerOutput(t, "digest", db)
			if code != 0 {
				t.Fatal(d)
			}
			digests = append(digests, d)
		}
		same := true
		for _, d := range digests {
			same = same && d == digests[0]
		}
		if same {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("digests stay different: %v", digests)
		}
	}
	for _, db := range dbs {
		if out, code := peerOutput(t, "verify", db); code != 0 {
			t.Fatalf("verify %s: %s", db, out)
		}
	}
}

// cable is a TCP proxy that can be cut.
type cable struct {
	l     net.Listener
	to    string
	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func newCable(t *testing.T, multiaddr string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{l: l, to: "127.0.0.1:1"} // nobody listens there
	if multiaddr != "" {
		c.moveTo(multiaddr)
	}
	t.Cleanup(func() { l.Close(); c.cut() })
	go c.run()
	return c
}

func (c *cable) addr(id string) string { return "tcp://" + c.l.Addr().String() + "/p2p/" + id }

// moveTo lets new connections go to another address: that of a peer that was started anew.
func (c *cable) moveTo(multiaddr string) {
	parts := strings.Split(multiaddr, "/") // /ip4/127.0.0.1/tcp/PORT/p2p/ID
	c.mu.Lock()
	defer c.mu.Unlock()
	c.to = net.JoinHostPort(parts[2], parts[4])
}

func (c *cable) run() {
	for {
		a, err := c.l.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		down, to := c.down, c.to
		c.mu.Unlock()
		b, err := net.Dial("tcp", to)
		if down || err != nil {
			a.Close()
			if err == nil {
				b.Close()
			}
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, a, b)
		c.mu.Unlock()
		go func() { _, _ = io.Copy(a, b); a.Close() }()
		go func() { _, _ = io.Copy(b, a); b.Close() }()
	}
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = true
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

func (c *cable) heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = false
}

// twoPeers starts a founder on a database that setup fills, and a joiner on an empty one, with a cable
// between them.
func twoPeers(t *testing.T, setup func(db *sql.DB)) (a, b string, link *cable, pa, pb *process) {
	t.Helper()
	dir := t.TempDir()
	a, b = filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	setup(openTestDB(t, a))
	ida, idb := peerID(t, a), peerID(t, b)
	pa = startPeer(t, true, a, "--bind", "tcp://127.0.0.1:0", "--allow", idb)
	link = newCable(t, pa.addr)
	pb = startPeer(t, true, b, "--connect", link.addr(ida))
	return a, b, link, pa, pb
}

// requireTool returns the path of a program. Without it the test is skipped, and fails in CI.
func requireTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("%s is not installed; this test needs it", name)
	return ""
}
