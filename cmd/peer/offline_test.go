package main

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

const day = 24 * time.Hour

// age makes everything that a database without a running peer holds so much older, as if it had been written then.
func age(t *testing.T, db *sql.DB, by time.Duration) {
	t.Helper()
	shift := by.Milliseconds() << 16
	mustExec(t, db, "UPDATE _rowmesh_rows SET h = h - ?", shift)
	mustExec(t, db, "UPDATE _rowmesh_txns SET h = h - ?", shift)
	mustExec(t, db, "UPDATE _rowmesh_origins SET head = head - ?", shift)
}

// editAt makes an edit while no peer runs, so long ago, and returns the time that is noted with it.
func editAt(t *testing.T, db *sql.DB, ago time.Duration, query string) int64 {
	t.Helper()
	at := time.Now().Add(-ago).UnixMilli()
	before := queryText(t, db, "SELECT coalesce(max(seq), 0) FROM _rowmesh_outbox")
	mustExec(t, db, query)
	mustExec(t, db, "UPDATE _rowmesh_outbox SET ms = ? WHERE seq > ?", at, before)
	return at
}

// TestEditsKeepTheirTime: P8, L-5, L-6. Edits made while no peer ran count from the time when they were made: the later
// one wins, wherever and whenever it is taken in. Neither a week-old copy of a database with all that rowmesh
// keeps in it, nor a week-old plain copy, overwrites anything of that week; rows that only they have are kept.
func TestEditsKeepTheirTime(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name+".db") }
	a, old, plain := path("a"), path("old"), path("plain")
	dbA := openTestDB(t, a)
	mustExec(t, dbA, `CREATE TABLE t(id TEXT PRIMARY KEY, v TEXT);
		INSERT INTO t VALUES('r1', 'first'), ('r2', 'first'), ('r3', 'first'), ('r4', 'first')`)
	mustExec(t, dbA, "VACUUM INTO ?", plain)
	if code := startPeer(t, true, a).interrupt(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	age(t, dbA, 8*day)
	mustExec(t, dbA, "VACUUM INTO ?", old)
	dbOld, dbPlain := openTestDB(t, old), openTestDB(t, plain)

	editAt(t, dbOld, 7*day, "UPDATE t SET v = 'old, 7 days ago' WHERE id = 'r1'")
	editAt(t, dbOld, 7*day, "UPDATE t SET v = 'old, 7 days ago' WHERE id = 'r3'")
	editAt(t, dbOld, 7*day, "INSERT INTO t VALUES('o1', 'only in the old copy')")
	r2 := editAt(t, dbOld, 5*day, "UPDATE t SET v = 'old, 5 days ago' WHERE id = 'r2'")
	editAt(t, dbA, 6*day, "UPDATE t SET v = 'a, 6 days ago' WHERE id = 'r2'")
	r1 := editAt(t, dbA, 3*day, "UPDATE t SET v = 'a, 3 days ago' WHERE id = 'r1'")
	editAt(t, dbA, 2*day, "DELETE FROM t WHERE id = 'r3'")
	mustExec(t, dbPlain, "INSERT INTO t VALUES('p1', 'only in the plain copy'); UPDATE t SET v = 'plain' WHERE id = 'r4'")

	pa := startPeer(t, true, a, "--bind", "tcp://127.0.0.1:0", "--allow", peerID(t, old)+","+peerID(t, plain))
	for _, db := range []string{old, plain} {
		startPeer(t, true, db, "--connect", pa.addr)
		if out, code := peerOutput(t, "sync", db); code != 0 {
			t.Fatal(out)
		}
	}
	requireSame(t, a, old, plain)
	const want = "o1: only in the old copy\np1: only in the plain copy\nr1: a, 3 days ago\nr2: old, 5 days ago\nr4: first"
	for _, db := range []*sql.DB{dbA, dbOld, dbPlain} {
		if got := queryText(t, db, "SELECT id || ': ' || v FROM t ORDER BY id"); got != want {
			t.Errorf("the table holds\n%s\nand should hold\n%s", got, want)
		}
		for _, at := range []int64{r1, r2} {
			if got := queryText(t, db, fmt.Sprintf("SELECT count(*) FROM _rowmesh_txns WHERE h >> 16 = %d", at)); got != "1" {
				t.Errorf("%s transactions are stamped %d, when an edit was made", got, at)
			}
		}
	}
}
