package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	libp2pnet "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/rowmesh/rowmesh/replica"
)

// The protocols of version 1. A stream of each makes a link.
const (
	controlProtocol protocol.ID = "/rowmesh/1"
	sessionProtocol protocol.ID = "/rowmesh/sync/1"
)

// Config says who this peer is and whom it talks to.
type Config struct {
	Identity Identity
	Listen   []Addr   // where to listen; none: only dial
	Connect  []Addr   // whom to keep a link to; an id in an address is thereby allowed
	Allow    []PeerID // who else may connect
	Logger   *slog.Logger

	Discover     Discovery // whom to look for on the local network
	Relays       []Addr    // through which others may reach this peer; each with its id
	Circuits     []Addr    // that Connect may be called with later: some may lead through a relay
	RelayService bool      // be a relay between peers that are allowed
	HolePunch    bool      // try for a direct connection where one leads through a relay
}

// Event is one of the event types below.
type Event any

// LinkUp is the first event of a link. FrameIn and Lagging follow, LinkDown is its last.
type LinkUp struct {
	Link replica.LinkID
	Peer PeerID
	Addr string
}

// FrameIn is a frame that came.
type FrameIn struct {
	Link  replica.LinkID
	Frame replica.Frame
}

// LinkDown is the end of a link.
type LinkDown struct {
	Link   replica.LinkID
	Peer   PeerID
	Reason error
}

// Lagging says that frames to the peer were thrown away because it took them too slowly.
type Lagging struct{ Link replica.LinkID }

// Refused says that a peer that is not allowed tried to connect, or was found at an address. Each id is
// reported once.
type Refused struct {
	Peer PeerID
	Addr string
}

// DialFailed says that an address could not be reached. It is reported again only when the reason changes.
type DialFailed struct {
	Addr Addr
	Err  error
}

// DialEnded says that an address is no longer dialled, because another peer is preferred.
type DialEnded struct{ Addr Addr }

// Network is one libp2p host and its links. Its methods may be called from any goroutine.
type Network struct {
	host   host.Host
	log    *slog.Logger
	events chan Event
	ctx    context.Context
	stop   context.CancelFunc
	done   sync.WaitGroup
	lastID atomic.Uint64

	mu        sync.Mutex
	allowed   map[PeerID]bool
	probes    map[PeerID]bool // made-up ids that a dial to an unknown peer goes to
	strangers *lru.Cache[PeerID, struct{}]
	links     map[replica.LinkID]*link
	byPeer    map[PeerID]*link
	halves    map[PeerID]*half
	opening   map[PeerID]bool
	waiting   map[PeerID]*linkEnd
	targets   map[string]*target // by their addresses
	relays    map[PeerID]bool    // may be dialled, whether allowed or not
	via       []Addr             // relays that lead here
	seeks     Discovery
	lan       io.Closer // nil: nobody is looked for
	began     time.Time
	mesh      *replica.Mesh             // whom to dial of those that are found
	places    map[PeerID][]ma.Multiaddr // where those are that are allowed and were found
	again     *time.Timer               // when the mesh is to choose again; nil: it has not chosen yet
}

// Open starts a host, listens and begins to dial.
func Open(cfg Config) (*Network, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	strangers, err := lru.New[PeerID, struct{}](maxStrangers)
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n := &Network{
		log: cfg.Logger, events: make(chan Event, eventBuffer), ctx: ctx, stop: stop, allowed: map[PeerID]bool{}, probes: map[PeerID]bool{},
		strangers: strangers, links: map[replica.LinkID]*link{}, byPeer: map[PeerID]*link{}, halves: map[PeerID]*half{},
		opening: map[PeerID]bool{}, waiting: map[PeerID]*linkEnd{}, targets: map[string]*target{}, relays: map[PeerID]bool{}, via: cfg.Relays, seeks: cfg.Discover,
		began: time.Now(), mesh: replica.NewMesh(string(cfg.Identity.id), replica.FullMesh), places: map[PeerID][]ma.Multiaddr{},
	}
	for _, id := range cfg.Allow {
		n.allowed[id] = true
	}
	for _, a := range cfg.Relays {
		if a.Peer == "" {
			stop()
			return nil, fmt.Errorf("network: the relay %s must be given with its id", a)
		}
		n.relays[a.Peer] = true
	}
	if n.host, err = newHost(cfg, n); err != nil {
		stop()
		return nil, err
	}
	n.host.SetStreamHandler(controlProtocol, n.accept)
	n.host.SetStreamHandler(sessionProtocol, n.accept)
	n.host.Network().Notify(&libp2pnet.NotifyBundle{
		ConnectedF:    func(_ libp2pnet.Network, c libp2pnet.Conn) { n.preferDirect(c); n.connected(c.RemotePeer()) },
		DisconnectedF: func(_ libp2pnet.Network, c libp2pnet.Conn) { n.ended(c.RemotePeer()) }, // perhaps before there was a link
	})
	if err := n.listen(cfg.Listen); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	for _, a := range cfg.Connect {
		n.Connect(a)
	}
	if cfg.Discover != DiscoverNone {
		if n.lan, err = n.discover(n.host); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

func newHost(cfg Config, gate *Network) (host.Host, error) {
	limits, err := resourceManager()
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	h, err := libp2p.New(append(relayOptions(cfg, gate),
		libp2p.Identity(cfg.Identity.key), libp2p.NoListenAddrs, libp2p.ConnectionGater(gate), libp2p.ResourceManager(limits),
		// A port belongs to one program: with SO_REUSEPORT a second peer would listen beside the first, and each would
		// get some of the connections.
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()), libp2p.Transport(quic.NewTransport),
		libp2p.QUICReuse(quicreuse.NewConnManager, quicreuse.DisableReuseport()),
		libp2p.ConnectionManager(connmgr.NullConnMgr{}), // every peer is enrolled; none is closed to make room
		libp2p.UserAgent("rowmesh"), libp2p.DisableMetrics(), libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.WithDialTimeout(dialTimeout),
	)...)
	if err != nil {
		limits.Close()
		return nil, fmt.Errorf("network: %w", err)
	}
	return h, nil
}

// listen begins to take connections, of which everybody who must know has asked to be told by now.
func (n *Network) listen(addrs []Addr) error {
	for i, a := range addrs {
		if slices.ContainsFunc(addrs[:i], func(b Addr) bool { return b.String() == a.String() }) {
			continue // libp2p would panic over some
		}
		if err := n.host.Network().Listen(a.Multi); err != nil {
			return explainListen(a, err)
		}
	}
	return nil
}

// explainListen turns libp2p's report into one sentence.
func explainListen(a Addr, err error) error {
	for _, known := range []struct{ part, say string }{
		{"address already in use", "the port is in use by another program; choose another port or stop that program"},
		{"cannot assign requested address", "this machine does not have that address; choose one of its own, or 0.0.0.0 for all"},
		{"permission denied", "this user may not use that port; choose one above 1023"},
		{"no such host", "the name does not resolve"},
	} {
		if strings.Contains(err.Error(), known.part) {
			return fmt.Errorf("network: cannot listen on %s: %s", a, known.say)
		}
	}
	return fmt.Errorf("network: cannot listen on %s: %w", a, err)
}

// ID returns this peer's id.
func (n *Network) ID() PeerID { return n.host.ID() }

// Addrs returns where this peer listens and the relays that lead to it, each with its id.
func (n *Network) Addrs() []string {
	var out []string
	for _, a := range n.host.Addrs() {
		out = append(out, Addr{a, n.host.ID()}.String())
	}
	for _, a := range n.via {
		out = append(out, a.String()+"/p2p-circuit/p2p/"+n.host.ID().String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Events returns the channel of events. It is closed after Close.
func (n *Network) Events() <-chan Event { return n.events }

// emit hands an event to the consumer, and gives up when the network closes.
func (n *Network) emit(ev Event) {
	select {
	case n.events <- ev:
	case <-n.ctx.Done():
	}
}

// Send queues a frame. It never blocks, and reports false where the link is gone or its queue was full.
func (n *Network) Send(id replica.LinkID, f replica.Frame) bool {
	n.mu.Lock()
	l := n.links[id]
	n.mu.Unlock()
	return l != nil && l.send(f)
}

// CloseLink ends a link once what was sent on it before is written.
func (n *Network) CloseLink(id replica.LinkID, reason error) {
	n.mu.Lock()
	l := n.links[id]
	n.mu.Unlock()
	if l != nil {
		l.finish(reason)
	}
}

// Allow lets a peer connect.
func (n *Network) Allow(id PeerID) {
	defer n.choose() // the group has grown
	n.mu.Lock()
	defer n.mu.Unlock()
	n.allowed[id] = true
	n.strangers.Remove(id)
}

// Revoke ends the peer's link at once and refuses it from now on.
func (n *Network) Revoke(id PeerID) {
	n.mu.Lock()
	delete(n.allowed, id)
	delete(n.places, id)
	l := n.byPeer[id]
	n.mu.Unlock()
	n.choose()
	if l != nil {
		l.end(errors.New("network: the peer was revoked"))
	}
	_ = n.host.Network().ClosePeer(id)
}

func (n *Network) isAllowed(id PeerID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.allowed[id]
}

// Close ends all links and frees the ports. Events is closed.
func (n *Network) Close() error {
	n.stop()
	var err error
	if n.lan != nil {
		err = n.lan.Close()
	}
	err = errors.Join(err, n.host.Close())
	n.mu.Lock()
	if n.again != nil {
		n.again.Stop()
	}
	links := make([]*link, 0, len(n.links))
	for _, l := range n.links {
		links = append(links, l)
	}
	n.mu.Unlock()
	for _, l := range links {
		l.end(errors.New("network: closed"))
	}
	n.done.Wait()
	close(n.events)
	return err
}

// The methods below make Network a connmgr.ConnectionGater.

// InterceptPeerDial lets only allowed peers be dialled, and the made-up ids of probes.
func (n *Network) InterceptPeerDial(id peer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.allowed[id] || n.probes[id] || n.relays[id]
}

// InterceptAddrDial lets every address be dialled.
func (n *Network) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

// InterceptAccept lets every address connect: who it is shows the handshake.
func (n *Network) InterceptAccept(libp2pnet.ConnMultiaddrs) bool { return true }

// InterceptSecured refuses strangers as soon as their id is proven, before any protocol of ours.
func (n *Network) InterceptSecured(dir libp2pnet.Direction, id peer.ID, addrs libp2pnet.ConnMultiaddrs) bool {
	if n.isAllowed(id) || dir == libp2pnet.DirOutbound && n.InterceptPeerDial(id) {
		return true
	}
	if dir == libp2pnet.DirInbound {
		n.refused(id, addrs.RemoteMultiaddr().String())
	}
	return false
}

// InterceptUpgraded lets every connection be used that came so far.
func (n *Network) InterceptUpgraded(libp2pnet.Conn) (bool, control.DisconnectReason) { return true, 0 }

// refused reports a stranger, once.
func (n *Network) refused(id PeerID, addr string) {
	if seen, _ := n.strangers.ContainsOrAdd(id, struct{}{}); seen {
		return
	}
	select {
	case n.events <- Refused{id, addr}:
	default:
		n.strangers.Remove(id) // nobody listens now: report its next attempt
	}
}
