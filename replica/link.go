package replica

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// LinkID names one connection to one peer for as long as it lasts. Numbers are never used again within a
// run of the program.
type LinkID uint64

// link is what the replica knows of the other end of a connection.
type link struct {
	id   LinkID
	name string // of the peer, for people

	greeted bool   // its HELLO has come
	early   []byte // the body of a PULL that came before it
	origin  crdt.Origin
	group   GroupID
	ready   bool
	hub     bool
	audits  bool  // answers AUDIT
	offset  int64 // its wall clock less ours, in milliseconds, when its HELLO came

	known   crdt.Coverage             // what it told us it holds
	ahead   map[crdt.Origin]struct{}  // where known is beyond our coverage
	lacks   map[crdt.Origin]struct{}  // where our coverage is beyond known
	theirs  *known                    // all heads, as it last told them, on this link or one before
	ours    *known                    // all heads, as we last told them on this link
	ignores bool                      // it did not know the base of a vector
	whole   bool                      // the next vector goes whole
	lost    bool                      // we do not know the base of what it told
	sent    crdt.Coverage             // what we pushed beyond that, so far unanswered
	fresh   map[crdt.Origin]news      // heads of ours to tell it
	lazy    map[crdt.Origin]struct{}  // origins whose blocks are not pushed on this link, in either direction
	turns   map[crdt.Origin]bool      // origins to tell it of in the next PRUNE: true for a graft
	schemas map[*crdt.Schema]struct{} // told on the control stream
	told    told                      // by the other side
	lagging bool                      // frames were lost on the way out: push nothing until it has caught up

	helloAt     int64 // when we last sent HELLO
	sentAt      int64 // when we last sent anything on the control stream
	toldAt      int64 // when we last told heads
	tellAt      int64 // when the first of fresh is due
	owes        bool  // it told us heads that are ours too, and does not know that they are
	toldAllAt   int64 // when we last told all of them
	behindSince int64 // since when it is known to hold more than we do; 0: it is not
	pullNow     bool  // do not wait for pushes
	notBefore   int64 // no session with it before this moment
	takesFrom   int64 // wall time from which its content is within our clock's limit

	heardAt  int64  // when it last told all of its heads
	lastIn   int64  // when anything last came
	lastPull uint64 // the greatest session it asked for on this link

	asked *question // of an audit of its own, not yet answered
	mends int64     // until when it may say what rows became that it was sent for such an audit

	mended  uint64         // the last question with which it said so; an older one has been overtaken
	mending *crdt.RowDelta // the row of which it said a part last

	parts [2]assembler // control and bulk
}

// LinkUp tells the replica of a new connection. name is the peer's, for people.
func (r *Replica) LinkUp(now Instant, id LinkID, name string) {
	r.now = now
	r.LinkDown(now, id)
	l := &link{
		id: id, name: name, known: crdt.Coverage{}, ahead: map[crdt.Origin]struct{}{}, lacks: map[crdt.Origin]struct{}{},
		sent: crdt.Coverage{}, fresh: map[crdt.Origin]news{}, lazy: map[crdt.Origin]struct{}{}, tellAt: never, theirs: r.vectors.of(name),
		schemas: map[*crdt.Schema]struct{}{},
	}
	r.links = append(r.links, l)
	r.sendHello(l, false)
}

// LinkDown tells the replica that a connection is gone. What was staged from it is kept, for the session
// may go on over another link.
func (r *Replica) LinkDown(now Instant, id LinkID) {
	r.now = now
	for i, l := range r.links {
		if l.id == id {
			r.links = append(r.links[:i:i], r.links[i+1:]...)
			r.dropSessions(l)
			r.dropAudit(l)
			r.dropHeld(l)
			r.replant(l.id)
			return
		}
	}
}

// Lagging tells the replica that frames for a link were thrown away because its queue was full. The other
// side is told again what it may lack, and left to pull.
func (r *Replica) Lagging(now Instant, id LinkID) {
	r.now = now
	if l := r.link(id); l != nil {
		l.lagging = true
		clear(l.sent)
		clear(l.schemas)
		r.dropServed(l)
		for o := range l.lacks {
			r.note(l, o, 0, false)
		}
	}
}

func (r *Replica) link(id LinkID) *link {
	for _, l := range r.links {
		if l.id == id {
			return l
		}
	}
	return nil
}

func (r *Replica) send(l *link, t FrameType, body []byte) {
	for _, f := range frames(t, body) {
		r.out = append(r.out, Outgoing{l.id, f})
	}
	if !t.Bulk() {
		l.sentAt = r.now.Mono
	}
}

// refuse tells the other side why and closes the link.
func (r *Replica) refuse(l *link, body rejectBody, reason error) {
	body.Text = clip(reason.Error(), 512)
	r.send(l, FrameReject, encodeBody(body))
	r.close(l, reason)
}

func (r *Replica) close(l *link, reason error) {
	r.closed = append(r.closed, Closing{l.id, fmt.Errorf("%s: %w", l.name, reason)})
	r.LinkDown(r.now, l.id)
}

// clip shortens text to at most n bytes, at the end of a character.
func clip(s string, n int) string {
	for i := range s {
		if i > n-4 {
			return s[:i] + "..."
		}
	}
	return s
}

func (r *Replica) sendHello(l *link, answer bool) {
	h := helloBody{
		Version: Version, MinVersion: MinVersion, Origin: r.origin[:], Wall: uint64(max(r.now.Wall, 0)),
		Heads: r.packAll(l), Ready: r.ready, Hub: r.cfg.Hub, Answer: answer, Whole: l.lost, Audits: true,
	}
	if r.group != (GroupID{}) {
		h.Group = r.group[:]
	}
	l.helloAt = r.now.Mono
	l.toldEverything()
	clear(l.schemas)
	r.send(l, FrameHello, encodeBody(h))
}

// toldEverything notes that all heads are told by the next frame.
func (l *link) toldEverything() {
	clear(l.fresh)
	l.tellAt, l.owes = never, false
}

// ErrOtherGroup is the reason for closing a link to a peer of another group.
var ErrOtherGroup = errors.New("replica: the peer belongs to another group; a database joins a group when it has none: " +
	"begin the group on one side only; on the other remove the database and the directory beside it, or take our tables out of it (peer untrack --all), and it joins")

// ErrVersion is the reason for closing a link to a peer without a common protocol version.
var ErrVersion = errors.New("replica: no common protocol version; update the older of the two programs")

func (r *Replica) onHello(l *link, body []byte) error {
	var h helloBody
	if err := decodeBody(FrameHello, body, &h); err != nil {
		return err
	}
	origin, err := id16(h.Origin)
	if err != nil {
		return err
	}
	var group GroupID
	if len(h.Group) > 0 {
		if group, err = id16(h.Group); err != nil {
			return err
		}
	}
	if h.MinVersion > Version || h.Version < MinVersion {
		r.refuse(l, rejectBody{Reason: RejectVersion}, fmt.Errorf("%w (here %d, there %d)", ErrVersion, Version, h.Version))
		return nil
	}
	if r.otherGroup(group) {
		r.refuse(l, rejectBody{Reason: RejectGroup}, ErrOtherGroup)
		return nil
	}
	if r.cfg.Spoke && !h.Hub {
		r.refuse(l, rejectBody{Reason: RejectRole}, ErrNoHub)
		return nil
	}
	if h.Whole {
		l.baseUnknown()
	}
	heads, err := r.unpackAll(l, h.Heads)
	if errors.Is(err, errBase) {
		if !l.lost || r.now.Mono-l.helloAt >= millis(helloEvery) { // what asked for one that can be read may be lost
			l.lost = true
			r.sendHello(l, false)
		}
		return nil
	}
	if err != nil {
		return err
	}
	l.lost = false
	l.greeted, l.origin, l.ready, l.hub, l.audits = true, origin, h.Ready, h.Hub, h.Audits
	if group != (GroupID{}) { // else it is none yet, or an old HELLO that was overtaken
		l.group = group
	}
	l.offset = int64(min(h.Wall, 1<<62)) - r.now.Wall
	l.lagging = false
	l.heardAt = r.now.Mono
	clear(l.sent)
	clear(l.schemas)
	clear(l.lazy)
	r.learnAllHeads(l, heads)
	l.pullNow = true
	if !h.Answer {
		r.sendHello(l, true)
	}
	if pull := l.early; pull != nil {
		l.early = nil
		return r.onPull(l, pull)
	}
	return nil
}

// learnAllHeads takes note of all that the other side says it holds. It may be less than before: the other
// side may have been set back.
func (r *Replica) learnAllHeads(l *link, heads crdt.Coverage) {
	l.known = crdt.Coverage{}
	clear(l.ahead)
	clear(l.lacks)
	for o := range r.coverage {
		if heads[o] == 0 {
			l.lacks[o] = struct{}{}
		}
	}
	r.learnHeads(l, heads)
}

// learnHead takes note of one head of the other side.
func (r *Replica) learnHead(l *link, o crdt.Origin, h hlc.Timestamp) {
	if was := l.known[o]; was < h {
		if was == 0 && len(l.known) >= maxKnown {
			return
		}
		l.known[o] = h
		r.compare(l, o)
	}
}

// compare notes who is further with one origin. With that, what a link lacks is known without comparing two
// whole vectors, which have an entry for every replica that ever wrote.
func (r *Replica) compare(l *link, o crdt.Origin) {
	delete(l.ahead, o)
	delete(l.lacks, o)
	switch c := cmp.Compare(l.known[o], r.coverage[o]); {
	case c > 0:
		l.ahead[o] = struct{}{}
	case c < 0:
		l.lacks[o] = struct{}{}
	}
}

// learnHeads takes note of heads of the other side.
func (r *Replica) learnHeads(l *link, heads crdt.Coverage) {
	for o, h := range heads {
		r.learnHead(l, o, h)
	}
	r.checkOwn(heads[r.origin])
	r.noteAck(l)
	r.seeBehind(l)
}

// seeBehind notes since when the other side holds something that this one lacks.
func (r *Replica) seeBehind(l *link) {
	switch behind := r.behind(l); {
	case !behind:
		l.behindSince, l.pullNow = 0, false
	case l.behindSince == 0:
		l.behindSince = max(r.now.Mono, 1)
	}
}

// behind reports whether a session with the other side would bring something. What is held back for its
// time alone is not worth one; what comes before that is.
func (r *Replica) behind(l *link) bool {
	for o := range l.ahead {
		held := r.held[o]
		if held == nil || held.blocks[0].stamp.Time <= r.limit(o != l.origin) || l.known[o] < held.blocks[0].stamp.Time {
			return true
		}
	}
	return false
}

// level reports whether the other side is known to hold everything that is held here.
func (r *Replica) level(l *link) bool { return len(l.lacks) == 0 }

// LinkStatus says how things stand with one peer.
type LinkStatus struct {
	Link     LinkID
	Peer     string
	Greeted  bool          // versions and groups agree
	Origin   crdt.Origin   // under which it writes
	Ready    bool          // it can serve
	Hub      bool          //
	Known    crdt.Coverage // what it is known to hold
	Level    bool          // it holds everything that is held here
	Behind   bool          // it holds something that is not held here
	BehindMS int64         // for how long, in milliseconds
	Lagging  bool          // it is too slow for pushes
	OffsetMS int64         // its wall clock less ours
	LastIn   int64         // when anything last came, on the clock of Instant.Mono
	HeardAt  int64         // when it last told all that it holds, on the clock of Instant.Mono
}

func (l *link) status(r *Replica) LinkStatus {
	var behind int64
	if l.behindSince != 0 {
		behind = r.now.Mono - l.behindSince
	}
	return LinkStatus{
		Link: l.id, Peer: l.name, Greeted: l.greeted, Origin: l.origin, Ready: l.ready, Hub: l.hub,
		Known: l.known.Clone(), Level: l.greeted && r.level(l), Behind: r.behind(l), BehindMS: behind, Lagging: l.lagging, OffsetMS: l.offset, LastIn: l.lastIn, HeardAt: l.heardAt,
	}
}
