package main

import (
	"crypto/sha256"
	"database/sql"
	"fmt"
	"path/filepath"
	"time"

	"github.com/mattn/go-sqlite3"
)

// plainSQL is a database that nobody keeps in sync, in one of the drivers.
type plainSQL struct {
	db   *sql.DB
	rows [][]any
}

// notNull is the published schema with the NOT NULL that the extensions ask for.
const notNull = `CREATE TABLE item(id TEXT PRIMARY KEY NOT NULL, a INTEGER, b TEXT, c REAL, d TEXT)`

func openPlain(l *lab, all [][]any) writer {
	p := &plainSQL{open(l.path()), all}
	exec1(p.db, schema)
	return p
}

func openPlainMattn(l *lab, all [][]any) writer {
	p := &plainSQL{openMattn("sqlite3", l.path()), all}
	exec1(p.db, notNull)
	return p
}

// openMattn is open in the other driver.
func openMattn(driver, path string) *sql.DB {
	db := must(sql.Open(driver, mattnDSN(path)))
	db.SetMaxOpenConns(1)
	return db
}

func mattnDSN(path string) string {
	return "file:" + path + "?_journal_mode=WAL&_synchronous=NORMAL&_busy_timeout=10000"
}

func (p *plainSQL) write(w write) time.Duration { return writeSQL(p.db, p.rows, w) }
func (p *plainSQL) size() int64                 { return pages(p.db) }
func (p *plainSQL) cpu() time.Duration          { return ownCPU() }
func (p *plainSQL) close()                      { check(p.db.Close()) }

var writeStatements = map[string]string{
	"insert": insertItem,
	"update": `UPDATE item SET a = ? WHERE id = ?`,
	"delete": `DELETE FROM item WHERE id = ?`,
}

func writeSQL(db *sql.DB, all [][]any, w write) time.Duration {
	args := make([][]any, len(w.rows))
	for i, n := range w.rows {
		switch w.op {
		case "insert":
			args[i] = all[n]
		case "update":
			args[i] = []any{w.value + n, all[n][0]}
		case "delete":
			args[i] = all[n][:1]
		}
	}
	return timed(func() { inTxns(db, writeStatements[w.op], args, w.per) })
}

// pages is what a database takes with all of its log in it.
func pages(db *sql.DB) (bytes int64) {
	check(db.QueryRow(`SELECT page_count * page_size FROM pragma_page_count, pragma_page_size`).Scan(&bytes))
	return bytes
}

func digestSQL(db *sql.DB) string {
	all := must(db.Query(`SELECT * FROM item ORDER BY id`))
	defer all.Close()
	h := sha256.New()
	n := 0
	for ; all.Next(); n++ {
		var id, a, b, c, d any
		check(all.Scan(&id, &a, &b, &c, &d))
		fmt.Fprintln(h, id, a, b, c, d)
	}
	check(all.Err())
	return fmt.Sprintf("%d rows, %x", n, h.Sum(nil))
}

// mesh is a pair of rowmesh peers, each a process of its own beside a database that this program writes.
type mesh struct {
	rows  [][]any
	paths [2]string
	dbs   [2]*sql.DB
	peers [2]*peer
	w     *wire
}

func openMesh(l *lab, all [][]any) engine {
	m := &mesh{rows: all, paths: [2]string{l.path(), l.path()}}
	m.dbs[0] = open(m.paths[0])
	exec1(m.dbs[0], schema)
	m.peers[0] = startFounder(m.paths[0], m.paths[1])
	m.w = newWire(m.peers[0].addr)
	return m
}

func (m *mesh) write(w write) time.Duration { return writeSQL(m.dbs[w.side], m.rows, w) }

func (m *mesh) settle() time.Duration {
	return timed(func() { until(m.dbs[0], `SELECT count(*) FROM _rowmesh_outbox`, 0) })
}

// join includes the start of the second peer's process.
func (m *mesh) join() time.Duration {
	return timed(func() {
		m.peers[1] = startJoiner(m.paths[1], m.w.l.Addr().String(), m.paths[0])
		m.dbs[1] = open(m.paths[1])
		until(m.dbs[1], `SELECT count(*) FROM item`, int64(len(m.rows)))
	})
}

// ship waits: the peers ship by themselves. A replica takes another's transactions in their order, so the last row of the last
// one tells.
func (m *mesh) ship(ws ...write) time.Duration {
	return timed(func() {
		for _, w := range ws {
			last := w.rows[len(w.rows)-1]
			query, want := `SELECT count(*) FROM item WHERE id = '%s'`, int64(1)
			switch w.op {
			case "update":
				query, want = `SELECT a FROM item WHERE id = '%s'`, int64(w.value+last)
			case "delete":
				want = 0
			}
			until(m.dbs[1-w.side], fmt.Sprintf(query, m.rows[last][0]), want)
		}
	})
}

func (m *mesh) moved() int64           { return m.w.bytes.Load() }
func (m *mesh) size() int64            { return pages(m.dbs[0]) }
func (m *mesh) digest(side int) string { return digestSQL(m.dbs[side]) }

func (m *mesh) cpu() time.Duration {
	used := ownCPU()
	for _, p := range m.peers {
		if p != nil {
			used += p.cpu()
		}
	}
	return used
}

func (m *mesh) close() {
	for i, p := range m.peers {
		check(m.dbs[i].Close())
		p.stop()
	}
}

// cloudsync is a pair of databases with sqlite-sync in them. The extension has a network of its own, to its makers' servers; here its
// payloads are carried by hand.
type cloudsync struct {
	l     *lab
	rows  [][]any
	dbs   [2]*sql.DB
	since [2]int64
	bytes int64
}

const cloudsyncPackage = "@sqliteai/sqlite-sync-linux-x86_64"

func cloudsyncMissing() string {
	if reason := packageMissing(cloudsyncPackage); reason != "" {
		return reason
	}
	file := must(filepath.Abs(filepath.Join(*peers, "node_modules", cloudsyncPackage, "cloudsync.so")))
	sql.Register("sqlite3-cloudsync", &sqlite3.SQLiteDriver{Extensions: []string{file}})
	db := openMattn("sqlite3-cloudsync", ":memory:")
	defer db.Close()
	if err := db.Ping(); err != nil {
		return err.Error()
	}
	return ""
}

func openCloudsync(l *lab, all [][]any) engine {
	c := &cloudsync{l: l, rows: all}
	c.open(0)
	return c
}

func (c *cloudsync) open(side int) {
	db := openMattn("sqlite3-cloudsync", c.l.path())
	exec1(db, notNull)
	exec1(db, `SELECT cloudsync_init('item')`)
	c.dbs[side] = db
}

func (c *cloudsync) write(w write) time.Duration { return writeSQL(c.dbs[w.side], c.rows, w) }
func (c *cloudsync) settle() time.Duration       { return 0 }

func (c *cloudsync) join() time.Duration {
	return timed(func() {
		c.open(1)
		c.carry(0)
	})
}

func (c *cloudsync) ship(ws ...write) time.Duration {
	return timed(func() {
		for _, side := range sidesOf(ws) {
			c.carry(side)
		}
	})
}

// carry takes what a side wrote since the last time to the other, in the chunks that its own network sends.
func (c *cloudsync) carry(from int) {
	chunks := must(c.dbs[from].Query(`SELECT payload, watermark_db_version FROM cloudsync_payload_chunks WHERE since_db_version = ?`, c.since[from]))
	defer chunks.Close()
	for chunks.Next() {
		var payload []byte
		var version sql.NullInt64
		check(chunks.Scan(&payload, &version))
		c.bytes += int64(len(payload))
		c.since[from] = max(c.since[from], version.Int64)
		var applied any
		check(c.dbs[1-from].QueryRow(`SELECT cloudsync_payload_apply(?)`, payload).Scan(&applied))
	}
	check(chunks.Err())
}

func (c *cloudsync) moved() int64           { return c.bytes }
func (c *cloudsync) size() int64            { return pages(c.dbs[0]) }
func (c *cloudsync) digest(side int) string { return digestSQL(c.dbs[side]) }
func (c *cloudsync) cpu() time.Duration     { return ownCPU() }

func (c *cloudsync) close() {
	for _, db := range c.dbs {
		exec1(db, `SELECT cloudsync_terminate()`)
		check(db.Close())
	}
}
