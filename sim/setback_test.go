package sim

import (
	"cmp"
	"slices"
	"testing"
)

// setBacks adds to a plan that machines are put back to earlier states again and again.
func setBacks(c *Case) {
	g := rng(c.Seed, 0x5e7bac)
	for range 4 {
		m, at := g.IntN(c.Replicas), g.Int64N(c.End)
		back := at + 1 + g.Int64N(c.End-at+1)
		c.Actions = append(c.Actions, Action{At: at, Do: "backup", A: m}, Action{At: back, Do: "setback", A: m, N: 1 + g.Int64N(500)})
		if g.IntN(4) > 0 {
			c.Actions = append(c.Actions, Action{At: back, Do: "isolate", A: m, N: g.Int64N(c.End)}) // it writes before it meets anybody
		}
	}
	slices.SortStableFunc(c.Actions, func(a, b Action) int { return cmp.Compare(a.At, b.At) })
}

// TestSetBacks: P22. A machine whose database was put back without a sign goes on under its origin, finds out as soon as it meets
// somebody who knows what it forgot, and nothing of either branch is lost.
func TestSetBacks(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() {
		seeds = 40
	}
	marks := Marks{}
	for seed := range seeds {
		c := Plan(Config{Seed: seed, Steps: 500})
		c.Liar = 0 // with whom nobody could tell what is owed
		setBacks(c)
		r := Run(c, Options{})
		marks.Add(r.Marks)
		if r.Err != nil {
			t.Errorf("%v\n%s", r, Shrink(c, Options{}, nil))
			return
		}
	}
	t.Logf("%d set back, %d found, %d of them with two branches, %d out of reach", marks["set back without a sign"], marks["fork found"], marks["both branches kept"], marks["fork out of reach"])
	if uint64(marks["both branches kept"]) < seeds/20 {
		t.Errorf("only %d forks, in %d seeds, of which both branches had to be kept", marks["both branches kept"], seeds)
	}
}
