package sqlbridge

import (
	"testing"
)

func pair(t *testing.T, schema string) (a, b *side) {
	t.Helper()
	now := int64(1000)
	a = newSide(t, 'a', &now, schema, Options{})
	b = newSide(t, 'b', &now, "", Options{})
	sync(t, a, b)
	return a, b
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
