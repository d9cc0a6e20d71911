package rowmesh_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/network"
	"github.com/rowmesh/rowmesh/replica"
)

var orders = must(crdt.NewSchema("orders", []string{"id"}, []string{"state", "total"}))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// testContext ends a test that waits for what does not come.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// identity makes a peer's key in advance, so that another can allow it.
func identity(t *testing.T) (file string, id network.PeerID) {
	file = filepath.Join(t.TempDir(), "identity.key")
	key, err := network.LoadIdentity(file)
	if err != nil {
		t.Fatal(err)
	}
	return file, key.PeerID()
}

func addr(t *testing.T, s string) network.Addr {
	a, err := network.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func order(id, state string, total float64) crdt.Op {
	return crdt.Op{Table: "orders", Key: crdt.MustKey(crdt.Text(id)), Kind: crdt.OpInsert,
		Sets: []crdt.Set{{Column: "total", Value: crdt.Real(total)}, {Column: "state", Value: crdt.Text(state)}}}
}

func requireDigest(t *testing.T, a, b *rowmesh.Peer) {
	t.Helper()
	ctx := testContext(t)
	for _, p := range []*rowmesh.Peer{a, b} {
		if err := p.Sync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	x, err := a.Digest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if y, err := b.Digest(ctx); err != nil || x != y {
		t.Fatalf("the digests are %x and %x, %v", x, y, err)
	}
}

// TestDatastoreAndSQL: a replica on a datastore and one in SQLite hold the same rows, write both ways, tell of
// changes, and go on after a restart.
func TestDatastoreAndSQL(t *testing.T) {
	ctx := testContext(t)
	file, id := identity(t)
	path := filepath.Join(t.TempDir(), "app.db")
	plain := must(sql.Open("sqlite", path))
	defer plain.Close()
	if _, err := plain.Exec(`CREATE TABLE orders(id TEXT PRIMARY KEY, state TEXT, total REAL); INSERT INTO orders VALUES('o1', 'open', 12.5)`); err != nil {
		t.Fatal(err)
	}
	hub, err := rowmesh.OpenConfig(ctx, rowmesh.Config{Path: path, Listen: []network.Addr{addr(t, "tcp://127.0.0.1:0")}, Allow: []network.PeerID{id}})
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	store := dssync.MutexWrap(ds.NewMapDatastore())
	cfg := rowmesh.Config{Identity: file, Connect: []network.Addr{addr(t, hub.Addrs()[0])}}
	p, err := rowmesh.OpenDatastore(ctx, store, rowmesh.WithConfig(cfg))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	changes, err := p.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WriteRows(ctx, []*crdt.Schema{orders}, order("o2", "paid", 3)); err != nil {
		t.Fatal(err)
	}
	if c := <-changes; c.Key != crdt.MustKey(crdt.Text("o2")) || !c.Local {
		t.Errorf("the change told of is %+v", c)
	}
	if _, err := hub.DB().Exec(`UPDATE orders SET state = 'sent' WHERE id = 'o1'`); err != nil {
		t.Fatal(err)
	}
	requireDigest(t, hub, p)
	var state string
	if err := plain.QueryRow(`SELECT state || total || typeof(total) FROM orders WHERE id = 'o2'`).Scan(&state); err != nil || state != "paid3.0real" {
		t.Errorf("the table shows %q, %v", state, err)
	}
	rows, err := p.Rows(ctx, replica.RowKey{Table: "orders", Key: crdt.MustKey(crdt.Text("o1"))})
	if c, _ := rows[0].Cell("state"); err != nil || c.Value != crdt.Text("sent") {
		t.Errorf("the replica holds %v, %v", rows, err)
	}
	digest := must(p.Digest(ctx))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err = rowmesh.OpenDatastore(ctx, store, rowmesh.WithConfig(cfg)); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if again := must(p.Digest(ctx)); again != digest {
		t.Error("it holds something else after a restart")
	}
	n := 0
	if err := p.Scan(ctx, "orders", func(crdt.Key, crdt.Row) bool { n++; return true }); err != nil || n != 2 {
		t.Errorf("%d orders, %v", n, err)
	}
	if err := p.WriteRows(ctx, []*crdt.Schema{orders}, crdt.Op{Table: "orders", Key: crdt.MustKey(crdt.Text("o1")), Kind: crdt.OpDelete}); err != nil {
		t.Fatal(err)
	}
	requireDigest(t, hub, p)
}

// TestWriteRowsRefuses: what cannot be written is refused before anything happens.
func TestWriteRowsRefuses(t *testing.T) {
	ctx := testContext(t)
	if _, err := rowmesh.OpenDatastore(ctx, ds.NewMapDatastore()); err == nil || !strings.Contains(err.Error(), "Config.Identity") {
		t.Errorf("without an identity: %v", err)
	}
	file, _ := identity(t)
	p, err := rowmesh.OpenDatastore(ctx, ds.NewMapDatastore(), rowmesh.WithConfig(rowmesh.Config{Identity: file}))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.WriteRows(ctx, []*crdt.Schema{orders}, order("o0", "open", 1)); err != nil {
		t.Fatal(err)
	}
	before := must(p.Status(ctx)).Replica.Coverage.String()
	for what, c := range refusedWrites() {
		if err := p.WriteRows(ctx, c.schemas, c.ops...); err == nil || errors.Is(err, rowmesh.ErrUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after := must(p.Status(ctx)).Replica.Coverage.String(); after != before {
		t.Errorf("something was written: %s, then %s", before, after)
	}
	if err := p.WriteRows(ctx, []*crdt.Schema{orders}, order("o1", "open", 1)); err != nil {
		t.Errorf("the peer writes no more: %v", err)
	}
}

// refusedWrites are transactions that nobody could hold, or that would have no one outcome.
func refusedWrites() map[string]refusedWrite {
	known := []*crdt.Schema{orders}
	with := func(change func(op *crdt.Op)) refusedWrite {
		op := order("o1", "open", 1)
		change(&op)
		return refusedWrite{known, []crdt.Op{op}}
	}
	return map[string]refusedWrite{
		"a column twice":            with(func(op *crdt.Op) { op.Sets = append(op.Sets, op.Sets[0]) }),
		"an unknown column":         with(func(op *crdt.Op) { op.Sets[0].Column = "colour" }),
		"a key of two parts":        with(func(op *crdt.Op) { op.Key = crdt.MustKey(crdt.Integer(1), crdt.Integer(2)) }),
		"no key":                    with(func(op *crdt.Op) { op.Key = crdt.Key{} }),
		"an unknown table":          with(func(op *crdt.Op) { op.Table = "t" }),
		"an unknown operation":      with(func(op *crdt.Op) { op.Kind = 3 }),
		"an update of nothing":      with(func(op *crdt.Op) { op.Kind, op.Sets = crdt.OpUpdate, nil }),
		"a delete that sets":        with(func(op *crdt.Op) { op.Kind = crdt.OpDelete }),
		"a value over the limit":    with(func(op *crdt.Op) { op.Sets[0].Value = crdt.Blob(make([]byte, crdt.MaxValueBytes+1)) }),
		"one row twice":             {known, []crdt.Op{order("o1", "open", 1), order("o1", "paid", 1)}},
		"a schema made by hand":     {[]*crdt.Schema{{Table: "orders", Key: []string{"id"}, Columns: []string{"state", "total"}}}, []crdt.Op{order("o1", "open", 1)}},
		"another key of the table":  {[]*crdt.Schema{must(crdt.NewSchema("orders", []string{"number"}, orders.Columns))}, []crdt.Op{order("o1", "open", 1)}},
		"two keys of the one table": {[]*crdt.Schema{must(crdt.NewSchema("n", []string{"a"}, nil)), must(crdt.NewSchema("n", []string{"b"}, nil)), orders}, []crdt.Op{order("o1", "open", 1)}},
	}
}

type refusedWrite struct {
	schemas []*crdt.Schema
	ops     []crdt.Op
}
