package sim

import (
	"fmt"
	"testing"
	"time"
)

// small is a group just too large for a full mesh.
var small = Scale{Seed: 1, Nodes: 80, Writers: 8, Messages: 60, Warmup: 3, PerS: 20, Topology: Mesh}

// TestTrees: once every writer's tree has grown, a block comes to each replica once, as soon as by flooding. What is lost, or was to come by
// way of a replica that stopped, comes by a session soon after, and the trees grow together again.
func TestTrees(t *testing.T) {
	run := func(p Phase, change func(*Scale)) Spread {
		t.Helper()
		s := small
		change(&s)
		r := s.Run(p)[0]
		t.Log(r)
		if r.Err != nil || r.Deliveries < s.Messages*(s.Nodes-1)*8/10 {
			t.Errorf("%d deliveries, %v", r.Deliveries, r.Err)
		}
		return r
	}
	tree := run(Phase{}, func(*Scale) {})
	flood := run(Phase{}, func(s *Scale) { s.Flood = true })
	if flood.Copies < 5 || flood.Copies > flood.Links {
		t.Errorf("flooding makes %.2f copies on %.1f links", flood.Copies, flood.Links)
	}
	if tree.Copies > 1.1 || tree.P99 > flood.P99*11/10 {
		t.Errorf("%.2f copies, p99 %s, by flooding %s", tree.Copies, tree.P99, flood.P99)
	}
	if r := run(Phase{Loss: 0.02}, func(*Scale) {}); r.Copies > 1.25 || r.P99 > 600*time.Millisecond || r.Grafted == 0 {
		t.Errorf("with losses: %.2f copies, p99 %s, %d grafts", r.Copies, r.P99, r.Grafted)
	}
	if r := run(Phase{Crashes: 0.1}, func(*Scale) {}); r.Copies > 1.25 || r.P99 > 600*time.Millisecond || r.Grafted == 0 {
		t.Errorf("with crashes: %.2f copies, p99 %s, %d grafts", r.Copies, r.P99, r.Grafted)
	}
	if r := run(Phase{}, func(s *Scale) { s.Topology = Star }); r.Copies != 1 {
		t.Errorf("in a star: %.3f copies", r.Copies)
	}
}

// TestScaleIsDetermined: equal seeds, equal figures.
func TestScaleIsDetermined(t *testing.T) {
	s := small
	s.Nodes, s.Messages = 66, 20
	phases := []Phase{{Loss: 0.05}, {Crashes: 0.1}}
	run := func() string { return fmt.Sprint(s.Run(phases...)) }
	a, b := run(), run()
	if a != b {
		t.Errorf("%s\n%s", a, b)
	}
	s.Seed++
	if c := run(); c == a {
		t.Errorf("another seed makes no difference: %s", c)
	}
}
