package network

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	libp2pnet "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/rowmesh/rowmesh/replica"
)

// patience bounds the wait for an event that must come.
const patience = 30 * time.Second

func identity(t *testing.T) Identity {
	t.Helper()
	id, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func open(t *testing.T, cfg Config) *Network {
	t.Helper()
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func addr(t *testing.T, s string) Addr {
	t.Helper()
	a, err := ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// await returns the first event of a kind for which ok holds.
func await[E any](t *testing.T, n *Network, ok func(E) bool) E {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case ev := <-n.Events():
			if e, is := ev.(E); is && (ok == nil || ok(e)) {
				return e
			}
		case <-late:
			var e E
			t.Fatalf("no %T came", e)
		}
	}
}

func place(n *Network) string {
	s := n.Addrs()[0]
	s, _, _ = strings.Cut(s, "/p2p/")
	return s
}

func frameHello(body string) replica.Frame {
	return replica.Frame{Type: replica.FrameHello, Body: []byte(body)}
}

func TestFramesCrossInBothDirections(t *testing.T) {
	for _, listen := range []string{"tcp://127.0.0.1:0", "quic://127.0.0.1:0"} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("%.4s/id known %v", listen, known), func(t *testing.T) {
				ia, ib := identity(t), identity(t)
				a := open(t, Config{Identity: ia, Listen: []Addr{addr(t, listen)}, Allow: []PeerID{ib.PeerID()}})
				to := place(a)
				cfg := Config{Identity: ib, Allow: []PeerID{ia.PeerID()}}
				if known {
					to, cfg.Allow = a.Addrs()[0], nil
				}
				cfg.Connect = []Addr{addr(t, to)}
				b := open(t, cfg)
				la, lb := await[LinkUp](t, a, nil), await[LinkUp](t, b, nil)
				if la.Peer != ib.PeerID() || lb.Peer != ia.PeerID() {
					t.Fatal("a link to the wrong peer")
				}
				big := make([]byte, replica.MaxFrameBytes)
				a.Send(la.Link, replica.Frame{Type: replica.FrameHello, Body: []byte("x")})
				b.Send(lb.Link, replica.Frame{Type: replica.FrameChunk, Body: big})
				if f := await[FrameIn](t, b, nil); f.Frame.Type != replica.FrameHello || string(f.Frame.Body) != "x" {
					t.Fatalf("b got %v", f.Frame.Type)
				}
				if f := await[FrameIn](t, a, nil); len(f.Frame.Body) != len(big) {
					t.Fatalf("a got %d bytes", len(f.Frame.Body))
				}
			})
		}
	}
}

// TestStrangerIsRefusedOnce: P19, an un-enrolled peer reaches no handler and is named to the operator, once.
func TestStrangerIsRefusedOnce(t *testing.T) {
	a := open(t, Config{Identity: identity(t), Listen: []Addr{addr(t, "tcp://127.0.0.1:0")}})
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		m, _ := ma.NewMultiaddr(place(a))
		h.Peerstore().ClearAddrs(a.ID())
		err := h.Connect(ctx, peer.AddrInfo{ID: a.ID(), Addrs: []ma.Multiaddr{m}})
		for _, p := range []string{"/rowmesh/1", "/rowmesh/sync/1", "/ipfs/ping/1.0.0"} {
			if s, bad := h.NewStream(ctx, a.ID(), controlProtocol); bad == nil {
				if _, bad := io.ReadFull(s, make([]byte, 1)); bad == nil {
					t.Fatalf("a stranger was answered on %s", p)
				}
			}
		}
		cancel()
		_ = err // with TLS 1.3 the dialler may learn of the refusal only later
	}
	if r := await[Refused](t, a, nil); r.Peer != h.ID() {
		t.Fatalf("refused %s", r.Peer)
	}
	select {
	case ev := <-a.Events():
		t.Fatalf("a second event for the same stranger: %#v", ev)
	default:
	}
}

// TestRefusedPeerIsTold: who dials a peer that does not allow him learns that this may be why, and by which id he would be allowed.
func TestRefusedPeerIsTold(t *testing.T) {
	a := open(t, Config{Identity: identity(t), Listen: []Addr{addr(t, "tcp://127.0.0.1:0")}})
	b := open(t, Config{Identity: identity(t)})
	b.Connect(addr(t, a.Addrs()[0]))
	if ev := await[DialFailed](t, b, nil); !strings.Contains(ev.Err.Error(), "it may not allow this peer, whose id is "+b.ID().String()) {
		t.Fatal(ev.Err)
	}
}

func TestUnknownPeerAtAnAddressIsNamed(t *testing.T) {
	a := open(t, Config{Identity: identity(t), Listen: []Addr{addr(t, "tcp://127.0.0.1:0")}})
	b := open(t, Config{Identity: identity(t), Connect: []Addr{addr(t, place(a))}})
	ev := await[DialFailed](t, b, nil)
	if !strings.Contains(ev.Err.Error(), "--allow "+a.ID().String()) {
		t.Fatal(ev.Err)
	}
}

func TestRevokedPeerIsCutOff(t *testing.T) {
	ia, ib := identity(t), identity(t)
	a := open(t, Config{Identity: ia, Listen: []Addr{addr(t, "tcp://127.0.0.1:0")}, Allow: []PeerID{ib.PeerID()}})
	b := open(t, Config{Identity: ib, Connect: []Addr{addr(t, a.Addrs()[0])}})
	await[LinkUp](t, a, nil)
	await[LinkUp](t, b, nil)
	a.Revoke(ib.PeerID())
	await[LinkDown](t, a, nil)
	await[LinkDown](t, b, nil)
	await[Refused](t, a, nil)
}

// proxy is a cable that can be cut.
type proxy struct {
	l     net.Listener
	to    string
	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: to}
	t.Cleanup(func() { l.Close(); p.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, c, d)
			p.mu.Unlock()
			go func() { _, _ = io.Copy(c, d); c.Close() }()
			go func() { _, _ = io.Copy(d, c); d.Close() }()
		}
	}()
	return p
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func TestLinkComesBackAfterACut(t *testing.T) {
	ia, ib := identity(t), identity(t)
	a := open(t, Config{Identity: ia, Listen: []Addr{addr(t, "tcp://127.0.0.1:0")}, Allow: []PeerID{ib.PeerID()}})
	port, _ := addr(t, place(a)).Multi.ValueForProtocol(ma.P_TCP)
	p := newProxy(t, "127.0.0.1:"+port)
	b := open(t, Config{Identity: ib, Allow: []PeerID{ia.PeerID()}, Connect: []Addr{addr(t, "tcp://"+p.l.Addr().String())}})
	first := await[LinkUp](t, a, nil)
	await[LinkUp](t, b, nil)
	for range 3 {
		p.cut()
		await[LinkDown](t, a, nil)
		await[LinkDown](t, b, nil)
		if next := await[LinkUp](t, a, nil); next.Link == first.Link {
			t.Fatal("a link number was used again")
		}
		up := await[LinkUp](t, b, nil)
		b.Send(up.Link, replica.Frame{Type: replica.FrameHello})
		await[FrameIn](t, a, nil)
	}
}

func TestTwoThatDialEachOtherHaveOneLink(t *testing.T) {
	ia, ib := identity(t), identity(t)
	a := open(t, Config{Identity: ia, Listen: []Addr{addr(t, "tcp://127.0.0.1:0")}})
	b := open(t, Config{Identity: ib, Listen: []Addr{addr(t, "tcp://127.0.0.1:0")}})
	a.Connect(addr(t, b.Addrs()[0]))
	b.Connect(addr(t, a.Addrs()[0]))
	la, lb := await[LinkUp](t, a, nil), await[LinkUp](t, b, nil)
	for i := range 20 { // whatever connections come and go meanwhile, the link carries on
		a.Send(la.Link, replica.Frame{Type: replica.FrameHello, Body: []byte{byte(i)}})
		f := await[FrameIn](t, b, nil)
		b.Send(f.Link, f.Frame)
		await[FrameIn](t, a, func(f FrameIn) bool { return f.Frame.Body[0] == byte(i) })
	}
	_ = lb
}

// TestSlowPeerLags: P18, what a peer does not take is bounded, and said.
func TestSlowPeerLags(t *testing.T) {
	ia, ib := identity(t), identity(t)
	a := open(t, Config{Identity: ia, Listen: []Addr{addr(t, "tcp://127.0.0.1:0")}, Allow: []PeerID{ib.PeerID()}})
	b := open(t, Config{Identity: ib, Connect: []Addr{addr(t, a.Addrs()[0])}})
	up := await[LinkUp](t, a, nil)
	frame := replica.Frame{Type: replica.FrameBlocks, Body: make([]byte, 64<<10)}
	for range 10_000 { // b's events are not read, so its reader stops and the window closes
		if !a.Send(up.Link, frame) {
			await[Lagging](t, a, func(l Lagging) bool { return l.Link == up.Link })
			return
		}
	}
	_ = b
	t.Fatal("640 MB were queued for a peer that reads nothing")
}

func TestPortInUseIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Open(Config{Identity: identity(t), Listen: []Addr{addr(t, "tcp://"+l.Addr().String())}})
	if err == nil || !strings.Contains(err.Error(), "port is in use") || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Fatal(err)
	}
}

// TestManyPeersBehindOneAddress: the limiter lets an office connect at once. Loopback is exempt from it, so
// it is asked directly about a made-up address.
func TestManyPeersBehindOneAddress(t *testing.T) {
	l := connLimiter()
	office := netip.MustParseAddr("192.0.2.7")
	for i := range connsBurst {
		if !l.Allow(office) {
			t.Fatalf("connection %d from one address was refused", i)
		}
	}
	refused := false
	for range connsBurst {
		refused = refused || !l.Allow(office)
	}
	if !refused {
		t.Fatal("a flood from one address is not slowed")
	}
}

func TestIdentityFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "identity.key")
	first, err := LoadIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadIdentity(path)
	if err != nil || again.PeerID() != first.PeerID() {
		t.Fatal(again.PeerID(), err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(path); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Fatal(err)
	}
}

func TestAddresses(t *testing.T) {
	id := identity(t).PeerID().String()
	for in, want := range map[string]string{
		"tcp://0.0.0.0:7070":                     "/ip4/0.0.0.0/tcp/7070",
		"tcp://:7070":                            "/ip4/0.0.0.0/tcp/7070",
		"tcp://[::1]:1":                          "/ip6/::1/tcp/1",
		"tcp://db.example.org:7070":              "/dns/db.example.org/tcp/7070",
		"quic://127.0.0.1:9":                     "/ip4/127.0.0.1/udp/9/quic-v1",
		"tcp://127.0.0.1:7070/p2p/" + id:         "/ip4/127.0.0.1/tcp/7070/p2p/" + id,
		"/ip4/127.0.0.1/udp/7/quic-v1/p2p/" + id: "/ip4/127.0.0.1/udp/7/quic-v1/p2p/" + id,
		"tcp://127.0.0.1":                        "",
		"http://127.0.0.1:1":                     "",
		"127.0.0.1:7070":                         "",
		"/p2p/" + id:                             "",
		"tcp://127.0.0.1:99999":                  "",
		"tcp://127.0.0.1:7070/p2p/not-an-id":     "",
	} {
		a, err := ParseAddr(in)
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "tcp://host:7070") {
				t.Errorf("%q: %v, %v", in, a, err)
			}
		} else if err != nil || a.String() != want {
			t.Errorf("%q gives %q, %v", in, a, err)
		}
	}
}

// TestPortInUse: a port belongs to one program, also when the second is a peer too. The error names the address
// and says what to do.
func TestPortInUse(t *testing.T) {
	for _, scheme := range []string{"tcp", "quic"} {
		first := open(t, Config{Identity: identity(t), Listen: []Addr{addr(t, scheme+"://127.0.0.1:0")}})
		where := addr(t, first.Addrs()[0]).Multi
		second, err := Open(Config{Identity: identity(t), Listen: []Addr{{Multi: where}}})
		if err == nil {
			second.Close()
			t.Fatalf("%s: two peers listen on %s", scheme, where)
		}
		if !strings.Contains(err.Error(), "the port is in use") || !strings.Contains(err.Error(), where.String()) {
			t.Errorf("%s: %v", scheme, err)
		}
	}
}

// TestLostBeforeLink: a connection that ends before there is a link over it is dialled again at once, not only
// when the time to open a link is over. Here the other side, whose turn it is to open, hangs up instead.
func TestLostBeforeLink(t *testing.T) {
	ours, theirs := identity(t), identity(t)
	if ours.id < theirs.id {
		ours, theirs = theirs, ours
	}
	h, err := libp2p.New(libp2p.Identity(theirs.key), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	came := make(chan struct{}, 10)
	h.Network().Notify(&libp2pnet.NotifyBundle{ConnectedF: func(_ libp2pnet.Network, c libp2pnet.Conn) {
		came <- struct{}{}
		go c.Close()
	}})
	n := open(t, Config{Identity: ours})
	n.Connect(Addr{Multi: h.Addrs()[0], Peer: theirs.id})
	late := time.After(openTimeout) // without the notice it takes twice that
	for range 3 {
		select {
		case <-came:
		case <-late:
			t.Fatal("the peer is not dialled again")
		}
	}
}
