package replica

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// push is a merged block on its way to the peers that stand right before it.
type push struct {
	block    *crdt.Block
	raw      []byte
	from     *link // where it came from; nil: it is our own
	announce bool  // too large to push: told of, and pulled
	blocks   int   // how many those are that block is the last of
	rows     int   // of all of them
	bytes    int   // as encoded
}

// then joins what follows in a chain, which is one unit: only a session carries it whole.
func (p push) then(next push) push {
	switch {
	case p.blocks == 0:
		return next
	case next.blocks == 0:
		return p
	}
	next.announce, next.raw = true, nil
	next.blocks, next.rows, next.bytes = p.blocks+next.blocks, p.rows+next.rows, p.bytes+next.bytes
	return next
}

// encode gives an own block its bytes, the ones every replica will ever see.
func (r *Replica) encode(b *crdt.Block) push {
	return pushOf(b, crdt.AppendBlock(nil, b, r.schemas.ref), nil)
}

// pushOf makes what is pushed of one block.
func pushOf(b *crdt.Block, raw []byte, from *link) push {
	return push{block: b, raw: raw, from: from, announce: len(raw) > maxPushBytes, blocks: 1, rows: len(b.Rows), bytes: len(raw)}
}

// sendPushes hands the blocks merged since the last Ready to the links that follow and are not pruned for their
// origins, in the order in which they were merged; and tells the heads that are due.
func (r *Replica) sendPushes() {
	for _, l := range r.links {
		if !l.greeted {
			continue
		}
		if len(r.pushes) > 0 {
			r.pushTo(l)
		}
		r.sendTurns(l)
		if r.now.Mono >= l.tellAtNext() {
			r.tellFresh(l)
		}
	}
	r.pushes = nil
}

func (r *Replica) pushTo(l *link) {
	var blocks []byte
	flush := func() {
		if len(blocks) > 0 {
			r.send(l, FrameBlocks, blocks)
			blocks = nil
		}
	}
	announce := announceBody{}
	var heads crdt.Coverage
	for _, p := range r.pushes {
		o, s := p.block.Stamp.Origin, p.block.Stamp
		if p.from == l {
			r.note(l, o, 0, true)
			continue
		}
		_, lazy := l.lazy[o]
		if at := max(l.known[o], l.sent[o]); at >= s.Time {
			l.owes = true // it told us first
			continue
		} else if p.announce {
			if heads == nil {
				heads = crdt.Coverage{}
			}
			heads[o] = s.Time
			r.stats.BlocksAnnounced += uint64(p.blocks)
			announce.Rows += uint64(p.rows)
			announce.Bytes += uint64(p.bytes)
			r.pushed(l, o)
			continue
		} else if lazy || o == l.origin { // its own it holds, unless its database was set back
			r.note(l, o, headsEvery, false)
			continue
		} else if at != p.block.Prev || l.lagging || !l.ready {
			r.note(l, o, 0, false) // it is further behind: it learns of the head and pulls
			continue
		}
		if schemas := r.untold(l, p.block); len(schemas) > 0 {
			flush()
			r.send(l, FrameSchema, schemas)
		}
		if len(blocks)+len(p.raw) > maxPushBytes {
			flush()
		}
		blocks = appendItem(blocks, p.raw)
		l.sent[o] = s.Time
		r.pushed(l, o)
	}
	flush()
	if len(heads) > 0 {
		announce.Heads = vectorOf(heads)
		r.send(l, FrameAnnounce, encodeBody(announce))
	}
}

// untold returns, as items, the schemas of a block that were not yet told on the link.
func (r *Replica) untold(l *link, b *crdt.Block) (items []byte) {
	for i, d := range b.Rows {
		if i > 0 && b.Rows[i-1].Schema == d.Schema {
			continue
		}
		if _, ok := l.schemas[d.Schema]; !ok {
			l.schemas[d.Schema] = struct{}{}
			items = appendItem(items, crdt.AppendSchema(nil, d.Schema))
		}
	}
	return items
}

// heldBlock is a received block that cannot be merged yet.
type heldBlock struct {
	stamp crdt.Stamp
	prev  hlc.Timestamp
	raw   []byte
	from  LinkID
}

// heldBlocks are the held blocks of one origin, in order of time. It is never empty.
type heldBlocks struct {
	blocks []heldBlock
	bytes  int
}

func (r *Replica) onBlocks(v View, l *link, body []byte) error {
	for len(body) > 0 {
		raw, rest, err := nextItem(body)
		if err != nil {
			return err
		}
		s, prev, err := crdt.ParseBlockHead(string(raw))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFrame, err)
		}
		if err := r.onBlock(v, l, heldBlock{s, prev, raw, l.id}); err != nil {
			return err
		}
		if r.link(l.id) == nil {
			return nil // it was refused
		}
		body = rest
	}
	return nil
}

func (r *Replica) onBlock(v View, l *link, b heldBlock) error {
	o := b.stamp.Origin
	r.learnHead(l, o, b.stamp.Time)
	switch head := r.coverage[o]; {
	case !r.ready:
		// The first copy comes whole, by a session; nothing is shown or claimed before.
	case o == r.origin:
		r.checkOwn(b.stamp.Time)
		r.stats.BlocksDuplicate++
	case b.stamp.Time <= head:
		r.stats.BlocksDuplicate++
		r.duplicate(l, b.stamp)
	case b.prev < head:
		r.refuse(l, rejectBody{Reason: RejectFork, Origin: o[:], Time: head},
			fmt.Errorf("replica: origin %s has two transactions after %s: its database was copied and both copies wrote", o.Short(), b.prev))
	case b.prev > head || b.stamp.Time > r.limit(o != l.origin):
		r.hold(b)
	default:
		if err := r.mergeBlock(v, l, b.raw); err != nil {
			return err
		}
		return r.Release(v, r.now)
	}
	return nil
}

// mergeBlock merges a block that follows its origin's head. Content, claim and the forwarding of the block
// become durable and visible in one batch.
func (r *Replica) mergeBlock(v View, l *link, raw []byte) error {
	schemas := offered{known: r.schemas}
	if l != nil {
		schemas.told = l.told.schemas
	}
	b, err := crdt.ParseBlock(string(raw), schemas)
	var unknown crdt.UnknownSchemaError
	if errors.As(err, &unknown) {
		return nil // the SCHEMA frame was lost: the block is left to a session
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if err := r.learn(schemas.used(b.Rows)); err != nil {
		return err
	}
	n, err := r.rows.merge(v, b.Rows, false)
	if err != nil {
		return err
	}
	r.stats.BlocksMerged++
	r.stats.RowsMerged += uint64(n)
	r.clock.Update(b.Stamp.Time)
	r.raise(b.Stamp.Origin, b.Stamp.Time)
	r.grow(l, b)
	r.pushes = append(r.pushes, pushOf(b, raw, l))
	return nil
}

// hold keeps a block until the one before it has come, or its time.
func (r *Replica) hold(b heldBlock) {
	o := b.stamp.Origin
	h := r.held[o]
	if h == nil {
		if len(r.held) >= maxHeldOrigins {
			return
		}
		h = &heldBlocks{}
	}
	i, found := slices.BinarySearchFunc(h.blocks, b.stamp, func(x heldBlock, s crdt.Stamp) int { return x.stamp.Compare(s) })
	if found || len(h.blocks) >= maxHeldBlocks || h.bytes+len(b.raw) > maxHeldBytes {
		return
	}
	b.raw = bytes.Clone(b.raw) // it would keep the whole message it came in
	h.blocks = slices.Insert(h.blocks, i, b)
	h.bytes += len(b.raw)
	r.held[o] = h
	r.stats.BlocksHeld++
	if b.prev == r.coverage[o] {
		r.stats.BlocksAhead++
	}
}

// dropHeld drops the blocks that came over a link that is gone and wait for one before them, which may have been lost with it. A session
// brings them. Those that wait for the clock stay, and what follows them.
func (r *Replica) dropHeld(l *link) {
	for o, h := range r.held {
		last := r.coverage[o]
		h.blocks = slices.DeleteFunc(h.blocks, func(b heldBlock) bool {
			if b.prev == last {
				last = b.stamp.Time
			} else if b.from == l.id {
				h.bytes -= len(b.raw)
				return true
			}
			return false
		})
		if len(h.blocks) == 0 {
			delete(r.held, o)
		}
	}
}

// Due reports whether held blocks can be merged now, for which Release needs a round.
func (r *Replica) Due(now Instant) bool {
	r.now = now
	for o, h := range r.held {
		if _, ok := r.next(o, h); ok {
			return true
		}
	}
	return false
}

// next drops the held blocks of o that are covered by now, or that a fork has cut off, and reports whether
// the first of the rest can be merged.
func (r *Replica) next(o crdt.Origin, h *heldBlocks) (heldBlock, bool) {
	head := r.coverage[o]
	for len(h.blocks) > 0 && (h.blocks[0].stamp.Time <= head || h.blocks[0].prev < head) {
		h.bytes -= len(h.blocks[0].raw)
		h.blocks = h.blocks[1:]
	}
	if len(h.blocks) == 0 {
		delete(r.held, o)
		return heldBlock{}, false
	}
	b := h.blocks[0]
	return b, b.prev == head && !r.ahead(o, b)
}

// ahead reports whether a held block of o waits for this machine's clock.
func (r *Replica) ahead(o crdt.Origin, b heldBlock) bool {
	from := r.link(b.from)
	return b.stamp.Time > r.limit(from == nil || from.origin != o)
}

// Release merges the held blocks whose turn has come.
func (r *Replica) Release(v View, now Instant) error {
	r.now = now
	for _, o := range r.heldOrigins() {
		for h := r.held[o]; h != nil; h = r.held[o] {
			b, ok := r.next(o, h)
			if !ok {
				break
			}
			h.bytes -= len(b.raw)
			if h.blocks = h.blocks[1:]; len(h.blocks) == 0 {
				delete(r.held, o)
			}
			if err := r.mergeHeld(v, b); err != nil {
				return err
			}
			if r.coverage[o] < b.stamp.Time {
				break // its schema is unknown
			}
		}
	}
	return nil
}

// mergeHeld merges a held block. What is wrong with it ends its link where that is still there.
func (r *Replica) mergeHeld(v View, b heldBlock) error {
	l := r.link(b.from)
	err := r.mergeBlock(v, l, b.raw)
	var conflict *schemaConflictError
	if errors.Is(err, ErrFrame) || errors.As(err, &conflict) {
		if l != nil {
			r.refuse(l, rejectBody{Reason: RejectFrame}, err)
		}
		return nil
	}
	return err
}

func (r *Replica) heldOrigins() []crdt.Origin {
	if len(r.held) == 0 {
		return nil
	}
	out := make([]crdt.Origin, 0, len(r.held))
	for o := range r.held {
		out = append(out, o)
	}
	slices.SortFunc(out, crdt.Origin.Compare)
	return out
}
