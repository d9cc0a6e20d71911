package sqlbridge

import (
	"context"
	"database/sql"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/rowmesh/rowmesh/replica"
)

const notes = `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 0), ('y', 0);`

// copyDatabase copies a database as cp does, after everything is in the one file. with says to copy the directory too.
func copyDatabase(t *testing.T, s *side, to string, with bool) {
	t.Helper()
	s.exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
	copyFile(t, s.path, to)
	if !with {
		return
	}
	if err := os.MkdirAll(to+"-rowmesh", 0o700); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(s.path + "-rowmesh")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		copyFile(t, filepath.Join(s.path+"-rowmesh", e.Name()), filepath.Join(to+"-rowmesh", e.Name()))
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
}

// openCopy starts a replica on a file that is there.
func openCopy(t *testing.T, name byte, now *int64, path string) *side {
	t.Helper()
	s := &side{t: t, name: name, path: path, now: now}
	s.db = openDB(t, path)
	s.start(false)
	return s
}

// TestCopies: P22. The copy of a tracked database is recognised before it writes anything, with its directory or without, goes
// on as another replica, and nothing of either is lost.
func TestCopies(t *testing.T) {
	for _, with := range []bool{false, true} {
		a, b := pair(t, notes)
		path := filepath.Join(t.TempDir(), "copy.db")
		b.exec(`UPDATE t SET v = 1 WHERE id = 'x'`)
		b.round()
		copyDatabase(t, b, path, with)
		before := b.r.Origin()
		b.exec(`INSERT INTO t VALUES('from b', 1)`)
		b.round()
		c := openCopy(t, 'c', a.now, path)
		if c.r.Origin() == before {
			t.Fatalf("with directory=%v: the copy writes under the origin of the original", with)
		}
		c.exec(`INSERT INTO t VALUES('from c', 1)`)
		for range 2 {
			sync(t, b, c)
			sync(t, a, b)
			sync(t, a, c)
		}
		requireEqual(t, a, b, "t")
		requireEqual(t, b, c, "t")
		if got := a.query(`SELECT count(*) FROM t`); got != "4" {
			t.Errorf("with directory=%v: %s rows", with, got)
		}
	}
}

// TestRestoredBackup: P22. An older state of the database in its old place is recognised: by the fence when it is opened, and by
// the next round where it is put under a running replica.
func TestRestoredBackup(t *testing.T) {
	a, b := pair(t, notes)
	backup := filepath.Join(t.TempDir(), "backup.db")
	copyDatabase(t, b, backup, false)
	b.exec(`UPDATE t SET v = 5 WHERE id = 'x'; INSERT INTO t VALUES('new', 1)`)
	sync(t, a, b)
	before := b.r.Origin()
	b.stop()
	b.db.Close()
	removeDatabase(t, b.path)
	copyFile(t, backup, b.path)
	b = openCopy(t, 'b', a.now, b.path)
	if b.r.Origin() == before {
		t.Fatal("the restored database writes under its former origin")
	}
	b.exec(`UPDATE t SET v = 7 WHERE id = 'y'`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	if got := a.query(`SELECT group_concat(id || v, ' ') FROM (SELECT * FROM t ORDER BY id)`); got != "new1 x5 y7" {
		t.Errorf("after the restore: %s", got)
	}
}

func removeDatabase(t *testing.T, path string) {
	t.Helper()
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + end); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

// TestRestoredUnderARunningReplica: the file is replaced by another one, or set back by .restore, while the replica runs. Its
// next round notices and commits nothing.
func TestRestoredUnderARunningReplica(t *testing.T) {
	for _, how := range []string{"mv", ".restore"} {
		t.Run(how, func(t *testing.T) {
			a, b := pair(t, notes)
			backup := filepath.Join(t.TempDir(), "backup.db")
			copyDatabase(t, b, backup, false)
			b.exec(`INSERT INTO t VALUES('new', 1)`)
			sync(t, a, b)
			if how == "mv" {
				b.db.Close()
				if err := os.Rename(backup, b.path); err != nil {
					t.Fatal(err)
				}
				b.db = openDB(t, b.path)
			} else {
				overwrite(t, backup, b.path)
			}
			err := replica.Process(context.Background(), b.b, b.r, replica.Instant{Wall: 1 << 41, Mono: *b.now}, true, nil, b)
			if err == nil {
				t.Fatal("the round goes on as if nothing had happened")
			}
			opened, err := b.b.Reopen(context.Background())
			if err != nil || !opened.NeedOrigin || opened.Message == "" {
				t.Fatalf("opened again: %+v, %v", opened, err)
			}
			b.peerDB.Close()
			b.b.Close()
			b.start(false)
			sync(t, a, b)
			requireEqual(t, a, b, "t")
			if got := b.query(`SELECT count(*) FROM t`); got != "3" {
				t.Errorf("%s rows", got)
			}
		})
	}
}

// overwrite sets a database back in place, as the sqlite3 shell's .restore does: all pages in one transaction. SQL alone does
// the same with the tables' rows.
func overwrite(t *testing.T, from, to string) {
	t.Helper()
	db, err := sql.Open("sqlite", to)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, q := range []string{`ATTACH '` + from + `' AS old`, `BEGIN IMMEDIATE`} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	tables, err := texts(context.Background(), db, `SELECT name FROM old.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name LIKE '\_rowmesh%' ESCAPE '\'`)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tables {
		if _, err := db.Exec(`DELETE FROM main.` + quote(name) + `; INSERT INTO main.` + quote(name) + ` SELECT * FROM old.` + quote(name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec(`COMMIT`); err != nil {
		t.Fatal(err)
	}
}

// TestJoinWithRows: a database with rows of its own comes to a group. Keys that the group knows, alive or deleted, take the group's
// state, others are added; with Mine its own rows that differ win.
func TestJoinWithRows(t *testing.T) {
	for _, mine := range []bool{false, true} {
		now := int64(1000)
		a := newSide(t, 'a', &now, notes, Options{})
		a.exec(`INSERT INTO t VALUES('dead', 1)`)
		a.round()
		a.exec(`DELETE FROM t WHERE id = 'dead'`)
		a.round()
		b := newSide(t, 'b', &now, `CREATE TABLE t(id TEXT PRIMARY KEY, v); INSERT INTO t VALUES('x', 'mine'), ('dead', 'mine'), ('own', 'mine');`, Options{Mine: mine})
		sync(t, a, b)
		sync(t, a, b)
		requireEqual(t, a, b, "t")
		want := "own:mine x:0 y:0"
		if mine {
			want = "dead:mine own:mine x:mine y:0"
		}
		if got := a.query(`SELECT group_concat(id || ':' || v, ' ') FROM (SELECT * FROM t ORDER BY id)`); got != want {
			t.Errorf("mine=%v: the group holds %s, want %s", mine, got, want)
		}
	}
}

// TestOldCopyOverwritesNothing: R-1, L-3. A copy of the database from a week ago joins as a new replica, with an edit of its own; nothing of
// that week is lost.
func TestOldCopyOverwritesNothing(t *testing.T) {
	a, b := pair(t, notes)
	old := filepath.Join(t.TempDir(), "old.db")
	copyDatabase(t, a, old, false)
	a.exec(`UPDATE t SET v = 'this week' WHERE id = 'x'; DELETE FROM t WHERE id = 'y'; INSERT INTO t VALUES('z', 'this week')`)
	sync(t, a, b)
	c := openCopy(t, 'c', a.now, old)
	c.exec(`INSERT INTO t VALUES('w', 'on the copy')`)
	sync(t, b, c)
	sync(t, a, b)
	requireEqual(t, a, c, "t")
	if got := a.query(`SELECT group_concat(id || ':' || v, ' ') FROM (SELECT * FROM t ORDER BY id)`); got != "w:on the copy x:this week z:this week" {
		t.Errorf("the group holds %s", got)
	}
}

// TestDefinitionsThatLie: a definition from the group is run only where it makes exactly the named table; nothing else is ever
// executed.
func TestDefinitionsThatLie(t *testing.T) {
	now := int64(1000)
	b := newSide(t, 'b', &now, ``, Options{})
	for _, sql := range []string{
		`CREATE TABLE t(id TEXT PRIMARY KEY); CREATE TABLE evil(x)`, `CREATE TABLE other(id TEXT PRIMARY KEY)`, `CREATE TABLE t AS SELECT 1 AS id`, `DROP TABLE t`, `PRAGMA user_version = 7`,
		`CREATE TRIGGER t AFTER INSERT ON sqlite_schema BEGIN SELECT 1; END`, `CREATE TEMP TABLE t(id TEXT PRIMARY KEY)`, `ATTACH 'evil.db' AS t`, `CREATE VIEW t AS SELECT 1 AS id`, ``, `CREATE TABLE t(`,
		`CREATE VIRTUAL TABLE t USING fts5(id)`,
	} {
		if err := b.b.tryDefinition(context.Background(), "table", "t", []string{sql}); err == nil {
			t.Errorf("taken: %s", sql)
		}
	}
	if err := b.b.tryDefinition(context.Background(), "table", "t", []string{`CREATE TABLE t(id TEXT PRIMARY KEY, v DEFAULT (random()))`}); err != nil {
		t.Errorf("an honest definition is refused: %v", err)
	}
	if got := b.query(`SELECT count(*) FROM sqlite_schema WHERE name IN ('t', 'evil', 'other')`) + b.query(`PRAGMA user_version`); got != "00" {
		t.Errorf("something was executed: %s", got)
	}
	if _, err := os.Stat("evil.db"); err == nil {
		t.Error("a file was made")
	}
}
