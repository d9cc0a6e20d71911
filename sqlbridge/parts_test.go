package sqlbridge

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// TestCaptureInParts: a round may take in a part of what programs wrote. It ends with one of their transactions, leaves rows that a
// later one wrote again, and forgets nothing that was said of these. That does not depend on how many entries are held in memory.
func TestCaptureInParts(t *testing.T) {
	for _, held := range []int{0, 8, 7, 6} {
		t.Run(fmt.Sprint(held), func(t *testing.T) { captureInParts(t, held) })
	}
}

func captureInParts(t *testing.T, held int) {
	now := int64(0)
	s := newSide(t, 'a', &now, `CREATE TABLE t(id TEXT PRIMARY KEY, a, b); INSERT INTO t VALUES('u',0,0),('v',0,0),('w',0,0),('x',0,0),('y',0,0),('z',0,0)`, Options{CaptureRows: 3, HeldEntries: held})
	write := func(query string) {
		t.Helper()
		s.exec(query)
		if changed, err := s.b.Poll(context.Background()); err != nil || !changed {
			t.Fatalf("poll after %s: %v, %v", query, changed, err)
		}
	}
	prepare := func(want bool) {
		t.Helper()
		if more, err := s.b.Prepare(context.Background(), TakePart); err != nil || more != want {
			t.Fatalf("prepare: more is %v, %v; expected %v", more, err, want)
		}
	}
	expect := func(entries int, want string) {
		t.Helper()
		s.round()
		if got := s.stored("u", "v", "w", "x", "y", "z"); got != want {
			t.Errorf("captured:\n  %s\nexpected:\n  %s", got, want)
		}
		if got := s.query(`SELECT count(*) FROM _rowmesh_outbox`); strings.TrimSpace(got) != fmt.Sprint(entries) {
			t.Errorf("%s entries wait, expected %d", got, entries)
		}
	}

	write(`BEGIN; UPDATE t SET a = 1 WHERE id = 'x'; UPDATE t SET a = 1 WHERE id = 'y'; COMMIT`)
	write(`BEGIN; DELETE FROM t WHERE id = 'w'; INSERT INTO t VALUES('w', 2, 2); UPDATE t SET a = 2 WHERE id = 'y'; UPDATE t SET a = 2 WHERE id = 'z'; COMMIT`)
	write(`UPDATE t SET a = 3 WHERE id = 'w'`)
	prepare(true)
	s.exec(`UPDATE t SET b = 4 WHERE id = 'v'`) // meanwhile, and so with the rest
	expect(6, "u=0,0 v=0,0 w=0,0 x=1,0 y=0,0 z=0,0")

	prepare(true) // all of the second transaction, of which w waits for the third
	s.exec(`UPDATE t SET a = 5 WHERE id = 'z'`)
	expect(4, "u=0,0 v=0,0 w=0,0 x=1,0 y=2,0 z=0,0")

	prepare(true)
	expect(1, "u=0,0 v=0,4 w=3,2 made anew x=1,0 y=2,0 z=0,0")

	prepare(false)
	expect(0, "u=0,0 v=0,4 w=3,2 made anew x=1,0 y=2,0 z=5,0")

	for i := range 3 { // a part was taken in, and the next round comes without Prepare
		write(fmt.Sprintf(`UPDATE t SET b = %d WHERE id IN ('u', 'x', 'y')`, i+10))
	}
	prepare(true)
	expect(6, "u=0,0 v=0,4 w=3,2 made anew x=1,0 y=2,0 z=5,0")
	expect(0, "u=0,12 v=0,4 w=3,2 made anew x=1,12 y=2,12 z=5,0")
}

// TestCaptureLessAfterWaiting: what programs write while a round waits for the lock is read before it has the lock, and with
// TakeLess the round then takes in a part, although there was not much at first.
func TestCaptureLessAfterWaiting(t *testing.T) {
	for take, want := range map[Take]struct {
		captured string
		waiting  int
	}{
		TakePart: {"x=4,0 y=2,0 z=3,0", 0},
		TakeLess: {"x=0,0 y=2,0 z=0,0", 2}, // x is written again in what is left
	} {
		now := int64(0)
		s := newSide(t, 'a', &now, `CREATE TABLE t(id TEXT PRIMARY KEY, a, b); INSERT INTO t VALUES('x',0,0),('y',0,0),('z',0,0)`, Options{CaptureRows: 2})
		s.exec(`UPDATE t SET a = 1 WHERE id = 'x'`)
		if more, err := s.b.Prepare(context.Background(), take); err != nil || more {
			t.Fatalf("prepare: more is %v, %v", more, err)
		}
		for i, id := range []string{"y", "z", "x"} {
			s.exec(fmt.Sprintf(`UPDATE t SET a = %d WHERE id = '%s'`, i+2, id))
			s.b.prepareMore(context.Background())
		}
		s.round()
		if got := s.stored("x", "y", "z"); got != want.captured {
			t.Errorf("with %d captured:\n  %s\nexpected:\n  %s", take, got, want.captured)
		}
		if waiting, busy := s.b.Waiting(); waiting != want.waiting || !busy {
			t.Errorf("with %d %d entries wait, and programs write: %v; expected %d, true", take, waiting, busy, want.waiting)
		}
	}
}

// TestNothingIsShownBesidePart: a round that takes in a part must not bring rows of others.
func TestNothingIsShownBesidePart(t *testing.T) {
	now := int64(0)
	s := newSide(t, 'a', &now, `CREATE TABLE t(id TEXT PRIMARY KEY, a)`, Options{CaptureRows: 1})
	for i := range 3 {
		s.exec(fmt.Sprintf(`INSERT INTO t VALUES(%d, 0)`, i))
		if _, err := s.b.Poll(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if more, err := s.b.Prepare(context.Background(), TakePart); err != nil || !more {
		t.Fatal(more, err)
	}
	r, err := s.b.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Capture(); err != nil {
		t.Fatal(err)
	}
	row := crdt.Row{Birth: crdt.Stamp{Time: 1 << 40, Origin: crdt.Origin{7}}}
	change := replica.RowChange{Schema: s.b.catalog["t"].schema, Key: crdt.MustKey(crdt.Text("other")), New: row}
	if err := r.Commit(replica.Batch{Rows: []replica.RowChange{change}}); err == nil {
		t.Error("a row of another replica was taken in beside a part of the outbox")
	}
	if got := strings.TrimSpace(s.query(`SELECT count(*) FROM _rowmesh_outbox`)); got != "3" {
		t.Errorf("%s entries wait after the round that failed, expected 3", got)
	}
}

// stored describes the merged state of rows of the table t.
func (s *side) stored(ids ...string) string {
	s.t.Helper()
	keys := make([]replica.RowKey, len(ids))
	for i, id := range ids {
		keys[i] = replica.RowKey{Table: "t", Key: crdt.MustKey(crdt.Text(id))}
	}
	var out []string
	err := s.b.Read(context.Background(), func(v replica.View) error {
		rows, err := v.Rows(keys)
		for i, row := range rows {
			a, _ := row.Cell("a")
			b, _ := row.Cell("b")
			text := fmt.Sprintf("%s=%s,%s", ids[i], a.Value, b.Value)
			if row.Birth == row.Tomb {
				text += " made anew"
			}
			out = append(out, text)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Join(out, " ")
}
