package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// TestMeshIsExplained: peer status says that only some of the peers are dialled, and why that is enough.
func TestMeshIsExplained(t *testing.T) {
	for _, c := range []struct {
		m    *rowmesh.LiveMesh
		want string
	}{
		{nil, ""},
		{&rowmesh.LiveMesh{Members: 3}, "mesh    no allowed peer is found on the local network\n"},
		{&rowmesh.LiveMesh{Members: 3, Found: 1, Dialed: 1}, "mesh    1 allowed peer is found on the local network, all are dialled\n"},
		{&rowmesh.LiveMesh{Members: 200, Found: 150, Dialed: 5}, "mesh    150 allowed peers are found on the local network, 5 are dialled: in a group of 200 that is enough, for changes are forwarded\n"},
	} {
		var out bytes.Buffer
		printLive(&out, &rowmesh.Live{Mesh: c.m})
		if got := out.String(); !strings.Contains(got, c.want) || c.m == nil && strings.Contains(got, "mesh") {
			t.Errorf("%+v: %s", c.m, got)
		}
	}
}

// TestAskWithdraws: what a command asked of the running peer is withdrawn when nobody waits for it any more.
func TestAskWithdraws(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	open := func(opt sqlbridge.Options) *sqlbridge.Bridge {
		t.Helper()
		db, err := sql.Open("sqlite", "file:"+path)
		if err != nil {
			t.Fatal(err)
		}
		opt.Path = path
		b, _, err := sqlbridge.Open(t.Context(), db, opt)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close(); db.Close() })
		return b
	}
	peer, beside := open(sqlbridge.Options{}), open(sqlbridge.Options{Beside: true})
	for range 20 { // whatever ask was about to do when its caller left
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := ask(ctx, beside, "audit {}")
			left <- err
		}()
		var asked []sqlbridge.Request
		for len(asked) == 0 {
			var err error
			if asked, err = peer.Requests(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if state, _, err := peer.Answered(t.Context(), asked[0].N); state != sqlbridge.RequestWithdrawn || err != nil {
			t.Error(state, err)
		}
		if again, err := peer.Requests(t.Context()); len(again) > 0 || err != nil {
			t.Error(again, err)
		}
	}
}

// TestInterrupted: a command that is ended by Ctrl-C says so.
func TestInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	mustExec(t, openTestDB(t, path), "CREATE TABLE t(id TEXT PRIMARY KEY)")
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	var said bytes.Buffer
	if code := run(ctx, []string{"track", path, "t"}, &said); code == exitOK || !strings.Contains(said.String(), "interrupted") {
		t.Errorf("ended with %d: %q", code, &said)
	}
}
