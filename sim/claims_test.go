package sim

import "testing"

// vanish plans the trap of sessions. Server S writes over what others wrote, alone; client C is in the middle of its session with
// S when S goes for ever, after the n-th message to C; another server, which never had what S wrote, goes on. What S
// alone knew is lost, and nobody may claim what it was overwritten by, nor what it overwrote.
func vanish(links [][2]int, s, c int, others []int, n uint64) *Case {
	plan := &Case{Replicas: 4, Links: links, Chunk: 1, Late: []int{c}, Fates: map[Message]Fate{}, End: 60_000}
	write := func(at int64, m int, verb, cols string, keys ...int) {
		var ops []Op
		for _, k := range keys {
			ops = append(ops, Op{Verb: verb, Table: "t", Key: k, Cols: cols, Value: at + int64(k)*3})
		}
		plan.Actions = append(plan.Actions, Action{At: at, Do: "write", A: m, Write: [][]Op{ops}})
	}
	for k := range 24 {
		write(int64(k), 0, "put", "abc", k)
	}
	for i, m := range others {
		write(2000+int64(i), m, "set", "b", 2, 4)
		write(3000+int64(i), m, "put", "abc", 10+i)
	}
	alone := []int{}
	for _, m := range append(others, 0) {
		if m != s {
			alone = append(alone, m)
		}
	}
	for _, m := range alone { // C hears of nobody but S until S is gone
		plan.Actions = append(plan.Actions, Action{At: 5000, Do: "cut", A: s, B: m, N: 15_000}, Action{At: 5000, Do: "cut", A: c, B: m, N: 15_000})
	}
	write(6000, s, "rep", "abc", 1, 3)
	write(6100, s, "set", "c", 2, 5)
	write(6200, s, "del", "", 6)
	plan.Actions = append(plan.Actions, Action{At: 8000, Do: "start", A: c})
	for i := range uint64(200) {
		plan.Fates[Message{s, c, n + i}] = Fate{Drop: true}
	}
	plan.Actions = append(plan.Actions, Action{At: 12_000, Do: "leave", A: s})
	write(30_000, alone[0], "set", "a", 5)
	return plan
}

// TestServerVanishesAtEveryChunk: the claim rule. In a line of three and in a star with three spokes, the session is cut after every message,
// its server never comes back, and another goes on. That what is claimed is there is checked at every commit.
func TestServerVanishesAtEveryChunk(t *testing.T) {
	for _, shape := range []struct {
		name   string
		links  [][2]int
		s, c   int
		others []int
	}{
		{"line", [][2]int{{0, 1}, {1, 2}, {0, 2}, {0, 3}}, 1, 2, []int{1}},
		{"star", [][2]int{{0, 1}, {0, 2}, {0, 3}, {1, 2}, {2, 3}, {1, 3}}, 0, 2, []int{1, 3}},
	} {
		t.Run(shape.name, func(t *testing.T) {
			resumed, whole := 0, 0
			for n := uint64(0); n < 40; n++ {
				plan := vanish(shape.links, shape.s, shape.c, shape.others, n)
				r := Run(plan, Options{})
				if r.Err != nil {
					t.Fatalf("after message %d: %v\n%s", n, r, plan)
				}
				resumed += r.Marks["session broken"]
				if r.Marks["session broken"] == 0 {
					whole++
				}
			}
			if resumed < 20 || whole == 0 {
				t.Errorf("%d sessions were broken off, %d runs had none: the test does not test what it should", resumed, whole)
			}
			t.Logf("%d sessions broken off, %d of 40 whole", resumed, whole)
		})
	}
}
