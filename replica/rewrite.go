package replica

import (
	"errors"
	"fmt"

	"github.com/rowmesh/rowmesh/crdt"
)

// Rewriter puts other keys and values in the place of those in the frames that a replica is given, so that what was recorded of it can
// be shown to others. A message that goes on over several frames comes out with its last one.
type Rewriter struct {
	crdt.Rewrite
	parts map[LinkID]*[2]assembler
}

// ErrAudit says that an audit cannot be rewritten: it compares hashes of what the rows hold.
var ErrAudit = errors.New("replica: an audit compares hashes of the rows as they are")

// Copy rewrites the state of an unfinished first copy, as a store keeps it.
func (w *Rewriter) Copy(state []byte) ([]byte, error) {
	if len(state) == 0 {
		return state, nil
	}
	return again(FramePull, state, func(c *copyState) error { return w.place(c.After) })
}

// broken is a body that no type of frame allows.
var broken = []byte{0xff}

// Frames returns what the frame becomes. Its errors are those of the functions that are given; bytes that are not valid come out as
// others that are not.
func (w *Rewriter) Frames(from LinkID, f Frame) ([]Frame, error) {
	if w.parts == nil {
		w.parts = map[LinkID]*[2]assembler{}
	}
	l := w.parts[from]
	if l == nil {
		l = &[2]assembler{}
		w.parts[from] = l
	}
	stream := &l[0]
	if f.Type.Bulk() {
		stream = &l[1]
	}
	body, done, err := stream.add(f)
	if err == nil && !done {
		return nil, nil
	}
	if err == nil {
		body, err = w.message(f.Type, body)
	}
	if errors.Is(err, ErrFrame) {
		body, err = broken, nil
	}
	out := frames(f.Type, body)
	for i := range out {
		out[i].Critical = f.Critical
	}
	return out, err
}

// Down forgets a link.
func (w *Rewriter) Down(l LinkID) { delete(w.parts, l) }

// message rewrites a whole message. What this version does not read comes out empty.
func (w *Rewriter) message(t FrameType, body []byte) ([]byte, error) {
	switch t {
	case FrameBlocks:
		return w.blocks(body)
	case FrameSchema:
		return body, nil
	case FrameHello:
		return again(t, body, func(*helloBody) error { return nil })
	case FrameHeads:
		return again(t, body, func(*headsBody) error { return nil })
	case FrameAnnounce:
		return again(t, body, func(*announceBody) error { return nil })
	case FrameCredit:
		return again(t, body, func(*creditBody) error { return nil })
	case FrameDone:
		return again(t, body, func(*doneBody) error { return nil })
	case FrameReject:
		return again(t, body, func(b *rejectBody) error {
			b.Text = "" // it may quote a value
			return nil
		})
	case FramePrune:
		return again(t, body, func(*pruneBody) error { return nil })
	case FrameAudit, FrameAudited, FrameMend:
		return nil, ErrAudit
	case FramePull:
		return again(t, body, func(b *pullBody) error { return w.place(b.After) })
	case FrameChunk:
		return again(t, body, func(b *chunkBody) error {
			delta, err := w.Delta(string(b.Delta))
			if errors.Is(err, crdt.ErrEncoding) {
				delta, err = string(broken), nil // it is read at DONE
			}
			b.Delta = []byte(delta)
			return errors.Join(err, w.place(b.After))
		})
	}
	return nil, nil
}

// again decodes a body, changes it, and encodes it. What this version does not know of it is left out.
func again[T any](t FrameType, body []byte, change func(*T) error) ([]byte, error) {
	var b T
	if err := decodeBody(t, body, &b); err != nil {
		return nil, err
	}
	if err := change(&b); err != nil {
		return nil, err
	}
	return encodeBody(b), nil
}

// blocks rewrites each block up to the first that is not valid.
func (w *Rewriter) blocks(body []byte) (out []byte, err error) {
	for len(body) > 0 {
		item, rest, err := nextItem(body)
		if err != nil {
			return append(out, broken...), nil
		}
		block, err := w.Block(string(item))
		if errors.Is(err, crdt.ErrEncoding) {
			block, err = string(broken), nil
		}
		if err != nil {
			return nil, err
		}
		out = appendItem(out, []byte(block))
		body = rest
	}
	return out, nil
}

func (w *Rewriter) place(p *placeBody) error {
	if p == nil || len(p.Key) == 0 {
		return nil
	}
	k, err := crdt.ParseKey(string(p.Key))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if k, err = w.Key(k); err == nil {
		p.Key = []byte(k.Encoded())
	}
	return err
}
