package replica

import (
	"fmt"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// TestDoneAheadOfTheClock: a DONE that claims what is beyond the clock ends the session and leaves its stage as it was: another server may
// go on with it, which says nothing of the kind.
func TestDoneAheadOfTheClock(t *testing.T) {
	l := &link{id: 1, greeted: true, known: crdt.Coverage{}}
	stage := pull{active: true, link: 1, id: 9, cut: crdt.Coverage{}, ahead: 7}
	r := &Replica{links: []*link{l}, pull: &stage, coverage: crdt.Coverage{}, ready: true}
	at := hlc.FromMillis(1 << 40)
	body := encodeBody(doneBody{Session: 9, Cut: packed{Heads: vectorOf(crdt.Coverage{{5}: at})}})
	if err := r.Step(nil, Instant{}, 1, Frame{Type: FrameDone, Body: body}); err != nil {
		t.Fatal(err)
	}
	if r.pull != &stage || stage.active || stage.ahead != 7 || l.takesFrom != at.Millis()-millis(maxSkew) {
		t.Errorf("the stage is %+v, the link takes from %d", stage, l.takesFrom)
	}
}

// TestEmptyChunksAreNoProgress: chunks that bring nothing, and are no further than the one before, do not hold a session for ever.
func TestEmptyChunksAreNoProgress(t *testing.T) {
	r := must(New(Config{NewOrigin: crdt.Origin{1}, NewGroup: GroupID{1}}, newMemStore()))
	r.LinkUp(Instant{}, 1, "server")
	r.links[0].greeted = true
	r.pull = &pull{active: true, link: 1, id: 9, credit: startCredit}
	place := *placeOf(Position{Stamp: crdt.Stamp{Time: 1, Origin: crdt.Origin{5}}})
	for now, seq := int64(0), uint64(0); now < 5*millis(sessionTimeout); now, seq = now+millis(sessionTimeout)*9/10, seq+1 {
		r.Tick(Instant{Mono: now})
		if r.pull.active != (seq < 4) {
			t.Fatalf("after %d chunks, of which 3 moved, the session goes on: %v", seq, r.pull.active)
		}
		if seq < 3 {
			place.Time++
		}
		c := chunkBody{Session: 9, Seq: seq, Cut: &packed{}, After: &place, Delta: new(crdt.DeltaBuilder).Finish()}
		if err := r.Step(nil, Instant{Mono: now}, 1, Frame{Type: FrameChunk, Body: encodeBody(c)}); err != nil || len(r.closed) > 0 {
			t.Fatal(err, r.closed)
		}
	}
}

// BenchmarkDoneOfManyOrigins shows that what a session costs at its end grows with the origins that it brings, and not with their square.
func BenchmarkDoneOfManyOrigins(b *testing.B) {
	for _, origins := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(origins), func(b *testing.B) {
			cut := crdt.Coverage{}
			for i := range origins {
				cut[originNumber(i)] = 1
			}
			body := encodeBody(doneBody{Session: 9, Cut: packed{Heads: vectorOf(cut)}})
			for b.Loop() {
				r := must(New(Config{NewOrigin: crdt.Origin{1}, NewGroup: GroupID{1}}, newMemStore()))
				r.LinkUp(Instant{}, 1, "server")
				r.links[0].greeted = true
				r.pull = &pull{active: true, link: 1, id: 9}
				if err := r.onDone(&memRound{memStore: newMemStore()}, r.links[0], body); err != nil {
					b.Fatal(err)
				}
				if len(r.coverage) != origins || string(r.sorted) != string(vectorOf(cut)) {
					b.Fatalf("%d origins are claimed", len(r.coverage))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*origins), "ns/origin")
		})
	}
}
