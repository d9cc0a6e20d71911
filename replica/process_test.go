package replica

import "testing"

// TestBlocksThatCameAlreadyCostNoCommit: P7. In a mesh each block comes from every neighbour. Only the first
// copy may lock the store, small or compressed, alone or among others.
func TestBlocksThatCameAlreadyCostNoCommit(t *testing.T) {
	w := newWorld(t, 1, 2)
	a, b := w.nodes[0], w.nodes[1]
	w.connect(a, b)
	w.run(1000)
	var blocks []Frame
	a.sees = func(_ *node, f Frame) bool {
		if f.Type == FrameBlocks {
			blocks = append(blocks, f)
		}
		return true
	}
	w.write(a, 3, 12)
	w.run(100)
	w.write(a, 500, 400)
	w.run(1000)
	if len(blocks) != 2 || blocks[0].Zstd || !blocks[1].Zstd {
		t.Fatalf("a small and a compressed block should have been pushed: %v", blocks)
	}
	commits, double := b.store.commits, b.r.stats.BlocksDuplicate
	for l := range b.wires {
		for range 10 {
			b.in = append(b.in, Input{From: l, Frame: &blocks[0]}, Input{From: l, Frame: &blocks[1]})
			b.process()
		}
	}
	if got := b.r.stats.BlocksDuplicate - double; got != 20 || b.store.commits != commits {
		t.Fatalf("20 frames that came already: %d blocks were counted, %d commits made", got, b.store.commits-commits)
	}
	w.requireEqual()
}
