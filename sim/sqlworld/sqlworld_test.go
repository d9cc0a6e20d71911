package sqlworld

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rowmesh/rowmesh/replica/trace"
	"github.com/rowmesh/rowmesh/sim"
)

func lab(t *testing.T) *Lab {
	t.Helper()
	l, err := NewLab(sim.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func run(t *testing.T, cfg sim.Config) sim.Result {
	cfg.Store = sim.StoreSQL
	return sim.Run(sim.Plan(cfg), sim.Options{SQL: lab(t).Medium})
}

// TestCases: cases that once broke a promise keep it now.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.case")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		c, err := sim.ParseCase(string(b))
		if err != nil {
			t.Fatal(f, err)
		}
		if r := sim.Run(c, sim.Options{SQL: lab(t).Medium}); r.Err != nil {
			t.Errorf("%v; replay: peer sim replay sim/sqlworld/%s", r, f)
		}
	}
}

// TestSwarm: P1, P2, P3, P5, P6, P7, P8, P9, P10, P14. Replicas in databases, with capture and projection, keep every promise through every
// fault, and the tables show the merged rows after every commit.
func TestSwarm(t *testing.T) {
	seeds := 30
	if testing.Short() {
		seeds = 6
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := run(t, sim.Config{Seed: seed, Steps: 600})
			t.Log(r)
			if r.Err != nil {
				t.Errorf("replay: peer sim replay --store sql --steps 600 %d", seed)
			}
		})
	}
}

// TestRecordingsReplay: P25. A replica in a database, with capture, does the same again without one, also with other values.
func TestRecordingsReplay(t *testing.T) {
	for seed := range uint64(8) {
		var mask *[32]byte
		if seed%2 == 1 {
			mask = new([32]byte)
		}
		var tapes []*bytes.Buffer
		c := sim.Plan(sim.Config{Seed: seed, Steps: 600, Store: sim.StoreSQL})
		r := sim.Run(c, sim.Options{SQL: lab(t).Medium, Mask: mask, Traces: func(int) io.Writer {
			tapes = append(tapes, &bytes.Buffer{})
			return tapes[len(tapes)-1]
		}})
		if r.Err != nil {
			t.Fatal(r)
		}
		for i, tape := range tapes {
			if sum, err := trace.Replay(tape, nil); err != nil || sum.Cut || sum.Full {
				t.Errorf("seed %d, machine %d: %+v %v", seed, i, sum, err)
			}
		}
	}
}

// TestSetBacks: P22. A database that is put back, with all that lies beside it as it was, forks as a replica without SQL does.
func TestSetBacks(t *testing.T) {
	marks := sim.Marks{}
	for seed := range uint64(20) {
		c := sim.Plan(sim.Config{Seed: seed, Steps: 150, Replicas: 3, Store: sim.StoreSQL, Faults: sim.FaultsNone})
		for i, a := range c.Actions {
			c.Actions[i].At = 2000 + a.At%3000
		}
		m := int(seed % 3)
		c.Actions = append(c.Actions, sim.Action{At: 3000, Do: "backup", A: m}, sim.Action{At: 4000, Do: "setback", A: m, N: 100}, sim.Action{At: 4000, Do: "isolate", A: m, N: 500})
		slices.SortStableFunc(c.Actions, func(a, b sim.Action) int { return cmp.Compare(a.At, b.At) })
		c.End = 5000
		r := sim.Run(c, sim.Options{SQL: lab(t).Medium})
		if r.Err != nil {
			t.Fatalf("%v\n%s", r, c)
		}
		marks.Add(r.Marks)
	}
	if marks["both branches kept"] < 5 {
		t.Errorf("only few forks:\n%s", marks)
	}
}
