package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	libp2pnet "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
)

// target is an address to keep a link to.
type target struct {
	addr    Addr
	ctx     context.Context // ends when it is no longer wanted
	stop    context.CancelFunc
	peer    PeerID         // who was found there last; guarded by Network.mu
	places  []ma.Multiaddr // where to dial; of an id alone, as found last; guarded by Network.mu
	located chan struct{}  // holds a token when the peer was found
	chosen  bool           // by the mesh, and not by Connect; guarded by Network.mu
}

// Connect keeps a link to the peer at an address, dialling again whenever it is lost. A peer id in the
// address is thereby allowed; where there is nothing else in it the peer is left to dial, or looked for.
func (n *Network) Connect(a Addr) {
	defer n.choose() // the group may have grown
	n.mu.Lock()
	defer n.mu.Unlock()
	if a.Peer != "" {
		n.allowed[a.Peer] = true
	}
	if relay := relayOf(a.Multi); relay != "" {
		n.relays[relay] = true
	}
	if a.Multi != nil || n.seeks != DiscoverNone {
		n.keepLocked(a, false)
	}
}

// keepLocked begins to keep a link, unless that goes on already. One that Connect asks for is no longer the mesh's to let go.
func (n *Network) keepLocked(a Addr, chosen bool) {
	if t := n.targets[a.String()]; t != nil {
		t.chosen = t.chosen && chosen
		return
	}
	if n.ctx.Err() != nil {
		return
	}
	t := &target{addr: a, peer: a.Peer, located: make(chan struct{}, 1), chosen: chosen}
	if a.Multi != nil {
		t.places = []ma.Multiaddr{a.Multi}
	}
	t.ctx, t.stop = context.WithCancel(n.ctx)
	n.targets[a.String()] = t
	n.done.Add(1)
	go func() {
		defer n.done.Done()
		n.keep(t)
	}()
}

// Disconnect ends the link to the peer at an address, where no other address that is to be kept leads to it, and no longer
// dials it. The peer goes on being allowed.
func (n *Network) Disconnect(a Addr) {
	n.mu.Lock()
	t := n.targets[a.String()]
	if t == nil {
		n.mu.Unlock()
		return
	}
	n.dropLocked(t)
	kept, l := n.keptLocked(t.peer), n.byPeer[t.peer]
	n.mu.Unlock()
	if l != nil && !kept {
		l.end(errPreferred)
	}
}

// errPreferred is the reason for the end of a link that is no longer wanted.
var errPreferred = errors.New("network: another peer is preferred")

func (n *Network) dropLocked(t *target) {
	delete(n.targets, t.addr.String())
	t.stop()
}

// keptLocked reports whether an address that is to be kept leads to the peer.
func (n *Network) keptLocked(id PeerID) bool {
	for _, t := range n.targets {
		if t.peer == id {
			return true
		}
	}
	return false
}

// release ends what this peer opened to one that the mesh chose and no longer does. What the other opened is the other's to end.
func (n *Network) release(t *target) {
	id := t.addr.Peer
	n.mu.Lock()
	kept, l := !t.chosen || n.keptLocked(id), n.byPeer[id]
	n.mu.Unlock()
	if kept {
		return
	}
	if l != nil && outbound(l.streams[0].Conn()) {
		l.end(errPreferred)
	}
	for _, c := range n.host.Network().ConnsToPeer(id) { // a link may not be there yet
		if outbound(c) {
			_ = c.Close()
		}
	}
}

func outbound(c libp2pnet.Conn) bool { return c.Stat().Direction == libp2pnet.DirOutbound }

// PeerAt returns who was found last at an address that links are kept to, "" where nobody was.
func (n *Network) PeerAt(a Addr) PeerID {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.targets[a.String()]; t != nil {
		return t.peer
	}
	return a.Peer
}

// keep dials a target for as long as it is wanted.
func (n *Network) keep(t *target) {
	defer func() {
		if t.ctx.Err() != nil {
			n.release(t)
			n.emit(DialEnded{t.addr})
		}
	}()
	pause := dialFirst
	last := ""
	if t.addr.Multi == nil {
		select {
		case <-t.located:
		case <-t.ctx.Done():
		}
	}
	for t.ctx.Err() == nil {
		id, err := n.dial(t)
		if err == nil {
			began := time.Now()
			if n.awaitEnd(t.ctx, id) {
				last = ""
			} else {
				err = n.explainDial(t.addr, errNoLink)
			}
			if time.Since(began) > lastingLink {
				pause = dialFirst
			}
		}
		if err != nil && err.Error() != last && t.ctx.Err() == nil {
			last = err.Error()
			n.emit(DialFailed{t.addr, err})
		}
		if errors.Is(err, ErrSelf) {
			return
		}
		select {
		case <-t.ctx.Done():
		case <-t.located:
			pause = dialFirst
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // jitter needs no secrecy
		}
		pause = min(2*pause, dialMost)
	}
}

// ErrSelf says that a peer was told to connect to itself: it may have the same list of hubs as all others.
var ErrSelf = errors.New("network: this is the peer itself")

// errNoLink says that the other side took the connection and ended it before there was a link.
var errNoLink = errors.New("network: the connection ended before there was a link")

// linkEnd is the end of the next link to a peer, or of the one that there is.
type linkEnd struct {
	over   chan struct{} // closed then
	linked bool          // there was a link
}

func (n *Network) endLocked(id PeerID) *linkEnd {
	end := n.waiting[id]
	if end == nil {
		end = &linkEnd{over: make(chan struct{})}
		n.waiting[id] = end
	}
	return end
}

// awaitEnd waits until the link to a peer, which may still have to come up, has ended, and reports whether there was one.
func (n *Network) awaitEnd(ctx context.Context, id PeerID) bool {
	n.mu.Lock()
	end := n.endLocked(id)
	up := n.byPeer[id] != nil
	n.mu.Unlock()
	if !up {
		if n.host.Network().Connectedness(id) != libp2pnet.Connected {
			return false // it was lost before there was a link
		}
		select {
		case <-end.over:
		case <-ctx.Done():
		case <-time.After(2 * openTimeout):
			n.mu.Lock()
			up = n.byPeer[id] != nil
			n.mu.Unlock()
			if !up { // one side does not know of the connection: the next attempt makes a new one
				_ = n.host.Network().ClosePeer(id)
			}
		}
	}
	if up {
		select {
		case <-end.over:
		case <-ctx.Done():
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return end.linked
}

// dial connects to the peer at the target's address and returns its id.
func (n *Network) dial(t *target) (PeerID, error) {
	ctx, cancel := context.WithTimeout(t.ctx, dialTimeout)
	defer cancel()
	a, id := t.addr, t.addr.Peer
	if id == "" {
		var err error
		switch id, err = n.learnID(ctx, a.Multi); {
		case errors.Is(err, swarm.ErrDialToSelf):
			id = n.host.ID()
		case err != nil:
			return "", n.explainDial(a, err)
		}
		if id != n.host.ID() && !n.isAllowed(id) {
			n.refused(id, a.String())
			return "", fmt.Errorf("network: the peer at %s is %s, which is not allowed: start with --allow %s if it should be", a, id, id)
		}
	}
	if id == n.host.ID() {
		return "", fmt.Errorf("%w: %s", ErrSelf, a)
	}
	n.mu.Lock()
	t.peer = id
	places := t.places
	n.mu.Unlock()
	if sw, ok := n.host.Network().(*swarm.Swarm); ok {
		sw.Backoff().Clear(id)
	}
	n.host.Peerstore().ClearAddrs(id) // dial where the operator said, not where the peer says it listens too
	if err := n.host.Connect(ctx, peer.AddrInfo{ID: id, Addrs: places}); err != nil {
		return "", n.explainDial(a, err)
	}
	n.connected(id)
	return id, nil
}

// learnID finds out who listens at an address: it asks for a made-up peer, and the handshake fails with the
// id of the real one, which has proven it.
func (n *Network) learnID(ctx context.Context, addr ma.Multiaddr) (PeerID, error) {
	nobody, err := NewIdentity()
	if err != nil {
		return "", err
	}
	n.mu.Lock()
	n.probes[nobody.id] = true
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.probes, nobody.id)
		n.mu.Unlock()
		n.host.Peerstore().ClearAddrs(nobody.id)
		n.host.Peerstore().RemovePeer(nobody.id)
	}()
	err = n.host.Connect(ctx, peer.AddrInfo{ID: nobody.id, Addrs: []ma.Multiaddr{addr}})
	var mismatch sec.ErrPeerIDMismatch
	if errors.As(err, &mismatch) {
		return mismatch.Actual, nil
	}
	// QUIC hides the error behind a TLS alert that keeps its text only.
	if err != nil {
		if _, rest, ok := strings.Cut(err.Error(), "remote key matches "); ok {
			word, _, _ := strings.Cut(rest, "\n")
			word, _, _ = strings.Cut(strings.TrimSpace(word), " ")
			if id, bad := peer.Decode(strings.TrimRight(word, ")].,;")); bad == nil {
				return id, nil
			}
		}
	}
	return "", err
}

// explainDial turns libp2p's report into one sentence.
func (n *Network) explainDial(a Addr, err error) error {
	text := "no answer"
	if err != nil {
		text = err.Error()
	}
	ended := "it ended the connection; it may not allow this peer, whose id is " + n.host.ID().String()
	for _, known := range []struct{ part, say string }{
		{"NO_RESERVATION", "the peer is not connected to that relay now"},
		{"error opening hop stream", "the relay ended the connection; where it is a peer of yours, the two must allow each other"},
		{"PERMISSION_DENIED", "the relay does not allow one of the two peers"},
		{"connection refused", "nothing listens there"},
		{"peer id mismatch", "another peer listens there than the address names"},
		{"gater disallows", "the peer is not allowed here"},
		{"i/o timeout", "no answer in time"},
		{"deadline exceeded", "no answer in time"},
		{"no such host", "the name does not resolve"},
		{"network is unreachable", "the network is unreachable"},
		{"connection reset", ended},
		{"EOF", ended},
		{errNoLink.Error(), ended},
	} {
		if strings.Contains(text, known.part) {
			return fmt.Errorf("network: cannot reach %s: %s", a, known.say)
		}
	}
	return fmt.Errorf("network: cannot reach %s: %w", a, err)
}
