package sqlbridge

import (
	"errors"
	"fmt"
	"testing"
)

// TestNoTriggerKeepsADeletedRow: a deletion of the group cannot be refused by a trigger.
func TestNoTriggerKeepsADeletedRow(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 1), ('y', 2)`)
	b.exec(`CREATE TRIGGER keep BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'rows are kept for ever'); END`)
	a.exec(`DELETE FROM t WHERE id = 'x'; UPDATE t SET v = 3 WHERE id = 'y'`)
	sync(t, a, b)
	b.expect(`SELECT v FROM t WHERE id = 'y'`, "3")
}

// TestNoTriggerKeepsAParkedRow: nor can the departure of a row whose unique value another holds.
func TestNoTriggerKeepsAParkedRow(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v UNIQUE)`)
	for _, s := range []*side{a, b} {
		s.exec(`CREATE TRIGGER keep BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'rows are kept for ever'); END`)
	}
	a.exec(`INSERT INTO t VALUES('x', 1)`)
	b.exec(`INSERT INTO t VALUES('y', 1)`)
	sync(t, a, b)
}

// TestUnfilledFullTextIndex: a full-text index that knows nothing of the rows holds none of them up, and is not taken for damage.
func TestUnfilledFullTextIndex(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 'one two')`)
	b.exec(`CREATE VIRTUAL TABLE ft USING fts5(v, content='t', content_rowid='id');
		CREATE TRIGGER t_ai AFTER INSERT ON t BEGIN INSERT INTO ft(rowid, v) VALUES(NEW.id, NEW.v); END;
		CREATE TRIGGER t_ad AFTER DELETE ON t BEGIN INSERT INTO ft(ft, rowid, v) VALUES('delete', OLD.id, OLD.v); END;
		CREATE TRIGGER t_au AFTER UPDATE ON t BEGIN
			INSERT INTO ft(ft, rowid, v) VALUES('delete', OLD.id, OLD.v); INSERT INTO ft(rowid, v) VALUES(NEW.id, NEW.v);
		END`)
	sync(t, a, b)
	a.exec(`UPDATE t SET v = 'three'`)
	sync(t, a, b)
	b.expect(`SELECT v FROM t`, "three")
}

// TestTriggerCallsWhatIsNotHere: a trigger that calls a function of the program does not keep deleted rows.
func TestTriggerCallsWhatIsNotHere(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES(1, 'x'), (2, 'y')`)
	b.exec(`CREATE TRIGGER t_bd BEFORE DELETE ON t WHEN may_delete(OLD.id) = 0 BEGIN SELECT RAISE(ABORT, 'no'); END`)
	a.exec(`DELETE FROM t WHERE id = 1; UPDATE t SET v = 'z' WHERE id = 2`)
	sync(t, a, b)
}

// TestTriggerReadsATableThatIsGone: a check that cannot run parks the row and ends nothing.
func TestTriggerReadsATableThatIsGone(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v)`)
	b.exec(`CREATE TABLE rules(v); INSERT INTO rules VALUES(1);
		CREATE TRIGGER ok BEFORE INSERT ON t WHEN NOT EXISTS (SELECT 1 FROM rules WHERE v = NEW.v) BEGIN SELECT RAISE(ABORT, 'no such v'); END; DROP TABLE rules`)
	a.exec(`INSERT INTO t VALUES('x', 1)`)
	sync(t, a, b)
}

// TestTriggersMaySayAnything: what a trigger says is not taken for trouble with the database.
func TestTriggersMaySayAnything(t *testing.T) {
	for _, says := range []string{"this record is read-only", "the mail address is malformed", "order interrupted"} {
		if isStoreError(errors.New(says)) {
			t.Errorf("%q ends the round", says)
		}
	}
	for _, says := range []string{"disk I/O error (10)", "database disk image is malformed (11)", "attempt to write a readonly database", "interrupted (9)", "sql: database is closed"} {
		if !isStoreError(errors.New(says)) || !isStoreError(fmt.Errorf("sqlbridge: prepare DELETE FROM t: %w", errors.New(says))) {
			t.Errorf("%q parks a row", says)
		}
	}
}

// rebuildCreated adds a column whose DEFAULT is a time, as tools for migrations do.
const rebuildCreated = `BEGIN; CREATE TABLE n(id TEXT PRIMARY KEY, v, created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP); INSERT INTO n(id, v) SELECT id, v FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT`

// TestChosenDefaultsGoAlong: a value that SQLite chose on each machine becomes one with the first edit of its row.
func TestChosenDefaultsGoAlong(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 1)`)
	for _, s := range []*side{a, b} {
		s.exec(rebuildCreated)
	}
	sync(t, a, b)
	a.exec(`UPDATE t SET created = '2001-02-03', v = 2`)
	sync(t, a, b)
	b.expect(`SELECT v || ' ' || created FROM t`, "2 2001-02-03")
	requireEqual(t, a, b, "t")
}

// TestRenameOfAChosenDefault: values survive the new name of a column whose DEFAULT is a time.
func TestRenameOfAChosenDefault(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, mail TEXT UNIQUE, made TEXT DEFAULT CURRENT_TIMESTAMP); INSERT INTO t VALUES('x', 'm', '2001-02-03')`)
	a.exec(`ALTER TABLE t RENAME COLUMN made TO created`)
	sync(t, a, b)
	a.expect(`SELECT created FROM t`, "2001-02-03")
}

// TestRenameOfAChosenDefaultReachesJoiners: and come to those who join later.
func TestRenameOfAChosenDefaultReachesJoiners(t *testing.T) {
	now := int64(0)
	a := newSide(t, 'a', &now, `CREATE TABLE t(id TEXT PRIMARY KEY, made TEXT DEFAULT CURRENT_TIMESTAMP); INSERT INTO t VALUES('x', '2001-02-03')`, Options{})
	a.exec(`ALTER TABLE t RENAME COLUMN made TO created`)
	a.round()
	b := newSide(t, 'b', &now, "", Options{})
	sync(t, a, b)
	b.expect(`SELECT created FROM t`, "2001-02-03")
}

// TestRebuildFillsAChosenDefault: what a rebuild fills in stays.
func TestRebuildFillsAChosenDefault(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, mail TEXT UNIQUE); INSERT INTO t VALUES('x', 'm')`)
	a.exec(`BEGIN; CREATE TABLE n(id TEXT PRIMARY KEY, mail TEXT UNIQUE, created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
		INSERT INTO n SELECT id, mail, '2001-02-03' FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT`)
	sync(t, a, b)
	a.expect(`SELECT created FROM t`, "2001-02-03")
}

// TestMigrationFillsWhatOthersWrote: a second machine that migrates undoes no edit of the first.
func TestMigrationFillsWhatOthersWrote(t *testing.T) {
	const migrate = `BEGIN; CREATE TABLE "new__t"("id" TEXT NOT NULL PRIMARY KEY, "v" integer, "n" integer NOT NULL);
		INSERT INTO "new__t"("id", "v", "n") SELECT "id", "v", 0 FROM "t"; DROP TABLE "t"; ALTER TABLE "new__t" RENAME TO "t"; COMMIT`
	a, b := pair(t, `CREATE TABLE "t"("id" TEXT NOT NULL PRIMARY KEY, "v" integer); INSERT INTO t VALUES('x', 1), ('y', 2)`)
	a.exec(migrate)
	sync(t, a, b)
	a.exec(`UPDATE t SET n = 7 WHERE id = 'x'`)
	sync(t, a, b)
	b.exec(migrate)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	a.expect(`SELECT id || n FROM t ORDER BY id`, "x7\ny0")
}

// TestStrangersOverwriteNothing: a row whose key is another one here stays parked, also where its unique value is wanted.
func TestStrangersOverwriteNothing(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id PRIMARY KEY, u UNIQUE, n)`)
	b.exec(`BEGIN; CREATE TABLE n(id TEXT PRIMARY KEY, u UNIQUE, n); DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT`)
	sync(t, a, b)
	b.exec(`INSERT INTO t VALUES('1', 'mine', 0)`)
	b.round()
	a.exec(`INSERT INTO t VALUES(1, 'm', 0)`)
	sync(t, a, b)
	b.expect(`SELECT u FROM t`, "mine")
	b.exec(`INSERT INTO t VALUES('y', 'm', 0)`)
	sync(t, a, b)
	b.expect(`SELECT u FROM t WHERE id = '1'`, "mine")
	b.exec(`UPDATE t SET n = 5 WHERE id = '1'`)
	sync(t, a, b)
	a.expect(`SELECT typeof(id) || u || n FROM t WHERE id = '1'`, "textmine5")
}

// TestStrangersDie: and frees its value when it dies.
func TestStrangersDie(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id PRIMARY KEY, u UNIQUE, n)`)
	b.exec(`BEGIN; CREATE TABLE n(id TEXT PRIMARY KEY, u UNIQUE, n); DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT`)
	sync(t, a, b)
	a.exec(`INSERT INTO t VALUES(1, 'm', 0)`)
	sync(t, a, b)
	b.exec(`INSERT INTO t VALUES('y', 'm', 0)`)
	sync(t, a, b)
	b.expect(`SELECT key || reason FROM rowmesh_parked ORDER BY 1`, "1datatype\nyunique")
	a.exec(`DELETE FROM t WHERE id = 1`)
	sync(t, a, b)
	a.expect(`SELECT id FROM t`, "y")
	b.expect(`SELECT id FROM t`, "y")
	requireEqual(t, a, b, "t")
}

// TestColumnCalledBegin: a trigger on a column called begin is seen to write.
func TestColumnCalledBegin(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, begin, end, n INTEGER DEFAULT 0); INSERT INTO t(id) VALUES('x')`)
	for _, s := range []*side{a, b} {
		s.exec(`CREATE TRIGGER touch AFTER UPDATE OF begin, end ON t BEGIN UPDATE t SET n = n + 1 WHERE id = NEW.id; END`)
	}
	sync(t, a, b)
	a.exec(`UPDATE t SET begin = 5`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
}

// TestWithoutRowidInAnyForm: WITHOUT ROWID may stand on two lines.
func TestWithoutRowidInAnyForm(t *testing.T) {
	a, b := pair(t, "CREATE TABLE t(id TEXT PRIMARY KEY, v) WITHOUT\n ROWID")
	a.exec(`INSERT INTO t VALUES('x', 1)`)
	sync(t, a, b)
}

// TestIndexesAreMadeByPrograms: a migration that makes an index runs on every machine.
func TestIndexesAreMadeByPrograms(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v)`)
	a.exec(`CREATE INDEX tv ON t(v)`)
	sync(t, a, b)
	b.exec(`CREATE INDEX tv ON t(v)`)
}

// TestDroppedIndexesStayAway: an index that was dropped is not made by who joins.
func TestDroppedIndexesStayAway(t *testing.T) {
	now := int64(0)
	a := newSide(t, 'a', &now, `CREATE TABLE t(id TEXT PRIMARY KEY, v); CREATE UNIQUE INDEX tv ON t(v)`, Options{})
	a.exec(`DROP INDEX tv; INSERT INTO t VALUES('x', 1), ('y', 1)`)
	a.round()
	b := newSide(t, 'b', &now, "", Options{})
	sync(t, a, b)
	requireEqual(t, a, b, "t")
}

// TestStrictAny: ANY in a STRICT table keeps keys as they are.
func TestStrictAny(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id ANY PRIMARY KEY, v ANY DEFAULT '5') STRICT`)
	a.exec(`INSERT INTO t VALUES('1', 'text'), (1, 'int')`)
	sync(t, a, b)
	b.expect(`SELECT quote(id) || v FROM t ORDER BY 1`, "'1'text\n1int")
	requireEqual(t, a, b, "t")
}

// TestConstraintsThatIgnore: a row that a constraint passes over in silence is parked.
func TestConstraintsThatIgnore(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v)`)
	b.exec(`BEGIN; CREATE TABLE n(id TEXT PRIMARY KEY, v NOT NULL ON CONFLICT IGNORE); DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT`)
	sync(t, a, b)
	a.exec(`INSERT INTO t VALUES('x', NULL)`)
	sync(t, a, b)
	b.track("t")
	sync(t, a, b)
	a.expect(`SELECT count(*) FROM t`, "1")
}

// TestNocaseEndsAtANul: NOCASE compares up to a NUL, and then lengths.
func TestNocaseEndsAtANul(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, u TEXT UNIQUE COLLATE NOCASE)`)
	a.exec(`INSERT INTO t VALUES('x', 'a' || char(0) || 'b')`)
	b.exec(`INSERT INTO t VALUES('y', 'a' || char(0) || 'c')`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
}
