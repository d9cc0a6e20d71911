package network

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/rowmesh/rowmesh/replica"
)

// Discovery says which peers are looked for on the local network.
type Discovery int

// What is looked for. It is told to everybody there that this peer is there too, with its id and addresses; who is found is
// dialled only where it is allowed.
const (
	DiscoverNone    Discovery = iota
	DiscoverListed            // those that Connect was given the id alone of
	DiscoverAllowed           // all that are allowed
	DiscoverMesh              // of those that are allowed so many that a mesh holds together
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
	if n.allowed[id] && id != n.host.ID() {
		n.places[id] = addrs
		if n.seeks == DiscoverAllowed {
			n.keepLocked(Addr{Peer: id}, false)
		}
		n.locateLocked(id)
	}
	n.mu.Unlock()
	n.choose()
}

// locateLocked lets a target that has no address of its own be dialled where it was found, at once.
func (n *Network) locateLocked(id PeerID) {
	if t := n.targets[Addr{Peer: id}.String()]; t != nil {
		t.places = n.places[id]
		select {
		case t.located <- struct{}{}:
		default:
		}
	}
}

// choose dials those whom the mesh wants of all that were found, and no longer those that were dialled for it.
func (n *Network) choose() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seeks != DiscoverMesh || n.ctx.Err() != nil {
		return
	}
	var others []replica.Candidate
	for id := range n.places {
		others = append(others, replica.Candidate{ID: string(id), Linked: n.byPeer[id] != nil})
	}
	now := time.Since(n.began).Milliseconds()
	wanted := map[PeerID]bool{}
	for _, id := range n.mesh.Choose(now, n.membersLocked(), others) {
		wanted[PeerID(id)] = true
	}
	for _, t := range n.targets {
		if t.chosen && !wanted[t.addr.Peer] {
			n.dropLocked(t)
		}
	}
	for id := range wanted {
		if a := (Addr{Peer: id}); n.targets[a.String()] == nil {
			n.keepLocked(a, true)
			n.locateLocked(id)
		}
	}
	wait := time.Duration(n.mesh.Wake()-now) * time.Millisecond
	if n.again == nil {
		n.again = time.AfterFunc(wait, n.choose)
	} else {
		n.again.Reset(wait)
	}
}

// membersLocked is how many peers the group is known to have, with this one.
func (n *Network) membersLocked() int {
	if n.allowed[n.host.ID()] {
		return len(n.allowed)
	}
	return len(n.allowed) + 1
}

// Mesh says how many peers the group is known to have, how many of them were found on the local network, and how many of these
// are dialled.
func (n *Network) Mesh() (members, found, dialed int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.targets {
		if t.addr.Multi == nil && n.places[t.addr.Peer] != nil {
			dialed++
		}
	}
	return n.membersLocked(), len(n.places), dialed
}
