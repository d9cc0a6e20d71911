package replica

import "errors"

// ErrNoHub is the reason for closing a link between two replicas that talk to hubs only.
var ErrNoHub = errors.New("replica: the peer is not a hub, and this one talks to hubs only; start it with --hub if it should be one")

// Serves reports whether the other side of a link can be relied upon as a hub now: it is one, holds its first copy, and is
// not silent. A link may stand for a long time after its other side has vanished.
func (r *Replica) Serves(now Instant, id LinkID) bool {
	l := r.link(id)
	return l != nil && l.greeted && l.hub && l.ready && now.Mono-l.lastIn < millis(hubSilent)
}

// Hubs is the choice that a spoke makes among an ordered list of hubs: it keeps a link to the first that works. Each hub
// gets a little time before the next is tried too. All that are preferred to the one in use go on being tried, and one
// that comes back is used beside the present one until it has held for a while; only then the other is let go. So there
// is no moment without a link that worked, and one that comes and goes is not followed.
//
// Links say what they lack by coverage, which means the same to every hub: to change hubs needs nothing else.
type Hubs struct {
	works []int64 // since when each has worked without a break; never: it does not
	reach int     // a link is wanted to so many, from the first
	since int64   // since when none has worked, or the last was tried
	none  bool    // none works
}

// NewHubs begins with the first of so many hubs.
func NewHubs(now int64, hubs int) *Hubs {
	h := &Hubs{works: make([]int64, hubs), reach: min(hubs, 1), since: now, none: true}
	for i := range h.works {
		h.works[i] = never
	}
	return h
}

// Choose is told which hubs work now and returns to how many, from the first of the list, links are wanted. Times are on
// the clock of Instant.Mono.
func (h *Hubs) Choose(now int64, works func(hub int) bool) (reach int) {
	before := h.none
	h.none = true
	for i := range h.works {
		switch {
		case !works(i):
			h.works[i] = never
			continue
		case h.works[i] == never:
			h.works[i] = now
		}
		h.none = false
		if now-h.works[i] >= millis(hubSteady) {
			h.reach = min(h.reach, i+1)
		}
	}
	switch {
	case h.none && !before:
		h.since = now
	case h.none && h.reach < len(h.works) && now-h.since >= millis(hubPatience):
		h.reach, h.since = h.reach+1, now
	}
	return h.reach
}

// InUse returns the hub that is relied upon: the first that works, -1 for none.
func (h *Hubs) InUse() int {
	for i, since := range h.works {
		if since != never {
			return i
		}
	}
	return -1
}

// Wake returns the moment at which time alone next changes the choice.
func (h *Hubs) Wake() int64 {
	at := int64(never)
	if h.none && h.reach < len(h.works) {
		at = h.since + millis(hubPatience)
	}
	for i, since := range h.works[:max(h.reach-1, 0)] {
		if since != never && i+1 < h.reach {
			at = min(at, since+millis(hubSteady))
		}
	}
	return at
}
