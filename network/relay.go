package network

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	libp2pnet "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// Two peers that can both only dial meet at a relay, which carries their encrypted connection and can neither read nor change
// it. A relay that is a peer of the group must be allowed, as any other; one that is no peer of ours need not be, and gets no
// link.

// relayOptions are libp2p's options for what the configuration asks for. Without any relay, relaying is off.
func relayOptions(cfg Config, n *Network) []libp2p.Option {
	used := cfg.RelayService || cfg.HolePunch || len(cfg.Relays) > 0
	for _, a := range slices.Concat(cfg.Connect, cfg.Circuits) {
		used = used || isCircuit(a.Multi)
	}
	if !used {
		return []libp2p.Option{libp2p.DisableRelay()}
	}
	opts := []libp2p.Option{libp2p.EnableRelay()}
	if len(cfg.Relays) > 0 {
		var relays []peer.AddrInfo
		for _, a := range cfg.Relays {
			relays = append(relays, peer.AddrInfo{ID: a.Peer, Addrs: []ma.Multiaddr{a.Multi}})
		}
		opts = append(opts, libp2p.ForceReachabilityPrivate(), libp2p.EnableAutoRelayWithStaticRelays(relays,
			autorelay.WithBootDelay(0), autorelay.WithMinCandidates(1), autorelay.WithNumRelays(len(relays)), autorelay.WithBackoff(dialMost), autorelay.WithMinInterval(time.Second)))
	}
	if cfg.HolePunch {
		opts = append(opts, libp2p.EnableHolePunching())
	}
	if cfg.RelayService {
		opts = append(opts, libp2p.ForceReachabilityPublic(), libp2p.EnableRelayService(relay.WithInfiniteLimits(), relay.WithACL((*relayed)(n)),
			relay.WithReservationAddressFilter(func(ma.Multiaddr) bool { return true })))
	}
	return opts
}

// relayed decides whom this peer serves as a relay: only those that are allowed, to each other.
type relayed Network

// AllowReserve says who may be reached through this peer.
func (r *relayed) AllowReserve(p peer.ID, _ ma.Multiaddr) bool { return (*Network)(r).isAllowed(p) }

// AllowConnect says who may reach whom.
func (r *relayed) AllowConnect(src peer.ID, _ ma.Multiaddr, dest peer.ID) bool {
	return (*Network)(r).isAllowed(src) && (*Network)(r).isAllowed(dest)
}

func isCircuit(a ma.Multiaddr) bool {
	if a == nil {
		return false
	}
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

// relayOf returns the relay that an address leads through, "" for none.
func relayOf(a ma.Multiaddr) PeerID {
	if !isCircuit(a) {
		return ""
	}
	before, _, _ := strings.Cut(a.String(), "/p2p-circuit")
	m, err := ma.NewMultiaddr(before)
	if err != nil {
		return ""
	}
	_, id := peer.SplitAddr(m)
	return id
}

// preferDirect ends a link that runs through a relay when there is a direct connection to its peer, for the next one to run
// over that.
func (n *Network) preferDirect(c libp2pnet.Conn) {
	n.mu.Lock()
	l := n.byPeer[c.RemotePeer()]
	n.mu.Unlock()
	if l != nil && isCircuit(l.streams[0].Conn().RemoteMultiaddr()) && !isCircuit(c.RemoteMultiaddr()) {
		l.end(errors.New("network: there is a direct connection now"))
	}
}
