package replica

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// snapshot is a copy of a database, and what it had written by then.
type snapshot struct {
	owner *node
	state State
	rows  map[RowKey]crdt.Row
	life  history
}

func (n *node) snapshot() snapshot {
	return snapshot{n, must(n.store.Load()), maps.Clone(n.store.rows), history{n.life.origin, slices.Clone(n.life.blocks)}}
}

// setBack puts a copy in the place of a node's database. Transactions that nobody else had are lost with it.
func (w *world) setBack(n *node, s snapshot) {
	w.unplug(n)
	for _, other := range w.nodes {
		other.process()
		// What is staged of the forgotten part is out of reach, see the package comment; what is held of it would make the
		// oracle wrong about what is lost.
		p, own := other.r.pull, s.life.origin
		if other.r.held[own] != nil || p != nil && p.seen[own] > s.state.Coverage[own] {
			w.restart(other)
		}
	}
	n.store = newMemStore()
	n.store.state, n.store.rows, n.life = s.state, maps.Clone(s.rows), history{s.life.origin, slices.Clone(s.life.blocks)}
	n.store.state.Coverage = s.state.Coverage.Clone()
	w.written = slices.DeleteFunc(w.written, func(b *crdt.Block) bool {
		return !slices.ContainsFunc(w.nodes, func(n *node) bool { return n.store.state.Coverage.Covers(b.Stamp) })
	})
}

// expert returns the node that knows most of an origin, but for n itself.
func (w *world) expert(n *node, o crdt.Origin) *node {
	var best *node
	for _, m := range w.nodes {
		if m != n && (best == nil || m.store.state.Coverage[o] > best.store.state.Coverage[o]) {
			best = m
		}
	}
	return best
}

// reissue is what the program does about a ForkError: it loads the replica anew, links and all. All that the
// database ever wrote must have outlived that; the oracle notes what still names its writer as written anew.
func (n *node) reissue() {
	before := n.life.blocks
	n.branch = false
	n.load(Config{Forked: true})
	row := func(k RowKey) crdt.Row { return n.store.rows[k] }
	if err := CheckClaims(crdt.Coverage{originOf(before): hlc.Max}, before, row); err != nil {
		n.w.t.Fatalf("node %d: what was issued anew is less than what was there: %v", n.id, err)
	}
	own := n.r.Origin()
	for k, row := range n.store.rows {
		for _, s := range row.Stamps(nil) {
			if s.Origin == own {
				d := crdt.RowDelta{Schema: testSchema, Key: k.Key, Row: row.Without(without(row, s))}
				n.life.blocks = append(n.life.blocks, &crdt.Block{Stamp: s, Rows: []crdt.RowDelta{d}})
			}
		}
	}
	n.w.written = append(n.w.written, n.life.blocks...)
	n.checkClaims()
	for id, x := range n.wires {
		n.in = append(n.in, Input{Up: &LinkUp{id, fmt.Sprint("node", x.peer(n).id)}})
	}
}

// originOf returns the origin of some blocks.
func originOf(blocks []*crdt.Block) crdt.Origin {
	if len(blocks) == 0 {
		return crdt.Origin{}
	}
	return blocks[0].Stamp.Origin
}

func (x *wire) peer(n *node) *node {
	if x.a == n {
		return x.b
	}
	return x.a
}

// TestSetBackDatabasesKeepBothBranches: P22. Databases are put back to earlier copies of themselves, at
// random moments of a random world. With the fence seeing it the replica takes a new origin before its first
// write. Without, it goes on writing under the old one, until it meets somebody who knows what it forgot;
// then all it wrote is issued anew. Nothing of either branch is lost, claims stay true, all converge.
func TestSetBackDatabasesKeepBothBranches(t *testing.T) {
	forks := 0
	for seed := range seeds(150) {
		if !t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { forks += setBackWorld(t, uint64(seed)) }) {
			return
		}
	}
	if forks < seeds(150)/4 {
		t.Fatalf("only %d databases forked", forks)
	}
}

func setBackWorld(t *testing.T, seed uint64) (forks int) {
	w := newWorld(t, seed, 3+int(seed%3))
	w.loss, w.dup = w.rng.Float64()*0.2, w.rng.Float64()*0.3
	var copies []snapshot
	for range 60 {
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		switch w.rng.IntN(12) {
		case 0, 1, 2, 3, 4:
			w.write(n, 1+w.rng.IntN(6), 12)
		case 5, 6, 7:
			if m := w.nodes[w.rng.IntN(len(w.nodes))]; n != m && !w.linked(n, m) {
				w.connect(n, m)
			}
		case 8:
			if len(w.wires) > 0 {
				w.cut(w.wires[w.rng.IntN(len(w.wires))])
			}
		case 9, 10:
			copies = append(copies, n.snapshot())
		case 11:
			if len(copies) > 0 {
				s := copies[w.rng.IntN(len(copies))]
				if w.setBackRandomly(s.owner, s) {
					forks++
					break
				}
				// If it went on writing, its origin's way now leads on from here: a copy that knows another one
				// is not used any more, for nobody is left who could tell the two apart.
				copies = slices.DeleteFunc(copies, func(c snapshot) bool {
					return c.state.Coverage[s.life.origin] > s.state.Coverage[s.life.origin]
				})
			}
		}
		w.run(w.rng.Int64N(300))
	}
	w.heal()
	w.requireEqual()
	return forks
}

// setBackRandomly sets a node back, with or without the fence seeing it, and reports whether it forked.
func (w *world) setBackRandomly(n *node, s snapshot) bool {
	w.setBack(n, s)
	if w.rng.IntN(3) == 0 {
		n.load(Config{NeedOrigin: true})
		return false
	}
	n.load(Config{})
	own := n.r.Origin()
	expert := w.expert(n, own)
	n.branch = expert.store.state.Coverage[own] > n.store.state.Coverage[own]
	forked := n.branch
	for range w.rng.IntN(5) {
		w.now += w.rng.Int64N(50)
		w.write(n, 1+w.rng.IntN(6), 12)
	}
	loss := w.loss
	w.loss = 0
	w.connect(n, expert)
	w.run(500)
	w.loss = loss
	if n.branch {
		w.t.Fatalf("node %d wrote under %s, of which node %d knows more, and did not notice", n.id, own.Short(), expert.id)
	}
	return forked
}
