package replica

import (
	"context"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
)

// TestGroupsInParts: P1. A group that comes in parts gets one stamp, of its own time. What came before a part is handed to the store, which
// need not hold all of it, and a drain of several groups is told of as one.
func TestGroupsInParts(t *testing.T) {
	insert := func(key int64) crdt.Op {
		return crdt.Op{Table: "t", Key: crdt.MustKey(crdt.Integer(key)), Kind: crdt.OpInsert, Sets: []crdt.Set{{Column: "a", Value: crdt.Integer(key)}}}
	}
	var round *memRound
	var put []int // rows that were put when a part was asked for
	parts := func(parts ...[]crdt.Op) func(func([]crdt.Op) error) error {
		return func(yield func([]crdt.Op) error) error {
			for _, p := range parts {
				put = append(put, len(round.ahead.rows))
				if err := yield(p); err != nil {
					return err
				}
			}
			return nil
		}
	}
	write := func(groups ...Group) (*Replica, []push) {
		store := newMemStore()
		r := must(New(Config{NewOrigin: crdt.Origin{1}, NewGroup: GroupID{1}}, store))
		rv, _ := store.Begin(context.Background())
		round, put = rv.(*memRound), nil
		if _, err := r.Write(round, Instant{Wall: 9000}, Drain{Schemas: []*crdt.Schema{testSchema}, Groups: groups}); err != nil {
			t.Fatal(err)
		}
		pushes := r.pushes
		if err := round.Commit(r.Ready().Batch); err != nil {
			t.Fatal(err)
		}
		for k, row := range store.rows {
			if c, _ := row.Cell("a"); c.Value != k.Key.Values()[0] || c.Stamp != row.Birth {
				t.Errorf("%s is stored as %s", k, row)
			}
		}
		if got := r.Counters().BlocksWritten; len(pushes) != 1 || got != uint64(pushes[0].blocks) {
			t.Fatalf("%d blocks are told of in %d pushes", got, len(pushes))
		}
		return r, pushes
	}
	time := func(key int64) int64 { return round.rows[RowKey{"t", insert(key).Key}].Birth.Time.Millis() }

	_, p := write(Group{WallMillis: 5000, Parts: parts([]crdt.Op{insert(1), insert(2)})})
	if p[0].announce || p[0].raw == nil || p[0].rows != 2 || len(round.ahead.rows) != 0 {
		t.Errorf("one small part: %+v, %d rows were put", p[0], len(round.ahead.rows))
	}

	_, p = write(Group{WallMillis: 5000, Parts: parts([]crdt.Op{insert(1)}, []crdt.Op{insert(2), insert(3)}, []crdt.Op{insert(4)})})
	if !p[0].announce || p[0].rows != 4 || p[0].blocks != 1 || p[0].bytes == 0 {
		t.Errorf("several parts: %+v", p[0])
	}
	if len(put) != 3 || put[1] != 0 || put[2] != 1 || len(round.ahead.rows) != 3 || time(1) != 5000 || time(4) != 5000 {
		t.Errorf("rows put before each part: %v; the times are %d and %d", put, time(1), time(4))
	}

	_, p = write(
		Group{WallMillis: 5000, Ops: []crdt.Op{insert(1)}}, Group{Parts: parts(nil)},
		Group{WallMillis: 6000, Parts: parts([]crdt.Op{insert(2)}, []crdt.Op{insert(3)})}, Group{Parts: parts([]crdt.Op{insert(4)})})
	if !p[0].announce || p[0].rows != 4 || p[0].blocks != 3 || p[0].raw != nil {
		t.Errorf("a chain: %+v", p[0])
	}
	if time(1) != 5000 || time(2) != 6000 || time(3) != 6000 || time(4) != 9000 {
		t.Errorf("the times are %d, %d, %d and %d", time(1), time(2), time(3), time(4))
	}
}
