package sqlbridge

import (
	"context"
	"fmt"
	"testing"
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
