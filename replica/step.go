package replica

import (
	"bytes"
	"errors"
	"fmt"
)

// Content reports whether frames of this type can change rows, so that the step needs a round of writing.
func (t FrameType) Content() bool { return t == FrameBlocks || t == FrameDone || t == FrameMend }

// Step takes in one frame from a link. The round is used for frames with Content only, and while the replica is not ready
// for chunks; it may be nil for others. An error is one of the store; the replica must then be thrown away. What the other side did
// wrong ends its link, through Ready.
func (r *Replica) Step(v Round, now Instant, id LinkID, f Frame) error {
	r.now = now
	l := r.link(id)
	if l == nil {
		return nil // it came after its link was given up
	}
	l.lastIn = now.Mono
	stream := 0
	if f.Type.Bulk() {
		stream = 1
	}
	if !f.Type.used() && f.Critical && l.greeted {
		r.refuse(l, rejectBody{Reason: RejectVersion}, fmt.Errorf("%w (the peer needs frame type %#02x)", ErrVersion, byte(f.Type)))
		return nil
	}
	unasked := !f.Type.used() || (f.Type == FrameChunk || f.Type == FrameDone) && !r.pulls(l) || f.Type == FrameMend && !r.mends(l)
	if unasked { // of a later version, of a session or an audit that was given up, or of none
		l.parts[stream].drop(f.Type)
		return nil
	}
	body, done, err := l.parts[stream].add(f)
	if err == nil && !done {
		// A piece of a chunk of the session under way is progress; one smaller would let a server hold the session for ever.
		if f.Type == FrameChunk && l.parts[stream].begun(f.Type) && len(f.Body) >= pieceBytes {
			r.pull.movedAt = now.Mono
		}
		return nil
	}
	if err == nil {
		err = r.dispatch(v, l, f.Type, body)
	}
	var conflict *schemaConflictError
	switch {
	case errors.Is(err, ErrFrame):
		r.refuse(l, rejectBody{Reason: RejectFrame}, err)
	case errors.As(err, &conflict):
		r.refuse(l, rejectBody{Reason: RejectSchema}, err)
	default:
		return err
	}
	return nil
}

func (r *Replica) dispatch(v Round, l *link, t FrameType, body []byte) error {
	if t == FrameHello {
		return r.onHello(l, body)
	}
	if t == FrameReject {
		return r.onReject(l, body)
	}
	if !l.greeted {
		if t == FramePull {
			l.early = body // streams overtake each other: its HELLO is on the other one
		}
		return nil // else its HELLO was lost; ours is repeated until it answers
	}
	switch t {
	case FrameBlocks:
		return r.onBlocks(v, l, body)
	case FrameSchema:
		return r.onSchema(l, body)
	case FrameHeads:
		return r.onHeads(l, body)
	case FramePrune:
		return r.onPrune(l, body)
	case FrameAnnounce:
		return r.onAnnounce(l, body)
	case FramePull:
		return r.onPull(l, body)
	case FrameCredit:
		return r.onCredit(l, body)
	case FrameChunk:
		return r.onChunk(v, l, body)
	case FrameDone:
		return r.onDone(v, l, body)
	case FrameAudit:
		return r.onAudit(l, body)
	case FrameAudited:
		return r.onAudited(l, body)
	case FrameMend:
		return r.onMend(v, l, body)
	}
	return nil
}

func (r *Replica) onSchema(l *link, body []byte) error {
	for len(body) > 0 {
		item, rest, err := nextItem(body)
		if err != nil {
			return err
		}
		if err := l.told.add(item, r.schemas); err != nil {
			return err
		}
		body = rest
	}
	return nil
}

func (r *Replica) onHeads(l *link, body []byte) error {
	var h headsBody
	if err := decodeBody(FrameHeads, body, &h); err != nil {
		return err
	}
	if h.Whole {
		l.baseUnknown()
	}
	if err := r.takeHeads(l, h); errors.Is(err, errBase) {
		r.tellAll(l, true, true)
		return nil
	} else if err != nil {
		return err
	}
	if h.Ready && !l.ready {
		r.sendHello(l, false) // the HELLO that said so was lost
	}
	differs := len(h.Hash) > 0 && !r.sameHash(h.Hash)
	if len(h.Hash) > 0 && !differs {
		r.sameHeads(l)
	}
	if r.level(l) {
		l.lagging = false
	}
	if h.Want || differs && (l.toldAllAt == 0 || r.now.Mono-l.toldAllAt >= millis(digestEvery)/2) {
		r.tellAll(l, differs && !h.Want, false)
	}
	return nil
}

func (r *Replica) takeHeads(l *link, h headsBody) error {
	if h.All == nil {
		heads, err := h.Heads.coverage()
		if err == nil {
			r.learnHeads(l, heads)
		}
		return err
	}
	heads, err := r.unpackAll(l, *h.All)
	if err == nil {
		r.learnAllHeads(l, heads)
		l.heardAt = r.now.Mono
		r.auditHeard(l)
	}
	return err
}

func (r *Replica) sameHash(hash []byte) bool {
	own := r.coverageHash()
	return bytes.Equal(hash, own[:])
}

// tellAll sends every head. With want the other side answers with all of its own, and with whole not as changes.
func (r *Replica) tellAll(l *link, want, whole bool) {
	l.toldEverything()
	l.toldAt, l.toldAllAt = r.now.Mono, r.now.Mono
	all := r.packAll(l)
	r.send(l, FrameHeads, encodeBody(headsBody{All: &all, Want: want, Whole: whole}))
}

// Probe asks every peer for all of its heads, so that a round asked for by a person begins with the truth
// and not with the last news.
func (r *Replica) Probe(now Instant) {
	r.now = now
	for _, l := range r.links {
		if l.greeted {
			l.pullNow = true
			r.tellAll(l, true, false)
		}
	}
}

func (r *Replica) onAnnounce(l *link, body []byte) error {
	var a announceBody
	if err := decodeBody(FrameAnnounce, body, &a); err != nil {
		return err
	}
	heads, err := a.Heads.coverage()
	if err != nil {
		return err
	}
	r.learnHeads(l, heads)
	l.pullNow = l.behindSince != 0
	return nil
}

func (r *Replica) onReject(l *link, body []byte) error {
	var b rejectBody
	if err := decodeBody(FrameReject, body, &b); err != nil {
		return err
	}
	if b.Session != 0 {
		r.auditRejected(l, b)
		return r.onSessionReject(l, b)
	}
	if b.Reason == RejectFork && bytes.Equal(b.Origin, r.origin[:]) {
		r.forked = &ForkError{r.origin, b.Time}
	}
	r.close(l, fmt.Errorf("replica: refused by the peer: %s: %s", b.Reason, clip(b.Text, 512)))
	return nil
}

// Tick lets time pass: it repeats what was not answered, starts and gives up sessions. It
// reads and writes no rows.
func (r *Replica) Tick(now Instant) {
	r.now = now
	for _, l := range r.links {
		switch {
		case !l.greeted:
			if now.Mono-l.helloAt >= millis(helloEvery) {
				l.whole = true // its base may be unknown there, and the news of that lost
				r.sendHello(l, false)
			}
		case now.Mono >= r.tellHashAt(l) && now.Mono < l.tellAtNext():
			r.tellHash(l)
		}
		r.seeBehind(l)
	}
	r.tickPull()
	r.tickAudit()
}

// Wake returns the moment, on the clock of Instant.Mono, at which time alone next gives Process something
// to do.
func (r *Replica) Wake() int64 {
	if r.Serving() {
		return r.now.Mono // the next chunk
	}
	at := r.now.Mono + millis(digestEvery)
	for _, l := range r.links {
		if l.greeted {
			at = min(at, l.tellAtNext(), r.tellHashAt(l))
		} else {
			at = min(at, l.helloAt+millis(helloEvery))
		}
		at = min(at, r.pullAt(l))
	}
	at = min(at, r.auditAt())
	if r.pull != nil && r.pull.active {
		at = min(at, r.pull.movedAt+millis(sessionTimeout))
	}
	for o, h := range r.held {
		if b := h.blocks[0]; b.prev == r.coverage[o] {
			at = min(at, r.now.Mono+b.stamp.Time.Millis()-r.limit(false).Millis())
		}
	}
	return max(at, r.now.Mono+1)
}

// never is a moment that no clock reaches, 139 years on. Time until then fits into a Duration: a peer sleeps for it.
const never = 1 << 42

// pullAt returns the moment from which a session with the link may begin, if nothing happens before.
func (r *Replica) pullAt(l *link) int64 {
	if !l.greeted || !l.ready || r.pull != nil && r.pull.active || r.ready && l.behindSince == 0 {
		return never
	}
	if l.group == (GroupID{}) || r.otherGroup(l.group) {
		return never
	}
	at := max(l.notBefore, r.now.Mono+l.takesFrom-r.now.Wall)
	if p := r.pull; p != nil && p.progress.Bytes >= worthWaiting && !l.known.Includes(p.seen) {
		at = max(at, p.movedAt+millis(resumeWait))
	}
	if r.ready && !l.pullNow {
		at = max(at, l.behindSince+millis(pullAfter))
	}
	return at
}
