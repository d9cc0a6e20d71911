package sqlbridge

import (
	"context"
	"testing"
)

func (s *side) track(tables ...string) {
	s.t.Helper()
	if rep, err := s.b.Track(context.Background(), tables, true); err != nil || len(rep.Refused) > 0 {
		s.t.Fatalf("side %c: track %v: %v %v", s.name, tables, rep.Refused, err)
	}
}

func (s *side) untrack(tables ...string) {
	s.t.Helper()
	if err := s.b.Untrack(context.Background(), tables); err != nil {
		s.t.Fatal(err)
	}
}

// expect demands what a query gives.
func (s *side) expect(query, want string) {
	s.t.Helper()
	if got := s.query(query); got != want {
		s.t.Errorf("side %c: %s\n--- shows\n%s\n--- expected\n%s", s.name, query, got, want)
	}
}

const all = `SELECT id || v FROM t ORDER BY id`

// TestTrackAgain: a table that was not tracked for a while. What others wrote meanwhile is shown, what was written here is taken in,
// and nothing that is missing here is deleted elsewhere.
func TestTrackAgain(t *testing.T) { bothWays(t, trackAgain) }

func trackAgain(t *testing.T) {
	const schema = `CREATE TABLE t(id TEXT PRIMARY KEY, v UNIQUE);`
	a, b := pair(t, schema+`INSERT INTO t VALUES('u', 0), ('x', 1), ('y', 2), ('z', 3);`)
	b.untrack("t")
	b.exec(`UPDATE t SET v = 20 WHERE id = 'y'; DELETE FROM t WHERE id = 'z'; INSERT INTO t VALUES('n', 4)`)
	a.exec(`UPDATE t SET v = 10 WHERE id = 'x'; INSERT INTO t VALUES('m', 5); DELETE FROM t WHERE id = 'u'`)
	sync(t, a, b)
	a.expect(all, "m5\nx10\ny2\nz3")
	b.expect(all, "n4\nu0\nx1\ny20")
	b.track("t")
	sync(t, a, b)
	b.expect(all, "m5\nn4\nx10\ny20\nz3")
	requireEqual(t, a, b, "t")
	b.untrack("t")
	b.exec(`DROP TABLE t`)
	sync(t, a, b)
	b.exec(schema)
	b.track("t")
	sync(t, a, b)
	b.expect(all, "m5\nn4\nx10\ny20\nz3")
	requireEqual(t, a, b, "t")
}

// TestTrackWhatTheGroupHas: a table of the group that was never shown here. The group's rows come first, as when a database joins
// that has rows of its own; what the table has beyond them is taken in.
func TestTrackWhatTheGroupHas(t *testing.T) { bothWays(t, trackWhatTheGroupHas) }

func trackWhatTheGroupHas(t *testing.T) {
	now := int64(0)
	const schema = `CREATE TABLE t(id TEXT PRIMARY KEY, v);`
	a := newSide(t, 'a', &now, schema+`CREATE TABLE other(id TEXT PRIMARY KEY); INSERT INTO t VALUES('x', 1), ('y', 2)`, Options{})
	b := newSide(t, 'b', &now, "", Options{Tables: []string{"other"}})
	sync(t, a, b)
	b.exec(schema + `INSERT INTO t VALUES('x', 0), ('z', 3)`)
	sync(t, a, b)
	b.track("t")
	sync(t, a, b)
	b.expect(all, "x1\ny2\nz3")
	requireEqual(t, a, b, "t")
}

// TestSuspendedKeyOfAnotherWidth: a database joins whose table has another key. It is mended later.
func TestSuspendedKeyOfAnotherWidth(t *testing.T) {
	now := int64(0)
	a := newSide(t, 'a', &now, `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 1), ('y', 2)`, Options{})
	b := newSide(t, 'b', &now, `CREATE TABLE t(id TEXT, v, PRIMARY KEY(id, v)); INSERT INTO t VALUES('x', 0)`, Options{})
	sync(t, a, b)
	b.expect(`SELECT state FROM rowmesh_tables WHERE name = 't'`, "suspended")
	b.exec(`DROP TABLE t; CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 0), ('z', 3)`)
	sync(t, a, b)
	sync(t, a, b)
	b.expect(all, "x1\ny2\nz3")
	requireEqual(t, a, b, "t")
}

// TestSuspendedTableTakesInEdits: while a table is suspended its edits are not taken in. They are when it fits again.
func TestSuspendedTableTakesInEdits(t *testing.T) { bothWays(t, suspendedTableTakesInEdits) }

func suspendedTableTakesInEdits(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 1), ('y', 2), ('z', 3)`)
	b.exec(`CREATE UNIQUE INDEX part ON t(v) WHERE v > 100`)
	sync(t, a, b)
	b.expect(`SELECT state FROM rowmesh_tables WHERE name = 't'`, "suspended")
	b.exec(`UPDATE t SET v = 20 WHERE id = 'y'; DELETE FROM t WHERE id = 'z'; INSERT INTO t VALUES('n', 4)`)
	a.exec(`UPDATE t SET v = 10 WHERE id = 'x'`)
	sync(t, a, b)
	a.expect(all, "x10\ny2\nz3")
	b.exec(`DROP INDEX part`)
	sync(t, a, b)
	b.expect(all, "n4\nx10\ny20")
	requireEqual(t, a, b, "t")
}

// TestRebuiltWhileSuspended: of a table that was suspended and made anew nobody can say which rows were deleted. They come back.
func TestRebuiltWhileSuspended(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 1), ('y', 2)`)
	b.exec(`DROP TABLE t; CREATE TABLE t(id TEXT PRIMARY KEY, v); CREATE UNIQUE INDEX part ON t(v) WHERE v > 100; INSERT INTO t VALUES('x', 5)`)
	sync(t, a, b)
	b.exec(`DROP INDEX part`)
	sync(t, a, b)
	b.expect(all, "x5\ny2")
	requireEqual(t, a, b, "t")
}

// TestRenamedColumn: the values of a renamed column are taken in under its new name. Where it is renamed later, the newer value stands,
// whichever name it was written under.
func TestRenamedColumn(t *testing.T) { bothWays(t, renamedColumn) }

func renamedColumn(t *testing.T) {
	for _, null := range []string{"", " NOT NULL"} {
		a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v INTEGER`+null+`); INSERT INTO t VALUES('w', 1), ('x', 1), ('y', 2), ('z', 3)`)
		a.exec(`ALTER TABLE t RENAME COLUMN v TO n`)
		sync(t, a, b)
		a.expect(`SELECT id || n FROM t ORDER BY id`, "w1\nx1\ny2\nz3")
		b.expect(all, "w1\nx1\ny2\nz3")
		a.exec(`UPDATE t SET n = 10 WHERE id = 'x'`)
		b.exec(`UPDATE t SET v = 20 WHERE id = 'y'`)
		sync(t, a, b)
		b.exec(`ALTER TABLE t RENAME COLUMN v TO n`)
		b.exec(`UPDATE t SET n = 30 WHERE id = 'z'`)
		sync(t, a, b)
		b.expect(`SELECT id || n FROM t ORDER BY id`, "w1\nx10\ny20\nz30")
		requireEqual(t, a, b, "t")
	}
}

// TestParkedRowsAfterAChange: the index that kept a row out goes, and the row is shown. A new index knows what parked rows claim.
func TestParkedRowsAfterAChange(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v, w); CREATE UNIQUE INDEX tv ON t(v); CREATE TABLE other(id TEXT PRIMARY KEY)`)
	a.exec(`INSERT INTO t VALUES('x', 1, 5)`)
	b.exec(`INSERT INTO t VALUES('y', 1, 6)`)
	sync(t, a, b)
	const parked = `SELECT key || coalesce(blocked_by, '') FROM rowmesh_parked ORDER BY 1`
	a.expect(parked, "yx")
	for _, s := range []*side{a, b} {
		s.exec(`CREATE UNIQUE INDEX tw ON t(w)`)
	}
	b.exec(`INSERT INTO t VALUES('z', 2, 6)`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	a.expect(parked, "yx\nzy")
	for _, s := range []*side{a, b} {
		s.exec(`DROP INDEX tv`)
	}
	sync(t, a, b)
	a.expect(parked, "zy")
	a.expect(`SELECT id FROM t ORDER BY id`, "x\ny")
	requireEqual(t, a, b, "t")
}
