package sim

import (
	"testing"

	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/storetest"
)

// TestMedia: a store in maps, and the users' store on a simulated disk, keep the contract that the others keep.
func TestMedia(t *testing.T) {
	for name, empty := range map[string]func() Medium{"memory": func() Medium { return newMemory() }, "disk": func() Medium { return NewDisk() }} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Open {
				m := empty()
				return func(t *testing.T) replica.Store {
					s, err := m.Open()
					if err != nil {
						t.Fatal(err)
					}
					return s
				}
			})
		})
	}
}
