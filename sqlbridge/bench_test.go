//go:build unix

package sqlbridge

import (
	"context"
	"database/sql"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/rowmesh/rowmesh/replica"
)

// spent is the processor time of this process so far: what else the machine does changes it less than the time on the wall.
func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const benchSchema = `CREATE TABLE item(id TEXT PRIMARY KEY, a INTEGER, b TEXT, c REAL, d TEXT)`

// BenchmarkTriggers reports the processor time of a program's transactions of 1,000 rows on a tracked table against that on a plain one,
// with no round in between. The two take turns, so that what else the machine does falls on both.
func BenchmarkTriggers(b *testing.B) {
	const perTxn = 1000
	for _, what := range []string{"insert", "update", "onerow"} {
		b.Run(what, func(b *testing.B) {
			now := int64(0)
			tracked := newSide(b, 'a', &now, benchSchema, Options{}).db
			plain := openDB(b, b.TempDir()+"/plain.db")
			var took [2]time.Duration
			for _, db := range []*sql.DB{plain, tracked} {
				db.SetMaxOpenConns(1)
				benchExec(b, db, `PRAGMA journal_mode=WAL`)
				benchExec(b, db, `PRAGMA synchronous=NORMAL`)
				if db == plain {
					benchExec(b, db, benchSchema)
				}
			}
			n := 0
			for b.Loop() {
				for i, db := range []*sql.DB{plain, tracked} {
					if what == "update" {
						benchInsert(b, db, n, perTxn)
						began := spent()
						benchUpdate(b, db, n, perTxn)
						took[i] += spent() - began
						continue
					}
					began := spent()
					if what == "onerow" {
						for j := range 50 {
							benchInsert(b, db, n+j, 1)
						}
						took[i] += spent() - began
						continue
					}
					benchInsert(b, db, n, perTxn)
					took[i] += spent() - began
				}
				n += perTxn
			}
			b.ReportMetric(float64(took[1])/float64(took[0]), "x-plain")
		})
	}
}

func benchExec(b *testing.B, db *sql.DB, q string, args ...any) {
	b.Helper()
	if _, err := db.Exec(q, args...); err != nil {
		b.Fatal(err)
	}
}

func benchKey(i int) string { return fmt.Sprintf("%016x", uint64(i+1)*0x9e3779b97f4a7c15) }

// benchInsert and benchUpdate are one transaction each, through a prepared statement, as programs write.
func benchInsert(b *testing.B, db *sql.DB, from, rows int) {
	benchTxn(b, db, `INSERT INTO item VALUES(?, ?, ?, ?, ?)`, rows, func(i int) []any {
		return []any{benchKey(from + i), i, "bbbbbbbbbbbbbbbbbbbb", 1.5, "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"}
	})
}

func benchUpdate(b *testing.B, db *sql.DB, from, rows int) {
	benchTxn(b, db, `UPDATE item SET a = a + 1 WHERE id = ?`, rows, func(i int) []any { return []any{benchKey(from + i)} })
}

func benchTxn(b *testing.B, db *sql.DB, q string, rows int, args func(int) []any) {
	b.Helper()
	tx, err := db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	defer tx.Rollback()
	s, err := tx.Prepare(q)
	if err != nil {
		b.Fatal(err)
	}
	for i := range rows {
		if _, err := s.Exec(args(i)...); err != nil {
			b.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCapture reports what taking in rows costs that a program inserted, or updated in one column, in transactions of 1,000: the
// time during which the write lock is held, against the time in which the program wrote them.
func BenchmarkCapture(b *testing.B) {
	const rows = 1000
	for _, what := range []string{"insert", "update"} {
		b.Run(what, func(b *testing.B) {
			now := int64(0)
			s := newSide(b, 'a', &now, benchSchema, Options{})
			benchExec(b, s.db, `PRAGMA synchronous=NORMAL`)
			var held, wrote time.Duration
			n := 0
			for b.Loop() {
				began := time.Now()
				benchInsert(b, s.db, n, rows)
				if what == "update" {
					s.round()
					began = time.Now()
					benchUpdate(b, s.db, n, rows)
				}
				wrote += time.Since(began)
				if _, err := s.b.Prepare(context.Background(), TakeAll); err != nil {
					b.Fatal(err)
				}
				s.round()
				held += s.b.Held()
				n += rows
			}
			b.ReportMetric(float64(held.Microseconds())/float64(n), "µs-held/row")
			b.ReportMetric(float64(held)/float64(wrote), "x-written")
		})
	}
}

// BenchmarkFirstCopy reports what a first copy costs its two sides, each for itself: the server's chunks, the client's merge of
// them, and its last round, which fills the table.
func BenchmarkFirstCopy(b *testing.B) {
	const rows = 50_000
	now := int64(1)
	server := newSide(b, 'a', &now, benchSchema, Options{})
	for range rows / 1000 {
		server.exec(`WITH RECURSIVE x(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM x WHERE i < 1000)
			INSERT INTO item SELECT hex(randomblob(8)), i, 'bbbbbbbbbbbbbbbbbbbb', 1.5, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd' FROM x`)
		server.round()
	}
	var serve, merge, show time.Duration
	for b.Loop() {
		b.StopTimer()
		client := newSide(b, 'b', &now, "", Options{})
		b.StartTimer()
		now++
		for _, s := range []*side{server, client} {
			s.out = nil
			s.in = append(s.in, replica.Input{Up: &replica.LinkUp{Link: replica.LinkID(now), Peer: "other"}})
		}
		for !client.r.IsReady() {
			began := time.Now()
			server.round()
			serve += time.Since(began)
			client.take(server, replica.LinkID(now))
			began = time.Now()
			client.round()
			if took := time.Since(began); client.r.IsReady() {
				show += took
			} else {
				merge += took
			}
			server.take(client, replica.LinkID(now))
		}
		b.StopTimer()
		server.in = append(server.in, replica.Input{Down: replica.LinkID(now)})
		server.round()
		client.stop()
		b.StartTimer()
	}
	for name, d := range map[string]time.Duration{"serve": serve, "merge": merge, "show": show} {
		b.ReportMetric(float64(d.Microseconds())/float64(b.N*rows), name+"-µs/row")
	}
}

// BenchmarkApply reports the rate, in processor time, at which pushed blocks of 400 rows are merged, stored and shown, against that of a plain upsert of
// the same rows in transactions of the same size and safety.
func BenchmarkApply(b *testing.B) {
	const rows = 400
	for _, what := range []string{"fresh", "update", "random"} {
		b.Run(what, func(b *testing.B) {
			now := int64(0)
			from := newSide(b, 'a', &now, benchSchema, Options{})
			to := newSide(b, 'b', &now, "", Options{})
			meet(from, to)
			plain := openDB(b, b.TempDir()+"/plain.db")
			plain.SetMaxOpenConns(1)
			benchExec(b, plain, `PRAGMA journal_mode=WAL`)
			benchExec(b, plain, benchSchema)
			var took [2]time.Duration
			n, all := 0, 0
			row := func(i int) []any { return benchRow(n + i) }
			write := func() {
				benchTxn(b, from.db, upsertItem, rows, row)
				from.round()
				to.take(from, 1)
			}
			if what == "random" {
				for ; n < 20_000; n += rows {
					write()
					to.round()
					benchTxn(b, plain, upsertItem, rows, row)
				}
				all = n
				row = func(i int) []any { return benchRow((n + i) * 7919 % all) }
			}
			for b.Loop() {
				if what == "update" {
					write()
					to.round()
					benchTxn(b, plain, upsertItem, rows, row)
				}
				version++
				began := spent()
				benchTxn(b, plain, upsertItem, rows, row)
				took[0] += spent() - began
				write()
				began = spent()
				to.round()
				took[1] += spent() - began
				n += rows
			}
			if got := to.query(`SELECT count(*) FROM item`); all == 0 && got != fmt.Sprint(n) {
				b.Fatalf("%s rows arrived of %d", got, n)
			}
			b.ReportMetric(float64(took[0])/float64(took[1]), "x-plain-rate")
			b.ReportMetric(float64(took[1].Microseconds())/float64(n-all), "µs/row")
		})
	}
}

const upsertItem = `INSERT INTO item VALUES(?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET a = excluded.a, b = excluded.b, c = excluded.c, d = excluded.d`

var version int

func benchRow(i int) []any {
	return []any{benchKey(i), i + version, "bbbbbbbbbbbbbbbbbbbb", 1.5 + float64(version), "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"}
}
