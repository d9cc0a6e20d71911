package rowmesh_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rowmesh/rowmesh"
)

// TestFolderGoesAway: while the database cannot be opened the peer says so, and nothing that it is asked ends the program.
func TestFolderGoesAway(t *testing.T) {
	ctx, dir := t.Context(), filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := rowmesh.OpenConfig(ctx, rowmesh.Config{Path: filepath.Join(dir, "app.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	await(t, p, func(s rowmesh.Status) bool { return s.Problem != "" })
	if _, err := p.Verify(ctx); err == nil {
		t.Error("a database that is not there is in order")
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	await(t, p, func(s rowmesh.Status) bool { return s.Problem == "" })
}

// await asks for the status until it is as wanted, for a minute at most.
func await(t *testing.T, p *rowmesh.Peer, wanted func(rowmesh.Status) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		s, err := p.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if wanted(s) {
			return
		}
	}
}

// TestPathIsTakenAsItIs: a path in a Config is a path, with whatever signs it has.
func TestPathIsTakenAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a#1 100%25?.db")
	p, err := rowmesh.OpenConfig(t.Context(), rowmesh.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// TestWriteSaysWhatIsCommitted: a transaction that is committed is never reported as one that may be repeated.
func TestWriteSaysWhatIsCommitted(t *testing.T) {
	p, err := rowmesh.OpenConfig(t.Context(), rowmesh.Config{Path: filepath.Join(t.TempDir(), "app.db")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DB().Exec(`CREATE TABLE t(id TEXT PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = p.Write(ctx, insertAnd(cancel))
	var n int
	if bad := p.DB().QueryRow(`SELECT count(*) FROM t`).Scan(&n); bad != nil {
		t.Fatal(bad)
	}
	if n == 1 && err != nil && !errors.Is(err, rowmesh.ErrLater) && !errors.Is(err, rowmesh.ErrUnknown) {
		t.Errorf("it is committed, and the error is %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Write(t.Context(), insertAnd(func() {})); !errors.Is(err, rowmesh.ErrClosed) || errors.Is(err, rowmesh.ErrLater) {
		t.Errorf("after Close: %v", err)
	}
}

func insertAnd(then func()) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		defer then()
		_, err := tx.Exec(`INSERT INTO t VALUES(1)`)
		return err
	}
}
