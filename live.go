package rowmesh

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// Live is what a running peer says of itself in the database, for other processes: peer status and the view
// rowmesh_status show it. It is written when something in it changes, or when it is asked for, and not by the clock.
type Live struct {
	Peer     string     `json:"peer"`  // its id
	AtMS     int64      `json:"at_ms"` // when it was written, in milliseconds since 1970
	Role     string     `json:"role"`  // hub, spoke or peer
	Addrs    []string   `json:"addresses,omitempty"`
	Sync     LiveSync   `json:"sync"`
	Hubs     []LiveHub  `json:"hubs,omitempty"` // of a spoke, in order of preference
	Mesh     *LiveMesh  `json:"mesh,omitempty"` // where peers are looked for on the local network
	Peers    []LivePeer `json:"peers"`
	Progress *Progress  `json:"progress,omitempty"` // of a copy on its way in
	Acks     []LiveAck  `json:"acks,omitempty"`     // also of peers that are not connected now
}

// LiveMesh says how many of the peers that could be dialled are. In a group of more than 64 members that is a few; the others hear
// through them.
type LiveMesh struct {
	Members int `json:"members"` // of the group, as far as this peer knows: itself and those that are allowed
	Found   int `json:"found"`   // of them on the local network
	Dialed  int `json:"dialed"`  // of those found
}

// liveMesh says whom of those that are found the peer dials, nil for one that looks for nobody, and in a star.
func (p *Peer) liveMesh() *LiveMesh {
	if !p.cfg.Discover || p.cfg.Hub || p.cfg.spoke() {
		return nil
	}
	var m LiveMesh
	m.Members, m.Found, m.Dialed = p.net.Mesh()
	return &m
}

// LiveSync says how much of what was written here others hold durably. A row is in sync when it names no transaction of this
// origin after Acked.
type LiveSync struct {
	Target string        `json:"target"` // who must hold it: hub, 1 peer, 2 peers, ...
	Head   hlc.Timestamp `json:"head"`   // the last transaction written here; 0: none
	Acked  hlc.Timestamp `json:"acked"`  // the last that is held there
	LagMS  int64         `json:"lag_ms"` // the time between the two
	InSync bool          `json:"in_sync"`
}

// LiveAck is how much of what was written here another peer is known to hold durably.
type LiveAck struct {
	Peer   string        `json:"peer"`
	Hub    bool          `json:"hub,omitempty"`
	Origin string        `json:"origin"` // of this database
	Head   hlc.Timestamp `json:"head"`
}

// LivePeer is how things stand with one other peer.
type LivePeer struct {
	Peer     string `json:"peer"`             // its id; where it is not known, the address
	State    string `json:"state"`            // level, behind (we lack something), ahead (it lacks something), greeting, unreachable, refused
	Reason   string `json:"reason,omitempty"` // why it is unreachable or refused, by either side
	BehindMS int64  `json:"behind_ms"`        // for how long we have lacked something
	HeardMS  int64  `json:"heard_ms"`         // when anything last came from it; 0: nothing yet
	OffsetMS int64  `json:"clock_offset_ms"`  // its clock less ours, when it connected
	Hub      bool   `json:"hub,omitempty"`
	LagMS    int64  `json:"lag_ms"` // the time between the last transaction written here and the last that it holds durably
}

// live says how things stand now.
func (p *Peer) live() Live {
	doc := Live{Peer: p.ID().String(), AtMS: time.Now().UnixMilli(), Role: "peer", Addrs: p.Addrs(), Hubs: p.liveHubs(), Mesh: p.liveMesh(), Peers: []LivePeer{}}
	switch {
	case p.cfg.Hub:
		doc.Role = "hub"
	case p.cfg.spoke():
		doc.Role = "spoke"
	}
	if now := p.progress(); now.Phase != "" {
		doc.Progress = &now
	}
	if p.core != nil {
		st := p.core.Status()
		head := st.Coverage[st.Origin]
		doc.Sync = LiveSync{"hub", head, st.Acked, lag(head, st.Acked), st.Acked >= head}
		if n := p.cfg.acks(); n == 1 {
			doc.Sync.Target = "1 peer"
		} else if n > 1 {
			doc.Sync.Target = fmt.Sprintf("%d peers", n)
		}
		for _, l := range st.Links {
			if l.Greeted {
				delete(p.refused, l.Peer)
			}
			doc.Peers = append(doc.Peers, p.livePeer(l, doc.AtMS, lag(head, l.Known[st.Origin])))
		}
		for _, a := range st.Acks[:min(len(st.Acks), liveAcks)] {
			doc.Acks = append(doc.Acks, LiveAck{a.Peer, a.Hub, a.Origin.String(), a.Head})
		}
	}
	for id, why := range p.refused {
		doc.Peers = append(slices.DeleteFunc(doc.Peers, func(l LivePeer) bool { return l.Peer == id }), LivePeer{Peer: id, State: "refused", Reason: why})
	}
	p.mu.Lock()
	for addr, why := range p.failed {
		doc.Peers = append(doc.Peers, LivePeer{Peer: addr, State: "unreachable", Reason: why})
	}
	p.mu.Unlock()
	slices.SortFunc(doc.Peers, func(a, b LivePeer) int { return strings.Compare(a.Peer, b.Peer) })
	return doc
}

// lag is the time between two transactions of this peer, as far as it can be told.
func lag(head, acked hlc.Timestamp) int64 {
	if acked == 0 || acked >= head {
		return 0
	}
	return head.Millis() - acked.Millis()
}

// loadAcks reads what others were known to hold when the peer ran last.
func (p *Peer) loadAcks(ctx context.Context) {
	raw, err := p.bridge.Live(ctx)
	var doc Live
	if err == nil && raw != "" {
		err = json.Unmarshal([]byte(raw), &doc)
	}
	if err != nil { // it is known again when they are met
		p.log.Warn("read what others held", "reason", err)
	}
	for _, a := range doc.Acks {
		if origin, err := crdt.ParseOrigin(a.Origin); err == nil {
			p.acks = append(p.acks, replica.Ack{Peer: a.Peer, Hub: a.Hub, Origin: origin, Head: a.Head})
		}
	}
}

func (p *Peer) livePeer(l replica.LinkStatus, nowMS, lagMS int64) LivePeer {
	lp := LivePeer{Peer: l.Peer, State: "level", Hub: l.Hub, OffsetMS: l.OffsetMS, LagMS: lagMS}
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

// tellLive writes how things stand where that has changed. It looks not every moment, for a hub has many links, and does not
// write over another program's lock.
func (p *Peer) tellLive(ctx context.Context) {
	p.liveDue = time.Time{}
	if p.bridge == nil || p.core == nil {
		return
	}
	if next := p.liveAt.Add(livePause); time.Now().Before(next) {
		p.liveDue = next
		return
	}
	p.liveAt = time.Now()
	doc := p.live()
	key := fmt.Sprint(doc.Role, doc.Hubs, doc.Acks, doc.Sync)
	if doc.Mesh != nil {
		key += fmt.Sprint(*doc.Mesh)
	}
	if doc.Progress != nil {
		key += fmt.Sprint("\n", doc.Progress.Phase, doc.Progress.Done)
	}
	for _, l := range doc.Peers {
		key += "\n" + l.Peer + " " + l.State + " " + l.Reason
	}
	if key == p.liveKey {
		return
	}
	if !p.writeLive(ctx, doc) {
		p.liveDue = p.liveAt.Add(livePause)
		return
	}
	p.liveKey = key
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
