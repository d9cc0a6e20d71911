package network

import (
	"context"
	"strings"
	"testing"

	libp2pnet "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// TestRelay: L-8. Two peers of which neither listens meet at a third, which relays only between those that it allows; and each
// of the two still asks who the other is.
func TestRelay(t *testing.T) {
	ir, ia, ib, is := identity(t), identity(t), identity(t), identity(t)
	r := open(t, Config{
		Identity: ir, Listen: []Addr{addr(t, "tcp://127.0.0.1:0")}, Allow: []PeerID{ia.PeerID(), ib.PeerID(), is.PeerID()}, RelayService: true,
	})
	relay := addr(t, r.Addrs()[0])
	a := open(t, Config{Identity: ia, Allow: []PeerID{ib.PeerID(), ir.PeerID()}, Relays: []Addr{relay}})
	to := addr(t, a.Addrs()[0])
	b := open(t, Config{Identity: ib, Allow: []PeerID{ir.PeerID()}, Connect: []Addr{to}})
	la := await(t, a, func(l LinkUp) bool { return l.Peer == ib.PeerID() })
	lb := await(t, b, func(l LinkUp) bool { return l.Peer == ia.PeerID() })
	if !strings.Contains(lb.Addr, "/p2p-circuit") {
		t.Fatalf("the link runs over %s", lb.Addr)
	}
	a.Send(la.Link, frameHello("by way of the relay"))
	await(t, b, func(f FrameIn) bool { return f.Link == lb.Link && string(f.Frame.Body) == "by way of the relay" })
	// A peer that the relay serves and a does not allow.
	open(t, Config{Identity: is, Allow: []PeerID{ir.PeerID()}, Connect: []Addr{to}})
	if ref := await[Refused](t, a, nil); ref.Peer != is.PeerID() {
		t.Errorf("refused %s", ref.Peer)
	}

	// A direct connection, as after a hole was punched, takes the place of the relayed one.
	if err := a.host.Network().Listen(addr(t, "tcp://127.0.0.1:0").Multi); err != nil {
		t.Fatal(err)
	}
	var direct []ma.Multiaddr
	for _, m := range a.host.Network().ListenAddresses() {
		if !isCircuit(m) {
			direct = append(direct, m)
		}
	}
	ctx, cancel := context.WithTimeout(libp2pnet.WithForceDirectDial(context.Background(), "test"), patience)
	defer cancel()
	if err := b.host.Connect(ctx, peer.AddrInfo{ID: a.ID(), Addrs: direct}); err != nil {
		t.Fatal(err)
	}
	await(t, b, func(d LinkDown) bool { return d.Link == lb.Link })
	if up := await(t, b, func(l LinkUp) bool { return l.Peer == ia.PeerID() }); strings.Contains(up.Addr, "/p2p-circuit") {
		t.Errorf("the link runs over %s", up.Addr)
	}
}

// TestRelayMustBeNamed: a relay without an id could be anybody.
func TestRelayMustBeNamed(t *testing.T) {
	if n, err := Open(Config{Identity: identity(t), Relays: []Addr{addr(t, "tcp://127.0.0.1:7070")}}); err == nil {
		n.Close()
		t.Error("a relay without an id is taken")
	}
}

// TestFound: who is found on the local network is dialled where it is allowed, and on a spoke where it is in the list of hubs;
// and again where it is found elsewhere. What multicast DNS reports is made up here: loopback has no multicast.
func TestFound(t *testing.T) {
	ia, ib := identity(t), identity(t)
	a := open(t, Config{Identity: ia, Listen: []Addr{addr(t, "tcp://127.0.0.1:0")}, Allow: []PeerID{ib.PeerID()}})
	at := []ma.Multiaddr{addr(t, a.Addrs()[0]).Multi}
	if n, err := Open(Config{Identity: identity(t), Discover: DiscoverAllowed}); err == nil || !strings.Contains(err.Error(), "--bind") {
		t.Error("a peer that cannot be found looks for others:", n, err)
	}
	nowhere := []ma.Multiaddr{addr(t, "tcp://127.0.0.1:1").Multi}
	for _, seeks := range []Discovery{DiscoverMesh, DiscoverAllowed, DiscoverListed} {
		b := open(t, Config{Identity: ib, Allow: []PeerID{ia.PeerID()}})
		b.seeks = seeks
		b.found(identity(t).PeerID(), at) // not allowed
		b.mu.Lock()
		if len(b.targets) > 0 {
			t.Error("a stranger that was found is dialled")
		}
		b.mu.Unlock()
		if seeks == DiscoverListed {
			b.found(ia.PeerID(), at)
			b.mu.Lock()
			if len(b.targets) > 0 {
				t.Error("a peer that is not in the list is dialled")
			}
			b.mu.Unlock()
			b.Connect(Addr{Peer: ia.PeerID()})
		}
		b.found(ia.PeerID(), nowhere)
		await[DialFailed](t, b, nil)
		b.found(ia.PeerID(), at)
		if up := await[LinkUp](t, b, nil); up.Peer != ia.PeerID() {
			t.Errorf("a link to %s", up.Peer)
		}
		await[LinkUp](t, a, nil)
		if seeks == DiscoverMesh {
			b.Revoke(ia.PeerID())
		} else {
			b.Disconnect(Addr{Peer: ia.PeerID()})
		}
		await[DialEnded](t, b, nil)
		await[LinkDown](t, a, nil)
	}
}
