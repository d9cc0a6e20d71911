package rowmesh

import (
	"errors"
	"fmt"
	"slices"

	"github.com/rowmesh/rowmesh/network"
	"github.com/rowmesh/rowmesh/replica"
)

// Check refuses settings that contradict each other, as the start of a peer does.
func (c *Config) Check() error {
	if c.spoke() && len(c.Connect) > 0 {
		return errors.New("rowmesh: a peer with a list of hubs talks to hubs only, and so has nobody else to connect to: " +
			"name all of them as hubs, or make this one a hub too")
	}
	if c.New && c.Join {
		return errors.New("rowmesh: new founds a group and join (node=secondary) never does: leave one of them out")
	}
	if c.Relaying && len(c.Listen) == 0 {
		return errors.New("rowmesh: a relay must be reached: give it an address to listen at (bind)")
	}
	if c.Acks < AckHub {
		return fmt.Errorf("rowmesh: %d peers cannot hold anything: write hub or a number", c.Acks)
	}
	return nil
}

// spoke reports whether the peer talks to hubs only.
func (c *Config) spoke() bool { return len(c.Hubs) > 0 && !c.Hub }

// acks is how many others must hold what is written here, 0 for a hub.
func (c *Config) acks() int {
	switch {
	case c.Acks == AckHub, c.Acks == 0 && c.spoke():
		return 0
	}
	return max(c.Acks, 1)
}

// otherHubs is the list without this peer: all may have the same.
func (c *Config) otherHubs(self network.PeerID) []network.Addr {
	return slices.DeleteFunc(slices.Clone(c.Hubs), func(a network.Addr) bool { return a.Peer == self })
}

// openNetwork opens the network and begins with the links that are wanted: to every other hub for a hub, to the first of
// the list for a spoke.
func (p *Peer) openNetwork() (err error) {
	cfg := network.Config{
		Identity: p.id, Listen: p.cfg.Listen, Connect: p.cfg.Connect, Allow: p.cfg.Allow, Logger: p.log,
		Relays: p.cfg.Relays, RelayService: p.cfg.Relaying, HolePunch: p.cfg.Punch, Circuits: p.cfg.Hubs,
	}
	switch {
	case p.cfg.Discover && p.cfg.spoke():
		cfg.Discover = network.DiscoverListed
	case p.cfg.Discover && p.cfg.Hub:
		cfg.Discover = network.DiscoverAllowed
	case p.cfg.Discover:
		cfg.Discover = network.DiscoverMesh
	}
	if p.cfg.Hub {
		cfg.Connect = slices.Concat(cfg.Connect, p.cfg.Hubs)
	}
	for _, a := range p.cfg.Hubs {
		if a.Peer != "" {
			cfg.Allow = append(slices.Clip(cfg.Allow), a.Peer)
		}
	}
	if p.net, err = network.Open(cfg); err == nil && p.cfg.spoke() {
		p.hubs = replica.NewHubs(p.instant().Mono, len(p.cfg.Hubs))
		p.chooseHubs()
	}
	return err
}

// chooseHubs keeps a spoke linked with the first of its hubs that works.
func (p *Peer) chooseHubs() {
	if p.hubs == nil || p.core == nil {
		return
	}
	now := p.instant()
	reach := p.hubs.Choose(now.Mono, func(hub int) bool { return p.core.Serves(now, p.linkTo(p.net.PeerAt(p.cfg.Hubs[hub]))) })
	for ; p.reach < reach; p.reach++ {
		if p.reach > 0 {
			p.log.Warn("no hub works: the next is tried too", "hub", p.cfg.Hubs[p.reach])
		}
		p.net.Connect(p.cfg.Hubs[p.reach])
	}
	for p.reach > reach {
		p.reach--
		p.log.Info("a preferred hub works: the link to another is let go", "hub", p.cfg.Hubs[p.reach])
		p.net.Disconnect(p.cfg.Hubs[p.reach])
	}
}

// linkTo returns the link to a peer, 0 for none.
func (p *Peer) linkTo(id network.PeerID) replica.LinkID {
	for link, peer := range p.links {
		if peer == id {
			return link
		}
	}
	return 0
}

// LiveHub is how things stand with a hub of a spoke's list.
type LiveHub struct {
	Address string `json:"address"`
	State   string `json:"state"` // in use, connected (beside it, for a while), tried, standby (another is in use)
}

// liveHubs says how things stand with the list.
func (p *Peer) liveHubs() (out []LiveHub) {
	if p.hubs == nil {
		return nil
	}
	use := p.hubs.InUse()
	for i, a := range p.cfg.Hubs {
		h := LiveHub{a.String(), "standby"}
		switch {
		case i == use:
			h.State = "in use"
		case p.linkTo(p.net.PeerAt(a)) != 0:
			h.State = "connected"
		case i < p.reach:
			h.State = "tried"
		}
		out = append(out, h)
	}
	return out
}
