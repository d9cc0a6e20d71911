package sqlbridge

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/storetest"
)

// closing closes the handle with the bridge.
type closing struct {
	*Bridge
	db *sql.DB
}

func (c closing) Close() error { return errors.Join(c.Bridge.Close(), c.db.Close()) }

// TestAsAStore runs the suite of all stores on the one inside SQLite.
func TestAsAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Open {
		path := filepath.Join(t.TempDir(), "app.db")
		return func(t *testing.T) replica.Store {
			db, err := sql.Open("sqlite", "file:"+path)
			if err != nil {
				t.Fatal(err)
			}
			b, _, err := Open(context.Background(), db, Options{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			return closing{b, db}
		}
	})
}
