package sqlbridge

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// TestDefaultAsStored: a row that another side made before a column was there shows the column's default, and that is no edit of it:
// what counts is the default as the column stores it.
func TestDefaultAsStored(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY); INSERT INTO t VALUES('x')`)
	for _, s := range []*side{a, b} {
		for _, column := range []string{`r REAL DEFAULT 0`, `i INTEGER DEFAULT '7'`, `s TEXT DEFAULT 5`, `n TEXT DEFAULT '(none)'`, `c TEXT DEFAULT 'CURRENT_TIME'`} {
			s.exec(`ALTER TABLE t ADD COLUMN ` + column)
		}
	}
	sync(t, a, b)
	before := b.r.Counters().BlocksWritten
	b.exec(`UPDATE t SET id = id`)
	b.track("t")
	sync(t, a, b)
	if got := b.r.Counters().BlocksWritten - before; got > 0 {
		t.Errorf("defaults made %d blocks", got)
	}
	b.exec(`UPDATE t SET n = 'some'`)
	sync(t, a, b)
	a.expect(`SELECT n FROM t`, "some")
	requireEqual(t, a, b, "t")
}

// TestKeyOfAnotherType: a side whose key column makes another key of the group's cannot show such rows. It parks them, and its own
// row that looks alike stays.
func TestKeyOfAnotherType(t *testing.T) {
	for _, unique := range []string{"", " UNIQUE"} {
		now := int64(0)
		a := newSide(t, 'a', &now, `CREATE TABLE t(id INTEGER PRIMARY KEY, v`+unique+`); INSERT INTO t VALUES(1, 'a'), (2, 'a2')`, Options{})
		b := newSide(t, 'b', &now, `CREATE TABLE t(id TEXT PRIMARY KEY, v`+unique+`); INSERT INTO t VALUES('1', 'b')`, Options{})
		sync(t, a, b)
		sync(t, a, b)
		a.expect(`SELECT id || typeof(id) || v FROM t ORDER BY id`, "1integera\n2integera2")
		b.expect(`SELECT id || typeof(id) || v FROM t ORDER BY id`, "1textb")
		a.expect(`SELECT reason FROM rowmesh_parked`, "datatype")
		b.expect(`SELECT reason FROM rowmesh_parked`, "datatype\ndatatype")
		a.exec(`DELETE FROM t WHERE id = 1; UPDATE t SET v = 'new' WHERE id = 2`)
		b.exec(`UPDATE t SET v = 'mine'`)
		sync(t, a, b)
		a.expect(`SELECT id || v FROM t ORDER BY id`, "2new")
		b.expect(`SELECT id || v FROM t ORDER BY id`, "1mine")
		b.expect(`SELECT reason || detail FROM rowmesh_parked`, "datatypethe column id stores the key 2 as another one")
	}
}

// TestColumnThatIsCalledReadonly: an error of one row is no error of the database, whatever its columns are called.
func TestColumnThatIsCalledReadonly(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, readonly, "disk is full")`)
	b.exec(`DROP TABLE t; CREATE TABLE t(id TEXT PRIMARY KEY, readonly CHECK(readonly IN (0, 1)), "disk is full" NOT NULL)`)
	a.exec(`INSERT INTO t VALUES('x', 2, 0), ('y', 0, NULL), ('z', 0, 0)`)
	sync(t, a, b)
	b.expect(`SELECT key || reason FROM rowmesh_parked ORDER BY 1`, "xcheck\nynotnull")
	b.expect(`SELECT id FROM t`, "z")
}

// TestFullTextIndex: triggers that keep a full-text index are no hindrance: it has the rows of others too.
func TestFullTextIndex(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 'one two')`)
	b.exec(`CREATE VIRTUAL TABLE ft USING fts5(v, content='t');
		CREATE TRIGGER t_ai AFTER INSERT ON t BEGIN INSERT INTO ft(rowid, v) VALUES(NEW.rowid, NEW.v); END;
		CREATE TRIGGER t_ad AFTER DELETE ON t BEGIN INSERT INTO ft(ft, rowid, v) VALUES('delete', OLD.rowid, OLD.v); END;
		CREATE TRIGGER t_au AFTER UPDATE ON t BEGIN
			INSERT INTO ft(ft, rowid, v) VALUES('delete', OLD.rowid, OLD.v); INSERT INTO ft(rowid, v) VALUES(NEW.rowid, NEW.v);
		END; INSERT INTO ft(ft) VALUES('rebuild')`)
	sync(t, a, b)
	a.exec(`UPDATE t SET v = 'two three'; INSERT INTO t VALUES('y', 'three four')`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	b.exec(`UPDATE t SET v = 'four' WHERE id = 'x'`)
	a.exec(`DELETE FROM t WHERE id = 'y'`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	for word, want := range map[string]string{"one": "", "two": "", "three": "", "four": "x"} {
		b.expect(`SELECT id FROM ft JOIN t ON t.rowid = ft.rowid WHERE ft MATCH '`+word+`'`, want)
	}
	b.exec(`INSERT INTO ft(ft, rank) VALUES('integrity-check', 1)`)
}

// TestCloseKeepsItsSettings: the connection that the bridge had set up does not go back to the users of the handle.
func TestCloseKeepsItsSettings(t *testing.T) {
	now := int64(0)
	a := newSide(t, 'a', &now, `CREATE TABLE t(id TEXT PRIMARY KEY)`, Options{})
	if err := a.b.Close(); err != nil {
		t.Fatal(err)
	}
	var timeout int
	if err := a.peerDB.QueryRow(`PRAGMA busy_timeout`).Scan(&timeout); err != nil || timeout != 5000 {
		t.Errorf("the busy timeout of a user of the handle is %d, %v", timeout, err)
	}
}

// TestTriggersWithEffects: triggers that write tables, or ignore rows, run where a program writes and nowhere else. What they write comes
// as rows.
func TestTriggersWithEffects(t *testing.T) { bothWays(t, triggersWithEffects) }

func triggersWithEffects(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v UNIQUE, changed INTEGER DEFAULT 0); CREATE TABLE log(id TEXT PRIMARY KEY, what); INSERT INTO t(id, v) VALUES('x', 1)`)
	for i, s := range []*side{a, b} {
		s.exec(fmt.Sprintf(`CREATE TRIGGER touch AFTER UPDATE OF v ON t BEGIN UPDATE t SET changed = changed + %d WHERE id = NEW.id; END;
			CREATE TRIGGER note AFTER INSERT ON t BEGIN INSERT INTO log VALUES(lower(hex(randomblob(8))), 'new ' || NEW.id || ' on %c'); END;
			CREATE TRIGGER noted AFTER DELETE ON t BEGIN INSERT INTO log VALUES(lower(hex(randomblob(8))), 'old ' || OLD.id || ' on %c'); END;
			CREATE TRIGGER no BEFORE INSERT ON t WHEN NEW.v < 0 BEGIN SELECT RAISE(IGNORE); END`, 1+9*i, s.name, s.name))
	}
	triggers := a.query(`SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name NOT LIKE '\_rowmesh%' ESCAPE '\' ORDER BY rowid`)
	sync(t, a, b)
	a.exec(`UPDATE t SET v = 2`)
	sync(t, a, b)
	requireEqual(t, a, b, "t", "log")
	b.exec(`UPDATE t SET v = 3; INSERT INTO t(id, v) VALUES('y', -1), ('z', 5)`)
	sync(t, a, b)
	requireEqual(t, a, b, "t", "log")
	a.exec(`DROP TRIGGER no; INSERT INTO t(id, v) VALUES('w', -4); DELETE FROM t WHERE id = 'z'`)
	sync(t, a, b)
	requireEqual(t, a, b, "t", "log")
	b.exec(`INSERT INTO t(id, v) VALUES('p', 7)`)
	a.exec(`INSERT INTO t(id, v) VALUES('q', 7)`)
	sync(t, a, b)
	requireEqual(t, a, b, "t", "log")
	a.expect(`SELECT CASE WHEN id IN ('p', 'q') THEN 'one of them' ELSE id END || v || ' ' || changed FROM t ORDER BY 1`, "one of them7 0\nw-4 0\nx3 11")
	a.expect(`SELECT what FROM log ORDER BY what`, "new p on b\nnew q on a\nnew w on a\nnew z on b\nold z on a")
	b.expect(`SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name NOT LIKE '\_rowmesh%' ESCAPE '\' ORDER BY rowid`, triggers)
	before := b.r.Counters().BlocksWritten
	b.track("t", "log")
	sync(t, a, b)
	if got := b.r.Counters().BlocksWritten - before; got > 0 {
		t.Errorf("showing rows made %d blocks", got)
	}
}

// TestTriggersOfAJoiner: a database with rows and triggers of its own joins; later its tables are shown anew. No trigger runs for that.
func TestTriggersOfAJoiner(t *testing.T) {
	now := int64(0)
	const schema = `CREATE TABLE t(id TEXT PRIMARY KEY, v); CREATE TABLE log(n INTEGER PRIMARY KEY, what);`
	const trigger = `CREATE TRIGGER note AFTER INSERT ON t BEGIN INSERT INTO log(what) VALUES(NEW.id); END;
		CREATE TRIGGER noted AFTER UPDATE ON t BEGIN INSERT INTO log(what) VALUES(NEW.id || '!'); END;`
	a := newSide(t, 'a', &now, schema+`INSERT INTO t VALUES('x', 1), ('y', 2), ('z', 3)`, Options{Tables: []string{"t"}})
	b := newSide(t, 'b', &now, schema+trigger+`INSERT INTO t VALUES('x', 0), ('w', 4)`, Options{Tables: []string{"t"}})
	sync(t, a, b)
	sync(t, a, b)
	b.expect(`SELECT what FROM log`, "x\nw")
	requireEqual(t, a, b, "t")
	for _, s := range []*side{a, b} {
		s.exec(`ALTER TABLE t ADD COLUMN n DEFAULT 5`)
	}
	a.exec(`UPDATE t SET n = 6 WHERE id = 'x'`)
	b.untrack("t")
	a.exec(`DELETE FROM t WHERE id = 'y'; INSERT INTO t VALUES('u', 0, 0)`)
	sync(t, a, b)
	b.track("t")
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	b.expect(`SELECT what FROM log`, "x\nw")
	b.exec(`UPDATE t SET v = 9 WHERE id = 'u'`)
	sync(t, a, b)
	b.expect(`SELECT what FROM log`, "x\nw\nu!")
	requireEqual(t, a, b, "t")
}

// TestRefusedForTheirContent: a REAL as a part of a key.
func TestRefusedForTheirContent(t *testing.T) {
	now := int64(0)
	a := newSide(t, 'a', &now, `
		CREATE TABLE loud(id TEXT PRIMARY KEY, v); CREATE TRIGGER l BEFORE INSERT ON loud WHEN NEW.v < 0 BEGIN SELECT RAISE(ABORT, 'v must not be negative'); END;
		CREATE TABLE place(x DOUBLE, y DOUBLE, PRIMARY KEY(x, y));`, Options{})
	rep, err := a.b.Track(context.Background(), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(rep.Tracked, " ") != "loud" || len(rep.Refused) != 1 {
		t.Errorf("tracked %v, refused %v", rep.Tracked, rep.Refused)
	}
}
