package replica

import (
	"fmt"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// pull is a session as its client sees it: everything the server holds and this replica lacks, staged until
// it is whole, then merged and claimed as one unit. Nothing of it is claimed before: a server that sends
// only surviving registers leaves out what was overwritten, so a part of a session may lack content that
// its own transactions were replaced by.
//
// A broken session leaves its stage behind. Any replica may go on with it that holds all that the server
// held when it made the last chunk. It is not enough to hold the first cut: what the server merged
// meanwhile may have replaced a register of that cut before its row was visited, so that neither was sent.
type pull struct {
	active  bool
	link    LinkID
	id      uint64
	server  crdt.Origin // the last one
	movedAt int64
	wanted  crdt.Coverage // the heads for which it was begun, as the server was thought to hold them
	cap     hlc.Timestamp // the greatest time that was asked for, of any origin, since the stage began

	cut    crdt.Coverage // the first cut; nil until chunk 0
	after  *placeBody    // where the stage ends
	seen   crdt.Coverage // what the server held when it made the last chunk
	chunks [][]byte      // staged deltas
	told   told
	bytes  int
	base   uint64 // chunks staged in earlier sessions
	credit uint64 // chunks to come before more are asked for
	run    uint64 // the server's number for the session, from its first chunk
}

// tickPull gives up a session that does not move, and starts one where it would bring something.
func (r *Replica) tickPull() {
	if p := r.pull; p != nil && p.active {
		if r.now.Mono-p.movedAt < millis(sessionTimeout) {
			return
		}
		r.breakPull(r.link(p.link), r.now.Mono+millis(busyRetry))
	}
	if l := r.server(); l != nil {
		r.startPull(l)
	}
}

// server chooses the link to pull from: one that can go on with the stage before others, a hub before
// others, an older link before a newer one.
func (r *Replica) server() *link {
	var best *link
	score := -1
	for _, l := range r.links {
		if r.pullAt(l) > r.now.Mono {
			continue
		}
		n := 0
		if l.hub {
			n++
		}
		if r.pull != nil && r.pull.server == l.origin {
			n += 2
		}
		if n > score {
			best, score = l, n
		}
	}
	return best
}

func (r *Replica) startPull(l *link) {
	r.session++
	p := r.pull
	if p == nil || p.cut == nil || !l.known.Includes(p.seen) {
		p = &pull{}
	} else {
		r.stats.SessionsResumed++
		if p.server != l.origin {
			r.stats.SessionsMoved++
		}
	}
	p.active, p.link, p.id, p.server, p.movedAt = true, l.id, r.session, l.origin, r.now.Mono
	p.base, p.credit, p.run = uint64(len(p.chunks)), startCredit, 0
	r.pull = p
	p.wanted = crdt.Coverage{}
	for o := range l.ahead {
		p.wanted[o] = l.known[o]
	}
	l.pullNow = false
	p.cap = max(p.cap, r.limit(true))
	body := pullBody{Session: p.id, Claims: vectorOf(r.coverage), CapOwn: r.limit(false), Cap: r.limit(true), Credit: startCredit}
	if p.cut != nil {
		body.Cut, body.After, body.Seen = vectorOf(p.cut), p.after, vectorOf(p.seen)
	}
	r.send(l, FramePull, encodeBody(body))
}

// breakPull ends the running session and keeps its stage. The link, where it is still there, is not asked
// again before the given moment.
func (r *Replica) breakPull(l *link, notBefore int64) {
	r.pull.active = false
	r.stats.SessionsBroken++
	if l != nil {
		l.notBefore, l.pullNow = notBefore, true
	}
}

// dropSessions ends what goes on over a link that is gone.
func (r *Replica) dropSessions(l *link) {
	r.dropServed(l)
	if r.pull != nil && r.pull.active && r.pull.link == l.id {
		r.breakPull(nil, 0)
	}
}

// current returns the running session if the frame belongs to it.
func (r *Replica) current(l *link, id uint64) *pull {
	if p := r.pull; p != nil && p.active && p.link == l.id && p.id == id {
		return p
	}
	return nil
}

// pulls reports whether a session with the link is on its way in.
func (r *Replica) pulls(l *link) bool { return r.pull != nil && r.pull.active && r.pull.link == l.id }

func (r *Replica) onChunk(l *link, body []byte) error {
	var c chunkBody
	if err := decodeBody(FrameChunk, body, &c); err != nil {
		return err
	}
	p := r.current(l, c.Session)
	if p == nil {
		return nil
	}
	next := uint64(len(p.chunks)) - p.base
	if next == 0 {
		p.run = c.Run
	}
	if c.Seq != next || c.Run != p.run {
		if c.Seq > next && c.Run == p.run {
			r.breakPull(l, 0) // one was lost; the next session begins after the last that came
		}
		return nil
	}
	if err := p.stage(c, r.schemas); err != nil {
		return err
	}
	p.movedAt = r.now.Mono
	if p.credit--; p.credit <= startCredit-moreCredit {
		p.credit += moreCredit
		r.send(l, FrameCredit, encodeBody(creditBody{p.id, moreCredit}))
	}
	return nil
}

func (p *pull) stage(c chunkBody, known *schemaSet) error {
	if p.cut == nil {
		cut, err := c.Cut.coverage()
		if err != nil {
			return err
		}
		p.cut, p.seen = cut, cut.Clone()
	}
	seen, err := c.Seen.coverage()
	if err != nil {
		return err
	}
	if c.After == nil {
		return fmt.Errorf("%w: CHUNK without its end", ErrFrame)
	}
	if _, err := c.After.position(); err != nil {
		return err
	}
	for _, enc := range c.Schemas {
		if err := p.told.add(enc, known); err != nil {
			return err
		}
	}
	p.chunks = append(p.chunks, c.Delta)
	p.bytes += len(c.Delta)
	p.after = c.After
	p.seen.Add(seen)
	return nil
}

// onDone merges the stage and claims the server's last cut, as one unit. This is the only place where a
// session claims anything.
func (r *Replica) onDone(v View, l *link, body []byte) error {
	var d doneBody
	if err := decodeBody(FrameDone, body, &d); err != nil {
		return err
	}
	p := r.current(l, d.Session)
	if p == nil {
		return nil
	}
	cut, err := d.Cut.coverage()
	if err != nil {
		return err
	}
	if n := uint64(len(p.chunks)) - p.base; d.Seq != n || n > 0 && d.Run != p.run {
		r.breakPull(l, 0)
		return nil
	}
	if r.checkOwn(cut[r.origin]); r.forked != nil {
		r.pull = nil
		return nil // it would be claimed as made here
	}
	rows, err := r.parseStage(p)
	if err != nil {
		return err
	}
	ahead := crdt.MaxTime(rows)
	if ahead > p.cap {
		return fmt.Errorf("%w: a session holds %s, beyond the %s that was asked for", ErrFrame, ahead, p.cap)
	}
	for o, h := range cut {
		// A head beyond the clock may be claimed where something later has replaced all that is below it.
		if h > r.coverage[o] && h > r.clock.Last() {
			ahead = max(ahead, h)
		}
	}
	if ahead > r.limit(true) { // this machine's clock was set back meanwhile
		r.breakPull(l, 0)
		l.takesFrom = ahead.Millis() - millis(maxSkew)
		return nil
	}
	r.pull = nil
	if err := r.learn(offered{known: r.schemas, told: p.told.schemas}.used(rows)); err != nil {
		return err
	}
	n, err := r.rows.merge(v, rows, false)
	if err != nil {
		return err
	}
	r.stats.RowsMerged += uint64(n)
	r.clock.Update(ahead)
	for o, h := range cut {
		r.raise(o, h)
	}
	r.becomeReady(l)
	r.stats.SessionsPulled++
	r.learnHeads(l, cut)
	r.unlearn(l, p.wanted, cut)
	return r.Release(v, r.now)
}

// unlearn forgets heads that a whole session did not bring: the server does not hold them. It was set back since it told of them, and
// what it told before has overtaken what it told after. Else the session would be asked for again at once, for ever.
func (r *Replica) unlearn(l *link, wanted, cut crdt.Coverage) {
	for o, h := range wanted {
		if l.known[o] != h || cut[o] >= h {
			continue
		}
		if l.known[o] = cut[o]; cut[o] == 0 {
			delete(l.known, o)
		}
		r.compare(l, o)
	}
	r.seeBehind(l)
}

// parseStage reads the whole stage before any of it is merged: a session with a fault in it changes
// nothing.
func (r *Replica) parseStage(p *pull) (rows []crdt.RowDelta, err error) {
	schemas := offered{known: r.schemas, told: p.told.schemas}
	for _, chunk := range p.chunks {
		part, err := crdt.ParseDelta(string(chunk), schemas)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFrame, err)
		}
		rows = append(rows, part...)
	}
	return rows, nil
}

// becomeReady joins the server's group with the first copy.
func (r *Replica) becomeReady(l *link) {
	if r.ready {
		return
	}
	r.ready, r.batch.Ready = true, true
	if r.group == (GroupID{}) {
		r.group, r.batch.Group = l.group, l.group
	}
	for _, other := range r.links {
		if other.greeted {
			r.sendHello(other, true)
		}
	}
}

// onSessionReject ends the running session for the reason that the server gives.
func (r *Replica) onSessionReject(l *link, b rejectBody) error {
	p := r.current(l, b.Session)
	if p == nil {
		return nil
	}
	r.breakPull(l, r.now.Mono+millis(busyRetry))
	switch b.Reason {
	case RejectResume:
		r.pull = nil
		l.notBefore = 0
	case RejectSkew:
		l.takesFrom = hlc.Timestamp(min(b.Time, hlc.Max)).Millis() - millis(maxSkew)
	}
	return nil
}
