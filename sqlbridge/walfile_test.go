package sqlbridge

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rowmesh/rowmesh/replica"
)

// TestSeenBeforeSynced: P5. What a round commits is synced before it is sent, and by then programs see it and may write.
func TestSeenBeforeSynced(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v)`)
	meet(a, b)
	a.exec(`INSERT INTO t VALUES('x', 1)`)
	syncs := map[byte]int{}
	for _, s := range []*side{a, b} {
		s.b.wal.sync = func(f *os.File) error {
			syncs[s.name]++
			if len(s.out) > 0 {
				t.Errorf("%c sends %s before it is on disk", s.name, s.out[0])
			}
			if s == b {
				if got := s.query(`SELECT v FROM t WHERE id = 'x'`); got != "1" {
					t.Errorf("during the sync programs see %q", got)
				}
				s.exec(`INSERT INTO t VALUES('y', 2)`)
			}
			return f.Sync()
		}
	}
	a.out = nil
	a.round()
	if syncs['a'] != 1 || len(a.out) == 0 {
		t.Fatalf("%d syncs, and %d frames are sent", syncs['a'], len(a.out))
	}
	b.out = nil
	b.take(a, 1)
	b.round()
	if syncs['b'] != 1 {
		t.Fatalf("%d syncs of the other side", syncs['b'])
	}
}

// TestFailedSync: P16. After a sync that failed nothing is sent, and the replica goes on when all that was committed is in the database file,
// not when another sync succeeds.
func TestFailedSync(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v)`)
	meet(a, b)
	reader, err := a.db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	a.exec(`INSERT INTO t VALUES('x', 1)`)
	a.out = nil
	a.b.wal.sync = func(*os.File) error { return syscall.EIO }
	err = replica.Process(context.Background(), a.b, a.r, replica.Instant{Wall: time.Now().UnixMilli(), Mono: *a.now}, true, nil, a)
	var failed *syncError
	if !errors.As(err, &failed) || !errors.Is(err, syscall.EIO) || len(a.out) > 0 {
		t.Fatalf("a sync that fails: %v, and %d frames are sent", err, len(a.out))
	}
	a.b.wal.sync = syncData
	if _, err := a.b.Ask(context.Background(), "anything"); !errors.As(err, &failed) {
		t.Fatalf("a sync after one that failed: %v", err)
	}
	if _, err := reader.ExecContext(context.Background(), `BEGIN; SELECT * FROM t`); err != nil {
		t.Fatal(err)
	}
	a.exec(`INSERT INTO t VALUES('y', 2)`)
	if _, err := a.b.Reopen(context.Background()); err == nil || !strings.Contains(err.Error(), "waiting for one to end") {
		t.Fatalf("opened again while a program reads: %v", err)
	}
	if _, err := reader.ExecContext(context.Background(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if _, err := a.b.Reopen(context.Background()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(a.path)
	if err != nil {
		t.Fatal(err)
	}
	alone := a.path + ".alone"
	if err := os.WriteFile(alone, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	db := openDB(t, alone)
	var rows, waiting int
	err = db.QueryRow(`SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM _rowmesh_outbox)`).Scan(&rows, &waiting)
	if err != nil || rows != 2 || waiting != 1 {
		t.Fatalf("the database file alone holds %d rows, of which %d wait: %v", rows, waiting, err)
	}
}
