package main

import (
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// atomicTables are written together, by every transaction.
var atomicTables = []string{"head", "item", "audit"}

// TestTransactionsArriveWhole: P6, L-2. Each transaction puts k rows over three tables under a name that ends in k. On
// the other side, a reader that looks at all three in one read transaction sees of each name k rows or none,
// while the link is cut and healed, transactions have from 3 to 5,000 rows, and one pauses for longer than
// the gap by which edits made apart are told apart.
func TestTransactionsArriveWhole(t *testing.T) {
	least := 1000
	if soaking() {
		least = 100_000
	}
	a, b, link, _, _ := twoPeers(t, func(db *sql.DB) {
		for _, table := range atomicTables {
			mustExec(t, db, "CREATE TABLE "+table+"(id TEXT PRIMARY KEY, txn TEXT)")
			mustExec(t, db, "CREATE INDEX "+table+"_txn ON "+table+"(txn)")
		}
	})
	stop := make(chan struct{})
	var writers sync.WaitGroup
	writers.Add(2)
	go func() { defer writers.Done(); cutAndHeal(link, stop) }()
	total := 0
	go func() { defer writers.Done(); total = writeWhole(t, openTestDB(t, a), stop) }()
	db := openTestDB(t, b)
	states := map[int]int{} // how often so many transactions were seen
	snapshots, seen := 0, 0
	late := time.Now().Add(2 * testPatience) // the race detector makes SQLite in Go many times slower
	for ; (snapshots < least || seen < 120 || len(states) < 20) && !t.Failed() && (soaking() || time.Now().Before(late)); snapshots++ {
		seen = requireWhole(t, db)
		states[seen]++
	}
	close(stop)
	writers.Wait()
	link.heal()
	waitFor(t, "everything arrives", func() bool { return requireWhole(t, db) == total })
	t.Logf("%d snapshots in %d states, %d transactions", snapshots, len(states), total)
	if len(states) < 20 {
		t.Errorf("the reader saw only %d states: it was not there when things changed", len(states))
	}
	requireSame(t, a, b)
}

// requireWhole reads all tables in one read transaction and returns how many transactions it shows.
func requireWhole(t *testing.T, db *sql.DB) (txns int) {
	t.Helper()
	var parts []string
	for _, table := range atomicTables {
		parts = append(parts, "SELECT txn FROM "+table)
	}
	for line := range strings.SplitSeq(queryText(t, db, "SELECT txn || ' has ' || count(*) FROM ("+strings.Join(parts, " UNION ALL ")+") GROUP BY txn"), "\n") {
		if line == "" {
			continue
		}
		txns++
		var n, k, has int
		if _, err := fmt.Sscanf(line, "t%d-%d has %d", &n, &k, &has); err != nil || has != k {
			t.Errorf("a transaction is torn: %s (%v)", line, err)
		}
	}
	return txns
}

// writeWhole writes transactions until stop is closed and returns their number.
func writeWhole(t *testing.T, db *sql.DB, stop <-chan struct{}) (n int) {
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for ; ; n++ {
		select {
		case <-stop:
			return n
		case <-tick.C:
		}
		k := 3 + n%10
		var pause <-chan time.Time
		switch n {
		case 30, 90:
			k = 5000
		case 60:
			pause = time.After(1200 * time.Millisecond) // the program thinks, in the middle of its transaction
		}
		if err := writeOne(db, fmt.Sprintf("t%d-%d", n, k), k, pause); err != nil {
			t.Errorf("write: %v", err)
			return n
		}
	}
}

func writeOne(db *sql.DB, name string, k int, pause <-chan time.Time) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for i := range k {
		table := atomicTables[i%len(atomicTables)]
		if _, err := tx.Exec("INSERT INTO "+table+" VALUES(?, ?)", fmt.Sprintf("%s/%d", name, i), name); err != nil {
			return err
		}
		if pause != nil && i == k/2 {
			<-pause
		}
	}
	return tx.Commit()
}

// cutAndHeal cuts the link for a quarter of a second after half a second, one second, two and so on: a dialler that
// loses its link soon waits longer each time.
func cutAndHeal(link *cable, stop <-chan struct{}) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if n >= 2 && n&(n-1) == 0 {
			link.cut()
		} else {
			link.heal()
		}
	}
}
