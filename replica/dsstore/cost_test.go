package dsstore_test

import (
	"bytes"
	"context"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/dsstore"
)

// counting counts the records that are read.
type counting struct {
	*ds.MapDatastore
	read int
}

func (c *counting) Get(ctx context.Context, k ds.Key) ([]byte, error) {
	c.read++
	return c.MapDatastore.Get(ctx, k)
}

func (c *counting) Query(ctx context.Context, q query.Query) (query.Results, error) {
	res, err := c.MapDatastore.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	all, err := res.Rest()
	c.read += len(all)
	return query.ResultsWithEntries(q, all), err
}

// TestChangedCostsByTheAnswer: what the last minutes brought is read in as many records as it has, after a short history
// and after a long one; so is the last row of a transaction. Refs of a row that was overwritten are swept.
func TestChangedCostsByTheAnswer(t *testing.T) {
	const minute = hlc.Timestamp(60_000 << 16)
	var cost []int
	for _, history := range []int{40, 800} {
		d := &counting{MapDatastore: ds.NewMapDatastore()}
		s := must(dsstore.Open(ctx, d))
		origin := crdt.Origin{1}
		old := map[int]crdt.Row{}
		for i := range history {
			at := crdt.Stamp{Time: minute * hlc.Timestamp(i+1), Origin: origin}
			b := replica.Batch{Heads: crdt.Coverage{origin: at.Time}}
			if i == 0 {
				b.Schemas = []*crdt.Schema{schema}
			}
			for _, k := range []int{i, 1 << 20} { // a row of its own, and one that each transaction overwrites
				o := edit(crdt.OpReplace, k, set("a", int64(i)))
				n := old[k].Merge(o.Delta(at, old[k].Birth))
				b.Rows = append(b.Rows, replica.RowChange{Schema: schema, Key: o.Key, Old: old[k], New: n})
				old[k] = n
			}
			r := must(s.Begin(ctx))
			if err := r.Commit(b); err != nil {
				t.Fatal(err)
			}
		}
		in := crdt.Coverage{origin: minute * hlc.Timestamp(history)}
		notIn := crdt.Coverage{origin: minute * hlc.Timestamp(history-3)}
		d.read = 0
		rows := 0
		if err := s.Read(ctx, func(v replica.View) error {
			return v.Changed(in, notIn, replica.Position{}, func(_ crdt.Stamp, page []replica.RowState) bool {
				rows += len(page)
				return true
			})
		}); err != nil {
			t.Fatal(err)
		}
		if rows != 4 { // three of their own, and the last state of the common one
			t.Errorf("%d rows changed in the last three transactions", rows)
		}
		cost = append(cost, d.read)
		if refs := len(refsOf(t, d, row(1<<20))); refs != 1 {
			t.Errorf("%d refs name the row that was overwritten %d times", refs, history)
		}
	}
	if cost[0] != cost[1] || cost[1] > 16 {
		t.Errorf("%d records are read after a short history, %d after a long one", cost[0], cost[1])
	}
}

// refsOf returns the index records that name a row.
func refsOf(t *testing.T, d ds.Datastore, k crdt.Key) (keys []string) {
	t.Helper()
	for _, e := range entries(t, d) {
		if len(e.Key) > 2 && e.Key[:3] == "/i/" && bytes.Contains(e.Value, []byte(k.Encoded())) {
			keys = append(keys, e.Key)
		}
	}
	return keys
}
