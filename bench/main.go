// Bench measures rowmesh beside plain SQLite, in the same driver, in one run: every figure of speed is a ratio of two
// times taken one right after the other, and the median of several such pairs. The peers are processes of their own.
//
//	go -C bench run .                 everything, at the size of the published table (about 4 minutes)
//	go -C bench run . -rows 10000     a quick look
//	go -C bench run . -only catchup   some of it
//	go -C bench run . -driver mattn   programs with SQLite's C library
//	go -C bench run . -compare        the same workload on other engines too, those that make bench-peers could install among them
//	go -C bench run . -million        a first copy of 1,000,000 rows beside cp, one transaction of as many, and the peers' memory
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/network"
)

var (
	rows   = flag.Int("rows", 0, "rows of the table (default 100,000; with -compare 10,000, with -million 1,000,000)")
	runs   = flag.Int("runs", 0, "paired runs of which the median counts (default 5; with -compare 3, with -million 1)")
	only   = flag.String("only", "", "run only the measurements whose name contains this")
	driver = flag.String("driver", "modernc", "the programs' SQLite: modernc, in Go, or mattn, the C library; a peer in a process of its own keeps to the first")
	dir    = flag.String("dir", "", "where to put the databases (default: a temporary directory)")

	compared = flag.Bool("compare", false, "the same workload on other engines too")
	idle     = flag.Duration("idle", 65*time.Second, "how long -compare watches idle sides, once; go-ds-crdt says its heads once a minute")
	million  = flag.Bool("million", false, "a first copy of 1,000,000 rows, and one transaction of as many")
	peers    = flag.String("peers", ".peers", "where make bench-peers installed the other engines")
)

// peerFlag makes this binary a peer: bench starts itself with it.
const peerFlag = "-as-peer"

func main() {
	if len(os.Args) > 2 && os.Args[1] == peerFlag {
		asPeer(os.Args[2], os.Args[3:])
		return
	}
	flag.Parse()
	if *driver != "modernc" && *driver != "mattn" {
		check(fmt.Errorf("-driver is modernc or mattn, not %q", *driver))
	}
	base := *dir
	if base == "" {
		tmp, err := os.MkdirTemp("", "rowmesh-bench")
		check(err)
		defer os.RemoveAll(tmp)
		base = tmp
	}
	if *compared {
		setDefaults(10_000, 3)
		compare(os.Stdout, base)
		return
	}
	if *million {
		setDefaults(1_000_000, 1)
		fmt.Printf("%d rows, medians of %d runs\n\n| what | measured |\n| --- | --- |\n", *rows, *runs)
		for _, m := range millions {
			if strings.Contains(m.name, *only) {
				m.run(&lab{base: base, name: m.name})
			}
		}
		return
	}
	setDefaults(100_000, 5)
	fmt.Printf("rowmesh against plain SQLite (%s), %d rows, medians of %d paired runs, %s/%s, %d CPUs, %s\n\n",
		*driver, *rows, *runs, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	fmt.Printf("| what | measured | bar | |\n| --- | --- | --- | --- |\n")
	for _, m := range measurements {
		if strings.Contains(m.name, *only) {
			m.run(&lab{base: base, name: m.name})
		}
	}
}

func setDefaults(n, times int) {
	if *rows == 0 {
		*rows = n
	}
	if *runs == 0 {
		*runs = times
	}
}

// measurement is one line or several of the table.
type measurement struct {
	name string
	run  func(*lab)
}

var measurements = []measurement{
	{"local", benchLocal},
	{"onerow", benchOneRow},
	{"apply", benchApply},
	{"catchup", benchCatchUp},
	{"some", benchSome},
	{"bothsides", benchBothSides},
	{"wire", benchWire},
	{"latency", benchLatency},
	{"idle", benchIdle},
	{"size", benchSize},
}

// report prints a line of the table. A figure is within its bar where it is at most, or with atLeast at least, the bar.
func report(what, measured string, value, bar float64, atLeast bool, barText string) {
	verdict := "within"
	if atLeast && value < bar || !atLeast && value > bar {
		verdict = "**over**"
	}
	fmt.Printf("| %s | %s | %s | %s |\n", what, measured, barText, verdict)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// asPeer runs a peer until its standard input is closed.
func asPeer(path string, args []string) {
	c := rowmesh.Config{Path: path, Alone: true}
	for _, a := range args {
		switch what, rest, _ := strings.Cut(a, "="); what {
		case "listen":
			c.Listen = append(c.Listen, must(network.ParseAddr(rest)))
		case "connect":
			c.Connect = append(c.Connect, must(network.ParseAddr(rest)))
		case "allow":
			c.Allow = append(c.Allow, must(network.ParsePeerID(rest)))
		}
	}
	p, err := rowmesh.OpenConfig(context.Background(), c)
	check(err)
	fmt.Println("listening", strings.Join(p.Addrs(), ","))
	check(p.WaitReady(context.Background()))
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	check(p.Close())
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

// timed is how long f takes.
func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}
