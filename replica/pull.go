package replica

import (
	"errors"
	"fmt"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// pull is a session as its client sees it: everything the server holds and this replica lacks, staged until
// it is whole, then merged and claimed as one unit. Nothing of it is claimed before: a server that sends
// only surviving registers leaves out what was overwritten, so a part of a session may lack content that
// its own transactions were replaced by.
//
// A first copy is such a session too. The replica that makes it serves nobody and shows nothing yet, so that its rows
// need no stage: they are merged as they come, and committed with the place up to which they have come (copyState). A
// program that ends in the middle goes on from there.
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
	ahead   hlc.Timestamp // the greatest time that has come

	cut      crdt.Coverage  // the first cut; nil until chunk 0
	after    *placeBody     // where the stage ends
	seen     crdt.Coverage  // what the server held when it made the last chunk
	stage    stage          // deltas; of a first copy, which is merged as it comes, none
	schemas  []*crdt.Schema // of the staged rows, not known before
	told     told
	progress Progress
	split    bool     // parts of rows have come
	chunks   uint64   // of this session
	bases    []*known // against which the server may pack its cuts
	credit   uint64   // chunks to come before more are asked for
	run      uint64   // the server's number for the session, from its first chunk
}

// Progress says how far a session has come.
type Progress struct {
	Rows  uint64 // that have come
	Total uint64 // about how many there will be; 0: nobody knows
	Bytes uint64 // of them, not compressed
	Table string // of the last row
}

// tickPull gives up a session that does not move, and starts one where it would bring something.
func (r *Replica) tickPull() {
	if p := r.pull; p != nil && p.active {
		if r.now.Mono-p.movedAt < millis(sessionTimeout) {
			return
		}
		l := r.link(p.link)
		if l != nil {
			l.whole = true // in case that it is the vector
		}
		r.askSmaller(p)
		r.breakPull(l, r.now.Mono+millis(busyRetry))
	}
	if l := r.server(); l != nil {
		r.startPull(l)
	}
}

// server chooses the link to pull from: one that can go on with the stage before others, the last server before others, a
// hub before others, an older link before a newer one.
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
		if p := r.pull; p != nil && p.cut != nil {
			if p.server == l.origin {
				n += 2
			}
			if l.known.Includes(p.seen) {
				n += 4
			}
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
		p = r.newPull()
	} else {
		r.stats.SessionsResumed++
		if p.server != l.origin {
			r.stats.SessionsMoved++
		}
	}
	p.active, p.link, p.id, p.server, p.movedAt = true, l.id, r.session, l.origin, r.now.Mono
	p.chunks, p.credit, p.run = 0, startCredit, 0
	r.pull = p
	if r.ready && !l.pullNow {
		r.graftBehind(l) // it did not come by push
	}
	p.wanted = crdt.Coverage{}
	for o := range l.ahead {
		p.wanted[o] = l.known[o]
	}
	l.pullNow = false
	p.cap = max(p.cap, r.limit(true))
	bases, whole := []*known{l.theirs, l.ours}, l.whole
	body := pullBody{
		Session: p.id, Claims: r.packAll(l), CapOwn: r.limit(false), Cap: r.limit(true), Credit: startCredit, Copy: !r.ready,
	}
	p.bases = append(bases, l.ours)
	if whole {
		bases = nil
	}
	if p.cut != nil {
		cut, seen := r.pack(vectorOf(p.cut), bases...), r.pack(vectorOf(p.seen), bases...)
		body.Cut, body.After, body.Seen = &cut, p.after, &seen
	}
	if r.smaller > 0 {
		body.Chunk = defaultChunkBytes >> r.smaller
	}
	if l.theirs != nil {
		body.Holds = l.theirs.hash[:]
	}
	r.send(l, FramePull, encodeBody(body))
}

// newPull begins a stage, after the one before was given up.
func (r *Replica) newPull() *pull {
	r.dropPull()
	return &pull{stage: stage{scratch: r.cfg.Scratch, limit: r.cfg.StageBytes}}
}

// dropPull gives up what has come of a session. Of a first copy that is rows: they may belong to transactions that
// nobody else ever gets to see.
func (r *Replica) dropPull() {
	if p := r.pull; p != nil {
		p.stage.drop()
		if !r.ready && p.cut != nil {
			r.rows.clear()
			r.batch.Restart, r.batch.Copy = true, []byte{}
		}
	}
	r.pull = nil
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
		r.askSmaller(r.pull)
		r.breakPull(nil, 0)
	}
}

// askSmaller asks for smaller chunks from now on where a session ended before one had come: its link may never last for a whole
// one. Sessions that end well ask for larger ones again.
func (r *Replica) askSmaller(p *pull) {
	if p.chunks == 0 && defaultChunkBytes>>r.smaller > minChunkBytes {
		r.smaller++
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

func (r *Replica) onChunk(v Round, l *link, body []byte) error {
	var c chunkBody
	if err := decodeBody(FrameChunk, body, &c); err != nil {
		return err
	}
	p := r.current(l, c.Session)
	if p == nil {
		return nil
	}
	if p.chunks == 0 {
		p.run = c.Run
	}
	if c.Seq != p.chunks || c.Run != p.run {
		if c.Seq > p.chunks && c.Run == p.run {
			r.breakPull(l, 0) // one was lost; the next session begins after the last that came
		}
		return nil
	}
	cut, err := r.firstCut(l, p, c)
	if err != nil {
		return r.unbased(l, err)
	}
	got, err := p.read(c, cut, r.schemas)
	if err != nil {
		return err
	}
	if got.ahead > p.cap { // the server merged it after it had looked for such; it would say so at its next pass
		r.tooEarly(l, got.ahead)
		return nil
	}
	if r.ready {
		err = p.stage.add(c.Delta)
	} else if ok := r.copyable(l, got); !ok {
		return nil
	} else {
		err = r.mergeCopy(v, l, p, got)
	}
	if err != nil {
		return err
	}
	if len(got.rows) > 0 || !got.after.same(p.after) { // else a server could hold the session for ever
		p.movedAt = r.now.Mono
	}
	p.advance(got)
	r.learnHeads(l, p.seen) // so that it can be asked to go on where this session breaks
	if !r.ready {
		r.batch.Copy = p.copyState()
	}
	p.chunks++
	if p.credit--; p.credit <= startCredit-moreCredit {
		p.credit += moreCredit
		r.send(l, FrameCredit, encodeBody(creditBody{p.id, moreCredit}))
	}
	return nil
}

// firstCut returns the first cut of a session, which its first chunk holds.
func (r *Replica) firstCut(l *link, p *pull, c chunkBody) (crdt.Coverage, error) {
	if p.cut != nil {
		return p.cut, nil
	}
	if c.Cut == nil {
		return nil, fmt.Errorf("%w: CHUNK without its cut", ErrFrame)
	}
	_, cut, err := r.unpack(l, *c.Cut, p.bases...)
	return cut, err
}

// unbased gives the running session up over a vector whose base is gone, and asks for it anew with a whole one. Another
// error it returns.
func (r *Replica) unbased(l *link, err error) error {
	if !errors.Is(err, errBase) {
		return err
	}
	l.whole = true
	r.breakPull(l, 0)
	return nil
}

// piece is what a chunk adds to a session.
type piece struct {
	cut, seen crdt.Coverage // what the session's server held at first, and when it made this chunk
	after     *placeBody
	ahead     hlc.Timestamp
	rows      []crdt.RowDelta
	schemas   []*crdt.Schema // of the rows, not known before
	bytes     int
	total     uint64
}

// read checks a whole chunk before anything of it is kept.
func (p *pull) read(c chunkBody, cut crdt.Coverage, known *schemaSet) (*piece, error) {
	seen, err := c.Seen.coverage()
	if err != nil {
		return nil, err
	}
	if c.After == nil {
		return nil, fmt.Errorf("%w: CHUNK without its end", ErrFrame)
	}
	if _, err := c.After.position(); err != nil {
		return nil, err
	}
	for _, enc := range c.Schemas {
		if err := p.told.add(enc, known); err != nil {
			return nil, err
		}
	}
	offer := offered{known: known, told: p.told.schemas}
	rows, err := crdt.ParseDelta(string(c.Delta), offer, maxChunkRows)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	ahead := max(p.ahead, crdt.MaxTime(rows))
	before := p.seen
	if before == nil {
		before = cut
	}
	seen.Add(before)
	if s := unclaimed(rows, seen); !s.IsZero() {
		return nil, fmt.Errorf("%w: a session holds a part of %s, which its server does not claim", ErrFrame, s)
	}
	return &piece{cut, seen, c.After, ahead, rows, offer.used(rows), len(c.Delta), c.Total}, nil
}

// unclaimed returns the first stamp of a register in rows that is not in a coverage. A server holds nothing that it does not
// claim; one that says so could, for instance, slip in registers under the client's own origin.
func unclaimed(rows []crdt.RowDelta, in crdt.Coverage) crdt.Stamp {
	var buf [8]crdt.Stamp
	var last crdt.Stamp
	for _, d := range rows {
		for _, s := range d.Row.Stamps(buf[:0]) {
			if s != last && !in.Covers(s) {
				return s
			}
			last = s
		}
	}
	return crdt.Stamp{}
}

// advance takes note of where the session has come to with a chunk that is kept.
func (p *pull) advance(got *piece) {
	p.cut, p.seen, p.after, p.ahead = got.cut, got.seen, got.after, got.ahead
	for _, s := range got.schemas {
		if !slices.Contains(p.schemas, s) {
			p.schemas = append(p.schemas, s)
		}
	}
	p.progress.Rows += uint64(len(got.rows))
	p.progress.Bytes += uint64(got.bytes)
	p.progress.Total = max(p.progress.Total, got.total)
	if n := len(got.rows); n > 0 {
		p.progress.Table = got.rows[n-1].Schema.Table
	}
}

// onDone merges the stage and claims the server's last cut, as one unit. This is the only place where a
// session claims anything.
func (r *Replica) onDone(v Round, l *link, body []byte) error {
	var d doneBody
	if err := decodeBody(FrameDone, body, &d); err != nil {
		return err
	}
	p := r.current(l, d.Session)
	if p == nil {
		return nil
	}
	_, cut, err := r.unpack(l, d.Cut, p.bases...)
	if err != nil {
		return r.unbased(l, err)
	}
	if d.Seq != p.chunks || p.chunks > 0 && d.Run != p.run {
		r.breakPull(l, 0)
		return nil
	}
	if r.checkOwn(cut[r.origin]); r.forked != nil {
		r.dropPull()
		return nil // it would be claimed as made here
	}
	ahead := p.ahead
	for o, h := range cut {
		// A head beyond the clock may be claimed where something later has replaced all that is below it.
		if h > r.coverage[o] && h > r.clock.Last() {
			ahead = max(ahead, h)
		}
	}
	if !r.inTime(l, ahead) {
		return nil
	}
	if r.ready {
		if err := r.learn(p.schemas); err != nil {
			return err
		}
		if err := r.mergeStage(v, p); err != nil {
			return err
		}
	} else if p.cut != nil {
		r.batch.Copy = []byte{}
	}
	r.pull = nil
	r.clock.Update(ahead)
	rose := false
	for o, h := range cut {
		if r.claim(o, h) {
			r.learned(l, o)
			rose = true
		}
	}
	if rose {
		r.sorted = vectorOf(r.coverage) // once: a session may bring many origins
	}
	r.becomeReady(l)
	r.stats.SessionsPulled++
	r.smaller = max(r.smaller-1, 0)
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

// inTime ends the session where it holds something beyond this machine's clock, which was set back meanwhile.
func (r *Replica) inTime(l *link, ahead hlc.Timestamp) bool {
	if ahead > r.limit(true) {
		r.tooEarly(l, ahead)
		return false
	}
	return true
}

// tooEarly ends the session until the time of what it holds has come.
func (r *Replica) tooEarly(l *link, ahead hlc.Timestamp) {
	r.breakPull(l, 0)
	l.takesFrom = ahead.Millis() - millis(maxSkew)
}

// mergeStage merges what is staged. Its chunks were checked when they came; what is wrong with one now is the fault
// of the room in which it was kept.
func (r *Replica) mergeStage(v Round, p *pull) error {
	known := offered{known: r.schemas}
	err := p.stage.each(func(chunk []byte) error {
		rows, err := crdt.ParseDelta(string(chunk), known, maxChunkRows)
		if err != nil {
			return err
		}
		n, err := r.rows.merge(v, rows, false)
		r.stats.RowsMerged += uint64(n)
		if err != nil || !p.stage.large() {
			return err
		}
		return r.putRows(v)
	})
	if err != nil {
		return fmt.Errorf("replica: merge a session that was staged: %w", err)
	}
	p.stage.drop()
	return nil
}

// putRows hands the changed rows to the store ahead of the commit, where there are so many: a session may be larger
// than memory.
func (r *Replica) putRows(v Round) error {
	if len(r.rows.order) < r.cfg.PutRows {
		return nil
	}
	return r.put(v)
}

// put hands over the changed rows, however many there are.
func (r *Replica) put(v Round) error {
	if !r.rows.dirty() {
		return nil
	}
	r.batch.Put = true
	if err := v.Put(r.rows.changes(r.schemas)); err != nil {
		return err
	}
	r.rows.flush()
	return nil
}

// becomeReady joins the server's group with the first copy.
func (r *Replica) becomeReady(l *link) {
	if r.ready {
		return
	}
	r.ready, r.batch.Ready = true, true
	r.joinGroup(l)
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
		r.dropPull()
		l.notBefore = 0
	case RejectBase:
		l.whole, l.notBefore = true, 0
	case RejectSkew:
		l.takesFrom = hlc.Timestamp(min(b.Time, hlc.Max)).Millis() - millis(maxSkew)
	}
	return nil
}
