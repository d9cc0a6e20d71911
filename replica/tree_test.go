package replica

import (
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// TestStrangersAreNotCollected: P18. What a peer says of origins that nobody here has heard of is not collected.
func TestStrangersAreNotCollected(t *testing.T) {
	r, now := crowd(t, 100, 2)
	l := r.link(1)
	for n := range 300 {
		strangers := crdt.Coverage{}
		for i := range 1000 {
			strangers[originNumber(1000*(n+1)+i)] = 5
		}
		for _, f := range []Frame{
			{Type: FramePrune, Body: encodeBody(pruneBody{Prune: vectorOf(strangers)})},
			{Type: FramePrune, Body: encodeBody(pruneBody{Graft: vectorOf(strangers)})},
		} {
			if err := r.Step(nil, now, 1, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(l.lazy)+len(r.tree) > 0 || len(l.known) != 100 {
		t.Errorf("%d pruned, %d branches, %d known", len(l.lazy), len(r.tree), len(l.known))
	}
	for n := range maxKnown/1000 + 50 {
		heads := crdt.Coverage{}
		for i := range 1000 {
			heads[originNumber(1000*(n+1)+i)] = hlc.Timestamp(n + 1)
		}
		if err := r.Step(nil, now, 1, Frame{Type: FrameHeads, Body: encodeBody(headsBody{Heads: vectorOf(heads)})}); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.known) != maxKnown || len(l.ahead) > maxKnown {
		t.Errorf("%d heads are remembered, %d of them ahead", len(l.known), len(l.ahead))
	}
}

// TestPruneAndGraft: a link is pruned and grafted for an origin at both ends, and anything that follows HELLO on a link
// begins without pruned links.
func TestPruneAndGraft(t *testing.T) {
	r, now := crowd(t, 3, 2)
	o := originNumber(1)
	heads := vectorOf(crdt.Coverage{o: r.coverage[o]})
	step := func(f FrameType, body any) {
		t.Helper()
		if err := r.Step(nil, now, 1, Frame{Type: f, Body: encodeBody(body)}); err != nil {
			t.Fatal(err)
		}
	}
	lazy := func() int { return len(r.link(1).lazy) }
	step(FramePrune, pruneBody{Prune: heads})
	step(FramePrune, pruneBody{Prune: heads})
	if lazy() != 1 {
		t.Errorf("%d are pruned", lazy())
	}
	step(FramePrune, pruneBody{Graft: heads})
	if lazy() != 0 {
		t.Errorf("%d are pruned after a graft", lazy())
	}
	step(FramePrune, pruneBody{Prune: heads})
	other := originNumber(9)
	step(FrameHello, helloBody{Version: 1, MinVersion: 1, Group: r.group[:], Origin: other[:], Heads: packed{Heads: heads}, Ready: true, Answer: true})
	if lazy() != 0 {
		t.Errorf("%d are pruned after HELLO", lazy())
	}
	r.tree[o] = branch{link: 1}
	step(FramePrune, pruneBody{Prune: heads})
	if len(r.tree) != 0 {
		t.Error("a link that is pruned still counts as the one that brings the blocks")
	}
}
