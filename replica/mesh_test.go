package replica

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestMeshFollowsPeers: whom a peer dials while others come and go. Others are numbered by its order of preference.
func TestMeshFollowsPeers(t *testing.T) {
	names := map[string]int{}
	var others []Candidate
	for i := range 12 {
		others = append(others, Candidate{ID: fmt.Sprint("peer ", i)})
	}
	others = preferred("self", others)
	for i, c := range others {
		names[c.ID] = i
	}
	const late, held = int64(20_000), int64(10_000)
	m := NewMesh("self", 8)
	for _, c := range []struct {
		what    string
		now     int64
		known   []int
		linked  []int
		members int
		dial    []int
		wake    int64
	}{
		{"a small group: all", 0, []int{1, 4, 6, 7, 9}, nil, 6, []int{1, 4, 6, 7, 9}, late},
		{"it grows by members of whom the places are not known", 1, []int{1, 4, 6, 7, 9}, []int{1, 6, 7, 9}, 9, []int{1, 4, 6, 7, 9}, 1 + held},
		{"those that are linked hold", 1 + held, []int{1, 4, 6, 7, 9}, []int{1, 6, 7, 9}, 9, []int{1, 4, 6, 7, 9}, late},
		{"4 comes late: it is counted on until it is given up", late - 1, []int{1, 4, 6, 7, 9}, []int{1, 6, 7, 9}, 9, []int{1, 4, 6, 7, 9}, late},
		{"4 is given up and goes on being dialled", late, []int{1, 4, 6, 7, 9}, []int{1, 6, 7, 9}, 9, []int{1, 4, 6, 7, 9}, never},
		{"4 is back: 9 stays beside it", 30_000, []int{1, 4, 6, 7, 9}, []int{1, 4, 6, 7, 9}, 9, []int{1, 4, 6, 7, 9}, 30_000 + held},
		{"4 is gone before it held", 35_000, []int{1, 4, 6, 7, 9}, []int{1, 6, 7, 9}, 9, []int{1, 4, 6, 7, 9}, never},
		{"4 is back again", 36_000, []int{1, 4, 6, 7, 9}, []int{1, 4, 6, 7, 9}, 9, []int{1, 4, 6, 7, 9}, 36_000 + held},
		{"4 has held: 9 is let go", 46_000, []int{1, 4, 6, 7, 9}, []int{1, 4, 6, 7, 9}, 9, []int{1, 4, 6, 7}, never},
		{"0 is found: 7 stays until it holds", 50_000, []int{0, 1, 4, 6, 7, 9}, []int{1, 4, 6, 7}, 9, []int{0, 1, 4, 6, 7}, 50_000 + late},
		{"0 is linked", 51_000, []int{0, 1, 4, 6, 7, 9}, []int{0, 1, 4, 6, 7}, 9, []int{0, 1, 4, 6, 7}, 51_000 + held},
		{"0 holds: 7 is let go", 61_000, []int{0, 1, 4, 6, 7, 9}, []int{0, 1, 4, 6, 7}, 9, []int{0, 1, 4, 6}, never},
		{"7 dials this one, which changes nothing", 62_000, []int{0, 1, 4, 6, 7, 9}, []int{0, 1, 4, 6, 7}, 9, []int{0, 1, 4, 6}, never},
		{"1 and 6 are lost", 70_000, []int{0, 1, 4, 6, 7, 9}, []int{0, 4, 7}, 9, []int{0, 1, 4, 6}, 70_000 + late},
		{"the next two take their places at once", 90_000, []int{0, 1, 4, 6, 7, 9, 11}, []int{0, 4, 7}, 9, []int{0, 1, 4, 6, 7, 9}, 90_000 + held},
		{"9 is not linked, and 2 is found, which is preferred", 91_000, []int{0, 1, 2, 4, 6, 7, 9, 11}, []int{0, 4, 7}, 9, []int{0, 1, 2, 4, 6, 7}, 90_000 + held},
		{"1 is allowed no more", 92_000, []int{0, 2, 4, 6, 7, 9, 11}, []int{0, 4, 7}, 9, []int{0, 2, 4, 6, 7}, 90_000 + held},
		{"many leave the group: all are dialled", 93_000, []int{0, 2, 4, 6, 7, 9, 11}, []int{0, 4, 7}, 8, []int{0, 2, 4, 6, 7, 9, 11}, 90_000 + held},
	} {
		var known []Candidate
		for _, i := range c.known {
			known = append(known, Candidate{ID: others[i].ID, Linked: slices.Contains(c.linked, i)})
		}
		var dial []int
		for _, id := range m.Choose(c.now, c.members, known) {
			dial = append(dial, names[id])
		}
		if slices.Sort(dial); !slices.Equal(dial, c.dial) || m.Wake() != c.wake {
			t.Errorf("%s: dials %d, and wakes at %d; want %d, %d", c.what, dial, m.Wake(), c.dial, c.wake)
		}
	}
}

// meshWorld is a group of peers that find each other one by one and keep the links that they choose.
type meshWorld struct {
	t     *testing.T
	now   int64
	peers []*meshPeer
}

type meshPeer struct {
	name  string
	mesh  *Mesh
	finds []int // the others, as they are found
	known int   // how many of them are
	dial  map[int]bool
	down  bool
}

func newMeshWorld(t *testing.T, seed uint64, n int) *meshWorld {
	w := &meshWorld{t: t}
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range n {
		name := fmt.Sprint("peer ", seed, " ", i)
		p := &meshPeer{name: name, mesh: NewMesh(name, FullMesh), dial: map[int]bool{}}
		p.finds = slices.DeleteFunc(rng.Perm(n), func(j int) bool { return i == j })
		w.peers = append(w.peers, p)
	}
	return w
}

func (w *meshWorld) linked(i, j int) bool {
	a, b := w.peers[i], w.peers[j]
	return !a.down && !b.down && (a.dial[j] || b.dial[i])
}

// pass lets time pass for those that are up. Each finds so many others a second.
func (w *meshWorld) pass(seconds, finds int) {
	for range seconds {
		w.now += 1000
		dial := make([]map[int]bool, len(w.peers))
		for i, p := range w.peers {
			p.known = min(p.known+finds, len(p.finds))
			if dial[i] = p.dial; p.down || finds == 0 && w.now%5000 != 0 {
				continue
			}
			byName := map[string]int{}
			var others []Candidate
			for _, j := range p.finds[:p.known] {
				byName[w.peers[j].name] = j
				others = append(others, Candidate{ID: w.peers[j].name, Linked: w.linked(i, j)})
			}
			dial[i] = map[int]bool{}
			for _, id := range p.mesh.Choose(w.now, len(w.peers), others) {
				dial[i][byName[id]] = true
			}
		}
		for i, p := range w.peers {
			p.dial = dial[i]
		}
	}
}

// require checks that those that are up reach each other, that each has reached as many as it is to dial, and nobody has too
// many links.
func (w *meshWorld) require(what string) {
	w.t.Helper()
	links := make([]map[int]bool, len(w.peers))
	sum, least, most, up := 0, len(w.peers), 0, []int{}
	for i, p := range w.peers {
		links[i] = map[int]bool{}
		for j := range w.peers {
			if w.linked(i, j) {
				links[i][j] = true
			}
		}
		if !p.down {
			up = append(up, i)
			sum, least, most = sum+len(links[i]), min(least, len(links[i])), max(most, len(links[i]))
		}
	}
	mean := float64(sum) / float64(len(up))
	w.t.Logf("%s: %.2f links each, %d to %d", what, mean, least, most)
	if mean < 7 || mean > 8.5 || least < dialAll || most > 24 {
		w.t.Errorf("%s: %.2f links each, %d to %d", what, mean, least, most)
	}
	if got := reached(links, up[0], func(i int) bool { return w.peers[i].down }); got != len(up) {
		w.t.Errorf("%s: one reaches %d of %d", what, got, len(up))
	}
}

// TestMeshOfHundreds: hundreds of peers find each other one by one, a tenth of them goes without a word, and comes back. At
// every stage the others are in one piece with about eight links each, and in the end the links are those of the beginning.
func TestMeshOfHundreds(t *testing.T) {
	for seed := range uint64(2) {
		w := newMeshWorld(t, seed, 200)
		w.pass(5, 40)
		w.pass(15, 0)
		w.require("all are found")
		first := []map[int]bool{}
		for _, p := range w.peers {
			first = append(first, maps.Clone(p.dial))
			if len(p.dial) != dialAll {
				t.Errorf("a peer dials %d", len(p.dial))
			}
		}
		for i := 3; i < len(w.peers); i += 10 {
			w.peers[i].down = true
		}
		w.pass(90, 0)
		w.require("a tenth is gone")
		for _, p := range w.peers {
			p.down = false
		}
		w.pass(30, 0)
		w.require("all are back")
		for i, p := range w.peers {
			if !maps.Equal(p.dial, first[i]) {
				t.Errorf("peer %d dials %v, and before others were gone %v", i, p.dial, first[i])
			}
		}
	}
}
