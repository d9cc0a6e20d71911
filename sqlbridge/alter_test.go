package sqlbridge

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
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

// TestMadeAnewEmpty: a table that was dropped and made again, empty, between two looks of the peer or while none ran, is filled again. One
// that was rebuilt with fewer rows has lost them.
func TestMadeAnewEmpty(t *testing.T) {
	const schema = `CREATE TABLE t(id TEXT PRIMARY KEY, v);`
	a, b := pair(t, schema+`INSERT INTO t VALUES('x', 1), ('y', 2)`)
	b.exec(`DROP TABLE t; ` + schema)
	sync(t, a, b)
	b.expect(all, "x1\ny2")
	b.stop()
	b.exec(`DROP TABLE t; ` + schema)
	b.start(false)
	sync(t, a, b)
	b.expect(all, "x1\ny2")
	b.exec(`BEGIN; CREATE TABLE n(id TEXT PRIMARY KEY, v); INSERT INTO n SELECT * FROM t WHERE id = 'y'; DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT`)
	sync(t, a, b)
	a.expect(all, "y2")
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

// TestTablesComeAndGo: on one side, a table is untracked, dropped, made anew, suspended, its column renamed, in any order and with
// writes on both sides and exchanges in between. No program deletes a row, so none is ever missing in the end, and one that only one side writes holds what
// that wrote last.
func TestTablesComeAndGo(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { tablesComeAndGo(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func tablesComeAndGo(t *testing.T, rnd *rand.Rand) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v INTEGER); INSERT INTO t VALUES('first', 0)`)
	var did []string
	do := func(s *side, query string) {
		did = append(did, fmt.Sprintf("%c: %s", s.name, query))
		s.exec(query)
	}
	column := map[*side]string{a: "v", b: "v"}
	written, waiting := map[string]int{"first": 0}, map[string]int{} // the second: on b, and not taken in yet
	here, tracked, whole := true, true, true
	takenIn := func() {
		if here && tracked && whole {
			maps.Copy(written, waiting)
			clear(waiting)
		}
	}
	write := func(s *side) {
		if s == b && !here {
			return
		}
		id := []string{"both", string(s.name)}[rnd.IntN(2)] + fmt.Sprint(rnd.IntN(5))
		value := len(did)
		do(s, fmt.Sprintf(`INSERT INTO t(id, %[2]s) VALUES('%[1]s', %[3]d) ON CONFLICT DO UPDATE SET %[2]s = excluded.%[2]s`, id, column[s], value))
		if s == a {
			written[id] = value
		} else {
			waiting[id] = value
		}
	}
	restore := func() {
		if !here {
			column[b] = []string{"v", "w"}[rnd.IntN(2)]
			do(b, `CREATE TABLE t(id TEXT PRIMARY KEY, `+column[b]+` INTEGER)`)
			here, whole = true, true
		}
		if !whole {
			do(b, `DROP INDEX part`)
			whole = true
		}
		if !tracked {
			did = append(did, "b: track")
			b.track("t")
			tracked = true
		}
	}
	for range 25 {
		switch n := rnd.IntN(12); {
		case n < 3:
			write(a)
		case n < 6:
			write(b)
		case n == 6:
			did = append(did, "sync")
			sync(t, a, b)
			takenIn()
		case n == 7 && tracked && here:
			did = append(did, "b: untrack")
			b.untrack("t")
			tracked = false
		case n == 8 && here && (!tracked || rnd.IntN(2) == 0):
			if rnd.IntN(2) == 0 {
				b.round()
				takenIn()
			}
			do(b, `DROP TABLE t`)
			clear(waiting)
			b.round()
			here, whole = false, true
		case n == 9 && here && whole:
			do(b, `CREATE UNIQUE INDEX part ON t(`+column[b]+`) WHERE id = 'nobody'`)
			whole = false
		case n == 10 && here && tracked && whole && column[b] == "v":
			sync(t, a, b) // renaming is an edit of the whole column
			takenIn()
			do(b, `ALTER TABLE t RENAME COLUMN v TO w`)
			column[b] = "w"
			b.round()
		case n == 11:
			restore()
		}
	}
	restore()
	sync(t, a, b)
	takenIn()
	for _, s := range []*side{a, b} {
		if column[s] == "v" {
			do(s, `ALTER TABLE t RENAME COLUMN v TO w`)
		}
		sync(t, a, b)
	}
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	var expected, both []string
	for _, id := range slices.Sorted(maps.Keys(written)) {
		if strings.HasPrefix(id, "both") {
			both = append(both, id)
		} else {
			expected = append(expected, fmt.Sprint(id, "=", written[id]))
		}
	}
	a.expect(`SELECT id || '=' || w FROM t WHERE id NOT LIKE 'both%' ORDER BY id`, strings.Join(expected, "\n"))
	a.expect(`SELECT id FROM t WHERE id LIKE 'both%' ORDER BY id`, strings.Join(both, "\n"))
	if t.Failed() {
		t.Logf("what was done:\n%s", strings.Join(did, "\n"))
	}
}
