package replica

import (
	"context"
	"crypto/sha256"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
)

// sender is a replica whose frames are kept.
type sender struct {
	store *memStore
	r     *Replica
	sent  []Frame
}

func (s *sender) Send(_ LinkID, f Frame)  { s.sent = append(s.sent, f) }
func (s *sender) CloseLink(LinkID, error) {}
func (s *sender) Show(Batch)              {}

func newSender(t *testing.T, origin byte, cfg Config) *sender {
	t.Helper()
	s := &sender{store: newMemStore()}
	cfg.NewOrigin = crdt.Origin{origin}
	var err error
	if s.r, err = New(cfg, s.store); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sender) step(t *testing.T, now int64, in ...Input) {
	t.Helper()
	if err := Process(context.Background(), s.store, s.r, Instant{Wall: 1e12 + now, Mono: now}, len(s.store.drain.Groups) > 0, in, s); err != nil {
		t.Fatal(err)
	}
}

// insert makes one transaction of 4,000 rows that do not compress.
func (s *sender) insert(t *testing.T, from int, now int64) {
	var g Group
	for i := from; i < from+4000; i++ {
		var text []byte
		for j := range 8 {
			sum := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(j)})
			text = append(text, sum[:]...)
		}
		g.Ops = append(g.Ops, crdt.Op{Table: "t", Key: crdt.MustKey(crdt.Integer(int64(i))), Kind: crdt.OpInsert, Sets: []crdt.Set{
			{Column: "a", Value: crdt.Blob(text)}, {Column: "b", Value: crdt.Integer(1)}, {Column: "c", Value: crdt.Integer(2)}}})
	}
	s.store.drain = Drain{Schemas: []*crdt.Schema{testSchema}, Groups: []Group{g}}
	s.step(t, now)
}

// TestLinksThatDieAtEvery64KiB: P23, M3-3. Links that carry 64 KiB and die bring a first copy of a megabyte, and then one transaction of
// as much, although a chunk is larger than what such a link carries.
func TestLinksThatDieAtEvery64KiB(t *testing.T) {
	a, b := newSender(t, 1, Config{NewGroup: GroupID{1}}), newSender(t, 2, Config{})
	now, links := int64(1), 0
	for round := range 2 {
		a.insert(t, round*4000, now)
		first := links
		for ; !b.r.coverage.Includes(a.r.coverage); links++ {
			if links-first > 100 {
				t.Fatalf("after %d links the other side has %d rows of %d", links-first, len(b.store.rows), len(a.store.rows))
			}
			now = shortLink(t, LinkID(links+1), a, b, now)
		}
		if links-first < 10 {
			t.Errorf("%d links were enough: they did not die", links-first)
		}
		for k, row := range a.store.rows {
			if !b.store.rows[k].Equal(row) {
				t.Fatalf("%s is %s, want %s", k, b.store.rows[k], row)
			}
		}
	}
}

// shortLink lets two replicas talk until 64 KiB went from a to b, or for two seconds.
func shortLink(t *testing.T, id LinkID, a, b *sender, now int64) int64 {
	a.sent, b.sent = nil, nil
	up := Input{Up: &LinkUp{id, "other"}}
	a.step(t, now, up)
	b.step(t, now, up)
	carried := 0
	for end := now + 2000; now < end && carried <= 64<<10; now += 20 {
		var in []Input
		for _, f := range a.sent {
			if carried += len(AppendFrame(nil, f)); carried <= 64<<10 {
				in = append(in, Input{From: id, Frame: &f})
			}
		}
		a.sent = nil
		b.step(t, now, in...)
		in = nil
		for _, f := range b.sent {
			in = append(in, Input{From: id, Frame: &f})
		}
		b.sent = nil
		a.step(t, now, in...)
	}
	a.step(t, now, Input{Down: id})
	b.step(t, now, Input{Down: id})
	return now + 1000
}

// TestLargeRowThroughASlowLink: P2. A row of 4 MiB takes two minutes on its way. The session is not given up: the row would never come.
func TestLargeRowThroughASlowLink(t *testing.T) {
	a, b := newSender(t, 1, Config{NewGroup: GroupID{1}}), newSender(t, 2, Config{})
	now := int64(1)
	var large []byte
	for i := 0; len(large) < 4<<20; i++ {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
		large = append(large, sum[:]...)
	}
	a.store.drain = Drain{Schemas: []*crdt.Schema{testSchema}, Groups: []Group{{Ops: []crdt.Op{{Table: "t", Key: crdt.MustKey(crdt.Integer(1)), Kind: crdt.OpInsert,
		Sets: []crdt.Set{{Column: "a", Value: crdt.Blob(large)}, {Column: "b", Value: crdt.Integer(1)}, {Column: "c", Value: crdt.Integer(2)}}}}}}}
	a.step(t, now)
	a.step(t, now, Input{Up: &LinkUp{1, "b"}})
	b.step(t, now, Input{Up: &LinkUp{1, "a"}})
	for range 1000 {
		for _, f := range take(&a.sent) {
			now += int64(len(f.Body)) * 4000 / pieceBytes
			if b.step(t, now, Input{From: 1, Frame: &f}); b.r.stats.SessionsBroken > 0 {
				t.Fatalf("after %d ms a session is given up", now)
			}
		}
		for _, f := range take(&b.sent) {
			a.step(t, now, Input{From: 1, Frame: &f})
		}
		if now++; len(a.sent) == 0 {
			now += 1000
			a.step(t, now)
			b.step(t, now)
		}
		if b.r.ready {
			break
		}
	}
	if !b.r.ready || !b.r.coverage.Includes(a.r.coverage) || now < 120_000 {
		t.Errorf("after %d ms: ready %v, %s of %s", now, b.r.ready, b.r.coverage, a.r.coverage)
	}
}

func take(sent *[]Frame) (all []Frame) {
	all, *sent = *sent, nil
	return all
}
