package simtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rowmesh/rowmesh/sim"
)

// TestPlainWrites: a world without SQL keeps what is written through a partition, a crash and wrong clocks.
func TestPlainWrites(t *testing.T) {
	Run(t, Config{Replicas: 4, Faults: sim.FaultsSwarm, Seeds: 20}, func(w *World) {
		w.Write(0, "put t:1 abc=10; put u:2 abc=20")
		w.Partition([]int{0, 1}, []int{2, 3})
		w.Write(1, "set t:1 a=11")
		w.Write(2, "put t:1 bc=30 | del u:2")
		w.Crash(3)
		w.AdvanceClock(2, -72*time.Hour)
		w.Pass(time.Minute)
		w.Heal()
		w.Restart(3)
		w.Write(3, "put v:5 abc=40")
		w.Settle()
		w.RequireConverged()
	})
}

// TestFails is what TestFailureSaysHowToRunItAgain looks at.
func TestFails(t *testing.T) {
	if os.Getenv("ROWMESH_TEST_FAILS") == "" {
		t.Skip("run by another test")
	}
	Run(t, Config{Schema: `CREATE TABLE a(id TEXT PRIMARY KEY, n INTEGER)`, Seeds: 9}, func(w *World) {
		w.Exec(0, `INSERT INTO a VALUES ('x', 1)`)
		w.Settle()
		w.RequireRow(2, `SELECT n FROM a WHERE id = ?`, "x", 2)
	})
}

// TestDiffers is what TestDifferenceIsSeen looks at.
func TestDiffers(t *testing.T) {
	if os.Getenv("ROWMESH_TEST_FAILS") == "" {
		t.Skip("run by another test")
	}
	Run(t, Config{Replicas: 2}, func(w *World) {
		w.Partition([]int{0}, []int{1})
		w.Write(0, "put t:1 abc=10")
		w.RequireConverged()
	})
}

// TestDifferenceIsSeen: P25. Without SQL, too, a test that demands equal rows fails where they are not.
func TestDifferenceIsSeen(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiffers$")
	cmd.Env = append(os.Environ(), "ROWMESH_TEST_FAILS=1")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), " at m0 and ") && !strings.Contains(string(out), " at m1 and ") {
		t.Fatalf("%v:\n%s", err, out)
	}
}

// TestFailureSaysHowToRunItAgain: P25. A failing test prints the line that runs its seed again, and what it found.
func TestFailureSaysHowToRunItAgain(t *testing.T) {
	for seed, flag := range map[string]string{"1": "-sim.seeds=3", "7": "-sim.seed=7"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFails$", flag)
		cmd.Env = append(os.Environ(), "ROWMESH_TEST_FAILS=1")
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Fatalf("it passes:\n%s", out)
		}
		for _, want := range []string{"rerun: go test -run '^TestFails$' -sim.seed=" + seed + " -sim.trace", "gives [[1]], expected [2]"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s does not print %q:\n%s", flag, want, out)
			}
		}
	}
}
