package replica

import (
	"maps"
	"slices"
	"time"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// Each origin's blocks go along a tree of links of their own, after the model of Plumtree (Leitão 2007), but one tree for each
// origin: whichever link brings a block first is kept, the others are pruned for this origin, so that each
// origin gets the tree of its fastest paths. A pruned link is one on which both ends had the block from elsewhere; so
// pruning goes for both directions, and is one bit for each link and origin. The ends of a pruned link still tell each
// other their heads. A replica that stays behind pulls, and grafts the link it pulls from; one whose link breaks grafts
// another at once. PRUNE and GRAFT only choose paths: whatever becomes of them, a session brings the content.

// branch says which link brings the blocks of an origin.
type branch struct {
	link  LinkID        // brought the first copy of each block ...
	since hlc.Timestamp // ... after this one ...
	to    hlc.Timestamp // ... up to this one
	next  LinkID        // brought the second copy: the one to graft when link breaks
}

// grow notes that a block was merged that came by push.
func (r *Replica) grow(l *link, b *crdt.Block) {
	o := b.Stamp.Origin
	if l == nil { // it was held back, and its link is gone
		delete(r.tree, o)
		return
	}
	t, ok := r.tree[o]
	switch {
	case !ok || t.to != b.Prev:
		t = branch{link: l.id, since: b.Prev}
	case t.link != l.id:
		t = branch{link: l.id, since: b.Prev, next: t.link}
	}
	t.to = b.Stamp.Time
	r.tree[o] = t
	delete(l.lazy, o)
}

// duplicate prunes the link that brought a block again, if the first copy came by push, on a link that still brings
// such blocks. After a session everything is a duplicate everywhere, and nothing is known of the paths.
func (r *Replica) duplicate(l *link, s crdt.Stamp) {
	o := s.Origin
	t, ok := r.tree[o]
	if !ok || t.link == l.id || s.Time <= t.since || s.Time > t.to {
		return
	}
	if r.link(t.next) == nil {
		t.next = l.id
		r.tree[o] = t
	}
	l.lazy[o] = struct{}{}
	l.turn(o, false)
	r.stats.LinksPruned++
}

// turn has the other side told that blocks of an origin shall come on this link from now on, or no longer.
func (l *link) turn(o crdt.Origin, graft bool) {
	if l.turns == nil {
		l.turns = map[crdt.Origin]bool{}
	}
	l.turns[o] = graft
}

// graft has the blocks of an origin come on this link again.
func (l *link) graft(o crdt.Origin) {
	delete(l.lazy, o)
	l.turn(o, true)
}

// graftBehind grafts a link whose other side has blocks that did not come in time by any other.
func (r *Replica) graftBehind(l *link) {
	few := len(l.ahead) <= maxGrafts
	for o := range l.ahead {
		if r.coverage[o] == 0 {
			continue // it was never pruned
		}
		_, lazy := l.lazy[o]
		if lazy {
			r.stats.LinksGrafted++
		}
		if lazy || few { // it may be pruned at the other end alone: a GRAFT may be lost
			l.graft(o)
		}
	}
}

// replant finds another link for each origin whose blocks came on one that is gone.
func (r *Replica) replant(gone LinkID) {
	for _, o := range slices.SortedFunc(maps.Keys(r.tree), crdt.Origin.Compare) {
		t := r.tree[o]
		if t.link != gone {
			continue
		}
		delete(r.tree, o)
		if l := r.nextBest(t, o); l != nil {
			r.stats.LinksReplanted++
			l.graft(o)
		}
	}
}

// nextBest returns the pruned link that brings the blocks of an origin soonest, nil if there is none.
func (r *Replica) nextBest(t branch, o crdt.Origin) (best *link) {
	for _, l := range r.links {
		if _, lazy := l.lazy[o]; !lazy || !l.greeted {
			continue
		}
		if l.id == t.next {
			return l
		}
		if best == nil || l.known[o] > best.known[o] {
			best = l
		}
	}
	return best
}

// sendTurns tells a link for which origins it was pruned and grafted since the last Ready.
func (r *Replica) sendTurns(l *link) {
	if len(l.turns) == 0 {
		return
	}
	prune, graft := crdt.Coverage{}, crdt.Coverage{}
	for o, on := range l.turns {
		if on {
			graft[o] = r.coverage[o]
		} else {
			prune[o] = r.coverage[o]
		}
	}
	l.turns = nil
	r.send(l, FramePrune, encodeBody(pruneBody{vectorOf(prune), vectorOf(graft)}))
}

// onPrune takes note of what the other side wants to get on this link. It tells its heads along with it, so that
// the next block finds it where it must stand.
func (r *Replica) onPrune(l *link, body []byte) error {
	var b pruneBody
	if err := decodeBody(FramePrune, body, &b); err != nil {
		return err
	}
	prune, err := b.Prune.coverage()
	if err != nil {
		return err
	}
	graft, err := b.Graft.coverage()
	if err != nil {
		return err
	}
	for _, heads := range []crdt.Coverage{prune, graft} {
		// Nothing of an origin that is not known here was ever pushed; and ids from outside are not collected.
		maps.DeleteFunc(heads, func(o crdt.Origin, _ hlc.Timestamp) bool { return r.coverage[o] == 0 })
	}
	for o := range prune {
		l.lazy[o] = struct{}{}
		if r.tree[o].link == l.id {
			delete(r.tree, o)
		}
	}
	for o := range graft {
		delete(l.lazy, o)
	}
	r.learnHeads(l, prune)
	r.learnHeads(l, graft)
	return nil
}

// news is a head of ours that a link is to be told.
type news struct {
	due    int64 // not before this moment
	answer bool  // also if the other side is known to hold it: it brought it, and waits for the word
	again  bool  // it was pushed: to be told only if no answer comes
}

// note has a head told on a link, after a while.
func (r *Replica) note(l *link, o crdt.Origin, wait time.Duration, answer bool) {
	n := news{due: r.now.Mono + millis(wait), answer: answer}
	if old, ok := l.fresh[o]; ok && !old.again {
		n.due, n.answer = min(n.due, old.due), n.answer || old.answer
	}
	l.fresh[o] = n
	l.tellAt = min(l.tellAt, n.due)
}

// pushed has a head told again that was just pushed, if no answer comes.
func (r *Replica) pushed(l *link, o crdt.Origin) {
	n := news{due: r.now.Mono + millis(answerAfter), again: true}
	l.fresh[o] = n
	l.tellAt = min(l.tellAt, n.due)
}

// learned has the heads told that a session with from raised.
func (r *Replica) learned(from *link, o crdt.Origin) {
	delete(r.tree, o)
	for _, l := range r.links {
		r.note(l, o, 0, l == from)
	}
}

// tellAtNext is the moment at which the next heads are to be told on the link.
func (l *link) tellAtNext() int64 {
	if len(l.fresh) == 0 {
		return never
	}
	return max(l.tellAt, l.toldAt+millis(headsEvery))
}

// tellFresh sends the heads that are due, but for those that the other side has told of meanwhile.
func (r *Replica) tellFresh(l *link) {
	heads := crdt.Coverage{}
	l.tellAt = never
	for o, n := range l.fresh {
		if n.due > r.now.Mono {
			l.tellAt = min(l.tellAt, n.due)
			continue
		}
		delete(l.fresh, o)
		switch h := r.coverage[o]; {
		case n.answer || l.known[o] < h:
			heads[o] = h
		case l.sent[o] < h:
			l.owes = true
		}
	}
	switch {
	case len(heads) >= tellAllFrom:
		r.tellAll(l, false, false)
	case len(heads) > 0:
		l.toldAt = r.now.Mono
		r.send(l, FrameHeads, encodeBody(headsBody{Heads: vectorOf(heads)}))
	}
}

// tellHash sends the hash of all heads.
func (r *Replica) tellHash(l *link) {
	l.owes = false
	hash := r.coverageHash()
	r.send(l, FrameHeads, encodeBody(headsBody{Hash: hash[:], Ready: r.ready}))
}

// tellHashAt is the moment at which the hash is told if nothing happens before: soon after the last change where the other
// side may not know that it was taken in here, else in a slow period.
func (r *Replica) tellHashAt(l *link) int64 {
	at := l.sentAt + millis(digestEvery)
	if l.owes {
		at = min(at, max(r.raisedAt, l.toldAt)+millis(settleAfter))
	}
	return at
}

// sameHeads takes note that the other side holds exactly what is held here: a HEADS that said so may have been lost.
func (r *Replica) sameHeads(l *link) {
	for _, set := range []map[crdt.Origin]struct{}{l.ahead, l.lacks} {
		for o := range set {
			l.known[o] = r.coverage[o]
			if l.known[o] == 0 {
				delete(l.known, o)
			}
			delete(set, o)
		}
	}
	r.noteAck(l)
}
