package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

func randomCoverage(g *rand.Rand, n int) crdt.Coverage {
	c := crdt.Coverage{}
	for range n {
		c[originNumber(g.IntN(40))] = hlc.Timestamp(1 + g.Uint64N(uint64(hlc.Max)))
	}
	return c
}

// TestPackedVectors: any vector packed against any other is that vector again.
func TestPackedVectors(t *testing.T) {
	for seed := range uint64(5000) {
		g := rand.New(rand.NewPCG(seed, 1))
		v, base := vectorOf(randomCoverage(g, g.IntN(30))), vectorOf(randomCoverage(g, g.IntN(30)))
		if seed%3 == 0 { // most often they have much in common
			c, _ := base.coverage()
			for o := range c {
				if g.IntN(3) == 0 {
					delete(c, o)
				}
			}
			c.Add(randomCoverage(g, 3))
			v = vectorOf(c)
		}
		got, err := v.against(&known{hash: base.hash(), v: base}).on(base)
		if err != nil || !bytes.Equal(got, v) {
			t.Fatalf("seed %d: %s against %s comes back as %s, %v", seed, v, base, got, err)
		}
	}
}

// TestBadPackedVectors: what is no vector ends the link, and what has an unknown base does not.
func TestBadPackedVectors(t *testing.T) {
	base := vectorOf(crdt.Coverage{{1}: 10, {2}: 20})
	r := &Replica{}
	r.vectors.add(base, "")
	hash := base.hash()
	entry := vectorOf(crdt.Coverage{{1}: 11})
	for _, p := range []packed{
		{Base: hash[:3]}, {Base: hash[:], Changed: []byte{2, 2}}, {Base: hash[:], Changed: []byte{0}}, {Base: hash[:], Changed: []byte{0xff}},
		{Base: hash[:], Changed: []byte{0, 1, 0, 2, 0, 2}}, {Base: hash[:], Changed: []byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}},
		{Base: hash[:], Heads: entry}, {Base: hash[:], Heads: entry[:5]}, {Heads: entry[:5]}, {Changed: []byte{0, 2}, Heads: entry[:23]},
	} {
		if _, c, err := r.unpack(&link{}, p); !errors.Is(err, ErrFrame) {
			t.Errorf("%+v is taken as %s, %v", p, c, err)
		}
	}
	if _, _, err := r.unpack(&link{}, packed{Base: make([]byte, 16)}); !errors.Is(err, errBase) {
		t.Errorf("an unknown base: %v", err)
	}
}

// TestVectorCache: it keeps what was used last, within its bounds.
func TestVectorCache(t *testing.T) {
	var c vectorCache
	first := c.add(vectorOf(crdt.Coverage{{1}: 1}), "a")
	for n := range hlc.Timestamp(3 * maxVectors) {
		c.add(vectorOf(crdt.Coverage{{2}: n + 1}), "b")
		if c.find(first.hash) != first {
			t.Fatalf("a vector in use is gone after %d others", n)
		}
	}
	if len(c.all) != maxVectors || c.bytes != maxVectors*vectorEntry {
		t.Errorf("%d vectors of %d bytes are kept", len(c.all), c.bytes)
	}
	if k := c.of("b"); k == nil || k.v.String() != vectorOf(crdt.Coverage{{2}: 3 * maxVectors}).String() {
		t.Errorf("the last of b is %v", k)
	}
	c.add(make(vector, maxVectorBytes), "")
	if len(c.all) != 1 {
		t.Errorf("%d vectors are kept beside one that fills the cache", len(c.all))
	}
}

// pair is two replicas and what they send each other.
type pair struct {
	t     testing.TB
	now   Instant
	r     [2]*Replica
	store [2]*memStore
	in    [2][]Input
	sent  map[FrameType]int // bytes
}

type pairEnd struct {
	p *pair
	i int
}

func (e pairEnd) Send(_ LinkID, f Frame) {
	e.p.sent[f.Type] += len(AppendFrame(nil, f))
	e.p.in[1-e.i] = append(e.p.in[1-e.i], Input{From: 1, Frame: &f})
}

func (e pairEnd) CloseLink(_ LinkID, reason error) { e.p.t.Errorf("a link is closed: %v", reason) }

func (e pairEnd) Show(Batch) {}

func (p *pair) load(i int, k int) {
	p.store[i] = newMemStore()
	st := &p.store[i].state
	st.Group, st.Ready = GroupID{7}, true
	for n := range k {
		st.Coverage[randomOrigin(n)] = hlc.FromMillis(p.now.Wall - 100_000 - int64(n))
	}
	p.start(i)
}

func (p *pair) start(i int) {
	p.r[i] = must(New(Config{NewOrigin: crdt.Origin{0xff, byte(i)}, SessionSeed: uint64(p.now.Mono)}, p.store[i]))
}

// links takes the link down and up, lets everything be said, and returns the bytes of all frames and of each kind.
func (p *pair) links() (all int, kinds string) {
	p.sent = map[FrameType]int{}
	for i := range p.r {
		p.in[i] = []Input{{Down: 1}, {Up: &LinkUp{Link: 1, Peer: fmt.Sprint("peer", 1-i)}}}
	}
	for range 300 {
		p.now.Wall, p.now.Mono = p.now.Wall+10, p.now.Mono+10
		for i, r := range p.r {
			in := p.in[i]
			p.in[i] = nil
			if err := Process(context.Background(), p.store[i], r, p.now, false, in, pairEnd{p, i}); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	if a, b := p.r[0].coverage, p.r[1].coverage; a.String() != b.String() {
		p.t.Errorf("they differ after the exchange")
	}
	for t := FrameHello; t <= FrameCredit; t++ {
		if n := p.sent[t]; n > 0 {
			all += n
			kinds += fmt.Sprintf(" %s %d", t, n)
		}
	}
	return all, kinds
}

// randomOrigin is the n-th of some ids that cannot be compressed.
func randomOrigin(n int) (o crdt.Origin) {
	g := rand.New(rand.NewPCG(uint64(n), 7))
	for i := range o {
		o[i] = byte(g.Uint32())
	}
	return o
}

// change has k replicas write elsewhere, and their blocks come to one of the two.
func (p *pair) change(i, k int) {
	for n := range k {
		o := randomOrigin(100 * n)
		p.r[i].raise(o, p.r[i].coverage[o]+hlc.FromMillis(50_000+int64(n)))
	}
	p.store[i].state.Coverage = p.r[i].coverage.Clone()
}

// TestVectorBytes: two replicas that know 10,000 origins exchange whole vectors once; after that what they say of them is in
// proportion to what changed, also over a new link.
func TestVectorBytes(t *testing.T) {
	p := &pair{t: t, now: Instant{Wall: 1_700_000_000_000, Mono: 1000}}
	p.load(0, 10_000)
	p.load(1, 10_000)
	step := func(what string, least, most int) {
		t.Helper()
		n, kinds := p.links()
		t.Logf("%-50s %7d bytes:%s", what, n, kinds)
		if n < least || n > most {
			t.Errorf("%s: %d bytes, want %d to %d", what, n, least, most)
		}
	}
	step("cold, level", 440_000, 482_000)
	step("warm, level", 100, 600)
	p.change(0, 100)
	step("warm, 100 origins changed", 800, 3000)
	p.change(1, 1)
	step("warm, 1 origin changed", 100, 800)
	p.start(1)
	step("one of them started anew, level", 220_000, 242_000)
	p.load(1, 0)
	step("one of them is new", 200_000, 242_000)
}
