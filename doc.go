// Package rowmesh keeps SQL tables on many machines the same, peer to peer, offline first.
//
//	p, err := rowmesh.Open(ctx, "file:app.db?node=secondary&connect=tcp://10.0.0.1:7070&allow=12D3Koo...")
//	defer p.Close()
//	_, err = p.DB().Exec(`UPDATE orders SET state = 'paid' WHERE id = ?`, id) // plain SQL, from any program
//	err = p.Sync(ctx) // waits until another peer holds it
//
// The group is founded with the tables that are there; a program that makes tables after Open calls Track.
//
// A Peer is one replica with its database, its network and the one goroutine that drives them. There are
// three ways to open one: Open takes a URI and its own SQLite; OpenDB takes the program's own handle,
// whatever its SQLite driver; OpenDatastore keeps rows in a go-datastore without any SQL. The
// database/sql driver named "rowmesh" does what Open does behind sql.Open.
//
// One SQLite library per process and file: two of them on one file lose writes without a word, because file
// locks belong to the process. Open uses modernc.org/sqlite; a program that uses another driver hands its
// handle to OpenDB.
package rowmesh
