package sqlbridge

import (
	"testing"

	"github.com/rowmesh/rowmesh/replica"
)

func pair(t *testing.T, schema string) (a, b *side) {
	t.Helper()
	now := int64(1000)
	a = newSide(t, 'a', &now, schema, Options{})
	b = newSide(t, 'b', &now, "", Options{})
	sync(t, a, b)
	return a, b
}

// TestFirstCopyThatEndsInItsFirstRound: L-3, L-13. All of a first copy may come at once, and be more than is kept for its commit.
func TestFirstCopyThatEndsInItsFirstRound(t *testing.T) {
	now := int64(1)
	a := newSide(t, 'a', &now, `CREATE TABLE item(id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE other(id TEXT PRIMARY KEY, v UNIQUE)`, Options{})
	a.exec(`WITH RECURSIVE x(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM x WHERE i < 100) INSERT INTO item SELECT i, 'v' || i FROM x`)
	a.exec(`INSERT INTO other SELECT hex(id), id FROM item`)
	a.round()
	b := newSide(t, 'b', &now, "", Options{})
	b.stop()
	b.put = 10
	b.start(false)
	for _, s := range []*side{a, b} {
		s.out = nil
		s.in = append(s.in, replica.Input{Up: &replica.LinkUp{Link: 1, Peer: "other"}})
	}
	a.round() // says HELLO
	b.take(a, 1)
	b.round() // asks for a session
	a.take(b, 1)
	for range 5 { // all chunks, and the end
		a.round()
	}
	if b.r.IsReady() {
		t.Fatal("the copy came before it was carried over")
	}
	b.take(a, 1)
	b.round()
	if !b.r.IsReady() {
		t.Fatal("the copy did not come in one round")
	}
	requireEqual(t, a, b, "item", "other")
}

// TestJoinerGetsTablesAndRows is the first copy: an empty file gets the group's tables, indexes and rows.
func TestJoinerGetsTablesAndRows(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, n INTEGER, x REAL, d BLOB, note TEXT DEFAULT 'none');
		CREATE INDEX t_n ON t(n);
		INSERT INTO t VALUES('k1', 1, 1.0, x'', NULL), ('k2', -5, 2.5, x'00ff', 'hi');`)
	requireEqual(t, a, b, "t")
	if got := b.query(`SELECT count(*) FROM sqlite_schema WHERE name = 't_n'`); got != "1" {
		t.Fatal("the index was not made")
	}
	b.exec(`INSERT INTO t(id, n) VALUES('k3', 3)`)
	a.exec(`UPDATE t SET n = 7 WHERE id = 'k1'`)
	a.exec(`DELETE FROM t WHERE id = 'k2'`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	if got := a.query(`SELECT group_concat(id || n, ' ') FROM (SELECT * FROM t ORDER BY id)`); got != "k17 k33" {
		t.Fatalf("a holds %q", got)
	}
}
