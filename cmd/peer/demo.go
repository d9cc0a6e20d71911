package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/rowmesh/rowmesh/examples/chinook"
)

func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Watch three databases keep each other the same, on this machine",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := os.MkdirTemp("", "rowmesh-demo-")
			if err != nil {
				return err
			}
			ctx, cancel := within(c, demoLimit)
			defer cancel()
			d := &demo{ctx: ctx, out: c.OutOrStdout(), dir: dir}
			defer d.stop()
			return d.run()
		},
	}
}

// demoLimit is the time for the whole story; it takes a few seconds.
const demoLimit = 60 * time.Second

// demo is a story with real parts: peer processes, SQLite files, and a cable that can be cut.
type demo struct {
	ctx   context.Context
	out   io.Writer
	dir   string
	procs []*exec.Cmd
	cable *demoCable
	dbs   map[string]*sql.DB
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) path(name string) string { return filepath.Join(d.dir, name+".db") }

func (d *demo) run() error {
	d.dbs = map[string]*sql.DB{}
	for _, step := range []func() error{d.begin, d.connect, d.edit, d.apart, d.together, d.prove} {
		if err := step(); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	return nil
}

// begin fills the shop's database and starts the hub on it.
func (d *demo) begin() error {
	d.say("1. A music shop's database (Chinook: 11 tables) and a hub beside it.")
	db, err := d.open("hub")
	if err != nil {
		return err
	}
	n, err := chinook.Load(db)
	if err != nil {
		return err
	}
	ids := make([]string, 2)
	for i, name := range []string{"berlin", "lima"} {
		out, err := d.peer("id", d.path(name))
		if err != nil {
			return err
		}
		ids[i] = strings.TrimSpace(out)
	}
	ready, err := d.start("hub", "--hub", "--bind", "tcp://127.0.0.1:0", "--allow", strings.Join(ids, ","))
	if err != nil {
		return err
	}
	d.say("   hub.db: %d rows, every table tracked by plain triggers; the tables themselves are as they were.", n)
	_, addr, _ := strings.Cut(ready, "addr=")
	addr, _, _ = strings.Cut(addr, " ")
	d.cable, err = newDemoCable(addr)
	return err
}

// connect starts the two replicas: their files are empty.
func (d *demo) connect() error {
	began := time.Now()
	for name, to := range map[string]string{"berlin": d.cable.through, "lima": d.cable.direct} {
		if _, err := d.start(name, "--connect", to); err != nil {
			return err
		}
		if _, err := d.open(name); err != nil {
			return err
		}
	}
	d.say("2. Two replicas, berlin.db and lima.db, started on empty files: both have all tables and rows after %d ms.", time.Since(began).Milliseconds())
	return nil
}

// edit writes on both sides with plain SQLite.
func (d *demo) edit() error {
	d.say("3. Any program edits any copy, in plain SQL:")
	err := errors.Join(
		d.exec("berlin", "UPDATE Track SET UnitPrice = 1.29 WHERE TrackId = 1"),
		d.exec("lima", "INSERT INTO Playlist VALUES(100, 'Road trip')"),
		d.exec("lima", "INSERT INTO PlaylistTrack SELECT 100, TrackId FROM Track WHERE AlbumId = 1"),
	)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := d.await("hub", "SELECT (SELECT UnitPrice FROM Track WHERE TrackId = 1) || ' ' || (SELECT count(*) FROM PlaylistTrack WHERE PlaylistId = 100)", "1.29 10"); err != nil {
		return err
	}
	if err := d.await("berlin", "SELECT count(*) FROM PlaylistTrack WHERE PlaylistId = 100", "10"); err != nil {
		return err
	}
	d.say("   everybody has both edits after %d ms.", time.Since(began).Milliseconds())
	return nil
}

// apart cuts berlin off and lets both sides edit the same rows.
func (d *demo) apart() error {
	d.cable.cut()
	d.say("4. The link to berlin is cut. Both sides go on, on the same rows:")
	err := errors.Join(
		d.exec("berlin", "UPDATE Customer SET City = 'Berlin', Phone = '+49 30 1' WHERE CustomerId = 2"),
		d.exec("berlin", "UPDATE Invoice SET Total = 0 WHERE InvoiceId = 5"),
		d.exec("berlin", "DELETE FROM Genre WHERE GenreId = 25"),
	)
	if err != nil {
		return err
	}
	d.pause() // so that it is plain who was later
	return errors.Join(
		d.exec("lima", "UPDATE Customer SET City = 'Lima' WHERE CustomerId = 2"),
		d.exec("lima", "DELETE FROM Invoice WHERE InvoiceId = 5"),
		d.exec("lima", "UPDATE Genre SET Name = 'Grand opera' WHERE GenreId = 25"),
	)
}

// pause lets a moment pass on the clock.
func (d *demo) pause() {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-d.ctx.Done():
	}
}

// together heals the link and shows what won.
func (d *demo) together() error {
	d.cable.heal()
	began := time.Now()
	for _, name := range []string{"hub", "berlin", "lima"} {
		for _, want := range [][2]string{
			{"SELECT City || ', ' || Phone FROM Customer WHERE CustomerId = 2", "Lima, +49 30 1"},
			{"SELECT count(*) FROM Invoice WHERE InvoiceId = 5", "0"},
			{"SELECT count(*) FROM Genre WHERE GenreId = 25", "0"},
		} {
			if err := d.await(name, want[0], want[1]); err != nil {
				return err
			}
		}
	}
	d.say("5. The link is back; %d ms later all three agree:", time.Since(began).Milliseconds())
	d.say("   customer 2   Lima, +49 30 1   each column keeps its latest write: the city from lima, the phone from berlin")
	d.say("   invoice 5    deleted          a delete beats an update that was made without knowing of it")
	d.say("   genre 25     deleted          the later update does not bring a deleted row back; only an insert does")
	return nil
}

// prove compares the databases.
func (d *demo) prove() error {
	var first string
	for _, name := range []string{"hub", "berlin", "lima"} {
		if _, err := d.peer("sync", d.path(name)); err != nil {
			return err
		}
		digest, err := d.peer("digest", d.path(name))
		if err != nil {
			return err
		}
		if out, err := d.peer("verify", d.path(name)); err != nil {
			return fmt.Errorf("%s: %s", name, out)
		}
		if first == "" {
			first = digest
		}
		if digest != first {
			return fmt.Errorf("%s.db holds something else than hub.db", name)
		}
	}
	d.say("6. All three hold the same: digest %s..., and every table shows it.", first[:16])
	d.say("   The files are in %s; try: sqlite3 %s .tables", d.dir, d.path("lima"))
	return nil
}

// peer runs one command of this program.
func (d *demo) peer(args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(d.ctx, self, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("peer %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

// start runs a peer until the demo ends, and returns its ready line.
func (d *demo) start(name string, args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	c := exec.Command(self, append([]string{"run", d.path(name)}, args...)...)
	out, err := c.StdoutPipe()
	if err != nil {
		return "", err
	}
	var log strings.Builder
	c.Stderr = &log
	if err := c.Start(); err != nil {
		return "", err
	}
	d.procs = append(d.procs, c)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "ready ") {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return lines.Text(), nil
		}
	}
	return "", fmt.Errorf("the peer on %s.db ended: %s", name, log.String())
}

func (d *demo) open(name string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+d.path(name)+"?_pragma=busy_timeout(5000)")
	d.dbs[name] = db
	return db, err
}

func (d *demo) exec(name, query string) error {
	d.say("   %-7s %s", name, query)
	_, err := d.dbs[name].ExecContext(d.ctx, query)
	return err
}

// await looks at a database until a query gives the answer.
func (d *demo) await(name, query, want string) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var got sql.NullString
	for {
		if err := d.dbs[name].QueryRowContext(d.ctx, query).Scan(&got); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%s: %w", name, err)
		}
		if got.String == want {
			return nil
		}
		select {
		case <-tick.C:
		case <-d.ctx.Done():
			return fmt.Errorf("%s.db: %s gives %q and not %q", name, query, got.String, want)
		}
	}
}

// stop ends the peers in order.
func (d *demo) stop() {
	for _, c := range d.procs {
		_ = c.Process.Signal(os.Interrupt)
	}
	for _, c := range d.procs {
		_ = c.Wait()
	}
	for _, db := range d.dbs {
		_ = db.Close()
	}
	if d.cable != nil {
		d.cable.cut()
		_ = d.cable.l.Close()
	}
}

// demoCable is a TCP proxy in front of the hub that can be cut.
type demoCable struct {
	l       net.Listener
	to      string
	direct  string // the hub's own address
	through string // the address of the proxy
	mu      sync.Mutex
	down    bool
	conns   []net.Conn
}

// newDemoCable takes the hub's address, /ip4/HOST/tcp/PORT/p2p/ID.
func newDemoCable(addr string) (*demoCable, error) {
	parts := strings.Split(addr, "/")
	if len(parts) < 7 {
		return nil, fmt.Errorf("the hub's address %q is not of TCP", addr)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &demoCable{l: l, to: net.JoinHostPort(parts[2], parts[4]), direct: addr, through: "tcp://" + l.Addr().String() + "/p2p/" + parts[6]}
	go c.run()
	return c, nil
}

func (c *demoCable) run() {
	for {
		in, err := c.l.Accept()
		if err != nil {
			return
		}
		if out := c.pair(in); out != nil {
			go func() { _, _ = io.Copy(in, out); in.Close() }()
			go func() { _, _ = io.Copy(out, in); out.Close() }()
		}
	}
}

func (c *demoCable) pair(in net.Conn) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		in.Close()
		return nil
	}
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		in.Close()
		return nil
	}
	c.conns = append(c.conns, in, out)
	return out
}

func (c *demoCable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = true
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

func (c *demoCable) heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = false
}
