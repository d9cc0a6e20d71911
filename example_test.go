package rowmesh_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	ds "github.com/ipfs/go-datastore"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// A program opens its database, makes its tables and shares them.
func ExamplePeer_Track() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "rowmesh")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	p, err := rowmesh.Open(ctx, "file:"+filepath.Join(dir, "app.db")+"?node=primary&bind=tcp://127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer p.Close()

	if _, err := p.DB().ExecContext(ctx, `CREATE TABLE tasks(id TEXT PRIMARY KEY, title TEXT)`); err != nil {
		panic(err)
	}
	rep, err := p.Track(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println("tracked:", rep.Tracked)
	err = p.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO tasks VALUES('7f3a', 'water the plants')`)
		return err
	})
	if err != nil {
		panic(err)
	}
	err = p.Scan(ctx, "tasks", func(key crdt.Key, row crdt.Row) bool {
		title, _ := row.Cell("title")
		fmt.Println(key, title.Value)
		return true
	})
	if err != nil {
		panic(err)
	}
	// Output:
	// tracked: [tasks]
	// '7f3a' 'water the plants'
}

// A program keeps rows without SQL. With Connect or Listen in the Config it would share them with other peers.
func ExampleOpenDatastore() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "rowmesh")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	p, err := rowmesh.OpenDatastore(ctx, ds.NewMapDatastore(), rowmesh.WithConfig(rowmesh.Config{Identity: filepath.Join(dir, "identity.key")}))
	if err != nil {
		panic(err)
	}
	defer p.Close()

	tasks, err := crdt.NewSchema("tasks", []string{"id"}, []string{"done", "title"})
	if err != nil {
		panic(err)
	}
	key := crdt.MustKey(crdt.Text("7f3a"))
	err = p.WriteRows(ctx, []*crdt.Schema{tasks},
		crdt.Op{Table: "tasks", Key: key, Kind: crdt.OpInsert, Sets: []crdt.Set{{Column: "title", Value: crdt.Text("water the plants")}, {Column: "done", Value: crdt.Integer(0)}}})
	if err != nil {
		panic(err)
	}
	rows, err := p.Rows(ctx, replica.RowKey{Table: "tasks", Key: key})
	if err != nil {
		panic(err)
	}
	title, _ := rows[0].Cell("title")
	fmt.Println(rows[0].Alive(), title.Value)
	// Output: true 'water the plants'
}
