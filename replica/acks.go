package replica

import (
	"cmp"
	"maps"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// Heads are told only after the commit that brought them. So what another replica says of the origin that this one writes
// under is an acknowledgement: it holds everything up to that head durably. No frame is needed for it.

// Ack is how much of what this replica wrote another is known to hold durably. It stands when the link is gone.
type Ack struct {
	Peer   string // its name
	Hub    bool
	Origin crdt.Origin   // under which this replica writes
	Head   hlc.Timestamp // it holds all of that origin up to here
}

// noteAck takes note of what the other side holds now. That may be less than before: it may have been set back.
func (r *Replica) noteAck(l *link) {
	r.acks[l.name] = Ack{l.name, l.hub, r.origin, l.known[r.origin]}
}

// loadAcks takes over what was known before this replica was loaded, as far as it is about the present origin.
func (r *Replica) loadAcks(list []Ack) {
	r.acks = map[string]Ack{}
	for _, a := range list {
		if a.Origin == r.origin {
			r.acks[a.Peer] = a
		}
	}
}

// Acks returns what others are known to hold, those that hold most first.
func (r *Replica) Acks() []Ack {
	return slices.SortedFunc(maps.Values(r.acks), func(a, b Ack) int {
		return cmp.Or(cmp.Compare(b.Head, a.Head), cmp.Compare(a.Peer, b.Peer))
	})
}

// Acked returns the head up to which what this replica wrote is durable elsewhere: at a hub, or at as many others as
// Config.Acks says. A row is in sync when it names no transaction of this origin that is later.
func (r *Replica) Acked() hlc.Timestamp {
	n := 0
	for _, a := range r.Acks() {
		if r.cfg.Acks > 0 || a.Hub {
			n++
		}
		if n > 0 && n >= r.cfg.Acks {
			return a.Head
		}
	}
	return 0
}
