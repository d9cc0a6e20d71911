package main

import (
	"path/filepath"
	"testing"
)

// TestJoinerWithRowsSendsThem: L-3. A database with rows of its own joins a group. They reach the group without any further write, look or
// command.
func TestJoinerWithRowsSendsThem(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	for path, key := range map[string]string{a: "there", b: "own"} {
		db := openTestDB(t, path)
		mustExec(t, db, "CREATE TABLE item(id TEXT PRIMARY KEY, v)")
		mustExec(t, db, "INSERT INTO item VALUES('"+key+"', 1)")
	}
	pa := startPeer(t, true, a, "--bind", "tcp://127.0.0.1:0", "--allow", peerID(t, b))
	startPeer(t, true, b, "--connect", pa.addr)
	db := openTestDB(t, a)
	waitFor(t, "the joiner's own row is in the group", func() bool {
		return queryText(t, db, "SELECT group_concat(id) FROM (SELECT id FROM item ORDER BY id)") == "own,there"
	})
}
