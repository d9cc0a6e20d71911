package rowmesh

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/rowmesh/rowmesh/network"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// TestAuditEndsWithItsCaller: an audit whose caller goes away ends at once: one that the program asked for when its context
// ends, one that another process asked for when it withdraws the request. The other side stands still meanwhile, so that the audit
// cannot come to its end by itself.
func TestAuditEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path := filepath.Join(t.TempDir(), "a.db")
	a := besideStill(ctx, t, path)

	// report waits until a has an audit that is over, or is not.
	report := func(over bool) *replica.AuditReport {
		t.Helper()
		for ctx.Err() == nil {
			var rep *replica.AuditReport
			if err := a.do(ctx, func() { rep = a.core.AuditReport() }); err != nil {
				t.Fatal(err)
			}
			if rep != nil && rep.Over == over {
				return rep
			}
		}
		t.Fatal("never so")
		return nil
	}
	gone, leave := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := a.Audit(gone, AuditOptions{})
		ended <- err
	}()
	report(false)
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller is told %v", err)
	}
	if rep := report(true); !errors.Is(rep.Err, replica.ErrAuditLeft) {
		t.Errorf("the audit came to %+v", rep)
	}

	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	beside, _, err := sqlbridge.Open(ctx, db, sqlbridge.Options{Path: path, Beside: true})
	if err != nil {
		t.Fatal(err)
	}
	defer beside.Close()
	n, err := beside.Ask(ctx, AuditRequest(AuditOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	report(false)
	if err := beside.Withdraw(ctx, n); err != nil {
		t.Fatal(err)
	}
	if rep := report(true); !errors.Is(rep.Err, replica.ErrAuditLeft) {
		t.Errorf("the audit that was withdrawn came to %+v", rep)
	}
}

// besideStill opens a peer on a database that has synced with another, which then stands still until the end of the test.
func besideStill(ctx context.Context, t *testing.T, path string) *Peer {
	t.Helper()
	dir := filepath.Dir(path)
	mine, err := network.LoadIdentity(filepath.Join(dir, "a.key"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenDatastore(ctx, dssync.MutexWrap(ds.NewMapDatastore()), WithConfig(Config{
		Identity: filepath.Join(dir, "b.key"), New: true, Listen: []network.Addr{mustAddr(t, "tcp://127.0.0.1:0")}, Allow: []network.PeerID{mine.PeerID()}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	a, err := OpenConfig(ctx, Config{Path: path, Identity: filepath.Join(dir, "a.key"), Connect: []network.Addr{mustAddr(t, b.Addrs()[0])}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if err := errors.Join(a.WaitReady(ctx), a.Sync(ctx)); err != nil {
		t.Fatal(err)
	}
	still, on := make(chan struct{}), make(chan struct{})
	go func() { _ = b.do(ctx, func() { close(still); <-on }) }()
	<-still
	t.Cleanup(func() { close(on) })
	return a
}

func mustAddr(t *testing.T, s string) network.Addr {
	t.Helper()
	a, err := network.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
