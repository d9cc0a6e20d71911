package sqlbridge

import (
	"context"
	"fmt"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// TestForkedReplicaIssuesItsRowsAnew: P22, P14. A replica whose database turned out to have forked is loaded
// with Config.Forked: every register that it wrote gets its new origin, the old one is claimed no more, and a
// session brings what others hold of that. Tables, merged state and index stay one, also over a restart.
func TestForkedReplicaIssuesItsRowsAnew(t *testing.T) {
	var now int64
	a := newSide(t, 'a', &now, `CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, done INT)`, Options{})
	for i := range 50 {
		a.exec(`INSERT INTO notes VALUES(?, ?, 0)`, i, fmt.Sprint("note ", i))
	}
	b := newSide(t, 'b', &now, "", Options{})
	sync(t, a, b)
	b.exec(`UPDATE notes SET done = 1 WHERE id < 10`)
	a.exec(`DELETE FROM notes WHERE id > 45`)
	sync(t, a, b)
	requireEqual(t, a, b, "notes")

	old := a.r.Origin()
	a.exec(`UPDATE notes SET title = 'of this branch' WHERE id = 20`)
	a.round()
	a.out, b.in = nil, nil
	err := a.b.Read(context.Background(), func(v replica.View) (err error) {
		a.r, err = replica.New(replica.Config{NewOrigin: crdt.Origin{0xfa}, Forked: true, SessionSeed: 1000}, v)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	a.round()
	if st := a.r.Status(); st.Origin == old || st.Coverage[old] != 0 || st.Coverage[st.Origin] == 0 {
		t.Fatalf("it writes as %s and claims %s", st.Origin, st.Coverage)
	}
	if diffs, err := a.b.Verify(context.Background()); err != nil || len(diffs) > 0 {
		t.Fatalf("tables are not the merged state: %v %v", diffs, err)
	}
	a.in, b.in = nil, nil
	sync(t, a, b)
	requireEqual(t, a, b, "notes")
	if got := b.query(`SELECT title FROM notes WHERE id = 20`); got != "of this branch" {
		t.Fatalf("the branch is lost: %q", got)
	}
	if st := a.r.Status(); st.Coverage[old] == 0 {
		t.Fatalf("the other branch was not fetched: %s", st.Coverage)
	}

	a.stop()
	a.start(false)
	a.exec(`INSERT INTO notes VALUES(100, 'after a restart', 1)`)
	sync(t, a, b)
	requireEqual(t, a, b, "notes")
}
