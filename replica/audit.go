package replica

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
)

// Audit asks for a comparison with another replica, of all that both claim. Coverage says what a replica should hold; an
// audit looks whether it does. It finds what a defect, a bit that fell over or an edit of the store by hand has done to rows,
// and to the index from transactions to rows by which sessions find them.
//
// Both sides walk the transactions that both claim in the order of Position, which is the same everywhere, and sum up what survives
// of each: its registers. Where the sums of a segment differ, those of its parts are compared, and of a part that
// differs the rows are exchanged and joined. No equal coverage is needed, and nothing stands still meanwhile, because of the
// claim rule: a replica dominates the part of any row, anywhere, that it claims itself. Where it does not, it has lost
// something. A register that replaced another and is not claimed by both is merely on its way.
type Audit struct {
	ID     uint64   // returned with the report
	Link   LinkID   // with whom; 0: with a hub, or else over the oldest link
	Tables []string // the only ones to compare; empty: all
	Dry    bool     // name what differs, and mend nothing
}

// AuditReport is what an audit has come to so far. Counts are those of the last one until another begins.
type AuditReport struct {
	ID       uint64
	Peer     string // with whom
	Over     bool
	Err      error // why it ended early
	Segments int   // compared
	Tables   []AuditTable
	Rows     []AuditRow // that differ: the first of them
}

// AuditTable counts the rows of one table. A row that was written again while the audit came by may be missing here.
type AuditTable struct {
	Name                   string
	Rows, Differ, Unmended int // compared; of these with a difference; of these not mended, because it cannot be or was not wanted
}

// AuditRow is a row with a difference, and what it was.
type AuditRow struct {
	RowKey
	Here, There bool // this side, or the other, lacked something that it claims, or had another value under the same stamp
	Index       bool // it was as it should be, but a session would not have found it
	Stuck       bool // it holds what nobody claims: joining does not help
}

func (a AuditRow) differs() bool { return a.Here || a.There || a.Index || a.Stuck }

// What says what was found, in words.
func (a AuditRow) What() string {
	var parts []string
	for _, p := range []struct {
		is   bool
		text string
	}{{a.Here, "damaged here"}, {a.There, "damaged there"}, {a.Index, "lost by the index"}, {a.Stuck, "holds what nobody wrote"}} {
		if p.is {
			parts = append(parts, p.text)
		}
	}
	return strings.Join(parts, ", ")
}

// audit is the side that asks. It has one question under way at a time.
type audit struct {
	Audit
	link    *link
	cut     crdt.Coverage // claimed by both at the start
	after   Position      // everything up to here is compared
	step    auditStep
	whole   segment   // the one being compared
	parts   []segment // of it
	spans   []span    // whose rows are to be exchanged
	page    []pageRow // rows of the first span that may differ
	told    int       // how many of them the other side was told
	telling []int     // positions in page of those under way
	upper   Position  // where the page ends
	rows    map[string]*AuditTable
	named   map[RowKey]struct{}
	report  AuditReport

	question uint64 // the one under way
	kind     FrameType
	body     []byte
	since    int64 // when it was first asked
	askedAt  int64 // and last
}

type auditStep int

const (
	auditHeads  auditStep = iota // asked what the other side claims
	auditReads                   // the next segment is to be read
	auditWhole                   // asked whether a segment differs
	auditParts                   // asked which of its parts differ
	auditRowsOf                  // asked for the rows of a span
	auditTells                   // told what rows became
)

// pageRow is a row whose state is not the same, or not yet known to be.
type pageRow struct {
	AuditRow
	delta  crdt.RowDelta
	tell   bool // to the other side
	anew   bool // which is to write it anew
	unseen bool // because its index has lost it
}

// The reasons for which an audit does not begin, or ends early.
var (
	ErrAuditPeer    = errors.New("replica: no peer is connected that can be audited with")
	ErrAuditOld     = errors.New("replica: the peer does not know audits: update its program")
	ErrAuditBusy    = errors.New("replica: not ready: the first copy has not come")
	ErrAuditSilence = errors.New("replica: the peer does not answer")
	ErrAuditLink    = errors.New("replica: the link to the peer is gone")
)

// StartAudit begins an audit. One that is under way ends.
func (r *Replica) StartAudit(now Instant, ask Audit) {
	r.now = now
	l, err := r.auditLink(ask.Link)
	a := &audit{Audit: ask, link: l, rows: map[string]*AuditTable{}, named: map[RowKey]struct{}{}}
	r.audit = a
	a.report.ID = ask.ID
	if err != nil {
		r.endAudit(err)
		return
	}
	a.report.Peer, a.since, a.askedAt = l.name, now.Mono, now.Mono
	r.tellAll(l, true, false)
}

// auditHeard begins the walk, when the other side has told all that it claims: what is known of it may be old news.
func (r *Replica) auditHeard(l *link) {
	a := r.auditing()
	if a == nil || a.link != l || a.step != auditHeads {
		return
	}
	a.step, a.cut = auditReads, r.coverage.Clone()
	for o, h := range a.cut {
		if a.cut[o] = min(h, l.known[o]); a.cut[o] == 0 {
			delete(a.cut, o)
		}
	}
}

// auditLink chooses with whom.
func (r *Replica) auditLink(id LinkID) (best *link, err error) {
	if !r.ready {
		return nil, ErrAuditBusy
	}
	err = ErrAuditPeer
	for _, l := range r.links {
		switch {
		case id != 0 && l.id != id || !l.greeted:
		case !l.audits:
			err = fmt.Errorf("%w (%s)", ErrAuditOld, l.name)
		case !l.ready:
			err = fmt.Errorf("%w there (%s)", ErrAuditBusy, l.name)
		case best == nil || l.hub && !best.hub:
			best = l
		}
	}
	if best != nil {
		return best, nil
	}
	return nil, err
}

// AuditReport returns what the last audit has come to, nil where there was none. The caller owns it.
func (r *Replica) AuditReport() *AuditReport {
	if r.audit == nil {
		return nil
	}
	out := r.audit.report
	for _, t := range r.audit.rows {
		out.Tables = append(out.Tables, *t)
	}
	slices.SortFunc(out.Tables, func(a, b AuditTable) int { return strings.Compare(a.Name, b.Name) })
	out.Rows = slices.SortedFunc(slices.Values(out.Rows), func(a, b AuditRow) int { return a.Compare(b.RowKey) })
	return &out
}

// auditing returns the audit that is under way.
func (r *Replica) auditing() *audit {
	if r.audit == nil || r.audit.report.Over {
		return nil
	}
	return r.audit
}

// answered returns the audit if the answer is to its question.
func (r *Replica) answered(l *link, question uint64) *audit {
	if a := r.auditing(); a != nil && a.link == l && a.step > auditReads && a.question == question {
		return a
	}
	return nil
}

func (r *Replica) endAudit(err error) {
	rows, named, report := r.audit.rows, r.audit.named, r.audit.report
	report.Over, report.Err = true, err
	r.audit = &audit{rows: rows, named: named, report: report}
}

// dropAudit ends the audit with a link that is gone.
func (r *Replica) dropAudit(l *link) {
	if a := r.auditing(); a != nil && a.link == l {
		r.endAudit(fmt.Errorf("%w (%s)", ErrAuditLink, l.name))
	}
}

// tickAudit repeats a question without an answer, and gives up at last.
func (r *Replica) tickAudit() {
	a := r.auditing()
	switch {
	case a == nil || a.step == auditReads || r.now.Mono-a.askedAt < millis(auditAgain):
	case r.now.Mono-a.since >= millis(auditPatience):
		r.endAudit(fmt.Errorf("%w (%s, for %s)", ErrAuditSilence, a.link.name, auditPatience))
	case a.step == auditHeads:
		a.askedAt = r.now.Mono
		r.tellAll(a.link, true, false)
	default:
		a.askedAt = r.now.Mono
		r.send(a.link, a.kind, a.body)
	}
}

// auditAt is the moment of the next repetition.
func (r *Replica) auditAt() int64 {
	if a := r.auditing(); a != nil && a.step != auditReads {
		return a.askedAt + millis(auditAgain)
	}
	return never
}

// auditRejected ends the audit where the reject is of its question.
func (r *Replica) auditRejected(l *link, b rejectBody) {
	if r.answered(l, b.Session) != nil {
		r.endAudit(fmt.Errorf("%w there (%s: %s)", ErrAuditBusy, l.name, b.Reason))
	}
}

// inquire sends a question that body makes of its number.
func (r *Replica) inquire(step auditStep, t FrameType, body func(number uint64) any) {
	r.session++
	a := r.audit
	a.step, a.question, a.kind, a.body = step, r.session, t, encodeBody(body(r.session))
	a.since, a.askedAt = r.now.Mono, r.now.Mono
	r.send(a.link, t, a.body)
}

// readSegment reads the next segment and asks whether it differs.
func (r *Replica) readSegment(v View) error {
	a := r.audit
	whole, part := newSummer(a.Tables), newSummer(a.Tables)
	a.parts = nil
	last, full := a.after, false
	err := v.Changed(a.cut, crdt.Coverage{}, a.after, func(at crdt.Stamp, rows []RowState) bool {
		for _, row := range rows {
			if part.rows == auditPart {
				a.parts = append(a.parts, part.cut(last))
			}
			whole.add(at, row)
			part.add(at, row)
			a.count(at, row)
			last = Position{at, row.RowKey}
			if full = whole.rows == auditRows || whole.bytes >= auditBytes; full {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	if !full {
		last = endOfAll
	}
	a.parts = append(a.parts, part.cut(last))
	a.whole = whole.cut(last)
	r.inquire(auditWhole, FrameAudit, func(n uint64) any { return a.segments(n, a.whole) })
	return nil
}

// count counts a row where the walk comes by its newest register.
func (a *audit) count(at crdt.Stamp, row RowState) {
	if wanted(a.Tables, row.Table) && row.Row.Max() == at {
		a.table(row.Table).Rows++
	}
}

func (a *audit) table(name string) *AuditTable {
	t := a.rows[name]
	if t == nil {
		t = &AuditTable{Name: name}
		a.rows[name] = t
	}
	return t
}

// segments makes the question which of some neighbouring segments differ.
func (a *audit) segments(number uint64, list ...segment) auditBody {
	b := auditBody{Question: number, After: placeOf(a.after), Tables: a.Tables}
	for _, s := range list {
		b.Segments = append(b.Segments, segmentBody{Upper: *placeOf(s.upper), Rows: uint64(s.rows), Bytes: uint64(s.bytes), Sum: s.sum[:]})
	}
	b.Heads = vectorOf(a.touched(span{a.after, list[len(list)-1].upper}))
	return b
}

// touched is the part of the cut that a span touches.
func (a *audit) touched(s span) crdt.Coverage {
	in := crdt.Coverage{}
	for o, h := range a.cut {
		if o.Compare(s.after.Stamp.Origin) >= 0 && o.Compare(s.upper.Stamp.Origin) <= 0 {
			in[o] = h
		}
	}
	return in
}

// onAudited takes the answer to a question and goes on.
func (r *Replica) onAudited(l *link, body []byte) error {
	var b auditedBody
	if err := decodeBody(FrameAudited, body, &b); err != nil {
		return err
	}
	a := r.answered(l, b.Question)
	if a == nil {
		return nil
	}
	switch a.step {
	case auditWhole:
		a.report.Segments++
		if len(b.Differ) > 0 && len(a.parts) > 1 {
			r.inquire(auditParts, FrameAudit, func(n uint64) any { return a.segments(n, a.parts...) })
			return nil
		}
		if len(b.Differ) > 0 {
			a.spans = []span{{a.after, a.whole.upper}}
		}
		r.nextSpan()
	case auditParts:
		if err := a.differ(b.Differ); err != nil {
			return err
		}
		r.nextSpan()
	case auditTells:
		if err := a.learnTold(b); err != nil {
			return err
		}
		r.tellPage()
	}
	return nil
}

// differ notes the parts that differ, neighbours as one span.
func (a *audit) differ(indexes []uint64) error {
	for i, n := range indexes {
		if n >= uint64(len(a.parts)) || i > 0 && n <= indexes[i-1] {
			return fmt.Errorf("%w: AUDITED names segment %d of %d", ErrFrame, n, len(a.parts))
		}
		after := a.after
		if n > 0 {
			after = a.parts[n-1].upper
		}
		if k := len(a.spans) - 1; k >= 0 && a.spans[k].upper == after {
			a.spans[k].upper = a.parts[n].upper
		} else {
			a.spans = append(a.spans, span{after, a.parts[n].upper})
		}
	}
	return nil
}

// nextSpan asks for the rows of the next span, or goes on to the next segment.
func (r *Replica) nextSpan() {
	a := r.audit
	if len(a.spans) > 0 {
		s := a.spans[0]
		r.inquire(auditRowsOf, FrameAudit, func(n uint64) any {
			return auditBody{Question: n, After: placeOf(s.after), Upper: placeOf(s.upper), Tables: a.Tables, Heads: vectorOf(a.touched(s))}
		})
		return
	}
	if a.after = a.whole.upper; a.after == endOfAll {
		r.endAudit(nil)
		return
	}
	a.step = auditReads
}

// takeRows compares the rows that the other side holds in a span with those held here, joins them, and tells the other side
// what they became where that is not what it holds.
func (r *Replica) takeRows(v View, a *audit, b mendBody) error {
	theirs, unknown, err := b.rows(r.schemas)
	if err != nil {
		return err
	}
	if b.Upper == nil || len(b.Places) != len(theirs) {
		return fmt.Errorf("%w: MEND without its end, or its places", ErrFrame)
	}
	s := a.spans[0]
	if a.upper, err = b.Upper.position(); err != nil {
		return err
	}
	upper, clean := a.upper, !r.Dirty()
	same := clean && bytes.Equal(b.Hash, r.hashBytes())
	if a.upper.compare(s.after) <= 0 || a.upper.compare(s.upper) > 0 {
		return fmt.Errorf("%w: MEND up to a place that was not asked for", ErrFrame)
	}
	if err := r.learn(unknown); err != nil {
		return err
	}
	keys, visits, err := r.ownKeys(v, a)
	if err != nil {
		return err
	}
	shown := make(map[RowKey]int, len(theirs))
	for i, d := range theirs {
		k := RowKey{d.Schema.Table, d.Key}
		if visits[k] == 0 {
			keys = append(keys, k)
		}
		shown[k] = i
	}
	own, err := r.rows.fresh(v, keys)
	if err != nil {
		return err
	}
	a.page, a.told = nil, 0
	for i, k := range keys {
		p := pageRow{AuditRow: AuditRow{RowKey: k}}
		p.Index = clean && visits[k] < span{s.after, a.upper}.places(a.cut, RowState{k, own[i]})
		var row crdt.Row
		if n, ok := shown[k]; ok {
			row = theirs[n].Row
			p.unseen = b.Places[n] < uint64(span{s.after, upper}.places(a.cut, RowState{k, row}))
		} else {
			p.unseen = same
		}
		r.compareRow(a, p, own[i], row)
	}
	r.tellPage()
	return nil
}

// ownKeys lists the rows that a walk comes by in the page, which it may cut short, and at how many places.
func (r *Replica) ownKeys(v View, a *audit) (keys []RowKey, visits map[RowKey]int, err error) {
	visits = map[RowKey]int{}
	all, size := 0, 0
	s := span{a.spans[0].after, a.upper}
	err = v.Changed(a.touched(s), crdt.Coverage{}, s.after, func(at crdt.Stamp, rows []RowState) bool {
		for _, row := range rows {
			here := Position{at, row.RowKey}
			if here.compare(a.upper) > 0 {
				return false
			}
			if wanted(a.Tables, row.Table) {
				if visits[row.RowKey]++; visits[row.RowKey] == 1 {
					keys = append(keys, row.RowKey)
					size += len(appendDigest(nil, row))
				}
			}
			if all++; all == maxMendRows || size >= r.cfg.ChunkBytes {
				a.upper = here
				return false
			}
		}
		return true
	})
	return keys, visits, err
}

// compareRow joins a row with that of the other side, and notes it where one of them is not as it should be.
func (r *Replica) compareRow(a *audit, p pageRow, own, theirs crdt.Row) {
	joined := own.Merge(theirs.Within(r.coverage))
	two := !own.Equal(theirs) && sameStamps(own, theirs)
	p.Here = !joined.Equal(own)
	p.anew = two || p.unseen
	p.tell = p.anew || !joined.Equal(theirs)
	if !p.Here && !p.Index && !p.tell {
		return
	}
	if !a.Dry && (p.Here || p.Index || two) {
		r.rows.anew(p.RowKey, joined)
		r.stats.RowsMerged++
	}
	p.delta = crdt.RowDelta{Schema: r.schemas.current[p.Table], Key: p.Key, Row: joined}
	a.page = append(a.page, p)
}

// sameStamps reports whether two rows hold registers of the same transactions, column by column. Where they differ nevertheless,
// one of the two was changed by something that is no transaction.
func sameStamps(a, b crdt.Row) bool {
	return a.Birth == b.Birth && a.Tomb == b.Tomb &&
		slices.EqualFunc(a.Cells, b.Cells, func(x, y crdt.Cell) bool { return x.Column == y.Column && x.Stamp == y.Stamp })
}

// tellPage tells the other side what the next rows of the page became, or ends the page.
func (r *Replica) tellPage() {
	a := r.audit
	var delta crdt.DeltaBuilder
	body := mendBody{Dry: a.Dry, Hash: r.hashBytes()}
	a.telling = a.telling[:0]
	told := map[*crdt.Schema]struct{}{}
	for ; a.told < len(a.page) && len(a.telling) < maxMendRows && delta.Size() < r.cfg.ChunkBytes; a.told++ {
		p := &a.page[a.told]
		if !p.tell {
			continue
		}
		if p.anew {
			body.Anew = append(body.Anew, uint64(len(a.telling)))
		}
		a.telling = append(a.telling, a.told)
		body.Schemas = r.addRow(&delta, told, body.Schemas, RowState{p.RowKey, p.delta.Row})
	}
	if len(a.telling) == 0 {
		r.endPage()
		return
	}
	body.Delta = delta.Finish()
	r.inquire(auditTells, FrameMend, func(n uint64) any {
		body.Question = n
		return body
	})
}

// learnTold notes what the other side says of the rows that it was told.
func (a *audit) learnTold(b auditedBody) error {
	for _, list := range []struct {
		indexes []uint64
		note    func(*pageRow)
	}{
		{b.Differ, func(p *pageRow) { p.There = true }},
		{b.Stuck, func(p *pageRow) { p.Stuck = true }},
		{b.Anew, func(p *pageRow) { p.Index = p.Index || p.unseen }},
	} {
		for _, i := range list.indexes {
			if i >= uint64(len(a.telling)) {
				return fmt.Errorf("%w: AUDITED names row %d of %d", ErrFrame, i, len(a.telling))
			}
			list.note(&a.page[a.telling[i]])
		}
	}
	return nil
}

// endPage reports the rows of the page and goes on.
func (r *Replica) endPage() {
	a := r.audit
	for i := range a.page {
		a.name(a.page[i].AuditRow)
	}
	a.page, a.told = nil, 0
	if a.spans[0].after = a.upper; a.upper == a.spans[0].upper {
		a.spans = a.spans[1:]
	}
	r.nextSpan()
}

// name reports a row once, although the walk comes by it at each of its transactions.
func (a *audit) name(row AuditRow) {
	if _, ok := a.named[row.RowKey]; ok || !row.differs() {
		return
	}
	if len(a.named) < maxAuditNamed {
		a.named[row.RowKey] = struct{}{}
		a.report.Rows = append(a.report.Rows, row)
	}
	t := a.table(row.Table)
	if t.Differ++; a.Dry || row.Stuck {
		t.Unmended++
	}
}
