package replica

import (
	"fmt"

	"github.com/rowmesh/rowmesh/crdt"
)

// CheckClaims verifies the invariant that everything else rests on: claimed implies state dominates. For
// every written block that the coverage claims, the rows must hold each of its registers or newer ones.
// row reads a row's state. It returns the first violation. It is meant for tests and simulations, which know
// every block that was ever written.
func CheckClaims(claimed crdt.Coverage, written []*crdt.Block, row func(RowKey) crdt.Row) error {
	for _, b := range written {
		if !claimed.Covers(b.Stamp) {
			continue
		}
		for _, d := range b.Rows {
			k := RowKey{d.Schema.Table, d.Key}
			if have := row(k); !have.Dominates(d.Row) {
				return fmt.Errorf("replica: transaction %s is claimed, but %s holds %s and lacks %s", b.Stamp, k, have, d.Row)
			}
		}
	}
	return nil
}
