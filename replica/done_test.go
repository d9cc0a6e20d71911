package replica

import (
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
