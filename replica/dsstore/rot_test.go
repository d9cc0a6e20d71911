package dsstore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/dsstore"
)

var schema = must(crdt.NewSchema("t", []string{"id"}, []string{"a", "b"}))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// deaf is a replica's output that goes nowhere.
type deaf struct{}

func (deaf) Send(replica.LinkID, replica.Frame) {}
func (deaf) CloseLink(replica.LinkID, error)    {}
func (deaf) Show(replica.Batch)                 {}
func instant(i int) replica.Instant             { return replica.Instant{Wall: 1 << 40, Mono: int64(i)} }
func row(i int) crdt.Key                        { return crdt.MustKey(crdt.Integer(int64(i))) }
func set(c string, v int64) crdt.Set            { return crdt.Set{Column: c, Value: crdt.Integer(v)} }
func groups(ops ...crdt.Op) []replica.Group     { return []replica.Group{{Ops: ops}} }
func edit(k crdt.OpKind, i int, s ...crdt.Set) crdt.Op {
	return crdt.Op{Table: "t", Key: row(i), Kind: k, Sets: s}
}

// written returns a datastore on which a replica has made some transactions.
func written(t *testing.T) *ds.MapDatastore {
	t.Helper()
	d := ds.NewMapDatastore()
	s := must(dsstore.Open(ctx, d))
	var r *replica.Replica
	if err := s.Read(ctx, func(v replica.View) (err error) {
		r, err = replica.New(replica.Config{NewOrigin: crdt.Origin{1}, NewGroup: replica.GroupID{2}}, v)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for i, ops := range [][]replica.Group{
		groups(edit(crdt.OpInsert, 1, set("a", 1), set("b", 2)), edit(crdt.OpInsert, 2, set("a", 3), set("b", 4))),
		groups(edit(crdt.OpUpdate, 1, set("b", 5))),
		groups(edit(crdt.OpDelete, 2)),
		groups(edit(crdt.OpInsert, 3, set("a", 6), set("b", 7))),
		groups(edit(crdt.OpUpdate, 3, set("a", 8))),
	} {
		write := replica.Input{Write: &replica.Drain{Schemas: []*crdt.Schema{schema}, Groups: ops}}
		if err := replica.Process(ctx, s, r, instant(i), false, []replica.Input{write}, deaf{}); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// readAll opens the store on d and reads all it holds.
func readAll(d ds.Batching) (text string, err error) {
	s, err := dsstore.Open(ctx, d)
	if err != nil {
		return "", err
	}
	err = s.Read(ctx, func(v replica.View) error {
		st := must(v.Load())
		text = fmt.Sprint(st)
		var lines []string
		if err := v.Scan("t", crdt.Key{}, func(rows []replica.RowState) bool {
			for _, r := range rows {
				lines = append(lines, r.RowKey.String()+r.Row.String())
			}
			return true
		}); err != nil {
			return err
		}
		slices.Sort(lines)
		text += strings.Join(lines, "\n")
		return v.Changed(st.Coverage, nil, replica.Position{}, func(at crdt.Stamp, rows []replica.RowState) bool {
			text += fmt.Sprint(at, rows)
			return true
		})
	})
	return text, err
}

func entries(t *testing.T, d ds.Datastore) []query.Entry {
	t.Helper()
	res, err := d.Query(ctx, query.Query{Orders: []query.Order{query.OrderByKey{}}})
	if err != nil {
		t.Fatal(err)
	}
	return must(res.Rest())
}

// with returns a copy of some records, with another value for one of them; nil: without it.
func with(t *testing.T, all []query.Entry, key string, value []byte) *ds.MapDatastore {
	t.Helper()
	d := ds.NewMapDatastore()
	for _, e := range all {
		v := e.Value
		if e.Key == key {
			v = value
		}
		if v == nil {
			continue
		}
		if err := d.Put(ctx, ds.RawKey(e.Key), v); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// TestDamageIsFound: P15. Every record with any bit flipped, cut at every length, or in the place of another, is
// found when it is read; unless the commit records still hold what it was and bring it back. Nothing is ever read
// that was not written.
func TestDamageIsFound(t *testing.T) {
	d := written(t)
	all := entries(t, d)
	want, err := readAll(with(t, all, "", nil))
	if err != nil {
		t.Fatal(err)
	}
	found, healed := map[string]int{}, 0
	check := func(e query.Entry, value []byte, how string) {
		got, err := readAll(with(t, all, e.Key, value))
		switch {
		case errors.Is(err, dsstore.ErrCorrupt):
			found[e.Key[:2]]++
		case err != nil || got != want:
			t.Errorf("%q %s: %v\n%s\nwant\n%s", e.Key, how, err, got, want)
		default:
			healed++
		}
	}
	for _, e := range all {
		for i := range e.Value {
			bad := slices.Clone(e.Value)
			bad[i] ^= 1 << (i % 8)
			check(e, bad, fmt.Sprint("with a bit flipped in byte ", i))
			check(e, slices.Clone(e.Value[:i]), fmt.Sprint("cut to ", i))
		}
		for _, other := range all {
			if other.Key != e.Key {
				check(e, other.Value, "with the record of "+other.Key)
			}
		}
	}
	for _, prefix := range []string{"/r", "/i", "/j", "/s", "/t"} {
		if found[prefix] == 0 {
			t.Errorf("no damage to a record %s was found: %v", prefix, found)
		}
	}
	if healed == 0 {
		t.Error("no damage was brought back from the commit records")
	}
}

// TestLostCommitRecord: a record of the last commit that was damaged or lost after its commit was carried out is
// reported: to open the store as it was before would leave rows and claims that do not belong together.
func TestLostCommitRecord(t *testing.T) {
	d := written(t)
	all := entries(t, d)
	lost := 0
	for _, e := range all {
		if !strings.HasPrefix(e.Key, "/j/") {
			continue
		}
		_, err := readAll(with(t, all, e.Key, nil))
		_, bad := readAll(with(t, all, e.Key, []byte("torn")))
		if errors.Is(err, dsstore.ErrCorrupt) != errors.Is(bad, dsstore.ErrCorrupt) || err != nil && !errors.Is(err, dsstore.ErrCorrupt) {
			t.Errorf("%s: lost %v, torn %v", e.Key, err, bad)
		}
		if err != nil {
			lost++
		}
	}
	if lost != 1 {
		t.Errorf("%d of the two commit records are missed: only the last one tells what may be half done", lost)
	}
}
