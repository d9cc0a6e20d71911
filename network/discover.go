package network

import (
	"errors"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	ma "github.com/multiformats/go-multiaddr"
)

// Discovery says which peers are looked for on the local network.
type Discovery int

// What is looked for. It is told to everybody there that this peer is there too, with its id and addresses; who is found is
// dialled only where it is allowed.
const (
	DiscoverNone    Discovery = iota
	DiscoverListed            // those that Connect was given the id alone of
	DiscoverAllowed           // all that are allowed
)

// lanService is the name under which peers find each other by multicast DNS.
const lanService = "_rowmesh._udp"

// discover begins to look for peers, and to be found.
func (n *Network) discover(h host.Host) (io.Closer, error) {
	if len(h.Addrs()) == 0 {
		return nil, errors.New("network: to find peers on the local network this one must be found too: let it listen, with --bind")
	}
	s := mdns.NewMdnsService(h, lanService, (*lan)(n))
	if err := s.Start(); err != nil {
		return nil, fmt.Errorf("network: look for peers on the local network: %w", err)
	}
	return s, nil
}

// lan is told of who is found.
type lan Network

// HandlePeerFound is called by the discovery.
func (l *lan) HandlePeerFound(info peer.AddrInfo) { (*Network)(l).found(info.ID, info.Addrs) }

// found takes note of where a peer is, and dials it where that is wanted.
func (n *Network) found(id PeerID, addrs []ma.Multiaddr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := Addr{Peer: id}
	if n.targets[a.String()] == nil && n.allowed[id] && n.seeks == DiscoverAllowed {
		n.keepLocked(a)
	}
	if t := n.targets[a.String()]; t != nil && n.allowed[id] {
		t.places = addrs
		select {
		case t.located <- struct{}{}:
		default:
		}
	}
}
