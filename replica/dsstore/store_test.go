package dsstore_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	leveldb "github.com/ipfs/go-ds-leveldb"
	pebbleds "github.com/ipfs/go-ds-pebble"

	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/dsstore"
	"github.com/rowmesh/rowmesh/replica/storetest"
)

var ctx = context.Background()

// closing closes a datastore with the store on it.
type closing struct {
	replica.Store
	ds ds.Batching
}

func (c closing) Close() error { return errors.Join(c.Store.Close(), c.ds.Close()) }

// quiet keeps Pebble from writing to the standard error, and from ending the process.
type quiet struct{ testing.TB }

func (quiet) Infof(string, ...any)        {}
func (q quiet) Errorf(f string, a ...any) { q.TB.Logf(f, a...) }
func (q quiet) Fatalf(f string, a ...any) { q.TB.Errorf(f, a...) }

func opener(open func(t *testing.T, dir string) (ds.Batching, error)) func(*testing.T) storetest.Open {
	return func(t *testing.T) storetest.Open {
		dir := t.TempDir()
		return func(t *testing.T) replica.Store {
			d, err := open(t, dir)
			if err != nil {
				t.Fatal(err)
			}
			s, err := dsstore.Open(ctx, d)
			if err != nil {
				t.Fatal(err)
			}
			return closing{s, d}
		}
	}
}

// TestOnMap, TestOnLevelDB and TestOnPebble run the suite of all stores on three datastores.
func TestOnMap(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Open {
		d := dssync.MutexWrap(ds.NewMapDatastore())
		return func(t *testing.T) replica.Store {
			s, err := dsstore.Open(ctx, d)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}

func TestOnLevelDB(t *testing.T) {
	storetest.Run(t, opener(func(_ *testing.T, dir string) (ds.Batching, error) {
		return leveldb.NewDatastore(filepath.Join(dir, "db"), nil)
	}))
}

func TestOnPebble(t *testing.T) {
	storetest.Run(t, opener(func(t *testing.T, dir string) (ds.Batching, error) {
		return pebbleds.NewDatastore(filepath.Join(dir, "db"), pebbleds.WithPebbleOpts(&pebble.Options{Logger: quiet{t}}))
	}))
}
