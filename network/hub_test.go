package network

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

// TestDisconnect: a link that is no longer wanted ends and is not dialled again; it can be wanted again, and stays while
// another address of the same peer is wanted.
func TestDisconnect(t *testing.T) {
	ia, ib := identity(t), identity(t)
	a := open(t, Config{Identity: ia, Listen: []Addr{addr(t, "tcp://127.0.0.1:0"), addr(t, "quic://127.0.0.1:0")}, Allow: []PeerID{ib.PeerID()}})
	b := open(t, Config{Identity: ib, Allow: []PeerID{ia.PeerID()}})
	one, two := addr(t, a.Addrs()[0]), addr(t, place(a))
	b.Connect(one)
	first := await[LinkUp](t, b, nil)
	b.Connect(two)
	for b.PeerAt(two) == "" { // an address without an id: the dialler has to ask who is there
		select {
		case ev := <-b.Events():
			t.Fatalf("%#v", ev)
		default:
			runtime.Gosched()
		}
	}
	b.Disconnect(one)
	b.Send(first.Link, frameHello("still"))
	await[FrameIn](t, a, nil)
	b.Disconnect(two)
	if down := await[LinkDown](t, b, nil); down.Link != first.Link {
		t.Fatal("another link ended")
	}
	await[LinkDown](t, a, nil)
	b.mu.Lock()
	left := len(b.targets)
	b.mu.Unlock()
	if left != 0 {
		t.Fatalf("%d addresses are kept", left)
	}
	b.Connect(two)
	if up := await[LinkUp](t, b, nil); up.Link == first.Link {
		t.Fatal("a link number was used again")
	}
}

// TestOwnAddress: a hub may have the same list of hubs as all others, with its own address in it.
func TestOwnAddress(t *testing.T) {
	a := open(t, Config{Identity: identity(t), Listen: []Addr{addr(t, "tcp://127.0.0.1:0")}})
	for _, to := range []string{place(a), a.Addrs()[0]} {
		a.Connect(addr(t, to))
		if ev := await[DialFailed](t, a, nil); !errors.Is(ev.Err, ErrSelf) {
			t.Fatal(ev.Err)
		}
	}
}

func TestHubByItsID(t *testing.T) {
	id := identity(t).PeerID()
	for _, s := range []string{id.String(), "/p2p/" + id.String()} {
		if a, err := ParseHub(s); err != nil || a.Multi != nil || a.Peer != id || a.String() != "/p2p/"+id.String() {
			t.Errorf("%s: %v, %v", s, a, err)
		}
	}
	if a, err := ParseHub("tcp://127.0.0.1:7070/p2p/" + id.String()); err != nil || a.Peer != id || a.Multi == nil {
		t.Error(a, err)
	}
	if _, err := ParseHub("nonsense"); err == nil || !strings.Contains(err.Error(), "is not an address") {
		t.Error(err)
	}
	n := open(t, Config{Identity: identity(t)})
	n.Connect(Addr{Peer: id}) // it is left to dial, and allowed to
	if !n.isAllowed(id) {
		t.Error("the hub may not connect")
	}
}
