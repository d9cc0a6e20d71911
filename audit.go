package rowmesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// AuditOptions say what is compared.
type AuditOptions struct {
	Peer   string   `json:"peer,omitempty"`   // the id of the peer with whom; "": a hub, or else the peer that is connected longest
	Tables []string `json:"tables,omitempty"` // the only ones; empty: all
	Dry    bool     `json:"dry,omitempty"`    // name what differs, and mend nothing

	// Progress, where it is not nil, is told from time to time how far the audit is. It must not call the peer.
	Progress func(AuditReport) `json:"-"`
}

// AuditReport is what an audit has come to.
type AuditReport struct {
	Peer     string       `json:"peer"`     // with whom
	Segments int          `json:"segments"` // compared
	Tables   []AuditTable `json:"tables"`
	Rows     []AuditRow   `json:"rows,omitempty"` // that differ, the first of them
}

// AuditTable counts the rows of one table: compared, of these with a difference, and of these not mended.
type AuditTable struct {
	Table    string `json:"table"`
	Rows     int    `json:"rows"`
	Differ   int    `json:"differ"`
	Unmended int    `json:"unmended"`
}

// AuditRow is a row with a difference, in words.
type AuditRow struct {
	Table  string `json:"table"`
	Key    string `json:"key"`
	What   string `json:"what"`
	Mended bool   `json:"mended"`
}

// Differ is how many rows differed, Unmended how many of them still do.
func (r AuditReport) Differ() (n int) {
	for _, t := range r.Tables {
		n += t.Differ
	}
	return n
}

// Unmended is how many rows still differ.
func (r AuditReport) Unmended() (n int) {
	for _, t := range r.Tables {
		n += t.Unmended
	}
	return n
}

func reportOf(a *replica.AuditReport, dry bool) AuditReport {
	out := AuditReport{Peer: a.Peer, Segments: a.Segments}
	for _, t := range a.Tables {
		out.Tables = append(out.Tables, AuditTable{t.Name, t.Rows, t.Differ, t.Unmended})
	}
	for _, r := range a.Rows {
		out.Rows = append(out.Rows, AuditRow{r.Table, r.Key.String(), r.What(), !dry && r.Mended()})
	}
	return out
}

// auditWait is an audit that somebody waits for.
type auditWait struct {
	opt     AuditOptions
	id      uint64
	request int64 // by which another process asked for it; 0: none did
	toldAt  time.Time
	then    func(AuditReport, error)
}

// Audit compares what this replica holds with what a connected peer holds, of all that both claim, and mends on both sides what has
// been lost or changed by something that is no write: a defect, a bit that fell over, an edit of our tables by hand. Writes go
// on meanwhile. See docs/OPERATING.md. One audit runs at a time; when ctx ends, so does the audit: what it has mended by then is mended.
func (p *Peer) Audit(ctx context.Context, opt AuditOptions) (AuditReport, error) {
	type outcome struct {
		rep AuditReport
		err error
	}
	over := make(chan outcome, 1)
	var w *auditWait
	if err := p.do(ctx, func() {
		p.capture, p.manners.urgent = true, true
		w = p.beginAudit(opt, func(rep AuditReport, err error) { over <- outcome{rep, err} })
	}); err != nil {
		return AuditReport{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.do(context.Background(), func() { p.leaveAudit(w, ctx.Err()) }) })
	defer stop()
	o := <-over
	return o.rep, o.err
}

// leaveAudit ends an audit for which nobody waits any more.
func (p *Peer) leaveAudit(w *auditWait, why error) {
	if p.audit == w {
		p.in = append(p.in, replica.Input{Leave: true})
		p.endAudit(AuditReport{}, fmt.Errorf("rowmesh: audit: %w", why))
	}
}

// beginAudit hands the audit to the replica. then is called once, by the runner.
func (p *Peer) beginAudit(opt AuditOptions, then func(AuditReport, error)) *auditWait {
	p.auditID++
	w := &auditWait{opt: opt, id: p.auditID, toldAt: time.Now(), then: then}
	ask := replica.Audit{ID: w.id, Tables: opt.Tables, Dry: opt.Dry}
	if opt.Peer != "" {
		for link, id := range p.links {
			if id.String() == opt.Peer {
				ask.Link = link
			}
		}
	}
	switch {
	case p.audit != nil:
		then(AuditReport{}, errors.New("rowmesh: audit: one is under way"))
	case p.core == nil:
		then(AuditReport{}, p.halted())
	case opt.Peer != "" && ask.Link == 0:
		then(AuditReport{}, fmt.Errorf("%w: audit: no peer %s is connected", ErrNoPeer, opt.Peer))
	default:
		p.audit = w
		p.in = append(p.in, replica.Input{Audit: &ask})
	}
	return w
}

// settleAudit ends the audit that is over, and tells how far it is.
func (p *Peer) settleAudit() {
	w := p.audit
	if w == nil || p.core == nil {
		return
	}
	a := p.core.AuditReport()
	switch {
	case a == nil || a.ID != w.id:
	case a.Over:
		p.endAudit(reportOf(a, w.opt.Dry), auditError(a.Err))
	case w.opt.Progress != nil && time.Since(w.toldAt) >= auditProgress:
		w.toldAt = time.Now()
		w.opt.Progress(reportOf(a, w.opt.Dry))
	}
}

func (p *Peer) endAudit(rep AuditReport, err error) {
	if w := p.audit; w != nil {
		p.audit = nil
		w.then(rep, err)
	}
}

func auditError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, replica.ErrAuditPeer):
		return fmt.Errorf("%w: audit: %w", ErrNoPeer, err)
	}
	return fmt.Errorf("rowmesh: audit: %w", err)
}

// AuditRequest is what another process leaves in the database to ask a running peer for an audit. The answer is an AuditReport
// in JSON.
func AuditRequest(opt AuditOptions) string {
	doc, _ := json.Marshal(opt) // of such a type it cannot fail
	return auditRequest + string(doc)
}

const auditRequest = "audit "

// serveAudit answers such a request.
func (p *Peer) serveAudit(n int64, doc string, answer func(state, detail string)) {
	var opt AuditOptions
	if err := json.Unmarshal([]byte(doc), &opt); err != nil {
		answer(sqlbridge.RequestFailed, "this peer does not know such audits: "+err.Error())
		return
	}
	answer(sqlbridge.RequestRunning, "")
	w := p.beginAudit(opt, func(rep AuditReport, err error) {
		out, _ := json.Marshal(rep)
		answer(answerOf(string(out), err))
	})
	w.request = n
}

// withdrawAudit ends the audit that another process asked for and no longer wants.
func (p *Peer) withdrawAudit(ctx context.Context) {
	w := p.audit
	if w == nil || w.request == 0 {
		return
	}
	if state, _, err := p.bridge.Answered(ctx, w.request); err == nil && state == sqlbridge.RequestWithdrawn {
		p.leaveAudit(w, errWithdrawn)
	}
}

var errWithdrawn = errors.New("the request was withdrawn")
