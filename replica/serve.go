package replica

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// served is a session as its server sees it. It visits the transactions that the client lacks, in the order
// of Position, and for each row that one of them still names sends every register that the client does not
// cover, also those newer than the cut: whatever replaced a part of these transactions goes along.
//
// The server goes on merging meanwhile. So a first pass covers its coverage at the start, further passes
// what came since, and the last one is made in a single view together with DONE: after it, every
// transaction of the final cut is covered by the client or its surviving registers were sent.
type served struct {
	link   *link
	id     uint64
	run    uint64 // our own number: a server that lost its memory may be given an old PULL again
	claims crdt.Coverage
	bases  []*known // vectors that the client holds
	credit uint64
	chunk  int // size to which chunks are filled
	seq    uint64
	bytes  int           // of all chunks so far
	ahead  []int         // the sizes of those that the client has not credited yet
	first  crdt.Coverage // the cut of the first pass; told with chunk 0
	seen   crdt.Coverage // what the client was told that this replica holds
	told   map[*crdt.Schema]struct{}
	caps   struct{ own, other hlc.Timestamp }

	rows  bool // the first pass is over all rows, in order of their keys: a first copy
	total uint64
	pass  int
	cut   crdt.Coverage // this pass: the transactions in cut ...
	skip  crdt.Coverage // ... but not in skip
	after Position
	part  rowPart // of the row after that
	begun bool
}

// rowPart says how far a large row was sent.
type rowPart struct {
	at     Position
	column string // everything up to this one
}

func lastColumn(r crdt.Row) string { return r.Cells[len(r.Cells)-1].Column }

// rowBytes is how much of the cells of one row goes along with chunks of a size.
func rowBytes(chunk int) int { return min(rowChunks*chunk, maxRowBytes) }

// open reports whether the next chunk may be made.
func (s *served) open() bool {
	ahead := 0
	for _, n := range s.ahead {
		ahead += n
	}
	return s.credit > 0 && (len(s.ahead) < moreCredit || ahead < maxAhead)
}

func (r *Replica) onPull(l *link, body []byte) error {
	var b pullBody
	if err := decodeBody(FramePull, body, &b); err != nil {
		return err
	}
	v, claims, err := r.unpack(l, b.Claims)
	if errors.Is(err, errBase) {
		r.rejectSession(&served{link: l, id: b.Session}, RejectBase, crdt.Stamp{})
		return nil
	}
	if err != nil {
		return err
	}
	if b.Session == 0 || b.CapOwn > hlc.Max || b.Cap > hlc.Max {
		return fmt.Errorf("%w: PULL with a number out of range", ErrFrame)
	}
	if b.Session <= l.lastPull {
		return nil // doubled or overtaken: to begin it again would mix two cuts in one stage
	}
	l.lastPull = b.Session
	clear(l.sent)
	r.learnAllHeads(l, claims)
	l.theirs = r.vectors.add(v, l.name)
	bases := []*known{l.theirs}
	if hash, err := id16(b.Holds); err == nil {
		bases = append(bases, r.base(hash, []*known{l.ours}))
	}
	r.run++
	s := &served{
		link: l, id: b.Session, run: r.run, claims: claims, bases: bases, credit: min(b.Credit, maxCredit), first: r.coverage.Clone(),
		told: map[*crdt.Schema]struct{}{}, chunk: r.cfg.ChunkBytes,
	}
	if b.Chunk > 0 {
		s.chunk = min(s.chunk, max(int(min(b.Chunk, MaxMessageBytes)), minChunkBytes))
	}
	s.caps.own, s.caps.other, s.rows = b.CapOwn, b.Cap, b.Copy
	if !r.ready {
		r.rejectSession(s, RejectBusy, crdt.Stamp{})
		return nil
	}
	if b.After != nil {
		ok, err := r.resume(s, b)
		switch {
		case errors.Is(err, errBase):
			r.rejectSession(s, RejectBase, crdt.Stamp{})
			return nil
		case err != nil:
			return err
		case !ok:
			r.rejectSession(s, RejectResume, crdt.Stamp{})
			return nil
		}
	}
	s.seen = s.first.Clone()
	s.startPass(s.first, nil)
	r.dropServed(l) // a client has one session at a time: it has given up the one before
	r.served = append(r.served, s)
	return nil
}

// resume sets a session to go on where a broken one ended, and reports whether this replica can: it must
// hold all that the server of that session held.
func (r *Replica) resume(s *served, b pullBody) (bool, error) {
	if b.Cut == nil || b.Seen == nil {
		return false, fmt.Errorf("%w: PULL with a place and without its cut", ErrFrame)
	}
	_, cut, err := r.unpack(s.link, *b.Cut)
	if err != nil {
		return false, err
	}
	_, seen, err := r.unpack(s.link, *b.Seen)
	if err != nil || !r.coverage.Includes(seen) || !r.coverage.Includes(cut) {
		return false, err
	}
	if r.checkOwn(seen[r.origin]); r.forked != nil {
		return false, nil // the session was begun here, before this database was set back
	}
	s.first = cut
	if b.After.End {
		s.after.Stamp.Origin, s.rows = lastOrigin, false
		return true, nil
	}
	s.after, err = b.After.position()
	s.rows = s.rows && s.after.Stamp.IsZero()
	return true, err
}

// lastOrigin is after every origin id in use, and so stands for the end of a pass.
var lastOrigin = crdt.Origin(bytes.Repeat([]byte{0xff}, len(crdt.Origin{})))

func (s *served) startPass(cut, before crdt.Coverage) {
	s.cut, s.skip = cut, s.claims.Clone()
	s.skip.Add(before)
	s.pass++
}

func (r *Replica) dropServed(l *link) {
	r.served = slices.DeleteFunc(r.served, func(s *served) bool { return s.link == l })
}

func (r *Replica) onCredit(l *link, body []byte) error {
	var b creditBody
	if err := decodeBody(FrameCredit, body, &b); err != nil {
		return err
	}
	for _, s := range r.served {
		if s.link == l && s.id == b.Session {
			s.credit = min(s.credit+min(b.Credit, maxCredit), maxCredit)
			s.ahead = s.ahead[min(b.Credit, uint64(len(s.ahead))):]
		}
	}
	return nil
}

func (r *Replica) rejectSession(s *served, reason RejectReason, at crdt.Stamp) {
	b := rejectBody{Reason: reason, Session: s.id, Time: at.Time}
	if !at.IsZero() {
		b.Origin = at.Origin[:]
	}
	r.send(s.link, FrameReject, encodeBody(b))
}

// Serving reports whether a session waits for its next chunk, or an audit for what is read for it, which Serve makes.
func (r *Replica) Serving() bool {
	return r.auditsServed() || slices.ContainsFunc(r.served, (*served).open)
}

// Serve makes the next chunk of each session that allows one, and reads for audits. The view is of committed state, and nothing
// is waiting to be committed: what is served must be durable here first.
func (r *Replica) Serve(v View, now Instant) error {
	if r.Dirty() {
		panic("replica: Serve with uncommitted changes")
	}
	r.now = now
	for _, s := range slices.Clone(r.served) {
		if !s.open() {
			continue
		}
		over, err := r.serve(v, s)
		if err != nil {
			return err
		}
		if over {
			r.served = slices.DeleteFunc(r.served, func(o *served) bool { return o == s })
		}
	}
	return r.serveAudits(v)
}

// serve makes one chunk, or the whole last pass and DONE. It reports whether the session is over.
func (r *Replica) serve(v View, s *served) (over bool, err error) {
	if !s.begun {
		s.begun = true
		if late, err := r.beyond(v, s); err != nil || late {
			return late, err
		}
		if s.rows {
			if s.total, err = v.Count(); err != nil {
				return false, err
			}
		}
	}
	done, err := r.chunk(v, s)
	for err == nil && done && !s.cut.Includes(r.coverage) {
		s.startPass(r.coverage.Clone(), s.cut)
		s.after, s.part = Position{}, rowPart{}
		r.stats.PassesServed++
		if late, err := r.beyond(v, s); err != nil || late {
			return late, err
		}
		done, err = r.lastPass(v, s)
	}
	if err != nil || !done {
		return false, err
	}
	r.send(s.link, FrameDone, encodeBody(doneBody{s.id, s.seq, r.pack(vectorOf(s.cut), s.bases...), s.run}))
	r.stats.SessionsServed++
	return true, nil
}

// lastPass makes a whole pass in one view. Where it turns out too much for one go it becomes an ordinary
// pass, to be gone on with later; but not for ever, or a busy server would never end a session.
func (r *Replica) lastPass(v View, s *served) (done bool, err error) {
	for sent := 0; ; {
		if sent >= lastPassBytes && s.pass <= maxPasses {
			return false, nil
		}
		before := s.bytes
		if done, err = r.chunk(v, s); done || err != nil {
			return done, err
		}
		sent += max(s.chunk, s.bytes-before)
	}
}

// chunk sends the next piece of the pass and reports whether the pass is over.
func (r *Replica) chunk(v View, s *served) (done bool, err error) {
	f := filler{r: r, s: s, body: chunkBody{Session: s.id, Seq: s.seq, Run: s.run}}
	if s.rows && s.pass == 1 {
		err = r.scanAll(v, s, f.takeRows)
	} else {
		err = v.Changed(s.cut, s.skip, s.after, f.take)
	}
	if err != nil {
		return false, err
	}
	s.after = f.after(s.after)
	if f.delta.Rows() == 0 && !f.full {
		return true, nil
	}
	f.body.Delta = f.delta.Finish()
	s.bytes += len(f.body.Delta)
	s.ahead = append(s.ahead, len(f.body.Delta))
	if s.seq == 0 {
		cut := r.pack(vectorOf(s.first), s.bases...)
		f.body.Cut, f.body.Total = &cut, s.total
	}
	f.body.Seen = s.rose(r.coverage)
	f.body.After = placeOf(s.after)
	f.body.After.End = s.pass > 1 || !f.full
	s.seq++
	if s.credit > 0 {
		s.credit--
	}
	r.send(s.link, FrameChunk, encodeBody(f.body))
	return !f.full, nil
}

// filler fills one chunk.
type filler struct {
	r      *Replica
	s      *served
	body   chunkBody
	delta  crdt.DeltaBuilder
	last   Position
	looked int // rows
	moved  bool
	full   bool
}

// scanAll visits all rows after the place that the session has come to, in the order of their keys. Every row that was
// there when the pass began is visited while it holds what finally survives of the pass's transactions, or something
// newer, which is in a later pass.
func (r *Replica) scanAll(v View, s *served, take func([]RowState) bool) error {
	tables := slices.Sorted(maps.Keys(r.schemas.current))
	i, _ := slices.BinarySearch(tables, s.after.Table)
	for _, t := range tables[i:] {
		var after crdt.Key
		if t == s.after.Table {
			after = s.after.Key
		}
		more := true
		if err := v.Scan(t, after, func(rows []RowState) bool { more = take(rows); return more }); err != nil || !more {
			return err
		}
	}
	return nil
}

// takeRows is given rows in the order of their keys.
func (f *filler) takeRows(rows []RowState) bool {
	for _, row := range rows {
		if f.look(); !f.add(Position{RowKey: row.RowKey}, row.Row) {
			return false
		}
	}
	return true
}

// take is given the rows of one transaction. It stops the visit when the chunk is full.
func (f *filler) take(at crdt.Stamp, rows []RowState) bool {
	for _, row := range rows {
		here := Position{at, row.RowKey}
		if f.look(); f.visitedEarlier(row.Row, at) {
			row.Row = crdt.Row{}
		}
		if !f.add(here, row.Row) {
			return false
		}
	}
	return true
}

// look counts a row that is looked at. The chunk ends with the last that may be, also where it is empty: the client learns how far the
// session has come.
func (f *filler) look() {
	f.looked++
	f.full = f.looked >= max(2, f.s.chunk/lookBytes)
}

// add puts what the client lacks of a row into the chunk, and reports whether there is room for more. Of a large row it puts a part; the
// session is past the row when all parts are sent. What replaces a part meanwhile is of no transaction of this pass, and comes later.
func (f *filler) add(here Position, row crdt.Row) (more bool) {
	row = row.Without(f.s.claims)
	if here == f.s.part.at {
		row = row.After(f.s.part.column)
	}
	f.s.part = rowPart{}
	part, rest := row.Split(rowBytes(f.s.chunk))
	if !part.IsZero() {
		f.put(here.RowKey, part)
	}
	if !rest.IsZero() {
		f.s.part, f.full = rowPart{here, lastColumn(part)}, true
		return false
	}
	f.last, f.moved = here, true
	return !f.full
}

func (f *filler) put(k RowKey, row crdt.Row) {
	schema := f.r.schemas.current[k.Table]
	if _, ok := f.s.told[schema]; !ok {
		f.s.told[schema] = struct{}{}
		f.body.Schemas = append(f.body.Schemas, crdt.AppendSchema(nil, schema))
	}
	f.delta.Add(schema, f.r.schemas.ref(schema), k.Key, row)
	f.full = f.full || f.delta.Size() >= f.s.chunk
}

func (f *filler) after(before Position) Position {
	if !f.moved {
		return before
	}
	return f.last
}

// visitedEarlier reports whether this pass has come by the row already, at another of its transactions. At
// that time the row held the registers of all transactions of the pass that it still names, so all that the
// client lacks of them was sent then; what replaced others since is in a later pass.
func (f *filler) visitedEarlier(row crdt.Row, at crdt.Stamp) bool {
	var buf [8]crdt.Stamp
	for _, t := range row.Stamps(buf[:0]) {
		if f.s.cut.Covers(t) && !f.s.skip.Covers(t) && visitOrder(t, at) < 0 {
			return true
		}
	}
	return false
}

// visitOrder compares transactions in the order in which a session visits them.
func visitOrder(a, b crdt.Stamp) int {
	if c := a.Origin.Compare(b.Origin); c != 0 {
		return c
	}
	return a.Compare(b)
}

// rose returns the heads that rose since the client was told last, and takes them as told.
func (s *served) rose(now crdt.Coverage) vector {
	rose := crdt.Coverage{}
	for o, h := range now {
		if h > s.seen[o] {
			rose[o] = h
		}
	}
	s.seen.Add(rose)
	return vectorOf(rose)
}

// beyond looks for a transaction of this pass that survives and is beyond the client's clock, and ends the
// session over it. A session is all or nothing: to leave such a register out and claim the rest would lose
// it for ever.
func (r *Replica) beyond(v View, s *served) (late bool, err error) {
	below := s.skip.Clone()
	for o, h := range s.cut {
		limit := s.caps.other
		if o == r.origin {
			limit = s.caps.own
		}
		late = late || h > limit
		below[o] = max(below[o], min(h, limit))
	}
	if !late {
		return false, nil
	}
	var found crdt.Stamp
	err = v.Changed(s.cut, below, Position{}, func(at crdt.Stamp, rows []RowState) bool {
		found = at
		return false
	})
	if err != nil || found.IsZero() {
		return false, err
	}
	r.rejectSession(s, RejectSkew, found)
	return true, nil
}
