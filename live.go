package rowmesh

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/rowmesh/rowmesh/replica"
)

// Live is what a running peer says of itself in the database, for other processes: peer status and the view
// rowmesh_status show it. It is written when something in it changes, or when it is asked for, and not by the clock.
type Live struct {
	AtMS  int64      `json:"at_ms"` // when it was written, in milliseconds since 1970
	Role  string     `json:"role"`  // hub or peer
	Addrs []string   `json:"addresses,omitempty"`
	Peers []LivePeer `json:"peers"`
}

// LivePeer is how things stand with one other peer.
type LivePeer struct {
	Peer     string `json:"peer"`             // its id; where it is not known, the address
	State    string `json:"state"`            // level, behind (we lack something), ahead (it lacks something), greeting, unreachable
	Reason   string `json:"reason,omitempty"` // why it is unreachable
	BehindMS int64  `json:"behind_ms"`        // for how long we have lacked something
	HeardMS  int64  `json:"heard_ms"`         // when anything last came from it; 0: nothing yet
	OffsetMS int64  `json:"clock_offset_ms"`  // its clock less ours, when it connected
	Hub      bool   `json:"hub,omitempty"`
}

// live says how things stand now.
func (p *Peer) live() Live {
	doc := Live{AtMS: time.Now().UnixMilli(), Role: "peer", Addrs: p.Addrs(), Peers: []LivePeer{}}
	if p.cfg.Hub {
		doc.Role = "hub"
	}
	if p.core != nil {
		for _, l := range p.core.Status().Links {
			doc.Peers = append(doc.Peers, p.livePeer(l, doc.AtMS))
		}
	}
	p.mu.Lock()
	for addr, why := range p.failed {
		doc.Peers = append(doc.Peers, LivePeer{Peer: addr, State: "unreachable", Reason: why})
	}
	p.mu.Unlock()
	slices.SortFunc(doc.Peers, func(a, b LivePeer) int { return strings.Compare(a.Peer, b.Peer) })
	return doc
}

func (p *Peer) livePeer(l replica.LinkStatus, nowMS int64) LivePeer {
	lp := LivePeer{Peer: l.Peer, State: "level", Hub: l.Hub, OffsetMS: l.OffsetMS}
	switch {
	case !l.Greeted:
		lp.State = "greeting"
	case l.Behind:
		lp.State, lp.BehindMS = "behind", l.BehindMS
	case !l.Level:
		lp.State = "ahead"
	}
	if l.Greeted {
		lp.HeardMS = nowMS - (p.instant().Mono - l.LastIn)
	}
	return lp
}

// tellLive writes how things stand where that has changed, but not every moment and not over another program's lock.
func (p *Peer) tellLive(ctx context.Context) {
	p.liveDue = time.Time{}
	if p.bridge == nil || p.core == nil {
		return
	}
	doc := p.live()
	key := doc.Role
	for _, l := range doc.Peers {
		key += "\n" + l.Peer + " " + l.State + " " + l.Reason
	}
	if key == p.liveKey {
		return
	}
	if next := p.liveAt.Add(livePause); time.Now().Before(next) {
		p.liveDue = next
		return
	}
	if !p.writeLive(ctx, doc) {
		p.liveDue = time.Now().Add(livePause)
		return
	}
	p.liveAt, p.liveKey = time.Now(), key
}

func (p *Peer) writeLive(ctx context.Context, doc Live) bool {
	raw, err := json.Marshal(doc)
	if err != nil {
		p.log.Warn("write how things stand", "reason", err)
		return false
	}
	held, err := p.bridge.SetLive(ctx, string(raw))
	if err != nil && !held {
		p.log.Warn("write how things stand", "reason", err)
	}
	return err == nil
}
