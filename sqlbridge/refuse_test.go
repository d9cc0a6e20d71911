package sqlbridge

import (
	"context"
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

// TestRefusedForTheirContent: a trigger that has rows ignored, and a REAL as a part of a key.
func TestRefusedForTheirContent(t *testing.T) {
	now := int64(0)
	a := newSide(t, 'a', &now, `
		CREATE TABLE quiet(id TEXT PRIMARY KEY, v); CREATE TRIGGER q BEFORE INSERT ON quiet WHEN NEW.v < 0 BEGIN SELECT RAISE(IGNORE); END;
		CREATE TABLE loud(id TEXT PRIMARY KEY, v); CREATE TRIGGER l BEFORE INSERT ON loud WHEN NEW.v < 0 BEGIN SELECT RAISE(ABORT, 'v must not be negative'); END;
		CREATE TABLE place(x DOUBLE, y DOUBLE, PRIMARY KEY(x, y));`, Options{})
	rep, err := a.b.Track(context.Background(), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(rep.Tracked, " ") != "loud" || len(rep.Refused) != 2 {
		t.Errorf("tracked %v, refused %v", rep.Tracked, rep.Refused)
	}
}
