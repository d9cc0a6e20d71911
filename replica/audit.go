package replica

import (
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
	Left        bool // nothing of it was left on one side, and the other may not hold all that was: another audit may mend it
}

// Mended reports whether an audit that is not dry has left the row as it should be.
func (a AuditRow) Mended() bool { return !a.Stuck && !a.Left }

func (a AuditRow) differs() bool { return a.Here || a.There || a.Index || a.Stuck }

// What says what was found, in words.
func (a AuditRow) What() string {
	var parts []string
	for _, p := range []struct {
		is   bool
		text string
	}{{a.Here, "damaged here"}, {a.There, "damaged there"}, {a.Index, "lost by the index"}, {a.Stuck, "holds what nobody wrote"},
		{a.Left, "left until both sides hold the same"}} {
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
	whole   segment        // the one being compared
	parts   []segment      // of it
	spans   []span         // whose rows are to be exchanged
	page    []pageRow      // rows of the first span that may differ
	told    int            // how many of them the other side was told
	telling []int          // positions in page of those under way
	upper   Position       // where the page ends
	part    *crdt.RowDelta // of the only row of the page, whose other cells are asked for; else nil
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
	gone   bool // nothing was left of it here
	first  int  // its first entry in the page: a large row has several, each with some of the cells
	more   bool // it has a further one
}

// The reasons for which an audit does not begin, or ends early.
var (
	ErrAuditPeer    = errors.New("replica: no peer is connected that can be audited with")
	ErrAuditOld     = errors.New("replica: the peer does not know audits: update its program")
	ErrAuditBusy    = errors.New("replica: not ready: the first copy has not come")
	ErrAuditSilence = errors.New("replica: the peer does not answer")
	ErrAuditTable   = errors.New("replica: there is no table")
	ErrAuditLink    = errors.New("replica: the link to the peer is gone")
	ErrAuditLeft    = errors.New("replica: it was not wanted any more")
)

// StartAudit begins an audit. One that is under way ends.
func (r *Replica) StartAudit(now Instant, ask Audit) {
	r.now = now
	l, err := r.auditLink(ask.Link)
	for _, t := range ask.Tables {
		if r.schemas.current[t] == nil {
			err = fmt.Errorf("%w %q", ErrAuditTable, t)
		}
	}
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

// LeaveAudit ends the audit that is under way. An answer that still comes is dropped. The other side holds nothing of an audit but, for
// a while, the leave to tell what rows became.
func (r *Replica) LeaveAudit(now Instant) {
	if r.now = now; r.auditing() != nil {
		r.endAudit(ErrAuditLeft)
	}
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
