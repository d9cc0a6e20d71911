package sqlbridge

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// oneSided are statements that a program runs on one side, in turns of one transaction each. After every turn the other
// side must show exactly what SQLite made of it. An empty schema stands for the one of the first.
var oneSided = []struct {
	name, schema, table string
	turns               []string
}{
	{"update, delete and insert again", `CREATE TABLE t(id TEXT PRIMARY KEY, a, b); INSERT INTO t VALUES('x',1,1),('y',2,2),('z',3,3);`, "t", []string{
		`UPDATE t SET a = 9 WHERE id = 'x'`, `DELETE FROM t WHERE id = 'y'`, `INSERT INTO t VALUES('y', 5, NULL)`,
		`DELETE FROM t WHERE id = 'z'; INSERT INTO t(id, a) VALUES('z', 7)`, `DELETE FROM t`, `INSERT INTO t SELECT 'k' || value, value, NULL FROM generate_series(1, 5)`,
	}},
	{"key change and key swap", ``, "t", []string{
		`UPDATE t SET id = 'w' WHERE id = 'x'`, `UPDATE t SET id = 'tmp' WHERE id = 'y'; UPDATE t SET id = 'y' WHERE id = 'z'; UPDATE t SET id = 'z' WHERE id = 'tmp'`,
		`UPDATE t SET id = id || '!'`, `UPDATE t SET id = 'only' WHERE id = 'w!'; DELETE FROM t WHERE id <> 'only'`,
	}},
	{"upsert", ``, "t", []string{
		`INSERT INTO t VALUES('x', 5, 5) ON CONFLICT(id) DO UPDATE SET a = excluded.a`, `INSERT INTO t VALUES('x', 6, 6) ON CONFLICT DO NOTHING`,
		`INSERT INTO t VALUES('new', 7, 7) ON CONFLICT(id) DO UPDATE SET a = 0`, `INSERT OR IGNORE INTO t VALUES('y', 0, 0), ('fresh', 1, 1)`,
	}},
	{"replace", ``, "t", []string{
		`INSERT OR REPLACE INTO t VALUES('x', 5, 5)`, `REPLACE INTO t(id, a) VALUES('y', 6)`, `PRAGMA recursive_triggers = ON`, `REPLACE INTO t VALUES('z', 7, 7), ('n', 8, 8)`,
		`UPDATE OR REPLACE t SET id = 'x' WHERE id = 'y'`,
	}},
	{"replace over other unique columns", `CREATE TABLE t(id TEXT PRIMARY KEY, mail TEXT UNIQUE, nick TEXT COLLATE NOCASE UNIQUE, n);
		INSERT INTO t VALUES('a','a@x','Ann',1),('b','b@x','Bob',2),('c','c@x','Cid',3),('d',NULL,NULL,4);`, "t", []string{
		`REPLACE INTO t VALUES('e', 'a@x', 'BOB', 5)`, `UPDATE OR REPLACE t SET nick = 'cid' WHERE id = 'e'`, `REPLACE INTO t VALUES('d', 'a@x', 'x', 6)`,
		`INSERT INTO t VALUES('f', 'd@x', 'dora', 7) ON CONFLICT(mail) DO UPDATE SET n = n + 1`,
	}},
	{"swap of two unique values", `CREATE TABLE t(id INTEGER PRIMARY KEY, pos INTEGER UNIQUE, name); INSERT INTO t VALUES(1,1,'a'),(2,2,'b'),(3,3,'c');`, "t", []string{
		`UPDATE t SET pos = -1 WHERE id = 1; UPDATE t SET pos = 1 WHERE id = 2; UPDATE t SET pos = 2 WHERE id = 1`,
		`UPDATE t SET pos = -pos; UPDATE t SET pos = 4 + pos`, `DELETE FROM t WHERE id = 2; UPDATE t SET pos = 99 WHERE id = 3`,
	}},
	{"integer keys", `CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v); INSERT INTO t(v) VALUES('a'),('b');`, "t", []string{
		`INSERT INTO t(v) VALUES('c')`, `UPDATE t SET id = 100 WHERE v = 'a'`, `INSERT INTO t(v) VALUES('d')`, `UPDATE t SET id = -9223372036854775808 WHERE v = 'b'`, `REPLACE INTO t VALUES(100, 'e')`, `UPDATE t SET rowid = 7 WHERE v = 'c'`,
	}},
	{"rows that go by their rowid", `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t(rowid, id, v) VALUES(5, 'x', 1), (6, 'y', 2), (7, 'w', 3);`, "t", []string{
		`REPLACE INTO t(rowid, id, v) VALUES(5, 'z', 3)`, `INSERT INTO t VALUES('n', 1)`, `REPLACE INTO t(rowid, id, v) VALUES(7, 'w', 4)`}},
	{"a table without rowid and with a key of three parts", `CREATE TABLE t(x INTEGER, y TEXT, z BLOB, v, PRIMARY KEY(z, x, y)) WITHOUT ROWID; INSERT INTO t VALUES(1,'a',x'00',1),(1,'a',x'',2),(-1,'',x'ff',3);`, "t", []string{
		`UPDATE t SET v = 9 WHERE x = 1`, `UPDATE t SET x = x + 1`, `INSERT INTO t VALUES(5, 'with,comma', x'2c', NULL)`, `DELETE FROM t WHERE z = x''`, `REPLACE INTO t VALUES(5, 'with,comma', x'2c', 'again')`,
	}},
	{"keys of every kind", `CREATE TABLE t(id PRIMARY KEY, v); INSERT INTO t VALUES(1,'int'),(1.5,'real'),('1','text'),(x'31','blob'),('','empty'),('a' || char(0) || 'b','nul'),(CAST(x'ff' AS TEXT),'raw'),('it''s','quote'),(0,'zero');`, "t", []string{
		`UPDATE t SET v = v || '!'`, `UPDATE t SET id = 2.5 WHERE id = 1.5`, `DELETE FROM t WHERE typeof(id) = 'blob'`, `REPLACE INTO t VALUES('1', 'again')`, `UPDATE t SET id = 'a' || char(0) || 'c' WHERE v LIKE 'nul%'`,
	}},
	{"storage classes", `CREATE TABLE t(id TEXT PRIMARY KEY, n NUMERIC, i INTEGER, r REAL, s TEXT, x BLOB, y);`, "t", []string{
		`INSERT INTO t VALUES('1',1,1,1,1,1,1),('1.0',1.0,1.0,1.0,1.0,1.0,1.0),('t','1','1','1','1','1','1'),('b',x'31',x'31',x'31',x'31',x'31',x'31'),('n',NULL,NULL,NULL,NULL,NULL,NULL)`,
		`INSERT INTO t VALUES('-0',-0.0,-0.0,-0.0,-0.0,-0.0,-0.0),('max',9223372036854775807,9223372036854775807,9223372036854775807,9223372036854775807,9223372036854775807,9223372036854775807),('big',1e308,1e308,1e308,1e308,1e308,1e308),('inf',9e999,9e999,9e999,9e999,9e999,-9e999)`,
		`INSERT INTO t VALUES('empty','','','','','',''),('eb',x'',x'',x'',x'',x'',x''),('nul',NULL,NULL,NULL,'a' || char(0) || 'b',x'00','x' || char(0)),('raw',NULL,NULL,NULL,CAST(x'fffe' AS TEXT),NULL,CAST(x'c328' AS TEXT)),('date',NULL,NULL,NULL,'2024-01-01 00:00:00',NULL,'2024-01-01')`,
		`UPDATE t SET y = 1 WHERE y = 1.0 OR y = '1'`, `UPDATE t SET y = y * 1.0 WHERE typeof(y) = 'integer'`, `UPDATE t SET i = i, r = r`,
	}},
	{"strict, generated and defaulted columns", `CREATE TABLE t(id TEXT PRIMARY KEY, n INTEGER, r REAL, a ANY, d TEXT DEFAULT 'none', v INT GENERATED ALWAYS AS (n * 2) VIRTUAL, s TEXT GENERATED ALWAYS AS (id || n) STORED) STRICT;`, "t", []string{
		`INSERT INTO t(id, n, r, a) VALUES('x', 1, 2, '3'), ('y', NULL, 1, x'00')`, `UPDATE t SET n = 5`, `INSERT INTO t(id) VALUES('z')`, `UPDATE t SET a = 1.0 WHERE id = 'z'`,
	}},
	{"names that need quotes", `CREATE TABLE "the ""order"""("primary key" TEXT PRIMARY KEY, "select" INTEGER, "a.b" TEXT, [c d] TEXT, "ümläut" TEXT UNIQUE);`, `the "order"`, []string{
		`INSERT INTO "the ""order""" VALUES('k', 1, 'x', 'y', 'z')`, `UPDATE "the ""order""" SET "select" = 2, "ümläut" = 'Ö'`, `UPDATE "the ""order""" SET "primary key" = 'l'`, `REPLACE INTO "the ""order""" VALUES('m', 1, '', '', 'Ö')`,
	}},
	{"rollback and savepoints", `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 1);`, "t", []string{
		`BEGIN; UPDATE t SET v = 2; ROLLBACK`, `SAVEPOINT s; INSERT INTO t VALUES('y', 1); ROLLBACK TO s; INSERT INTO t VALUES('z', 1); RELEASE s`, `BEGIN; DELETE FROM t; INSERT INTO t VALUES('x', 3); COMMIT`,
	}},
	{"many rows in one transaction", `CREATE TABLE t(id TEXT PRIMARY KEY, n INTEGER, v TEXT);`, "t", []string{
		`INSERT INTO t SELECT printf('k%06d', value), value, 'some text' FROM generate_series(1, 5000)`, `UPDATE t SET n = -n WHERE n % 3 = 0`, `DELETE FROM t WHERE n % 7 = 0`, `UPDATE t SET id = 'm' || id WHERE n < 0`,
	}},
	{"unique values that move on by one", `CREATE TABLE t(id INTEGER PRIMARY KEY, pos INTEGER UNIQUE, v); INSERT INTO t VALUES(1,1,'a'),(2,2,'b'),(3,3,'c'),(4,4,'d'),(5,5,'e'),(6,6,'f'),(7,7,'g'),(8,8,'h');`, "t", []string{
		`UPDATE t SET pos = -pos; UPDATE t SET pos = 1 - pos`, `UPDATE t SET pos = -pos; UPDATE t SET pos = -1 - pos`, `UPDATE t SET pos = -pos; UPDATE t SET pos = 9 + pos; DELETE FROM t WHERE id = 4; INSERT INTO t VALUES(9, 5, 'i')`,
	}},
	{"as many rows as whole pages", `CREATE TABLE t(id INTEGER PRIMARY KEY, v);`, "t", []string{
		`INSERT INTO t SELECT value, value FROM generate_series(1, 5000) LIMIT 1024`, `UPDATE t SET v = -v WHERE id <= 64`,
	}},
	{"vacuum and a user's index", `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 1), ('y', 2);`, "t", []string{
		`DELETE FROM t WHERE id = 'x'`, `VACUUM`, `INSERT INTO t VALUES('z', 3)`, `CREATE INDEX t_v ON t(v)`, `UPDATE t SET v = 4`, `DROP INDEX t_v; UPDATE t SET v = 5 WHERE id = 'z'`,
	}},
}

// series gives SQLite builds without generate_series one of the same name, of at most 5,000 numbers.
func series(sql string) string {
	for _, n := range []int{5, 5000} {
		from := fmt.Sprintf("generate_series(1, %d)", n)
		sql = strings.ReplaceAll(sql, "FROM "+from, fmt.Sprintf("FROM (WITH RECURSIVE g(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM g WHERE value < %d) SELECT value FROM g)", n))
	}
	return sql
}

// TestOtherSideShowsWhatSQLiteDid: M3-1, M3-19, L-1, L-19. See oneSided.
func TestOtherSideShowsWhatSQLiteDid(t *testing.T) { bothWays(t, otherSideShowsWhatSQLiteDid) }

func otherSideShowsWhatSQLiteDid(t *testing.T) {
	for _, c := range oneSided {
		t.Run(c.name, func(t *testing.T) {
			schema := c.schema
			if schema == "" {
				schema = oneSided[0].schema
			}
			a, b := pair(t, schema)
			a.db.SetMaxOpenConns(1) // pragmas stay
			for _, turn := range c.turns {
				a.exec(series(turn))
				want := a.dump(c.table)
				sync(t, a, b)
				if got := a.dump(c.table); got != want {
					t.Fatalf("after %s the writer's own table changed from\n%s\nto\n%s", turn, want, got)
				}
				if got := b.dump(c.table); got != want {
					t.Fatalf("after %s the other side has\n%s\nwant\n%s", turn, got, want)
				}
			}
			requireEqual(t, a, b, c.table)
		})
	}
}

// TestCascades: cascading deletes and updates are captured row by row, and foreign keys never stop a merge.
func TestCascades(t *testing.T) { bothWays(t, cascades) }

func cascades(t *testing.T) {
	a, b := pair(t, `CREATE TABLE p(id TEXT PRIMARY KEY, v);
		CREATE TABLE c(id TEXT PRIMARY KEY, p TEXT REFERENCES p(id) ON DELETE CASCADE ON UPDATE CASCADE);
		CREATE TABLE n(id TEXT PRIMARY KEY, p TEXT REFERENCES p(id) ON DELETE SET NULL);
		CREATE TABLE self(id TEXT PRIMARY KEY, boss TEXT REFERENCES self(id) ON DELETE CASCADE) WITHOUT ROWID;
		INSERT INTO p VALUES('p1',1),('p2',2); INSERT INTO c VALUES('c1','p1'),('c2','p2'); INSERT INTO n VALUES('n1','p1');
		INSERT INTO self VALUES('top',NULL),('mid','top'),('low','mid');`)
	a.db.SetMaxOpenConns(1)
	for _, turn := range []string{`PRAGMA foreign_keys = ON`, `UPDATE p SET id = 'p9' WHERE id = 'p2'`, `DELETE FROM p WHERE id = 'p1'`, `DELETE FROM self WHERE id = 'top'`} {
		a.exec(turn)
	}
	b.exec(`INSERT INTO c VALUES('c3', 'p1')`) // a child of the row that is deleted over there
	sync(t, a, b)
	requireEqual(t, a, b, "p", "c", "n", "self")
	if got := b.query(`SELECT group_concat(id || ':' || p, ' ') FROM (SELECT * FROM c ORDER BY id)`); got != "c2:p9 c3:p1" {
		t.Errorf("children are %s", got)
	}
	if got := b.query(`SELECT (SELECT count(*) FROM self) || ' ' || (SELECT count(*) FROM n WHERE p IS NULL)`); got != "0 1" {
		t.Errorf("self and n are %s", got)
	}
}

// TestNothingToSay: P14. Updates that change nothing, and two sides that agree, make no block.
func TestNothingToSay(t *testing.T) { bothWays(t, nothingToSay) }

func nothingToSay(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v, w REAL); INSERT INTO t VALUES('x', 1, 1), ('y', 'z', 2.5);`)
	before := a.r.Counters().BlocksWritten + b.r.Counters().BlocksWritten
	for _, s := range []*side{a, b} {
		s.exec(`UPDATE t SET v = v, w = w`)
		s.exec(`UPDATE t SET id = id`)
		s.exec(`BEGIN; DELETE FROM t; ROLLBACK`)
		s.exec(`INSERT OR IGNORE INTO t VALUES('x', 5, 5)`)
		s.exec(`UPDATE t SET v = 7 WHERE id = 'x'; UPDATE t SET v = 1 WHERE id = 'x'`)
	}
	for range 5 {
		sync(t, a, b)
	}
	if after := a.r.Counters().BlocksWritten + b.r.Counters().BlocksWritten; after != before {
		t.Errorf("%d blocks say nothing", after-before)
	}
}

// TestNullKeyStaysLocal: rows with a NULL in their key are left alone, and counted.
func TestNullKeyStaysLocal(t *testing.T) { bothWays(t, nullKeyStaysLocal) }

func nullKeyStaysLocal(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(x TEXT, y TEXT, v, PRIMARY KEY(x, y));`)
	a.exec(`INSERT INTO t VALUES('k', NULL, 'local'), ('k', 'l', 'shared')`)
	sync(t, a, b)
	if x, y := a.query(`SELECT count(*) FROM t`), b.query(`SELECT group_concat(v) FROM t`); x != "2" || y != "shared" {
		t.Errorf("a has %s rows, b has %s", x, y)
	}
	facts, err := a.b.Facts(context.Background())
	if err != nil || facts.Local == 0 {
		t.Errorf("nothing tells of the row that stays local: %+v, %v", facts, err)
	}
	a.exec(`UPDATE t SET y = 'm' WHERE y IS NULL`)
	sync(t, a, b)
	if got := b.query(`SELECT count(*) FROM t`); got != "2" {
		t.Errorf("the row has a key now, and b has %s rows", got)
	}
}

// TestLargeValueStaysLocal: a row with a value that no peer would take stays local, and the others travel.
func TestLargeValueStaysLocal(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB); INSERT INTO t VALUES(1, 'small');`)
	a.exec(`INSERT INTO t VALUES(2, zeroblob(17 * 1024 * 1024)), (3, zeroblob(16 * 1024 * 1024 - 16))`)
	a.exec(`UPDATE t SET v = zeroblob(17 * 1024 * 1024) WHERE id = 1`)
	sync(t, a, b)
	if got := b.query(`SELECT group_concat(id || ':' || length(v), ' ') FROM (SELECT * FROM t ORDER BY id)`); got != "1:5 3:16777200" {
		t.Errorf("b holds %s", got)
	}
	facts, err := a.b.Facts(context.Background())
	if err != nil || facts.Local != 2 {
		t.Errorf("%d rows are counted as local, %v", facts.Local, err)
	}
	a.exec(`UPDATE t SET v = 'fits' WHERE id < 3`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
}

// TestEditsKeepTheirTime: edits that were made while no peer ran, with a pause between them, have their own times.
func TestEditsKeepTheirTime(t *testing.T) { bothWays(t, editsKeepTheirTime) }

func editsKeepTheirTime(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 0), ('y', 0);`)
	a.stop()
	a.exec(`UPDATE t SET v = 1 WHERE id = 'x'`)
	a.exec(`UPDATE t SET v = 1 WHERE id = 'y'`)
	a.exec(`UPDATE _rowmesh_outbox SET ms = ms - 1.0/24 WHERE seq = (SELECT min(seq) FROM _rowmesh_outbox)`) // an hour ago
	b.exec(`UPDATE t SET v = 2 WHERE id = 'x'`)                                                              // now, and later than a's
	b.round()
	a.start(false)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	if got := a.query(`SELECT group_concat(id || v, ' ') FROM (SELECT * FROM t ORDER BY id)`); got != "x2 y1" {
		t.Errorf("the tables hold %s: the edit of an hour ago should lose", got)
	}
}

// TestSchemaChanges: columns come, go and are renamed, a table is rebuilt as GUIs and ORMs do it, dropped and made again.
func TestSchemaChanges(t *testing.T) { bothWays(t, schemaChanges) }

func schemaChanges(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY, v, old); INSERT INTO t VALUES('x', 1, 'o'), ('y', 2, 'o');`)
	a.exec(`ALTER TABLE t ADD COLUMN n INTEGER DEFAULT 7`)
	before := a.r.Counters().BlocksWritten
	sync(t, a, b)
	if got := a.r.Counters().BlocksWritten - before; got > 1 { // the definition travels, no row does
		t.Errorf("ADD COLUMN makes %d blocks", got)
	}
	a.exec(`UPDATE t SET n = 8 WHERE id = 'x'`)
	sync(t, a, b)
	if got := b.query(`SELECT group_concat(id || v, ' ') FROM (SELECT * FROM t ORDER BY id)`); got != "x1 y2" {
		t.Errorf("b holds %s", got)
	}
	b.exec(`ALTER TABLE t ADD COLUMN n INTEGER DEFAULT 7`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	if got := b.query(`SELECT group_concat(n, ' ') FROM (SELECT * FROM t ORDER BY id)`); got != "8 7" {
		t.Errorf("the new column holds %s on b", got)
	}
	for _, s := range []*side{a, b} { // the twelve steps: new table, copy, drop, rename; with a write in between
		s.exec(`BEGIN; CREATE TABLE new_t(id TEXT PRIMARY KEY, v, n INTEGER DEFAULT 7, old); INSERT INTO new_t SELECT id, v, n, old FROM t; DROP TABLE t; ALTER TABLE new_t RENAME TO t; COMMIT`)
	}
	a.exec(`UPDATE t SET v = 50 WHERE id = 'x'`)
	b.exec(`INSERT INTO t VALUES('z', 3, 9, 'o')`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	if got := b.query(`SELECT group_concat(id || v, ' ') FROM (SELECT * FROM t ORDER BY id)`); got != "x50 y2 z3" {
		t.Errorf("after the rebuild b holds %s", got)
	}
	b.exec(`ALTER TABLE t DROP COLUMN old`)
	a.exec(`INSERT INTO t VALUES('w', 4, 1, 'kept')`)
	sync(t, a, b)
	if got := b.query(`SELECT v FROM t WHERE id = 'w'`); got != "4" {
		t.Errorf("with a column less b shows %q", got)
	}
	b.exec(`ALTER TABLE t ADD COLUMN old`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	if got := b.query(`SELECT old FROM t WHERE id = 'w'`); got != "kept" {
		t.Errorf("the column that came back holds %q", got)
	}
}

// TestDroppedTableComesBack: the rows of a dropped table are kept, and shown when it is there again.
func TestDroppedTableComesBack(t *testing.T) { bothWays(t, droppedTableComesBack) }

func droppedTableComesBack(t *testing.T) {
	const schema = `CREATE TABLE t(id TEXT PRIMARY KEY, v);`
	a, b := pair(t, schema+`INSERT INTO t VALUES('x', 1), ('y', 2);`)
	b.exec(`DROP TABLE t`)
	a.exec(`UPDATE t SET v = 9 WHERE id = 'x'`)
	sync(t, a, b)
	if got := a.query(`SELECT group_concat(v, ' ') FROM (SELECT * FROM t ORDER BY id)`); got != "9 2" {
		t.Errorf("dropping a table on one side made the other %q", got)
	}
	if got := b.query(`SELECT state FROM rowmesh_tables WHERE name = 't'`); got != "suspended" {
		t.Errorf("the table is %q", got)
	}
	b.exec(schema)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	if got := b.query(`SELECT count(*) FROM t`); got != "2" {
		t.Errorf("%s rows came back", got)
	}
}

// TestUntrackLeavesNothing: L-1. After untrack --all the file is as any program's.
func TestUntrackLeavesNothing(t *testing.T) {
	now := int64(1000)
	a := newSide(t, 'a', &now, `CREATE TABLE t(id TEXT PRIMARY KEY, v UNIQUE); INSERT INTO t VALUES('x', 1);`, Options{})
	if err := a.b.Remove(context.Background()); err != nil {
		t.Fatal(err)
	}
	a.b.Close()
	if got := a.query(`SELECT name FROM sqlite_schema WHERE name LIKE '%rowmesh%'`); got != "" {
		t.Errorf("left behind: %s", got)
	}
	if got := a.query(`PRAGMA journal_mode`); got != "delete" {
		t.Errorf("the journal mode is %s", got)
	}
	a.exec(`INSERT INTO t VALUES('y', 2)`)
}

// TestRefusedTables: what cannot be tracked is refused with its reason.
func TestRefusedTables(t *testing.T) {
	now := int64(1000)
	a := newSide(t, 'a', &now, `
		CREATE TABLE good(id TEXT PRIMARY KEY);
		CREATE TABLE nokey(v);
		CREATE TABLE nocase(id TEXT COLLATE NOCASE PRIMARY KEY);
		CREATE TABLE partial(id TEXT PRIMARY KEY, v); CREATE UNIQUE INDEX partial_v ON partial(v) WHERE v > 0;
		CREATE TABLE expr(id TEXT PRIMARY KEY, v); CREATE UNIQUE INDEX expr_v ON expr(lower(v));
		CREATE VIEW seen AS SELECT * FROM good;`, Options{})
	rep, err := a.b.Track(context.Background(), []string{"good", "nokey", "nocase", "partial", "expr", "seen", "missing"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(rep.Tracked) != "[good]" || len(rep.Refused) != 6 {
		t.Errorf("tracked %v, refused %v", rep.Tracked, rep.Refused)
	}
	for _, r := range rep.Refused {
		if r.Reason == "" || r.Fix == "" || !strings.Contains(r.Error(), r.Table) {
			t.Errorf("refused without a reason or a fix: %v", r)
		}
	}
	if _, err := a.b.Track(context.Background(), []string{"good"}, false); err != nil {
		t.Error(err)
	}
}

// TestNewColumnIsFilledNotCaptured: P13, P14. A column is added here whose values others wrote before. Whether the replica runs
// meanwhile or not, and whatever else a program writes to these rows before the replica looks, the values are shown, and
// the new column's default is not taken for a program's edit. A value that a program does write there is one.
func TestNewColumnIsFilledNotCaptured(t *testing.T) { bothWays(t, newColumnIsFilledNotCaptured) }

func newColumnIsFilledNotCaptured(t *testing.T) {
	for _, running := range []bool{true, false} {
		now := int64(0)
		a := newSide(t, 'a', &now, `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 1), ('y', 1), ('z', 1)`, Options{})
		b := newSide(t, 'b', &now, "", Options{})
		sync(t, a, b)
		a.exec(`ALTER TABLE t ADD COLUMN d DEFAULT 0`)
		a.exec(`UPDATE t SET d = 7`)
		sync(t, a, b)
		if !running {
			b.stop()
		}
		b.exec(`ALTER TABLE t ADD COLUMN d DEFAULT 0`)
		b.exec(`UPDATE t SET v = 2 WHERE id = 'x'`)
		b.exec(`UPDATE t SET d = 8 WHERE id = 'y'`)
		if !running {
			b.start(false)
		}
		b.round()
		if got := b.query(`SELECT id || v || d FROM t ORDER BY id`); got != "x27\ny18\nz17" {
			t.Errorf("running %v: the table shows\n%s", running, got)
		}
		sync(t, a, b)
		requireEqual(t, a, b, "t")
	}
}

// TestRowThatCameAndWentInAnotherGroup: a row is inserted, and seconds later REPLACE removes it by another row's unique value, before
// the replica looks. An older row of that key elsewhere ends with it.
func TestRowThatCameAndWentInAnotherGroup(t *testing.T) {
	bothWays(t, rowThatCameAndWentInAnotherGroup)
}

func rowThatCameAndWentInAnotherGroup(t *testing.T) {
	now := int64(0)
	const clock = `CREATE TABLE _rowmesh_clock(ms); INSERT INTO _rowmesh_clock VALUES(1000);`
	a := newSide(t, 'a', &now, clock+`CREATE TABLE t(id TEXT PRIMARY KEY, u UNIQUE); INSERT INTO t VALUES('x', 1)`, Options{ClockExpr: "(SELECT ms FROM _rowmesh_clock)"})
	b := newSide(t, 'b', &now, "", Options{})
	sync(t, a, b)
	a.exec(`DELETE FROM t`)
	a.exec(`INSERT INTO t VALUES('x', 2)`)
	a.exec(`UPDATE _rowmesh_clock SET ms = 9000`)
	a.exec(`REPLACE INTO t VALUES('y', 2)`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	a.exec(`INSERT INTO t VALUES('z', 3)`)
	a.exec(`UPDATE _rowmesh_clock SET ms = 19000`)
	a.exec(`REPLACE INTO t VALUES('w', 3)`)
	before := a.query(`SELECT count(*) FROM _rowmesh_rows`)
	a.round()
	if after := a.query(`SELECT count(*) FROM _rowmesh_rows`); before != "3" || after != "5" { // x, y and the definition; then z, deleted, and w
		t.Errorf("%s stored rows became %s", before, after)
	}
}

// TestKeyOnlyTableIsShownOnce: a change of the schema does not show a table anew that has no columns beside its key, and one that
// gets its first column is filled.
func TestKeyOnlyTableIsShownOnce(t *testing.T) {
	a, b := pair(t, `CREATE TABLE t(id TEXT PRIMARY KEY); INSERT INTO t VALUES('x');`)
	b.exec(`CREATE TABLE other(id TEXT PRIMARY KEY)`)
	round, err := b.b.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b.b.reshow["t"] {
		t.Error("the table is to be shown anew")
	}
	round.Abort()
	a.exec(`ALTER TABLE t ADD COLUMN v`)
	a.exec(`UPDATE t SET v = 5`)
	sync(t, a, b)
	b.exec(`ALTER TABLE t ADD COLUMN v`)
	sync(t, a, b)
	if got := b.query(`SELECT v FROM t`); got != "5" {
		t.Errorf("the first column holds %q", got)
	}
	requireEqual(t, a, b, "t")
}
