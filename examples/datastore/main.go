// Command datastore keeps rows on two machines the same without any SQL: on a hub, and on a gauge that joins it. Here both
// live in one process, each with its own datastore on disk, and talk over 127.0.0.1.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	pebbleds "github.com/ipfs/go-ds-pebble"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/network"
)

func main() {
	dir, err := os.MkdirTemp("", "rowmesh-datastore")
	if err == nil {
		err = errors.Join(run(context.Background(), dir, os.Stdout), os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// node is a peer with the datastore under it.
type node struct {
	*rowmesh.Peer
	rows *pebbleds.Datastore
}

// open starts a peer in a directory: its rows in a datastore, and beside them its key, which a backup of the rows must
// not take along.
func open(ctx context.Context, dir string, cfg rowmesh.Config) (*node, error) {
	rows, err := pebbleds.NewDatastore(filepath.Join(dir, "rows"), pebbleds.WithPebbleOpts(&pebble.Options{Logger: quiet{}}))
	if err != nil {
		return nil, err
	}
	cfg.Identity = filepath.Join(dir, "identity.key")
	p, err := rowmesh.OpenDatastore(ctx, rows, rowmesh.WithConfig(cfg))
	if err != nil {
		return nil, errors.Join(err, rows.Close())
	}
	return &node{p, rows}, nil
}

// Close stops the peer and then closes its datastore.
func (n *node) Close() error { return errors.Join(n.Peer.Close(), n.rows.Close()) }

// quiet is a logger for Pebble. The one that Pebble uses by itself ends the process when the disk fails; with this one
// the peer stops writing and says why.
type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(format string, a ...any) { slog.Error(fmt.Sprintf(format, a...)) }
func (quiet) Fatalf(format string, a ...any) { slog.Error(fmt.Sprintf(format, a...)) }

// run lets a gauge join a hub, lets both write, and shows that they hold the same.
func run(ctx context.Context, dir string, out io.Writer) (err error) {
	readings, err := crdt.NewSchema("readings", []string{"place"}, []string{"celsius", "note"})
	if err != nil {
		return err
	}
	schemas := []*crdt.Schema{readings}
	listen, err := network.ParseAddr("tcp://127.0.0.1:0")
	if err != nil {
		return err
	}
	hub, err := open(ctx, filepath.Join(dir, "hub"), rowmesh.Config{Hub: true, Listen: []network.Addr{listen}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hub.Close()) }()
	gauge, err := open(ctx, filepath.Join(dir, "gauge"), rowmesh.Config{Join: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, gauge.Close()) }()

	// The two know each other by the ids of their keys. The gauge joins, which brings its first copy.
	hub.Allow(gauge.ID())
	at, err := network.ParseAddr(hub.Addrs()[0])
	if err != nil {
		return err
	}
	if err := hub.WriteRows(ctx, schemas, reading("cellar", crdt.OpInsert, "celsius", crdt.Real(11.5), "note", crdt.Text("dry"))); err != nil {
		return err
	}
	gauge.Connect(at)
	if err := gauge.WaitReady(ctx); err != nil {
		return err
	}

	// Both write the same row, different columns: both edits stay.
	if err := hub.WriteRows(ctx, schemas, reading("cellar", crdt.OpUpdate, "note", crdt.Text("damp"))); err != nil {
		return err
	}
	if err := gauge.WriteRows(ctx, schemas,
		reading("cellar", crdt.OpUpdate, "celsius", crdt.Real(12)),
		reading("attic", crdt.OpInsert, "celsius", crdt.Real(24.5), "note", crdt.Text(""))); err != nil {
		return err
	}
	if err := gauge.Sync(ctx); err != nil {
		return err
	}
	for _, n := range []struct {
		name string
		*node
	}{{"hub", hub}, {"gauge", gauge}} {
		if err := show(ctx, out, n.name, n.node); err != nil {
			return err
		}
	}
	return nil
}

// reading makes one operation on a row of the table, from columns and their values.
func reading(place string, kind crdt.OpKind, cells ...any) crdt.Op {
	op := crdt.Op{Table: "readings", Key: crdt.MustKey(crdt.Text(place)), Kind: kind}
	for i := 0; i < len(cells); i += 2 {
		op.Sets = append(op.Sets, crdt.Set{Column: cells[i].(string), Value: cells[i+1].(crdt.Value)})
	}
	return op
}

// show prints a table in order of its keys.
func show(ctx context.Context, out io.Writer, name string, n *node) error {
	var lines []string
	err := n.Scan(ctx, "readings", func(k crdt.Key, r crdt.Row) bool {
		celsius, _ := r.Cell("celsius")
		note, _ := r.Cell("note")
		lines = append(lines, fmt.Sprintf("%s: %s %s %s", name, k, celsius.Value, note.Value))
		return true
	})
	slices.Sort(lines)
	for _, l := range lines {
		fmt.Fprintln(out, l)
	}
	return err
}
