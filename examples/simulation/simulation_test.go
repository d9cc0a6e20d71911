// Package simulation shows how a program tests that its tables keep its rules when they are written on several machines at once,
// with the network and the machines failing: run it with go test, and with -sim.seeds=1000 for longer.
package simulation

import (
	"testing"
	"time"

	"github.com/rowmesh/rowmesh/sim"
	"github.com/rowmesh/rowmesh/sim/simtest"
)

// The tables of a small shop.
const ddl = `
CREATE TABLE orders(id TEXT PRIMARY KEY, customer TEXT NOT NULL, total INTEGER NOT NULL DEFAULT 0);
CREATE TABLE lines(order_id TEXT, n INTEGER, what TEXT, price INTEGER, PRIMARY KEY(order_id, n));
CREATE TABLE seats(id TEXT PRIMARY KEY, place TEXT UNIQUE, who TEXT);
`

// TestOrderAndLinesArriveTogether: an order and its lines are written in one transaction, so nobody ever sees one without the
// others, through partitions, crashes and lost messages.
func TestOrderAndLinesArriveTogether(t *testing.T) {
	simtest.Run(t, simtest.Config{Replicas: 4, Schema: ddl, Faults: sim.FaultsSwarm, Seeds: 20}, func(w *simtest.World) {
		for n := range 12 {
			w.Tx(n%4, func(exec func(string, ...any)) {
				id := string(rune('a' + n))
				exec(`INSERT INTO orders VALUES (?, 'Ada', 30)`, id)
				exec(`INSERT INTO lines VALUES (?, 1, 'tea', 10), (?, 2, 'cups', 20)`, id, id)
			})
			for i := range 4 {
				w.RequireRow(i, `SELECT count(*) FROM orders WHERE total <> (SELECT coalesce(sum(price), 0) FROM lines WHERE order_id = id)`, 0)
			}
			w.Pass(200 * time.Millisecond)
		}
		w.Settle()
		w.RequireConverged()
		w.RequireRow(3, `SELECT count(*), sum(total) FROM orders`, 12, 360)
	})
}

// TestLastWriterWinsByColumn: two machines that are cut off from each other change two columns of one row; both changes stay. They
// change the same column: the later one stays.
func TestLastWriterWinsByColumn(t *testing.T) {
	simtest.Run(t, simtest.Config{Schema: ddl}, func(w *simtest.World) {
		w.Exec(0, `INSERT INTO orders VALUES ('o', 'Ada', 1)`)
		w.Settle()
		w.Partition([]int{0}, []int{1, 2})
		w.Exec(0, `UPDATE orders SET customer = 'Grace'`)
		w.Exec(1, `UPDATE orders SET total = 2`)
		w.Pass(time.Second)
		w.Exec(0, `UPDATE orders SET total = 3`)
		w.RequireRow(2, `SELECT customer, total FROM orders`, "Ada", 2)
		w.Heal()
		w.Settle()
		w.RequireRow(2, `SELECT customer, total FROM orders`, "Grace", 3)
		w.RequireConverged()
	})
}

// TestOneSeatIsSoldOnce: two machines sell one seat while apart. The earlier sale holds it everywhere, the other is kept aside
// where every machine can see it.
func TestOneSeatIsSoldOnce(t *testing.T) {
	simtest.Run(t, simtest.Config{Schema: ddl}, func(w *simtest.World) {
		w.Partition([]int{0}, []int{1}, []int{2})
		w.Exec(0, `INSERT INTO seats VALUES ('s1', '12A', 'Ada')`)
		w.Pass(time.Second)
		w.Exec(1, `INSERT INTO seats VALUES ('s2', '12A', 'Bob')`)
		w.Settle()
		w.RequireConverged()
		for i := range 3 {
			w.RequireRow(i, `SELECT who FROM seats WHERE place = '12A'`, "Ada")
			w.RequireRow(i, `SELECT "key", reason FROM rowmesh_parked`, "s2", "unique")
		}
		w.Exec(2, `DELETE FROM seats WHERE id = 's1'`)
		w.Settle()
		w.RequireRow(0, `SELECT who FROM seats WHERE place = '12A'`, "Bob")
	})
}

// TestWritesOfYesterday: a machine is off for a day, with a clock that is wrong by days; a program goes on writing its database.
// All of it arrives when the machine is back.
func TestWritesOfYesterday(t *testing.T) {
	simtest.Run(t, simtest.Config{Schema: ddl, Faults: sim.FaultsNet, Seeds: 5}, func(w *simtest.World) {
		w.Crash(2)
		w.AdvanceClock(2, -72*time.Hour)
		for n := range 20 {
			w.Exec(2, `INSERT INTO orders VALUES (?, 'Eve', 1)`, n)
		}
		w.Pass(24 * time.Hour)
		w.Restart(2)
		w.Settle()
		w.RequireConverged()
		w.RequireRow(0, `SELECT count(*) FROM orders`, 20)
	})
}
