package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestCases: cases that once broke a promise keep it now.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.case")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			c, err := ParseCase(string(b))
			if err != nil {
				t.Fatal(err)
			}
			if r := Run(c, Options{}); r.Err != nil {
				t.Errorf("%v; replay: peer sim replay sim/%s", r, f)
			}
		})
	}
}

// TestSwarm: P1, P2, P3, P5, P6, P7, P8, P9, P10, P15, P16. A thousand seeds with every fault keep every promise
// that a simulation can check, and come by every state that makes this worth something.
func TestSwarm(t *testing.T) {
	parts, each := 10, 100
	if testing.Short() {
		each = 10
	}
	marks := make([]Marks, parts)
	t.Run("seeds", func(t *testing.T) {
		for p := range parts {
			marks[p] = Marks{}
			t.Run(fmt.Sprint(p), func(t *testing.T) {
				t.Parallel()
				for seed := uint64(p*each + 1); seed <= uint64((p+1)*each); seed++ {
					r := RunSeed(Config{Seed: seed})
					marks[p].Add(r.Marks)
					if r.Err != nil {
						t.Errorf("%v; replay: peer sim replay %d", r, seed)
					}
				}
			})
		}
	})
	all := Marks{}
	for _, m := range marks {
		all.Add(m)
	}
	if missing := all.Missing(); len(missing) > 0 && !testing.Short() {
		t.Errorf("no seed came by %q", missing)
	}
}

// TestOneSeedOneTrace: P25. A run depends on its seed alone.
func TestOneSeedOneTrace(t *testing.T) {
	for seed := range uint64(40) {
		a, b := RunSeed(Config{Seed: seed, Steps: 1000}), RunSeed(Config{Seed: seed, Steps: 1000})
		if a.Trace != b.Trace || a.Stats != b.Stats {
			t.Errorf("seed %d: traces %016x and %016x, %+v and %+v", seed, a.Trace, b.Trace, a.Stats, b.Stats)
		}
	}
}

// TestCaseIsText: a case that is printed and parsed runs as before, also with the fate of each message listed.
func TestCaseIsText(t *testing.T) {
	for seed := range uint64(30) {
		c := Plan(Config{Seed: seed, Steps: 600})
		want := Run(c, Options{Record: true})
		for _, c := range []*Case{c, want.Case} {
			again, err := ParseCase(c.String())
			if err != nil {
				t.Fatal(err)
			}
			if again.String() != c.String() {
				t.Fatalf("seed %d: the text changes:\n%s\n%s", seed, c, again)
			}
			if got := Run(again, Options{}); got.Trace != want.Trace {
				t.Errorf("seed %d: trace %016x, want %016x", seed, got.Trace, want.Trace)
			}
		}
	}
}

// TestParseCaseRefuses: a text that is not a case is refused with its line.
func TestParseCaseRefuses(t *testing.T) {
	head := "rowmesh-sim 1\nreplicas 2\n"
	for _, text := range []string{
		"", "seed 1", head + "link 0 2", head + "link 0 0", head + "@5 fly 1", head + "@-1 crash 0 5", head + "@1 crash 7 5", head + "@1 write 0 get t:1",
		head + "@1 write 0 put z:1 a=1", head + "@1 write 0 put t:1 q=1", head + "msg 0>1 drop", head + "msg 0>1 #3 fly", "rowmesh-sim 1\nreplicas 100000", head + "rates x=1", head + "nonsense",
	} {
		if c, err := ParseCase(text); err == nil {
			t.Errorf("%q is taken as %v", text, c)
		}
	}
}

// TestStopAtEveryOperationOfTheDisk: P3, P5. A machine that stops in the middle of any operation of its disk finds, when it
// starts again, each commit whole or not at all, and has told nobody of what it lost.
func TestStopAtEveryOperationOfTheDisk(t *testing.T) {
	plan := Plan(Config{Seed: 3, Steps: 200, Replicas: 2, Topology: Mesh, Faults: FaultsNone})
	plan.Disk = true
	for i := range plan.Actions { // slow enough for the machines to exchange what they write
		plan.Actions[i].At = int64(i+1) * 500
	}
	plan.End = int64(len(plan.Actions)+1) * 500
	stopped := 0
	for n := int64(0); ; n++ {
		c := *plan
		c.Actions = append([]Action{{At: 0, Do: "break", A: int(n % 2), N: n / 2}}, plan.Actions...)
		r := Run(&c, Options{})
		if r.Err != nil {
			t.Fatalf("stop at operation %d: %v", n, r)
		}
		if r.Marks["stopped in a commit"] == 0 && n%2 == 1 {
			break
		}
		stopped++
	}
	if stopped < 200 {
		t.Errorf("only %d operations", stopped)
	}
}

// BenchmarkEvents reports the events of a simulated group per second, on the store in memory.
func BenchmarkEvents(b *testing.B) {
	events := 0
	for i := 0; b.Loop(); i++ {
		c := Plan(Config{Seed: uint64(i)})
		c.Disk = false
		events += Run(c, Options{}).Stats.Events
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}
