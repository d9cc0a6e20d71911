// Package simtest runs a test of yours in the simulator: several machines with real replicas in real SQLite files, in virtual
// time, with every fault that a seed brings, and replays a failure from its seed.
//
//	func TestOrders(t *testing.T) {
//		simtest.Run(t, simtest.Config{Replicas: 4, Schema: ddl, Faults: sim.FaultsSwarm, Seeds: 50}, func(w *simtest.World) {
//			w.Exec(0, `INSERT INTO orders(id, total) VALUES (?, ?)`, "a1", 10)
//			w.Partition([]int{0, 1}, []int{2, 3})
//			w.Crash(2)
//			w.AdvanceClock(3, -72*time.Hour)
//			w.Exec(3, `UPDATE orders SET total = 99`)
//			w.Settle()
//			w.RequireConverged()
//			w.RequireRow(1, `SELECT total FROM orders WHERE id = ?`, "a1", 99)
//		})
//	}
//
// A failing test prints the line that runs its seed again. The flags -sim.seed, -sim.seeds and -sim.trace, and the variables
// ROWMESH_SIM_SEED and ROWMESH_SIM_SEEDS, choose seeds without a change of the code.
package simtest

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowmesh/rowmesh/sim"
	"github.com/rowmesh/rowmesh/sim/sqlworld"
)

var (
	oneSeed   = flag.String("sim.seed", os.Getenv("ROWMESH_SIM_SEED"), "run simulated tests with this seed only")
	manySeeds = flag.String("sim.seeds", os.Getenv("ROWMESH_SIM_SEEDS"), "run simulated tests with so many seeds")
	trace     = flag.Bool("sim.trace", false, "one line for each thing that happens in a simulated test")
)

// Config says in what world a test runs. The zero Config is three machines in a mesh, without SQL and without faults, once.
type Config struct {
	Replicas int          // 0: 3
	Topology sim.Topology // "": mesh
	Schema   string       // SQL statements that make the tables, on machine 0; "": no SQL, the tables of Write
	Faults   sim.Faults   // "": none but those that the test brings about
	Seeds    int          // how many worlds the test runs in, with seeds from 1 on; 0: one
}

// Run runs f in a world for each seed, and ends at the first that fails. f may use t.
func Run(t *testing.T, cfg Config, f func(*World)) {
	t.Helper()
	if cfg.Replicas == 0 {
		cfg.Replicas = 3
	}
	if cfg.Topology == "" {
		cfg.Topology = sim.Mesh
	}
	first, last, err := seeds(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for seed := first; seed <= last; seed++ {
		runSeed(t, cfg, seed, f)
	}
}

// seeds says which seeds are run.
func seeds(cfg Config) (first, last uint64, err error) {
	if *oneSeed != "" {
		first, err = strconv.ParseUint(*oneSeed, 10, 64)
		return first, first, err
	}
	last = uint64(max(cfg.Seeds, 1))
	if *manySeeds != "" {
		last, err = strconv.ParseUint(*manySeeds, 10, 64)
	}
	return 1, last, err
}

func runSeed(t *testing.T, cfg Config, seed uint64, f func(*World)) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("rerun: go test -run '^%s$' -sim.seed=%d -sim.trace", t.Name(), seed)
		}
	}()
	c := sim.Scenario(sim.Config{Seed: seed, Replicas: cfg.Replicas, Topology: cfg.Topology, Faults: cfg.Faults})
	opt := sim.Options{}
	if cfg.Schema != "" {
		c.SQL = true
		lab, err := sqlworld.NewLab([]string{cfg.Schema})
		if err != nil {
			t.Fatal(err)
		}
		defer lab.Close()
		opt.SQL = lab.Medium
	}
	if *trace {
		opt.Log = t.Output()
	}
	w := &World{t: t, w: sim.NewWorld(c, opt), n: cfg.Replicas}
	w.w.Begin()
	w.ok()
	f(w)
	w.ok()
}

// World is a group of machines, numbered from 0. Its methods end the test where something fails, and let some virtual time
// pass where that is natural.
type World struct {
	t *testing.T
	w *sim.World
	n int
}

// ok ends the test where a promise was broken.
func (w *World) ok() {
	w.t.Helper()
	if v := w.w.Err(); v != nil {
		w.t.Fatal(v)
	}
}

// until lets time pass until something holds.
func (w *World) until(what string, holds func() bool) {
	w.t.Helper()
	for i := 0; !holds(); i++ {
		if w.ok(); i == 100_000 {
			w.t.Fatalf("after %d s of virtual time %s", i/100, what)
		}
		w.w.Pass(10)
	}
}

func (w *World) machine(i int) {
	w.t.Helper()
	if i < 0 || i >= w.n {
		w.t.Fatalf("there is no machine %d: they are 0 to %d", i, w.n-1)
	}
}

func (w *World) database(i int) sim.SQL {
	w.t.Helper()
	w.machine(i)
	db := w.w.Database(i)
	if db == nil {
		w.t.Fatal("this world has no SQL: set Config.Schema, or use Write")
	}
	return db
}

// Exec runs a statement on a machine, as a program there does: in a transaction, at the machine's wall time, whether its
// replica runs or not. An error ends the test; TryExec returns it.
func (w *World) Exec(i int, query string, args ...any) {
	w.t.Helper()
	if err := w.TryExec(i, query, args...); err != nil {
		w.t.Fatalf("machine %d: %v", i, err)
	}
}

// TryExec is Exec for statements that may fail.
func (w *World) TryExec(i int, query string, args ...any) error {
	w.t.Helper()
	return w.tx(i, []sim.Statement{{Query: query, Args: args}})
}

// Tx runs the statements that f hands to exec in one transaction.
func (w *World) Tx(i int, f func(exec func(query string, args ...any))) {
	w.t.Helper()
	var stmts []sim.Statement
	f(func(query string, args ...any) { stmts = append(stmts, sim.Statement{Query: query, Args: args}) })
	if err := w.tx(i, stmts); err != nil {
		w.t.Fatalf("machine %d: %v", i, err)
	}
}

func (w *World) tx(i int, stmts []sim.Statement) error {
	w.t.Helper()
	db := w.database(i)
	w.ok()
	err := db.Exec(stmts...)
	w.w.Wrote(i)
	w.w.Pass(5)
	w.ok()
	return err
}

// Write makes one transaction on a machine of a world without SQL, in the words of case files: "put t:3 ab=7; del u:4". It waits
// until the machine runs.
func (w *World) Write(i int, ops string) {
	w.t.Helper()
	w.machine(i)
	c, err := sim.ParseCase(fmt.Sprintf("rowmesh-sim 1\nreplicas %d\n@0 write %d %s\n", w.n, i, ops))
	if err != nil {
		w.t.Fatal(err)
	}
	w.until(fmt.Sprintf("machine %d does not run: call Restart first", i), func() bool { return w.w.Runs(i) })
	if err := w.w.Do(c.Actions[0]); err != nil {
		w.t.Fatal(err)
	}
	w.ok()
}

// Query reads on a machine, as a program there does. Integers come as int64, text as string.
func (w *World) Query(i int, query string, args ...any) [][]any {
	w.t.Helper()
	rows, err := w.database(i).Query(query, args...)
	if err != nil {
		w.t.Fatalf("machine %d: %v", i, err)
	}
	return rows
}

// Partition cuts the links between groups of machines, until Heal or Settle. A machine in none is cut off from all.
func (w *World) Partition(groups ...[]int) {
	w.t.Helper()
	for _, g := range groups {
		for _, i := range g {
			w.machine(i)
		}
	}
	w.w.Cut(groups...)
}

// Heal ends every fault of the network.
func (w *World) Heal() { w.w.Heal() }

// Crash stops a machine's replica in the middle of what it does, until Restart or Settle. Programs can go on writing its database.
func (w *World) Crash(i int) {
	w.t.Helper()
	w.machine(i)
	w.w.Stop(i)
}

// Restart starts a machine that has crashed.
func (w *World) Restart(i int) {
	w.t.Helper()
	w.machine(i)
	w.w.Start(i)
}

// AdvanceClock sets the wall clock of a machine forward, or with a negative d back, until Settle.
func (w *World) AdvanceClock(i int, d time.Duration) {
	w.t.Helper()
	w.Do("jump", i, 0, d.Milliseconds())
}

// Do carries out any action of a case file, such as wipe, clone or clog: docs/SIMULATION.md lists them.
func (w *World) Do(action string, a, b int, n int64) {
	w.t.Helper()
	if err := w.w.Do(sim.Action{Do: action, A: a, B: b, N: n}); err != nil {
		w.t.Fatal(err)
	}
	w.ok()
}

// Pass lets virtual time pass.
func (w *World) Pass(d time.Duration) {
	w.t.Helper()
	w.w.Pass(d.Milliseconds())
	w.ok()
}

// Settle ends every fault, starts machines that are down, sets clocks right, and demands that all machines agree within a
// bounded virtual time.
func (w *World) Settle() {
	w.t.Helper()
	w.w.Settle()
	w.ok()
}

// RequireConverged demands that all tables, without SQL all rows, are equal on all machines, without ending any fault.
func (w *World) RequireConverged() {
	w.t.Helper()
	w.ok()
	if w.w.Database(0) == nil {
		if d := w.w.Differ(); d != "" {
			w.t.Fatal(d)
		}
		return
	}
	first, err := w.database(0).Tables()
	for i := 1; i < w.n && err == nil; i++ {
		var other map[string]*sim.Table
		if other, err = w.database(i).Tables(); err != nil {
			break
		}
		for name, t := range first {
			if o := other[name]; o == nil || !reflect.DeepEqual(t.Rows, o.Rows) {
				w.t.Fatalf("table %s differs between machine 0 and machine %d:\n%s", name, i, compare(t, o))
			}
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// compare lists some rows that differ.
func compare(a, b *sim.Table) string {
	if b == nil {
		return "it is missing there"
	}
	var out strings.Builder
	n := 0
	for k, row := range a.Rows {
		if !reflect.DeepEqual(row, b.Rows[k]) && n < 10 {
			fmt.Fprintf(&out, "%s: %v and %v\n", k, row, b.Rows[k])
			n++
		}
	}
	for k, row := range b.Rows {
		if a.Rows[k] == nil && n < 10 {
			fmt.Fprintf(&out, "%s: nothing and %v\n", k, row)
			n++
		}
	}
	return out.String()
}

// RequireRow demands that a query gives one row. The values are first the arguments of the query, as many as it has question
// marks, and then what the row must hold.
func (w *World) RequireRow(i int, query string, values ...any) {
	w.t.Helper()
	n := strings.Count(query, "?")
	if n > len(values) {
		w.t.Fatal("RequireRow: fewer values than question marks")
	}
	rows := w.Query(i, query, values[:n]...)
	want := values[n:]
	if len(rows) != 1 || fmt.Sprint(rows[0]...) != fmt.Sprint(want...) || len(rows[0]) != len(want) {
		w.t.Fatalf("machine %d: %s gives %v, expected %v", i, query, rows, want)
	}
}
