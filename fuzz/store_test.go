package fuzz

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/dsstore"
)

// nowhere takes what a replica wants to send and drops it.
type nowhere struct{}

func (nowhere) Send(replica.LinkID, replica.Frame) {}
func (nowhere) CloseLink(replica.LinkID, error)    {}
func (nowhere) Show(replica.Batch)                 {}

// stored is what a replica leaves on its datastore after a few transactions, in order of the keys.
func stored(f *testing.F) []query.Entry {
	ctx, d := context.Background(), ds.NewMapDatastore()
	s := must(dsstore.Open(ctx, d))
	var r *replica.Replica
	if err := s.Read(ctx, func(v replica.View) (err error) {
		r, err = replica.New(replica.Config{NewOrigin: crdt.Origin{1}, NewGroup: replica.GroupID{2}}, v)
		return err
	}); err != nil {
		f.Fatal(err)
	}
	for i := range int64(4) {
		op := crdt.Op{Table: "customers", Key: crdt.MustKey(crdt.Integer(i % 2)), Kind: crdt.OpInsert, Sets: []crdt.Set{{Column: "name", Value: crdt.Integer(i)}}}
		write := replica.Drain{Schemas: []*crdt.Schema{customers}, Groups: []replica.Group{{Ops: []crdt.Op{op}}}}
		if err := replica.Process(ctx, s, r, replica.Instant{Wall: 1 << 40, Mono: i}, false, []replica.Input{{Write: &write}}, nowhere{}); err != nil {
			f.Fatal(err)
		}
	}
	res := must(d.Query(ctx, query.Query{Orders: []query.Order{query.OrderByKey{}}}))
	return must(res.Rest())
}

// FuzzDatastore gives one stored record, or the body of one with a checksum that fits, any bytes at all: the store opens
// and reads, or says that it is damaged.
func FuzzDatastore(f *testing.F) {
	all := stored(f)
	for i, e := range all {
		f.Add(uint8(i), true, e.Value[4:])
		f.Add(uint8(i), false, e.Value)
	}
	f.Fuzz(func(t *testing.T, which uint8, fits bool, record []byte) {
		ctx, d := context.Background(), ds.NewMapDatastore()
		for i, e := range all {
			if i == int(which)%len(all) {
				e.Value = record
				if fits {
					sum := crc32.Checksum(append([]byte(e.Key), record...), crc32.MakeTable(crc32.Castagnoli))
					e.Value = append(binary.BigEndian.AppendUint32(nil, sum), record...)
				}
			}
			if err := d.Put(ctx, ds.RawKey(e.Key), e.Value); err != nil {
				t.Fatal(err)
			}
		}
		if err := readStore(ctx, d); err != nil && !errors.Is(err, dsstore.ErrCorrupt) {
			t.Errorf("record %q: %v", all[int(which)%len(all)].Key, err)
		}
	})
}

// readStore reads all that a store holds.
func readStore(ctx context.Context, d ds.Batching) error {
	s, err := dsstore.Open(ctx, d)
	if err != nil {
		return err
	}
	return s.Read(ctx, func(v replica.View) error {
		st, err := v.Load()
		if err != nil {
			return err
		}
		look := func(rows []replica.RowState) bool { return fmt.Sprint(rows) != "" }
		if err := v.Scan("customers", crdt.Key{}, look); err != nil {
			return err
		}
		return v.Changed(st.Coverage, nil, replica.Position{}, func(_ crdt.Stamp, rows []replica.RowState) bool { return look(rows) })
	})
}
