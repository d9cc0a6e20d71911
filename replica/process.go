package replica

import (
	"context"
	"fmt"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
)

// Input is one thing that happened to a replica. Exactly one of its parts is set.
type Input struct {
	Up    *LinkUp
	Down  LinkID
	Lag   LinkID
	From  LinkID // the link of Frame
	Frame *Frame
	Write *Drain // a local transaction that did not come through the store's own capture
	Probe bool   // ask every peer where it stands
	Audit *Audit // compare the rows with a peer's
	Leave bool   // end the audit that is under way: nobody waits for it any more
}

// LinkUp is the news of a connection.
type LinkUp struct {
	Link LinkID
	Peer string
}

// content reports whether an input may change rows.
func (r *Replica) content(in Input) bool {
	switch {
	case in.Write != nil:
		return true
	case in.Frame == nil:
		return false
	case in.Frame.Type == FrameChunk:
		return !r.ready // a first copy is merged as it comes
	case !in.Frame.Type.Content():
		return false
	}
	return in.Frame.Type != FrameBlocks || !r.allMerged(in.From, *in.Frame)
}

// allMerged reports whether a frame holds nothing but blocks that were merged before. In a mesh most do: each
// block comes once from every neighbour, and a commit for each would wait for the disk for nothing.
func (r *Replica) allMerged(from LinkID, f Frame) bool {
	l := r.link(from)
	if l == nil || f.More || f.Cont {
		return false
	}
	body, err := f.plain()
	for err == nil && len(body) > 0 {
		var item []byte
		var s crdt.Stamp
		if item, body, err = nextItem(body); err == nil {
			s, _, err = crdt.ParseBlockHead(string(item))
		}
		if err == nil && !r.coverage.Covers(s) {
			return false
		}
	}
	return err == nil
}

// Output carries out what a replica wants done outside its store. Its methods do not block and do not call
// back into the replica.
type Output interface {
	// Send sends a frame. What cannot be sent is forgotten; a later pull repairs it.
	Send(LinkID, Frame)
	// CloseLink closes a link after what was sent on it.
	CloseLink(LinkID, error)
	// Show is told of the rows of a committed batch. It must not keep them.
	Show(Batch)
}

// Process takes in what happened and carries out all that follows, in one round: capture what others wrote,
// step every input, commit, then send, then show. It is the only place where a Ready is carried out, at a
// start, in normal running and in the simulator. With capture false, and no input that brings content, the
// store is not locked. After an error the replica must be thrown away and loaded again: what the error left
// behind is unknown.
func Process(ctx context.Context, s Store, r *Replica, now Instant, capture bool, in []Input, out Output) error {
	if !capture && !r.Writes(now, in) {
		if err := r.stepAll(nil, now, in); err != nil {
			return err
		}
		r.Tick(now)
		if !r.Dirty() {
			r.finish(r.Ready(), out)
			return r.serveAll(ctx, s, now, out)
		}
		in = nil
	}
	if err := r.round(ctx, s, now, in, out); err != nil {
		return err
	}
	return r.serveAll(ctx, s, now, out)
}

// Writes reports whether Process would write the store for these inputs, were there nothing to capture.
func (r *Replica) Writes(now Instant, in []Input) bool {
	return r.Dirty() || r.Due(now) || slices.ContainsFunc(in, r.content)
}

// round is one visit to the store with everything that is to be written.
func (r *Replica) round(ctx context.Context, s Store, now Instant, in []Input, out Output) error {
	round, err := s.Begin(ctx)
	if err != nil {
		return fmt.Errorf("replica: begin: %w", err)
	}
	defer round.Abort()
	if r.ready { // what is written before the first copy is taken in after it: it must not look newer than the group's rows
		drain, err := round.Capture()
		if err != nil {
			return fmt.Errorf("replica: capture: %w", err)
		}
		if _, err := r.Write(round, now, drain); err != nil {
			return err
		}
	}
	if err := r.stepAll(round, now, in); err != nil {
		return err
	}
	if err := r.Release(round, now); err != nil {
		return err
	}
	r.Tick(now)
	rd := r.Ready()
	if err := round.Commit(rd.Batch); err != nil {
		return fmt.Errorf("replica: commit: %w", err)
	}
	r.finish(rd, out)
	return nil
}

func (r *Replica) stepAll(v Round, now Instant, in []Input) error {
	for _, i := range in {
		var err error
		switch {
		case i.Up != nil:
			r.LinkUp(now, i.Up.Link, i.Up.Peer)
		case i.Down != 0:
			r.LinkDown(now, i.Down)
		case i.Lag != 0:
			r.Lagging(now, i.Lag)
		case i.Frame != nil:
			err = r.Step(v, now, i.From, *i.Frame)
		case i.Write != nil:
			_, err = r.Write(v, now, *i.Write)
		case i.Probe:
			r.Probe(now)
		case i.Audit != nil:
			r.StartAudit(now, *i.Audit)
		case i.Leave:
			r.LeaveAudit(now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finish sends and shows what a Ready led to, whose batch is durable.
func (r *Replica) finish(rd Ready, out Output) {
	for _, o := range rd.Frames {
		out.Send(o.Link, o.Frame)
	}
	for _, c := range rd.Close {
		out.CloseLink(c.Link, c.Reason)
	}
	if !rd.Batch.IsZero() {
		out.Show(rd.Batch)
	}
	r.Advance()
}

// serveAll makes one chunk for each session that waits for one, in one read view.
func (r *Replica) serveAll(ctx context.Context, s Store, now Instant, out Output) error {
	if r.forked != nil {
		return r.forked
	}
	if !r.Serving() {
		return nil
	}
	if err := s.Read(ctx, func(v View) error { return r.Serve(v, now) }); err != nil {
		return fmt.Errorf("replica: serve: %w", err)
	}
	r.finish(r.Ready(), out)
	return nil
}
