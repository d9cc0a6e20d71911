package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"
)

// write is a change of many rows by the program on one side.
type write struct {
	side  int
	op    string // insert, update of column a, or delete
	rows  []int
	per   int // rows to a transaction
	value int // an update sets a to this plus the number of the row
}

// writer is a database that a program writes.
type writer interface {
	write(write) time.Duration // as the program sees it
	size() int64               // of the database on side 0
	cpu() time.Duration        // what all its processes have used so far
	close()
}

// engine is a pair of replicas of one engine. At first there is only side 0.
type engine interface {
	writer
	settle() time.Duration          // until all that was written can be shipped
	join() time.Duration            // makes side 1 and gives it everything
	ship(ws ...write) time.Duration // until what was just written is on the other side
	moved() int64                   // bytes that crossed between the sides so far
	digest(side int) string         // equal where the rows are
}

// contender is an engine and how to make it.
type contender struct {
	name    string
	missing func() string // why it cannot be measured here
	plain   string        // the plain SQLite beside it
	open    func(*lab, [][]any) engine
}

func available() string { return "" }

var contenders = []contender{
	{"rowmesh", available, "modernc", openMesh},
	{"go-ds-crdt", available, "modernc", openMerkle},
	{"sqlite-sync", cloudsyncMissing, "mattn", openCloudsync},
	{"cr-sqlite in WebAssembly", crsqliteMissing, "node", func(l *lab, all [][]any) engine { return openNode(l, all, false) }},
}

var plains = map[string]func(*lab, [][]any) writer{
	"modernc": openPlain,
	"mattn":   openPlainMattn,
	"node":    func(l *lab, all [][]any) writer { return openNode(l, all, true) },
}

// versions says what is compared.
func versions() string {
	module := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			module[d.Path] = d.Version
		}
	}
	plain := open(":memory:")
	defer plain.Close()
	var pure string
	check(plain.QueryRow(`SELECT sqlite_version()`).Scan(&pure))
	c, _, _ := sqlite3.Version()
	out := fmt.Sprintf("modernc.org/sqlite %s (SQLite %s), mattn/go-sqlite3 %s (SQLite %s), go-ds-crdt %s", module["modernc.org/sqlite"], pure,
		module["github.com/mattn/go-sqlite3"], c, module["github.com/ipfs/go-ds-crdt"])
	for _, name := range []string{cloudsyncPackage, crsqlitePackage} {
		if b, err := os.ReadFile(packageFile(name)); err == nil {
			var p struct{ Version string }
			check(json.Unmarshal(b, &p))
			out += fmt.Sprintf(", %s %s", name, p.Version)
		}
	}
	if b, err := exec.Command("node", "--version").Output(); err == nil {
		out += ", Node.js " + strings.TrimSpace(string(b))
	}
	return out
}

// load is how many processes wanted to run, on average over the last minute: with others at work no figure of time is worth much.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(b))[0]
}

func packageFile(name string) string {
	return filepath.Join(*peers, "node_modules", name, "package.json")
}

// packageMissing says why a package of the npm registry is not there.
func packageMissing(name string) string {
	if _, err := os.Stat(packageFile(name)); err != nil {
		return "not installed, see make bench-peers"
	}
	return ""
}

// figures are the results of one engine's runs, by the key of the line.
type figures map[string][]float64

func (f figures) add(key string, v float64) { f[key] = append(f[key], v) }

func (f figures) median(key string) float64 {
	all := slices.Sorted(slices.Values(f[key]))
	return all[len(all)/2]
}

// line is one of the table.
type line struct {
	key, name string
	unit      func(float64) string
	ratio     bool // stands before the figure
}

func (l line) cell(f figures) string {
	if len(f[l.key]) == 0 {
		return "not measured"
	}
	v := l.unit(f.median(l.key))
	if l.ratio {
		return fmt.Sprintf("%.2fx (%s)", f.median(l.key+" ratio"), v)
	}
	return v
}

var table = []line{
	{"insert", "insert all, transactions of 1,000: the writer's time", seconds, true},
	{"insert ready", "the insert, until all of it could be shipped", seconds, true},
	{"insert cpu", "the insert: processor time of all processes, until it could be shipped", seconds, true},
	{"size", "database afterwards", megabytes, true},
	{"join", "first copy to a new replica: time, against plain insert", seconds, true},
	{"join cpu", "the first copy: processor time of all processes, against plain insert", seconds, true},
	{"join bytes", "the first copy: bytes on the wire, against the payload", megabytes, true},
	{"update", "update one column of all: the writer's time", seconds, true},
	{"update ship", "the update, until the other side has it", seconds, true},
	{"update cpu", "the update: processor time of all processes, until the other side has it", seconds, true},
	{"update bytes", "the update: bytes on the wire, a row", wholeBytes, false},
	{"delete", "delete one row in ten: the writer's time", milliseconds, true},
	{"delete ship", "the delete, until the other side has it", milliseconds, true},
	{"delete bytes", "the delete: bytes on the wire, a row", wholeBytes, false},
	{"some", "100 rows changed in one transaction, until the other side has it", milliseconds, false},
	{"some bytes", "the 100 rows: bytes on the wire", wholeBytes, false},
	{"one", "transaction of one row: the writer's time", microseconds, true},
	{"p50", "one row, from the commit until the other side has it: p50", milliseconds, false},
	{"p99", "one row, from the commit until the other side has it: p99", milliseconds, false},
	{"both", "one row in ten changed on each side, half the same, until both agree", seconds, false},
	{"both bytes", "both sides: bytes on the wire, a changed row", wholeBytes, false},
	{"idle cpu", "idle: share of a core for each side", perCent, false},
	{"idle bytes", "idle: bytes a second", wholeBytes, false},
}

func seconds(v float64) string      { return fmt.Sprintf("%.2f s", v) }
func milliseconds(v float64) string { return fmt.Sprintf("%.1f ms", v*1000) }
func microseconds(v float64) string { return fmt.Sprintf("%.0f µs", v*1e6) }
func megabytes(v float64) string    { return fmt.Sprintf("%.1f MB", v/1e6) }
func wholeBytes(v float64) string   { return fmt.Sprintf("%.0f B", v) }
func perCent(v float64) string      { return fmt.Sprintf("%.2f %%", v) }

// compare runs the workload on every engine that is here, once after the other and all of them again, and prints the table.
func compare(out io.Writer, base string) {
	all := makeRows(*rows)
	var here []contender
	var absent []string
	for _, c := range contenders {
		if !strings.Contains(c.name, *only) {
			continue
		}
		if reason := c.missing(); reason != "" {
			absent = append(absent, fmt.Sprintf("%s is not in the table: %s.", c.name, reason))
			continue
		}
		here = append(here, c)
	}
	busy := load()
	results := make([]figures, len(here))
	for i := range results {
		results[i] = figures{}
	}
	for run := range *runs {
		bare := map[string]*plainTimes{}
		for i, c := range here {
			began := time.Now()
			l := &lab{base: base, name: fmt.Sprint(run, i)}
			if bare[c.plain] == nil {
				bare[c.plain] = measurePlain(plains[c.plain](l, all), len(all))
			}
			measureEngine(c.open(l, all), all, bare[c.plain], results[i], run == 0)
			l.clear()
			runtime.GC()
			fmt.Fprintf(os.Stderr, "run %d of %d: %s took %.0f s\n", run+1, *runs, c.name, time.Since(began).Seconds())
		}
	}
	fmt.Fprintf(out, "%d rows, medians of %d paired runs, %s/%s, %d CPUs, %s; a ratio is against plain SQLite in the same driver and run.\n%s.\nLoad of the machine: %s before, %s after.\n\n",
		*rows, *runs, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), versions(), busy, load())
	fmt.Fprint(out, "| what |")
	for _, c := range here {
		fmt.Fprintf(out, " %s |", c.name)
	}
	fmt.Fprintf(out, "\n| --- |%s\n", strings.Repeat(" --- |", len(here)))
	for _, line := range table {
		fmt.Fprintf(out, "| %s |", line.name)
		for i := range here {
			fmt.Fprintf(out, " %s |", line.cell(results[i]))
		}
		fmt.Fprintln(out)
	}
	for _, s := range absent {
		fmt.Fprintf(out, "\n%s\n", s)
	}
}

// The workload. Rows are taken by number; their keys are random, so that neighbours are not.

func insertAll(n int) write { return write{op: "insert", rows: span(0, n), per: perTxn} }
func updateAll(n int) write { return write{op: "update", rows: span(0, n), per: perTxn, value: 1} }
func deleteSome(n int) write {
	return write{op: "delete", rows: span(n-n/10, n), per: perTxn}
}

func oneRowEach(n int) write {
	return write{op: "update", rows: span(0, min(n/2, 500)), per: 1, value: 2}
}

func change100(n int) write {
	w := write{op: "update", per: 100, value: 3}
	for i := range 100 {
		w.rows = append(w.rows, i*(n-n/10)/100)
	}
	return w
}

// bothSides: side 0 goes backwards, so that the last row of either is one that the other does not touch.
func bothSides(n int) (write, write) {
	m := n / 10
	a := write{side: 0, op: "update", rows: span(0, m), per: perTxn, value: 4}
	slices.Reverse(a.rows)
	return a, write{side: 1, op: "update", rows: span(m/2, m/2+m), per: perTxn, value: 5}
}

func span(from, to int) []int {
	out := make([]int, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

// sidesOf lists the sides that wrote.
func sidesOf(ws []write) (sides []int) {
	for _, w := range ws {
		if !slices.Contains(sides, w.side) {
			sides = append(sides, w.side)
		}
	}
	return sides
}

// plainTimes is what the writes of the workload take without anybody's help.
type plainTimes struct {
	insert, update, remove, one float64
	insertCPU, updateCPU        float64
	size                        float64
}

func measurePlain(w writer, n int) *plainTimes {
	defer w.close()
	p := &plainTimes{}
	p.insertCPU = spent(w, func() { p.insert = w.write(insertAll(n)).Seconds() })
	p.size = float64(w.size())
	p.updateCPU = spent(w, func() { p.update = w.write(updateAll(n)).Seconds() })
	p.remove = w.write(deleteSome(n)).Seconds()
	one := oneRowEach(n)
	p.one = w.write(one).Seconds() / float64(len(one.rows))
	return p
}

// spent is the processor time that f costs a database and everything beside it, in seconds.
func spent(w writer, f func()) float64 {
	before := w.cpu()
	f()
	return (w.cpu() - before).Seconds()
}

const latencySamples = 100

func measureEngine(e engine, all [][]any, plain *plainTimes, f figures, withIdle bool) {
	defer e.close()
	n := len(all)
	both := func(key string, v, plain float64) {
		f.add(key, v)
		f.add(key+" ratio", v/plain)
	}
	both("insert cpu", spent(e, func() {
		took := e.write(insertAll(n)).Seconds()
		both("insert", took, plain.insert)
		both("insert ready", took+e.settle().Seconds(), plain.insert)
	}), plain.insertCPU)
	both("size", float64(e.size()), plain.size)

	before := e.moved()
	both("join cpu", spent(e, func() { both("join", e.join().Seconds(), plain.insert) }), plain.insertCPU)
	both("join bytes", float64(e.moved()-before), float64(payload(all)))
	agree(e, n)

	shipped := func(w write) (writing, total, bytes float64) {
		before := e.moved()
		writing = e.write(w).Seconds()
		total = writing + e.ship(w).Seconds()
		return writing, total, float64(e.moved() - before)
	}
	var writing, total, bytes float64
	both("update cpu", spent(e, func() { writing, total, bytes = shipped(updateAll(n)) }), plain.updateCPU)
	both("update", writing, plain.update)
	both("update ship", total, plain.update)
	f.add("update bytes", bytes/float64(n))
	gone := deleteSome(n)
	writing, total, bytes = shipped(gone)
	both("delete", writing, plain.remove)
	both("delete ship", total, plain.remove)
	f.add("delete bytes", bytes/float64(len(gone.rows)))
	_, total, bytes = shipped(change100(n))
	f.add("some", total)
	f.add("some bytes", bytes)

	one := oneRowEach(n)
	writing, _, _ = shipped(one)
	both("one", writing/float64(len(one.rows)), plain.one)
	p50, p99 := latency(e)
	f.add("p50", p50)
	f.add("p99", p99)
	agree(e, n-len(gone.rows))

	before = e.moved()
	a, b := bothSides(n)
	total = e.write(a).Seconds() + e.write(b).Seconds() + e.ship(a, b).Seconds()
	f.add("both", total)
	f.add("both bytes", float64(e.moved()-before)/float64(len(a.rows)+len(b.rows)))
	agree(e, n-len(gone.rows))
	if withIdle && *idle > 0 {
		before = e.moved()
		used := spent(e, func() { time.Sleep(*idle) })
		f.add("idle cpu", used/(2*idle.Seconds())*100)
		f.add("idle bytes", float64(e.moved()-before)/idle.Seconds())
	}
}

// payload is what the rows weigh: text as it is, numbers as 8 bytes.
func payload(all [][]any) (bytes int) {
	for _, r := range all {
		bytes += len(r[0].(string)) + 8 + len(r[2].(string)) + 8 + len(r[4].(string))
	}
	return bytes
}

// latency waits a little between its writes, so that each meets two sides at rest.
func latency(e engine) (p50, p99 float64) {
	var all []float64
	for i := range latencySamples {
		time.Sleep(20 * time.Millisecond)
		w := write{op: "update", rows: []int{7}, per: 1, value: 1000 + i}
		e.write(w)
		all = append(all, e.ship(w).Seconds())
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100]
}

// agree stops everything where the two sides differ: a wrong result has no speed.
func agree(e engine, rows int) {
	a, b := e.digest(0), e.digest(1)
	if a != b || !strings.HasPrefix(a, fmt.Sprintf("%d rows", rows)) {
		check(fmt.Errorf("%T: one side has %s, the other %s; expected are %d rows", e, a, b, rows))
	}
}
