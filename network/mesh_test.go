package network

import (
	"slices"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/rowmesh/rowmesh/replica"
)

// meshGroup is a group of peers on one machine that have found each other.
type meshGroup struct {
	t     *testing.T
	ids   []Identity
	peers []*Network // nil: it is away
	ports []Addr
	signs chan struct{} // something has happened
}

func (g *meshGroup) open(i int) {
	g.t.Helper()
	cfg := Config{Identity: g.ids[i], Listen: []Addr{g.ports[i]}}
	for _, id := range g.ids {
		cfg.Allow = append(cfg.Allow, id.PeerID())
	}
	n, err := Open(cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	n.mu.Lock()
	n.seeks, n.mesh = DiscoverMesh, replica.NewMesh(string(n.ID()), 4) // loopback has no multicast
	n.mu.Unlock()
	g.peers[i], g.ports[i] = n, addr(g.t, place(n))
	go func() {
		for range n.Events() {
			select {
			case g.signs <- struct{}{}:
			default:
			}
		}
	}()
}

// find lets a peer know at once where all others are.
func (g *meshGroup) find(i int) {
	n := g.peers[i]
	n.mu.Lock()
	for j, id := range g.ids {
		if j != i {
			n.places[id.PeerID()] = []ma.Multiaddr{g.ports[j].Multi}
		}
	}
	n.mu.Unlock()
	n.choose()
}

// later lets time pass for the choice of whom to dial.
func (g *meshGroup) later(d time.Duration) {
	for _, n := range g.peers {
		if n != nil {
			n.mu.Lock()
			n.began = n.began.Add(-d)
			n.mu.Unlock()
			n.choose()
		}
	}
}

func (g *meshGroup) close(i int) {
	if n := g.peers[i]; n != nil {
		g.peers[i] = nil
		if err := n.Close(); err != nil {
			g.t.Error(err)
		}
	}
}

// dials returns whom a peer dials, and who of them is linked.
func (g *meshGroup) dials(i int) (dialed, linked []PeerID) {
	n := g.peers[i]
	if n == nil {
		return nil, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.targets {
		dialed = append(dialed, t.addr.Peer)
		if n.byPeer[t.addr.Peer] != nil {
			linked = append(linked, t.addr.Peer)
		}
	}
	slices.Sort(dialed)
	return dialed, linked
}

// until waits until something is so.
func (g *meshGroup) until(what string, so func() bool) {
	g.t.Helper()
	late := time.After(patience)
	for !so() {
		select {
		case <-g.signs:
		case <-late:
			g.t.Fatal("never: " + what)
		}
	}
}

// settled reports whether each peer is linked with four of those that it dials, and two only where one dials the other.
func (g *meshGroup) settled() bool {
	for i, n := range g.peers {
		dialed, linked := g.dials(i)
		if n != nil && len(linked) < 4 {
			return false
		}
		for j, m := range g.peers {
			if j == i || n == nil || m == nil {
				continue
			}
			others, _ := g.dials(j)
			n.mu.Lock()
			up := n.byPeer[m.ID()] != nil
			n.mu.Unlock()
			if up != (slices.Contains(dialed, m.ID()) || slices.Contains(others, n.ID())) {
				return false
			}
		}
	}
	return true
}

// TestMeshDialsNeighbours: in a group that is too large to be linked fully each peer dials four, and is dialled by others. For one
// that is away another is dialled, until it is back and has held.
func TestMeshDialsNeighbours(t *testing.T) {
	g := &meshGroup{t: t, signs: make(chan struct{}, 1)}
	for i := range 12 {
		g.ids, g.peers, g.ports = append(g.ids, identity(t)), append(g.peers, nil), append(g.ports, addr(t, "tcp://127.0.0.1:0"))
		t.Cleanup(func() { g.close(i) })
	}
	for i := range g.ids {
		g.open(i)
	}
	var first [][]PeerID
	for i := range g.ids {
		g.find(i)
		dialed, _ := g.dials(i)
		if first = append(first, dialed); len(dialed) != 4 {
			t.Fatalf("%d are dialled", len(dialed))
		}
	}
	g.until("all are linked with their neighbours", g.settled)
	g.later(10 * time.Second)

	gone := g.ids[0].PeerID()
	g.close(0)
	g.until("all notice that one is away", func() bool {
		for i := range g.ids {
			if _, linked := g.dials(i); slices.Contains(linked, gone) {
				return false
			}
		}
		return true
	})
	g.later(20 * time.Second)
	g.until("another is linked in the place of one that is away", g.settled)
	for i := range g.ids[1:] {
		i++
		want := first[i]
		dialed, _ := g.dials(i)
		if slices.Contains(want, gone) {
			if len(dialed) != 5 {
				t.Errorf("one of four is away, and %d are dialled", len(dialed))
			}
		} else if !slices.Equal(dialed, want) {
			t.Error("the choice has changed where nobody is away")
		}
	}

	g.open(0)
	g.find(0)
	g.until("those in its place are let go", func() bool {
		if !g.settled() {
			return false
		}
		same := true
		for i := range g.ids {
			dialed, linked := g.dials(i)
			if len(linked) < len(dialed) {
				return false
			}
			same = same && slices.Equal(dialed, first[i])
		}
		if !same {
			g.later(10 * time.Second)
		}
		return same
	})
	for _, n := range g.peers {
		if members, found, dialed := n.Mesh(); members != 12 || found != 11 || dialed != 4 {
			t.Errorf("of %d members %d are found and %d are dialled", members, found, dialed)
		}
	}
}
