package replica_test

import (
	"testing"

	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/storetest"
)

// TestMemStore: the store under the worlds and scripts of this package's tests keeps the contract that the others keep.
func TestMemStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Open {
		m := replica.NewMemStore()
		return func(*testing.T) replica.Store { return m }
	})
}
