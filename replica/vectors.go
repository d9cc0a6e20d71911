package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// A coverage has an entry of 24 bytes for each replica that ever wrote, random bytes for the most part. So a whole
// one crosses the wire once; after that each is sent as what changed against one that the other side holds, which is
// named by its hash: the last that it told itself, or the last that it was told. Such a base may be of an earlier link.
// Who does not hold it, because it was started anew or has heard too much since, asks for the whole.

// packed is a vector on the wire.
type packed struct {
	_       struct{} `cbor:",toarray"`
	Base    []byte   // the hash of the vector that this one differs from, 16 bytes; empty: everything is in Heads
	Changed []byte   // of heads in the base: how many stand between it and the one before (uvarint), how far it rose (varint)
	Heads   vector   // of origins that are not in the base
}

// errBase says that a vector was sent as changes against one that is not known here.
var errBase = errors.New("replica: a vector against an unknown base")

// known is a vector that the other side of a link holds, too.
type known struct {
	hash [16]byte
	v    vector
	peer string // who told it; empty: we did
}

// with sets one head.
func (v vector) with(o crdt.Origin, h hlc.Timestamp) vector {
	n := sort.Search(len(v)/vectorEntry, func(i int) bool { return bytes.Compare(v[i*vectorEntry:i*vectorEntry+16], o[:]) >= 0 }) * vectorEntry
	if n == len(v) || !bytes.Equal(v[n:].id(), o[:]) {
		v = slices.Insert(v, n, make(vector, vectorEntry)...)
		copy(v[n:], o[:])
	}
	binary.BigEndian.PutUint64(v[n+16:], uint64(h))
	return v
}

func (v vector) hash() [16]byte {
	sum := sha256.Sum256(v)
	return [16]byte(sum[:16])
}

// pack returns the shortest form of a vector for somebody who holds the given ones.
func (r *Replica) pack(v vector, bases ...*known) packed {
	best := packed{Heads: v}
	if len(v) < r.cfg.PackBytes {
		return best
	}
	for _, b := range bases {
		if b == nil {
			continue
		}
		if p := v.against(b); p.size() < best.size() {
			best = p
		}
	}
	return best
}

func (p packed) size() int { return len(p.Base) + len(p.Changed) + len(p.Heads) }

func (v vector) id() []byte { return v[:16] }

func (v vector) head() uint64 { return binary.BigEndian.Uint64(v[16:vectorEntry]) }

// against returns the vector as changes. An origin that it lacks is one whose head falls to zero.
func (v vector) against(base *known) packed {
	p := packed{Base: base.hash[:]}
	change := func(skipped int, head, was uint64) {
		p.Changed = binary.AppendUvarint(p.Changed, uint64(skipped))
		p.Changed = binary.AppendVarint(p.Changed, int64(head-was))
	}
	skipped := 0
	for b := base.v; len(b) > 0; b = b[vectorEntry:] {
		for len(v) > 0 && bytes.Compare(v.id(), b.id()) < 0 {
			p.Heads, v = append(p.Heads, v[:vectorEntry]...), v[vectorEntry:]
		}
		var head uint64
		if len(v) > 0 && bytes.Equal(v.id(), b.id()) {
			head, v = v.head(), v[vectorEntry:]
		}
		if head == b.head() {
			skipped++
			continue
		}
		change(skipped, head, b.head())
		skipped = 0
	}
	p.Heads = append(p.Heads, v...)
	return p
}

// on returns the whole vector, for the base that it was packed against. It may still be out of order.
func (p packed) on(base vector) (vector, error) {
	if len(p.Changed) == 0 && len(p.Heads) == 0 {
		return base, nil
	}
	if len(p.Heads)%vectorEntry != 0 {
		return nil, fmt.Errorf("%w: a vector of %d bytes", ErrFrame, len(p.Heads))
	}
	out := make(vector, 0, len(base)+len(p.Heads))
	heads := p.Heads
	put := func(b vector) { // what is new stands before it
		for len(heads) > 0 && bytes.Compare(heads.id(), b.id()) < 0 {
			out, heads = append(out, heads[:vectorEntry]...), heads[vectorEntry:]
		}
		out = append(out, b[:vectorEntry]...)
	}
	for c := p.Changed; len(c) > 0; {
		skipped, n := binary.Uvarint(c)
		if n <= 0 || skipped >= uint64(len(base)/vectorEntry) {
			return nil, fmt.Errorf("%w: a vector with changes beyond its base", ErrFrame)
		}
		rose, m := binary.Varint(c[n:])
		if m <= 0 {
			return nil, fmt.Errorf("%w: a vector that ends early", ErrFrame)
		}
		c = c[n+m:]
		for ; skipped > 0; skipped-- {
			put(base)
			base = base[vectorEntry:]
		}
		if head := base.head() + uint64(rose); head != 0 {
			put(binary.BigEndian.AppendUint64(bytes.Clone(base.id()), head))
		}
		base = base[vectorEntry:]
	}
	for ; len(base) > 0; base = base[vectorEntry:] {
		put(base)
	}
	return append(out, heads...), nil
}

// vectorCache holds vectors that crossed a link, the last used first.
type vectorCache struct {
	all   []*known
	bytes int
}

func (c *vectorCache) find(hash [16]byte) *known {
	for i, k := range c.all {
		if k.hash == hash {
			copy(c.all[1:i+1], c.all[:i])
			c.all[0] = k
			return k
		}
	}
	return nil
}

// of returns the last vector that a peer told.
func (c *vectorCache) of(peer string) *known {
	for _, k := range c.all {
		if k.peer == peer {
			return k
		}
	}
	return nil
}

func (c *vectorCache) add(v vector, peer string) *known {
	hash := v.hash()
	k := c.find(hash)
	if k == nil {
		k = &known{hash: hash, v: v}
		c.all = append([]*known{k}, c.all...)
		c.bytes += len(v)
	}
	if peer != "" {
		k.peer = peer
	}
	for n := len(c.all); n > maxVectors || n > 1 && c.bytes > maxVectorBytes; n = len(c.all) {
		c.bytes -= len(c.all[n-1].v)
		c.all = c.all[:n-1]
	}
	return k
}

// packAll returns all heads for a link, and notes that its other side is told them.
func (r *Replica) packAll(l *link) packed {
	bases := []*known{l.theirs, l.ours}
	if l.whole {
		l.whole, bases = false, nil
	}
	l.ours = r.vectors.add(bytes.Clone(r.sorted), "")
	return r.pack(l.ours.v, bases...)
}

// baseUnknown takes note that the other side could not read a vector. The next one is packed against what it tells along
// with this news, and if that does not help either it goes whole.
func (l *link) baseUnknown() {
	l.ours, l.whole, l.ignores = nil, l.ignores, true
}

// unpack returns a vector that came over a link.
func (r *Replica) unpack(l *link, p packed, more ...*known) (vector, crdt.Coverage, error) {
	v := p.Heads
	if len(p.Base) > 0 {
		hash, err := id16(p.Base)
		if err != nil {
			return nil, nil, err
		}
		base := r.base(hash, append(more, l.theirs, l.ours))
		if base == nil {
			return nil, nil, errBase
		}
		if v, err = p.on(base.v); err != nil {
			return nil, nil, err
		}
	}
	c, err := v.coverage()
	return v, c, err
}

func (r *Replica) base(hash [16]byte, near []*known) *known {
	for _, k := range near {
		if k != nil && k.hash == hash {
			return k
		}
	}
	return r.vectors.find(hash)
}

// unpackAll returns all heads of the other side, and keeps them as a base.
func (r *Replica) unpackAll(l *link, p packed) (crdt.Coverage, error) {
	v, c, err := r.unpack(l, p)
	if len(p.Base) > 0 {
		r.stats.VectorsWarm++
	}
	switch {
	case errors.Is(err, errBase):
		r.stats.VectorsUnknown++
	case err == nil:
		l.theirs = r.vectors.add(v, l.name)
	}
	return c, err
}
