package main

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	_ "modernc.org/sqlite"

	"github.com/rowmesh/rowmesh/network"
)

// lab makes what the measurements need: databases, peers, a counted wire.
type lab struct {
	base, name string
	n          int
}

// path is that of a new database.
func (l *lab) path() string {
	l.n++
	d := filepath.Join(l.base, l.name, strconv.Itoa(l.n))
	check(os.MkdirAll(d, 0o755))
	return filepath.Join(d, "app.db")
}

// clear removes what path made.
func (l *lab) clear() { check(os.RemoveAll(filepath.Join(l.base, l.name))) }

// schema is the published workload.
const schema = `CREATE TABLE item(id TEXT PRIMARY KEY, a INTEGER, b TEXT, c REAL, d TEXT)`

const perTxn = 1000

// open is a program's own connection, as plain programs have it.
func open(path string) *sql.DB {
	name, dsn := "sqlite", path+"?_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=busy_timeout(10000)"
	if *driver == "mattn" {
		name, dsn = "sqlite3", mattnDSN(path)
	}
	db, err := sql.Open(name, dsn)
	check(err)
	return db
}

func exec1(db *sql.DB, q string, args ...any) {
	if _, err := db.Exec(q, args...); err != nil {
		check(fmt.Errorf("%s: %w", q, err))
	}
}

// key is the random 16-character key of a row.
func key(i int) string {
	g := rand.New(rand.NewPCG(uint64(i), 42))
	return text(g, 16)
}

func text(g *rand.Rand, n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[g.IntN(len(letters))]
	}
	return string(b)
}

// row is what a row holds: 108 bytes with its key.
func row(i int) []any {
	g := rand.New(rand.NewPCG(uint64(i), 43))
	return []any{key(i), i, text(g, 20), g.Float64(), text(g, 60)}
}

// prepared rows, so that making them is not measured.
func makeRows(n int) [][]any {
	out := make([][]any, n)
	for i := range out {
		out[i] = row(i)
	}
	return out
}

// inTxns runs a statement for each list of arguments, many to a transaction.
func inTxns(db *sql.DB, query string, args [][]any, per int) {
	for part := range slices.Chunk(args, per) {
		tx, err := db.Begin()
		check(err)
		s, err := tx.Prepare(query)
		check(err)
		for _, a := range part {
			_, err := s.Exec(a...)
			check(err)
		}
		check(tx.Commit())
	}
}

const insertItem = `INSERT INTO item VALUES(?, ?, ?, ?, ?)`

// peer is a peer in a process of its own.
type peer struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Scanner
	addr  string
}

// startPeer starts this binary as a peer and waits until it listens.
func startPeer(path string, args ...string) *peer {
	c := exec.Command(must(os.Executable()), append([]string{peerFlag, path}, args...)...)
	c.Stderr = os.Stderr
	p := &peer{cmd: c, stdin: must(c.StdinPipe()), out: bufio.NewScanner(must(c.StdoutPipe()))}
	check(c.Start())
	p.out.Scan()
	p.addr = strings.TrimPrefix(p.out.Text(), "listening ")
	return p
}

func (p *peer) waitReady() {
	if !p.out.Scan() || p.out.Text() != "ready" {
		check(fmt.Errorf("a peer ended: %s", p.out.Text()))
	}
}

func (p *peer) stop() {
	p.stdin.Close()
	check(p.cmd.Wait())
}

// cpu is the processor time the peer has used.
func (p *peer) cpu() time.Duration {
	b := must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid)))
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	ticks := must(strconv.Atoi(f[11])) + must(strconv.Atoi(f[12]))
	return time.Duration(ticks) * 10 * time.Millisecond
}

// ownCPU is the processor time that this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memory is what the peer holds (VmRSS), or at most held so far (VmHWM), in bytes.
func (p *peer) memory(what string) int64 {
	for line := range strings.SplitSeq(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)))), "\n") {
		if rest, ok := strings.CutPrefix(line, what+":"); ok {
			return must(strconv.ParseInt(strings.Fields(rest)[0], 10, 64)) << 10
		}
	}
	return 0
}

// wire is a TCP proxy that counts bytes.
type wire struct {
	l     net.Listener
	bytes atomic.Int64
}

func hostPort(addr string) string {
	parts := strings.Split(addr, "/") // /ip4/127.0.0.1/tcp/PORT/p2p/ID
	return net.JoinHostPort(parts[2], parts[4])
}

func newWire(to string) *wire {
	target := hostPort(to)
	w := &wire{l: must(net.Listen("tcp", "127.0.0.1:0"))}
	go func() {
		for {
			a, err := w.l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", target)
			if err != nil {
				a.Close()
				continue
			}
			for _, x := range [][2]net.Conn{{a, b}, {b, a}} {
				go func() {
					_, _ = io.Copy(x[0], io.TeeReader(x[1], counter{&w.bytes}))
					x[0].Close()
				}()
			}
		}
	}()
	return w
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

func id(path string) string {
	key, err := network.LoadIdentity(path + "-rowmesh/identity.key")
	check(err)
	return key.PeerID().String()
}

// pair starts a founder on a database and a joiner on an empty one, over a counted wire. It returns when the joiner has
// everything, and how long the joiner took.
func (l *lab) pair(founder string) (a, b *peer, joiner string, w *wire, took time.Duration) {
	joiner = l.path()
	a = startFounder(founder, joiner)
	w = newWire(a.addr)
	took = timed(func() {
		b = startJoiner(joiner, w.l.Addr().String(), founder)
	})
	return a, b, joiner, w, took
}

// startFounder starts a peer that lets the peer of another database in.
func startFounder(path, joiner string) *peer {
	p := startPeer(path, "listen=tcp://127.0.0.1:0", "allow="+id(joiner))
	p.waitReady()
	return p
}

// startJoiner starts a peer that joins that of another database at an address, and waits until it holds everything.
func startJoiner(path, addr, founder string) *peer {
	p := startPeer(path, "connect=tcp://"+addr+"/p2p/"+id(founder))
	p.waitReady()
	return p
}

// until waits until a query on a database gives a value. It asks as often as two per cent of the time need, no more: what it
// uses itself is taken from those whom it waits for.
func until(db *sql.DB, query string, want int64) {
	began := time.Now()
	for {
		var got sql.NullInt64
		if err := db.QueryRow(query).Scan(&got); err == nil && got.Int64 == want {
			return
		}
		waited := time.Since(began)
		if waited > 10*time.Minute {
			check(fmt.Errorf("%s never gives %d", query, want))
		}
		time.Sleep(min(max(waited/50, 100*time.Microsecond), 5*time.Millisecond))
	}
}

// median of paired ratios.
func median(f func() float64) float64 {
	var all []float64
	for range max(*runs, 1) {
		all = append(all, f())
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// nap waits for about a tenth of a millisecond. The timers of an idle Go program on Linux take ten times as long.
func nap() {
	rest := syscall.NsecToTimespec(int64(50 * time.Microsecond))
	_ = syscall.Nanosleep(&rest, nil)
}
