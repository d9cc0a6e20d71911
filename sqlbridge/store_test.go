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
func TestAsAStore(t *testing.T) { runSuite(t, listBytes) }

// TestAsAStoreOfLargeTransactions runs it with every transaction of more than a few rows served as one that is too large to
// be listed.
func TestAsAStoreOfLargeTransactions(t *testing.T) { runSuite(t, 4) }

func runSuite(t *testing.T, most int) {
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
			b.listBytes = most
			return closing{b, db}
		}
	})
}
