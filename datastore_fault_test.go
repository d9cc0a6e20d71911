package rowmesh_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"
	pebbleds "github.com/ipfs/go-ds-pebble"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/network"
	"github.com/rowmesh/rowmesh/replica"
)

var errDisk = errors.New("the disk failed")

// failing is a datastore with one fault to come.
type failing struct {
	ds.Batching
	record atomic.Bool // the next commit record is not put
	apply  atomic.Bool // the next commit is carried out by half
}

func (f *failing) Put(ctx context.Context, k ds.Key, v []byte) error {
	if strings.HasPrefix(k.String(), "/j/") && f.record.CompareAndSwap(true, false) {
		return errDisk
	}
	return f.Batching.Put(ctx, k, v)
}

func (f *failing) Batch(ctx context.Context) (ds.Batch, error) {
	b, err := f.Batching.Batch(ctx)
	if f.apply.CompareAndSwap(true, false) {
		return &halfBatch{b, f.Batching, 0}, err
	}
	return b, err
}

// halfBatch carries out every second put and then fails.
type halfBatch struct {
	ds.Batch
	to ds.Batching
	n  int
}

func (b *halfBatch) Put(ctx context.Context, k ds.Key, v []byte) error {
	if b.n++; b.n%2 == 0 {
		return b.to.Put(ctx, k, v)
	}
	return nil
}

func (b *halfBatch) Delete(context.Context, ds.Key) error { return nil }

func (b *halfBatch) Commit(context.Context) error { return errDisk }

// eventually waits until the peer, which loads its replica again, holds a row or does not.
func eventually(t *testing.T, p *rowmesh.Peer, id string, want bool) {
	t.Helper()
	ctx := testContext(t)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		rows, err := p.Rows(ctx, replica.RowKey{Table: "orders", Key: crdt.MustKey(crdt.Text(id))})
		if err == nil {
			if rows[0].Alive() != want {
				t.Errorf("the row %s is %s", id, rows[0])
			}
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the replica is not loaded again: %v", err)
		}
	}
}

// TestDatastoreFaults: P5, P16. Of two peers on datastores, one has a disk that fails: before the commit record is there
// nothing was written, after it everything was, and the writer is told that it does not know. The peer goes on by
// itself, and the other one gets what was written and nothing else.
func TestDatastoreFaults(t *testing.T) {
	ctx := testContext(t)
	file, id := identity(t)
	hubFile, _ := identity(t)
	hub, err := rowmesh.OpenDatastore(ctx, dssync.MutexWrap(ds.NewMapDatastore()), rowmesh.WithConfig(rowmesh.Config{
		Identity: hubFile, Hub: true, Listen: []network.Addr{addr(t, "tcp://127.0.0.1:0")}, Allow: []network.PeerID{id}}))
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	disk := &failing{Batching: dssync.MutexWrap(ds.NewMapDatastore())}
	p, err := rowmesh.OpenDatastore(ctx, disk, rowmesh.WithConfig(rowmesh.Config{Identity: file, Connect: []network.Addr{addr(t, hub.Addrs()[0])}}))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	schemas := []*crdt.Schema{orders}
	if err := p.WriteRows(ctx, schemas, order("o1", "open", 1)); err != nil {
		t.Fatal(err)
	}
	disk.record.Store(true)
	if err := p.WriteRows(ctx, schemas, order("o2", "open", 2)); !errors.Is(err, rowmesh.ErrUnknown) || !errors.Is(err, errDisk) {
		t.Errorf("no commit record: %v", err)
	}
	eventually(t, p, "o2", false)
	disk.apply.Store(true)
	if err := p.WriteRows(ctx, schemas, order("o3", "open", 3), order("o4", "open", 4), order("o5", "open", 5)); !errors.Is(err, rowmesh.ErrUnknown) || !errors.Is(err, errDisk) {
		t.Errorf("half carried out: %v", err)
	}
	for _, id := range []string{"o3", "o4", "o5", "o1"} {
		eventually(t, p, id, true)
	}
	requireDigest(t, p, hub)
	eventually(t, hub, "o2", false)
	eventually(t, hub, "o5", true)
	if err := hub.WriteRows(ctx, schemas, order("o6", "open", 6)); err != nil {
		t.Fatal(err)
	}
	requireDigest(t, hub, p)
	eventually(t, p, "o6", true)
}

// logger keeps Pebble from ending the process on an I/O error, and its news out of the standard error.
type logger struct{ t *testing.T }

func (logger) Infof(string, ...any)        {}
func (l logger) Errorf(f string, a ...any) { l.t.Logf(f, a...) }
func (l logger) Fatalf(f string, a ...any) { l.t.Errorf(f, a...) }
func (l logger) open(dir string) (ds.Batching, error) {
	return pebbleds.NewDatastore(dir, pebbleds.WithPebbleOpts(&pebble.Options{Logger: l}))
}

// TestDatastoreOnDisk: a peer whose rows lie in Pebble holds after a restart what it held, under the same origin, and
// writes on; what its datastore keeps is all there is, but for its key.
func TestDatastoreOnDisk(t *testing.T) {
	ctx := testContext(t)
	file, _ := identity(t)
	dir := filepath.Join(t.TempDir(), "rows")
	var digest [32]byte
	var origin crdt.Origin
	for life := range 3 {
		d := must(logger{t}.open(dir))
		p, err := rowmesh.OpenDatastore(ctx, d, rowmesh.WithConfig(rowmesh.Config{Identity: file}))
		if err != nil {
			t.Fatal(err)
		}
		st := must(p.Status(ctx)).Replica
		if life > 0 && (must(p.Digest(ctx)) != digest || st.Origin != origin) {
			t.Errorf("life %d: it holds something else, or writes as %s and not as %s", life, st.Origin, origin)
		}
		if err := p.WriteRows(ctx, []*crdt.Schema{orders}, order(string(rune('a'+life)), "open", 1)); err != nil {
			t.Fatal(err)
		}
		digest, origin = must(p.Digest(ctx)), must(p.Status(ctx)).Replica.Origin
		if err := errors.Join(p.Close(), d.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// snapshot copies a datastore.
func snapshot(t *testing.T, d ds.Batching) ds.Batching {
	t.Helper()
	to := ds.NewMapDatastore()
	res := must(d.Query(context.Background(), query.Query{}))
	for _, e := range must(res.Rest()) {
		if err := to.Put(context.Background(), ds.RawKey(e.Key), e.Value); err != nil {
			t.Fatal(err)
		}
	}
	return dssync.MutexWrap(to)
}

// TestDatastoreSetBack: P22. A datastore that was set back to a backup, or copied without the fence, writes under a new
// origin from the start, also if the peer stops before the new origin is written; it catches up, and what it writes
// before it has met anyone arrives.
func TestDatastoreSetBack(t *testing.T) {
	ctx := testContext(t)
	file, id := identity(t)
	hubFile, _ := identity(t)
	hub, err := rowmesh.OpenDatastore(ctx, dssync.MutexWrap(ds.NewMapDatastore()), rowmesh.WithConfig(rowmesh.Config{
		Identity: hubFile, Hub: true, Listen: []network.Addr{addr(t, "tcp://127.0.0.1:0")}, Allow: []network.PeerID{id}}))
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	schemas, to := []*crdt.Schema{orders}, addr(t, hub.Addrs()[0])
	open := func(d ds.Batching, identity string) (*rowmesh.Peer, error) {
		return rowmesh.OpenDatastore(ctx, d, rowmesh.WithConfig(rowmesh.Config{Identity: identity, Join: true}))
	}
	write := func(p *rowmesh.Peer, id string) crdt.Origin {
		t.Helper()
		if err := p.WriteRows(ctx, schemas, order(id, "open", 1)); err != nil {
			t.Fatal(err)
		}
		return must(p.Status(ctx)).Replica.Origin
	}
	disk := &failing{Batching: dssync.MutexWrap(ds.NewMapDatastore())}
	p := must(open(disk, file))
	p.Connect(to)
	if err := p.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	former := write(p, "o1")
	backup := snapshot(t, disk)
	write(p, "o2")
	requireDigest(t, p, hub)
	p.Close()

	disk = &failing{Batching: backup}
	disk.record.Store(true)
	if _, err := open(disk, file); !errors.Is(err, errDisk) {
		t.Fatalf("the new origin is not written: %v", err)
	}
	p = must(open(disk, file))
	if notice := must(p.Status(ctx)).Notice; !strings.Contains(notice, "older copy") {
		t.Errorf("people are told %q", notice)
	}
	restored := write(p, "o3")
	p.Connect(to)
	requireDigest(t, p, hub)
	for _, id := range []string{"o1", "o2", "o3"} {
		eventually(t, p, id, true)
		eventually(t, hub, id, true)
	}
	p.Close()
	if p = must(open(disk, file)); restored == former || must(p.Status(ctx)).Replica.Origin != restored {
		t.Errorf("it wrote as %s, after the backup as %s, and then not again", former, restored)
	}
	copied := snapshot(t, disk)
	p.Close()
	other, _ := identity(t)
	p = must(open(copied, other))
	defer p.Close()
	if o := write(p, "o4"); o == restored || o == former {
		t.Errorf("a copy writes as %s, as the original does", o)
	}
}
