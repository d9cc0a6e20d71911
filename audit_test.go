package rowmesh_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/network"
)

// auditedPair opens a datastore with three rows and a database that follows it.
func auditedPair(t *testing.T, ctx context.Context) (a, b *rowmesh.Peer, disk ds.Batching) {
	t.Helper()
	keyA, _ := identity(t)
	keyB, idB := identity(t)
	disk = dssync.MutexWrap(ds.NewMapDatastore())
	a, err := rowmesh.OpenDatastore(ctx, disk, rowmesh.WithConfig(rowmesh.Config{
		Identity: keyA, New: true, Listen: []network.Addr{addr(t, "tcp://127.0.0.1:0")}, Allow: []network.PeerID{idB}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	for _, id := range []string{"1", "2", "3"} {
		if err := a.WriteRows(ctx, []*crdt.Schema{orders}, order(id, "open", 10)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Audit(ctx, rowmesh.AuditOptions{}); !errors.Is(err, rowmesh.ErrNoPeer) {
		t.Errorf("an audit without a peer: %v", err)
	}
	b, err = rowmesh.OpenConfig(ctx, rowmesh.Config{Path: filepath.Join(t.TempDir(), "b.db"), Connect: []network.Addr{addr(t, a.Addrs()[0])}, Identity: keyB})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	if err := b.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	requireDigest(t, a, b)
	return a, b, disk
}

// TestAudit: what a datastore and a database hold is compared; a record that is gone from the one, and one that cannot be read,
// come back from the other.
func TestAudit(t *testing.T) {
	ctx := testContext(t)
	a, b, disk := auditedPair(t, ctx)
	res, err := disk.Query(ctx, query.Query{Prefix: "/r", KeysOnly: true, Orders: []query.Order{query.OrderByKey{}}})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := res.Rest()
	if err != nil || len(rows) != 3 {
		t.Fatalf("the datastore has %d rows, %v", len(rows), err)
	}
	if err := errors.Join(disk.Delete(ctx, ds.RawKey(rows[0].Key)), disk.Put(ctx, ds.RawKey(rows[2].Key), []byte("damage"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		asks             *rowmesh.Peer
		opt              rowmesh.AuditOptions
		differ, unmended int
		what             string
	}{
		{a, rowmesh.AuditOptions{Dry: true, Peer: b.ID().String()}, 2, 2, "damaged here"},
		{b, rowmesh.AuditOptions{Tables: []string{"orders"}}, 2, 0, "damaged there"},
		{a, rowmesh.AuditOptions{}, 0, 0, ""},
	} {
		rep, err := c.asks.Audit(ctx, c.opt)
		if err != nil {
			t.Fatal(err)
		}
		if rep.Differ() != c.differ || rep.Unmended() != c.unmended || c.differ > 0 && rep.Rows[1] != (rowmesh.AuditRow{Table: "orders", Key: "'3'", What: c.what, Mended: c.unmended == 0}) {
			t.Errorf("%+v: %+v", c.opt, rep)
		}
	}
	requireDigest(t, a, b)
}

// TestAuditIsRefused: what cannot be audited, or is not waited for, is said.
func TestAuditIsRefused(t *testing.T) {
	ctx := testContext(t)
	_, b, _ := auditedPair(t, ctx)
	if _, err := b.Audit(ctx, rowmesh.AuditOptions{Peer: b.ID().String()}); !errors.Is(err, rowmesh.ErrNoPeer) {
		t.Errorf("an audit with a peer that is not connected: %v", err)
	}
	if _, err := b.Audit(ctx, rowmesh.AuditOptions{Tables: []string{"nothing"}}); err == nil {
		t.Error("an audit of a table that is not there comes to nothing")
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := b.Audit(gone, rowmesh.AuditOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("an audit that is not waited for: %v", err)
	}
}
