package rowmesh_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	ds "github.com/ipfs/go-datastore"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

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
