package rowmesh

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
)

// TestTrackAfterOpen: what is written to a table is taken in from Track until Untrack, and its earlier rows too.
func TestTrackAfterOpen(t *testing.T) {
	ctx := context.Background()
	p, err := Open(ctx, "file:"+filepath.Join(t.TempDir(), "a.db")+"?node=primary&bind=tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.DB().Exec(`CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE TABLE keyless(v); INSERT INTO t VALUES(1, 'before')`); err != nil {
		t.Fatal(err)
	}
	expect := func(want int) {
		t.Helper()
		n := 0
		if err := p.Scan(ctx, "t", func(crdt.Key, crdt.Row) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		if n != want {
			t.Errorf("%d rows of t are merged, expected %d", n, want)
		}
	}
	write := func(id int) {
		t.Helper()
		if err := p.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.Exec(`INSERT INTO t VALUES(?, 'x')`, id)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	write(2)
	expect(0)
	rep, err := p.Track(ctx)
	if err != nil || len(rep.Tracked) != 1 || len(rep.Refused) != 1 {
		t.Fatalf("%+v %v", rep, err)
	}
	expect(2)
	write(3)
	expect(3)
	if err := p.Untrack(ctx, "t"); err != nil {
		t.Fatal(err)
	}
	write(4)
	expect(3)
	if rep, err := p.Track(ctx, "t"); err != nil || len(rep.Tracked) != 1 {
		t.Fatalf("%+v %v", rep, err)
	}
	expect(4)
	if err := p.Untrack(ctx, "missing"); err == nil {
		t.Error("a table that is not there was untracked")
	}
}
