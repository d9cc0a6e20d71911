package rowmesh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/rowmesh/rowmesh/network"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// instant reads both clocks. It is the only place where a running peer does.
func (p *Peer) instant() replica.Instant {
	now := time.Now()
	return replica.Instant{Wall: now.UnixMilli(), Mono: now.Sub(p.began).Milliseconds()}
}

// run is the one goroutine that owns the replica and its store.
func (p *Peer) run() {
	defer close(p.done)
	ctx, cancel := context.WithCancel(context.Background())
	p.ctx = ctx
	go func() { // a round that waits for a lock is let go soon after Close
		<-p.stop
		time.AfterFunc(closeWait, cancel)
	}()
	signs, unwatch := p.watchFile()
	p.signs = signs
	defer unwatch()
	timer := time.NewTimer(0)
	defer timer.Stop()
	p.becomeReady()
	for p.step(timer) {
		p.turn(ctx)
		p.trim(ctx)
		timer.Reset(p.sleep())
	}
	p.leave(ctx)
	cancel()
}

// step waits for the next thing to happen and gathers what else has happened by then.
func (p *Peer) step(timer *time.Timer) bool {
	signs := p.signs
	if !p.manners.may(time.Now()) || p.lookStep == 2*pollFirst { // it is looked at soon
		signs = nil
	}
	select {
	case <-p.stop:
		return false
	case ev, ok := <-p.net.Events():
		if !ok {
			return false
		}
		p.event(ev)
	case f := <-p.calls:
		f()
	case <-signs:
		p.lookAt, p.lookStep = time.Now(), pollFirst
	case <-timer.C:
	}
	for len(p.in) < gatherInputs {
		select {
		case ev, ok := <-p.net.Events():
			if !ok {
				return false
			}
			p.event(ev)
			continue
		default:
		}
		break
	}
	return true
}

// event turns what the network reports into inputs.
func (p *Peer) event(ev network.Event) {
	switch ev := ev.(type) {
	case network.LinkUp:
		p.links[ev.Link] = ev.Peer
		p.log.Info("connected", "peer", ev.Peer, "address", ev.Addr)
		p.in = append(p.in, replica.Input{Up: &replica.LinkUp{Link: ev.Link, Peer: ev.Peer.String()}})
		p.mu.Lock()
		maps.DeleteFunc(p.failed, func(addr, _ string) bool { // of an address without an id nobody can tell
			return !strings.Contains(addr, "/p2p/") || strings.HasSuffix(addr, "/p2p/"+ev.Peer.String())
		})
		p.mu.Unlock()
	case network.LinkDown:
		delete(p.links, ev.Link)
		p.log.Info("disconnected", "peer", ev.Peer, "reason", ev.Reason)
		p.in = append(p.in, replica.Input{Down: ev.Link})
	case network.FrameIn:
		p.in = append(p.in, replica.Input{From: ev.Link, Frame: &ev.Frame})
	case network.Lagging:
		p.in = append(p.in, replica.Input{Lag: ev.Link})
	case network.Refused:
		p.mu.Lock()
		before := len(p.strangers)
		p.strangers = slices.DeleteFunc(p.strangers, func(r network.Refused) bool { return r.Peer == ev.Peer })
		if len(p.strangers) == before { // it comes again for as long as it runs
			p.log.Warn("refused a peer that is not allowed", "peer", ev.Peer, "address", ev.Addr, "to allow it", "--allow "+ev.Peer.String())
		}
		p.strangers = append(p.strangers, ev)
		p.strangers = p.strangers[max(len(p.strangers)-keptStrangers, 0):]
		p.mu.Unlock()
	case network.DialFailed:
		if errors.Is(ev.Err, network.ErrSelf) && p.cfg.Hub {
			return // of the list of hubs that all have
		}
		p.log.Warn(ev.Err.Error(), "next", "tried again")
		p.mu.Lock()
		p.failed[ev.Addr.String()] = ev.Err.Error()
		p.mu.Unlock()
	case network.DialEnded:
		p.mu.Lock()
		delete(p.failed, ev.Addr.String())
		p.mu.Unlock()
	}
}

// turn is one round, if there is a core to make it.
func (p *Peer) turn(ctx context.Context) {
	if p.core == nil && !p.reload(ctx) {
		p.in = nil
		return
	}
	if err := p.look(ctx); err != nil {
		p.fail(err)
		p.in = nil
		return
	}
	in := p.in
	p.in = nil
	capture, err := p.takeIn(ctx, in)
	if err != nil {
		p.fail(err)
		return
	}
	p.pause = 0
	if capture && p.bridge != nil {
		p.serveRequests(ctx)
	}
	p.settle()
	p.settleAudit()
	p.becomeReady()
	p.chooseHubs()
	p.tellLive(ctx)
}

// takeIn makes the rounds in which inputs and what programs wrote are taken in, and reports whether all of the latter was. A flood of
// writes is captured part by part. Inputs that change rows wait for all parts, and without them each turn takes one.
func (p *Peer) takeIn(ctx context.Context, in []replica.Input) (captured bool, err error) {
	now := p.instant()
	if p.bridge == nil {
		captured, p.capture = p.capture, false
		return captured, p.process(ctx, now, captured, in)
	}
	if !p.core.IsReady() { // what is written before the first copy is taken in after it
		return p.capture, p.process(ctx, now, false, in)
	}
	writes := p.core.Writes(now, in)
	if !writes && !(p.capture && p.manners.may(time.Now())) {
		return false, p.process(ctx, now, false, in)
	}
	for part := 0; ; part++ {
		now = p.instant()
		take := sqlbridge.TakeLess
		switch {
		case part >= maxParts || p.core.Writes(now, nil):
			take = sqlbridge.TakeAll
		case writes:
			take = sqlbridge.TakePart
		}
		more, err := p.bridge.Prepare(ctx, take)
		first := more && err == nil && (writes || p.manners.urgent) // what fails here the round meets again, and can wait for
		if first {
			err = p.process(ctx, now, true, nil)
		} else {
			err = p.process(ctx, now, true, in)
			in = nil
		}
		if err != nil {
			return false, err
		}
		waiting, busy := p.bridge.Waiting()
		if first || waiting > 0 && p.manners.urgent {
			continue
		}
		p.capture = waiting > 0
		p.manners.captured(time.Now(), p.bridge.Held(), waiting, busy)
		return waiting == 0, nil
	}
}

func (p *Peer) process(ctx context.Context, now replica.Instant, capture bool, in []replica.Input) error {
	err := p.tape.Process(ctx, p.store, p.core, now, capture, in, (*output)(p))
	if ended := p.tape.Err(); ended != nil {
		p.log.Warn(ended.Error(), "file", p.cfg.Record)
		p.tape = nil
	}
	return err
}

// look asks the database whether somebody wrote it, when that is due, and where no sign of that came, whether it is still there.
func (p *Peer) look(ctx context.Context) error {
	now := time.Now()
	if p.bridge == nil || now.Before(p.nextLook(now)) {
		return nil
	}
	if p.lookStep == 0 {
		if err := p.bridge.SameFile(); err != nil {
			return err
		}
	}
	p.looked = now
	changed, err := p.bridge.Poll(ctx)
	if err == nil && !changed && p.lookStep == pollFirst {
		nap(commitTime)
		changed, err = p.bridge.Poll(ctx)
	}
	if err != nil {
		p.log.Warn("cannot look at the database", "reason", err)
	}
	p.capture = p.capture || changed
	if p.lookStep == 0 || p.lookStep > pollLast {
		p.lookAt, p.lookStep = now.Add(slowPoll), 0
		return nil
	}
	p.lookAt = now.Add(p.lookStep)
	p.lookStep *= 2
	return nil
}

// nextLook is when the database is looked at if there is no sign before.
func (p *Peer) nextLook(now time.Time) time.Time {
	if p.manners.may(now) {
		return p.lookAt
	}
	return p.looked.Add(restLooks)
}

// sleep is how long nothing will have to be done unless something happens.
func (p *Peer) sleep() time.Duration {
	if p.core == nil {
		return max(time.Until(p.retryAt), 0)
	}
	if len(p.in) > 0 {
		return 0
	}
	d := time.Duration(p.core.Wake()-p.instant().Mono) * time.Millisecond
	if p.hubs != nil {
		d = min(d, time.Duration(p.hubs.Wake()-p.instant().Mono)*time.Millisecond)
	}
	if p.worked >= trimRows {
		d = min(d, time.Until(p.trimAt))
	}
	if p.bridge != nil {
		d = min(d, time.Until(p.nextLook(time.Now())))
		if p.capture && p.core.IsReady() {
			d = min(d, time.Until(p.manners.rest))
		}
		if !p.liveDue.IsZero() {
			d = min(d, time.Until(p.liveDue))
		}
	}
	return max(d, 0)
}

// trim gives memory back that was needed for many rows, once there is nothing to do.
func (p *Peer) trim(ctx context.Context) {
	if !p.cfg.Alone || p.core == nil || p.worked < trimRows || time.Now().Before(p.trimAt) {
		return
	}
	p.worked = 0
	if p.bridge != nil {
		p.bridge.Trim(ctx)
	}
	debug.FreeOSMemory()
}

// fail throws the core away: what its last round left behind is unknown. It is loaded again after a pause.
func (p *Peer) fail(err error) {
	if p.core != nil {
		p.acks = p.core.Acks()
	}
	p.core, p.problem = nil, err
	p.endAudit(AuditReport{}, fmt.Errorf("rowmesh: audit: the replica stopped: %w", err))
	p.pause = min(max(2*p.pause, retryFirst), retryMost)
	p.retryAt = time.Now().Add(p.pause)
	var fork *replica.ForkError
	if errors.As(err, &fork) {
		p.forked = true
		p.retryAt = time.Now()
	}
	p.log.Error("the replica stopped and is loaded again", "reason", err, "after", p.pause)
}

// reload makes a new core from the store.
func (p *Peer) reload(ctx context.Context) bool {
	if time.Now().Before(p.retryAt) {
		return false
	}
	opened, err := p.reopen(ctx)
	if err == nil && opened.NeedOrigin {
		p.need = true
		p.mu.Lock()
		p.notice = opened.Message
		p.mu.Unlock()
		p.log.Warn(opened.Message, "database", p.cfg.Path)
	}
	if err == nil {
		err = p.load(ctx, opened)
	}
	if err != nil {
		p.fail(err)
		return false
	}
	p.problem, p.capture = nil, true
	return true
}

func (p *Peer) becomeReady() {
	select {
	case <-p.ready:
	default:
		if p.core != nil && p.core.IsReady() {
			close(p.ready)
		}
	}
}

// leave takes in what was written last, and closes in order.
func (p *Peer) leave(ctx context.Context) {
	if p.core != nil {
		if err := p.process(ctx, p.instant(), true, p.in); err != nil {
			p.log.Warn("what was written last is taken in at the next start", "reason", err)
		} else if p.bridge != nil {
			p.liveAt = time.Time{}
			p.tellLive(ctx)
			if err := p.bridge.Leave(); err != nil {
				p.log.Warn("the fence was not closed", "reason", err)
			}
		}
	}
	for _, w := range p.waits {
		w.done <- ErrClosed
		if w.then != nil {
			w.then(ErrClosed)
		}
	}
	p.endAudit(AuditReport{}, ErrClosed)
	for w := range p.watchers {
		close(w.changes)
	}
	go func() { // the network waits for its readers, which wait for us
		for range p.net.Events() { //nolint:revive // drained until closed
		}
	}()
	err := errors.Join(p.net.Close(), p.store.Close(), p.scratch.Reset())
	if p.tapeFile != nil {
		err = errors.Join(err, p.tapeFile.Close())
	}
	if err != nil {
		p.log.Warn("close", "reason", err)
	}
}

// output carries out what the replica wants done.
type output Peer

func (o *output) Send(l replica.LinkID, f replica.Frame) {
	if o.net != nil {
		o.net.Send(l, f)
	}
}

func (o *output) CloseLink(l replica.LinkID, reason error) {
	id := o.links[l].String()
	if text := reason.Error(); o.refused[id] != text { // it may be dialled for days
		o.refused[id] = text
		o.log.Warn("link closed", "peer", id, "reason", reason)
	}
	o.net.CloseLink(l, reason)
}

func (o *output) Show(b replica.Batch) {
	p := (*Peer)(o)
	if b.Origin != [16]byte{} {
		p.need, p.forked = false, false
	}
	n := len(b.Rows)
	if b.Put {
		n += trimRows
	}
	if n > 0 && p.cfg.Alone {
		p.worked, p.trimAt = p.worked+n, time.Now().Add(trimAfter)
	}
	for w := range p.watchers {
		w.tell(b)
	}
}

// serveRequests answers what other processes ask through the database.
func (p *Peer) serveRequests(ctx context.Context) {
	p.withdrawAudit(ctx)
	reqs, err := p.bridge.Requests(ctx)
	if err != nil {
		p.log.Warn("read requests", "reason", err)
		return
	}
	for _, r := range reqs {
		answer := func(state, detail string) {
			if err := p.bridge.Answer(ctx, r.N, state, detail); err != nil {
				p.log.Warn("answer a request", "reason", err)
			}
		}
		if r.What == "status" {
			p.writeLive(ctx, p.live())
			answer(sqlbridge.RequestDone, "")
			continue
		}
		if doc, ok := strings.CutPrefix(r.What, auditRequest); ok {
			p.serveAudit(r.N, doc, answer)
			continue
		}
		if r.What != "sync" {
			answer(sqlbridge.RequestFailed, fmt.Sprintf("this peer does not know the request %q", r.What))
			continue
		}
		answer(sqlbridge.RequestRunning, "")
		p.beginSync(func(err error) { answer(answerOf("", err)) })
	}
}

// answerOf is what becomes of a request of another process.
func answerOf(doc string, err error) (state, detail string) {
	switch {
	case err == nil:
		return sqlbridge.RequestDone, doc
	case errors.Is(err, ErrNoPeer):
		return sqlbridge.RequestNoPeer, err.Error()
	}
	return sqlbridge.RequestFailed, err.Error()
}
