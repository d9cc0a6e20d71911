package main

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
)

// TestHubKilled: P3, L-9, L-11. Two hubs and two spokes, all real processes. The hubs are killed in turn while both spokes
// write; they go on with the other one. In the end every row is everywhere, and both spokes know that a hub holds it.
func TestHubKilled(t *testing.T) {
	rounds, each := 4, 25
	if testing.Short() {
		rounds = 2
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name+".db") }
	one, two, a, b := at("one"), at("two"), at("a"), at("b")
	allow := fmt.Sprintf("%s,%s,%s,%s", peerID(t, one), peerID(t, two), peerID(t, a), peerID(t, b))
	mustExec(t, openTestDB(t, one), `CREATE TABLE log(id TEXT PRIMARY KEY, n INTEGER)`)

	hubs := []*process{startPeer(t, true, one, "--hub", "--new", "--bind", "tcp://127.0.0.1:0", "--allow", allow), nil}
	first := hubs[0].addr
	hubs[1] = startPeer(t, true, two, "--hub", "--bind", "tcp://127.0.0.1:0", "--hubs", first, "--allow", allow)
	second := hubs[1].addr
	list := first + "," + second
	startPeer(t, true, a, "--hubs", list)
	startPeer(t, true, b, "--hubs", list)
	adb, bdb := openTestDB(t, a), openTestDB(t, b)

	want := 0
	write := func() {
		for range each {
			want++
			mustExec(t, adb, `INSERT INTO log VALUES(?, ?)`, fmt.Sprintf("a%d", want), want)
			mustExec(t, bdb, `INSERT INTO log VALUES(?, ?)`, fmt.Sprintf("b%d", want), want)
		}
	}
	for round := range rounds {
		write()
		victim := round % 2
		hubs[victim].kill()
		write()
		for _, db := range []*sql.DB{adb, bdb} { // by way of the other hub
			waitFor(t, "the spokes meet at the other hub", func() bool { return queryText(t, db, `SELECT count(*) FROM log`) == fmt.Sprint(2*want) })
		}
		db, addr := []string{one, two}[victim], []string{first, second}[victim]
		hubs[victim] = startPeer(t, true, db, "--hub", "--bind", addr[:len(addr)-len("/p2p/")-len(peerID(t, db))], "--hubs", list, "--allow", allow)
	}
	requireSame(t, one, two, a, b)
	for _, db := range []string{one, two, a, b} {
		if n := queryText(t, openTestDB(t, db), `SELECT count(*) FROM log`); n != fmt.Sprint(2*want) {
			t.Errorf("%s has %s rows of %d", filepath.Base(db), n, 2*want)
		}
	}
	for name, db := range map[string]*sql.DB{"a": adb, "b": bdb} {
		waitFor(t, name+" knows that a hub holds all", func() bool {
			return queryText(t, db, `SELECT status LIKE '%"in_sync":true%' FROM rowmesh_status`) == "1"
		})
	}
}
