//go:build mattn

package rowmesh_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/network"
)

// TestMattn: L-18. A program brings its own handle, of the other SQLite driver: the C library behind cgo. Values of every
// storage class, unique values that swap, REPLACE and a rebuilt table come through in both directions.
func TestMattn(t *testing.T) {
	ctx := testContext(t)
	dir := t.TempDir()
	open := func(name string) *sql.DB {
		db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, name)+"?_busy_timeout=10000&_synchronous=NORMAL")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	exec := func(db *sql.DB, q string) {
		t.Helper()
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	a, b := open("a.db"), open("b.db")
	exec(a, `CREATE TABLE t(id TEXT PRIMARY KEY, pos INTEGER UNIQUE, v, made TIMESTAMP, ok BOOLEAN);
		INSERT INTO t VALUES('int', 1, 1, '2024-01-01 00:00:00', 1), ('real', 2, 1.0, 5, 0), ('text', 3, '1', NULL, 'yes'), ('blob', 4, x'31', x'', NULL), ('empty', 5, x'', '', 2.5);`)
	file, id := identity(t)
	pa, err := rowmesh.OpenDB(ctx, a, rowmesh.WithConfig(rowmesh.Config{Listen: []network.Addr{addr(t, "tcp://127.0.0.1:0")}, Allow: []network.PeerID{id}}))
	if err != nil {
		t.Fatal(err)
	}
	defer pa.Close()
	pb, err := rowmesh.OpenDB(ctx, b, rowmesh.WithConfig(rowmesh.Config{Identity: file, Connect: []network.Addr{addr(t, pa.Addrs()[0])}}))
	if err != nil {
		t.Fatal(err)
	}
	defer pb.Close()
	if err := pb.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	for _, turn := range []struct {
		db *sql.DB
		q  string
	}{
		{a, `UPDATE t SET v = v || '!' WHERE id = 'text'`},
		{b, `BEGIN; UPDATE t SET pos = -1 WHERE id = 'int'; UPDATE t SET pos = 1 WHERE id = 'real'; UPDATE t SET pos = 2 WHERE id = 'int'; COMMIT`},
		{a, `REPLACE INTO t(id, pos, v) VALUES('new', 3, 'took the place of text')`},
		{b, `BEGIN; CREATE TABLE n(id TEXT PRIMARY KEY, pos INTEGER UNIQUE, v, made TIMESTAMP, ok BOOLEAN); INSERT INTO n SELECT * FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT`},
		{b, `UPDATE t SET id = 'renamed' WHERE id = 'blob'`},
		{a, `DELETE FROM t WHERE id = 'empty'`},
	} {
		exec(turn.db, turn.q)
		requireDigest(t, pa, pb)
		const all = `SELECT group_concat(quote(id) || quote(pos) || quote(v) || typeof(v) || quote(made) || typeof(made) || quote(ok) || typeof(ok), ' ') FROM (SELECT * FROM t ORDER BY id)`
		var x, y string
		if err := a.QueryRow(all).Scan(&x); err != nil {
			t.Fatal(err)
		}
		if err := b.QueryRow(all).Scan(&y); err != nil || x != y {
			t.Fatalf("after %s the tables hold\n%s\n%s, %v", turn.q, x, y, err)
		}
		for _, p := range []*rowmesh.Peer{pa, pb} {
			if diffs, err := p.Verify(ctx); err != nil || len(diffs) > 0 {
				t.Errorf("after %s: %v, %v", turn.q, diffs, err)
			}
		}
	}
}
