package sqlbridge

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rowmesh/rowmesh/replica"
)

// BenchmarkCapture reports what taking in rows costs that a program inserted, and then updated in one column, in transactions of
// 1,000: the time during which the write lock is held.
func BenchmarkCapture(b *testing.B) {
	const rows = 1000
	for _, what := range []string{"insert", "update"} {
		b.Run(what, func(b *testing.B) {
			now := int64(0)
			s := newSide(b, 'a', &now, `CREATE TABLE item(id TEXT PRIMARY KEY, a INTEGER, b TEXT, c REAL, d TEXT)`, Options{})
			n := 0
			insert := func() {
				s.exec(fmt.Sprintf(`WITH RECURSIVE x(i) AS (SELECT %d UNION ALL SELECT i + 1 FROM x WHERE i < %d)
					INSERT INTO item SELECT hex(randomblob(8)), i, 'bbbbbbbbbbbbbbbbbbbb', 1.5, 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd' FROM x`, n*rows, n*rows+rows-1))
				n++
			}
			insert()
			s.round()
			for b.Loop() {
				b.StopTimer()
				if what == "insert" {
					insert()
				} else {
					s.exec(`UPDATE item SET a = a + 1 WHERE rowid <= 1000`)
				}
				if err := s.b.Prepare(context.Background()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				s.round()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rows), "µs/row")
		})
	}
}

// BenchmarkFirstCopy reports what a first copy costs its two sides, each for itself: the server's chunks, the client's merge of
// them, and its last round, which fills the table.
func BenchmarkFirstCopy(b *testing.B) {
	const rows = 50_000
	now := int64(1)
	server := newSide(b, 'a', &now, `CREATE TABLE item(id TEXT PRIMARY KEY, a INTEGER, b TEXT, c REAL, d TEXT)`, Options{})
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

// take gives a side the frames that another has sent.
func (s *side) take(from *side, link replica.LinkID) {
	for _, f := range from.out {
		s.in = append(s.in, replica.Input{From: link, Frame: &f})
	}
	from.out = nil
}
