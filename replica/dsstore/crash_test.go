package dsstore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/dsstore"
	"github.com/rowmesh/rowmesh/replica/storetest"
)

// TestStopAtEveryOperation: P3, P5. A commit that is broken off at any put, delete or sync is whole or absent after the
// store is opened again, whatever part of the unsynced operations the crash keeps, and with its last value cut short.
func TestStopAtEveryOperation(t *testing.T) {
	storetest.RunCrashes(t, func() storetest.Medium { return newFlimsy() })
}

var errStopped = errors.New("the medium stopped")

// flimsy is a datastore that stops after some operations. A crash keeps each operation since the last sync or loses it;
// a commit record that was being put may be kept in part.
type flimsy struct {
	now, durable map[ds.Key][]byte
	since        []op
	left         int // operations until the stop; 0: no stop is set
	stopped      bool
}

// op is a put, or with a nil value a delete.
type op struct {
	key   ds.Key
	value []byte
}

func newFlimsy() *flimsy {
	return &flimsy{now: map[ds.Key][]byte{}, durable: map[ds.Key][]byte{}}
}

func (f *flimsy) Open() (replica.Store, error) { return dsstore.Open(ctx, f) }

func (f *flimsy) StopAfter(n int) { f.left = n }

func (f *flimsy) Stopped() bool { return f.stopped }

func (f *flimsy) Crash(seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	for _, o := range f.since {
		if rng.IntN(2) == 0 {
			continue
		}
		if o.key.Parent() == ds.RawKey("/j") && rng.IntN(3) == 0 {
			o.value = o.value[:rng.IntN(len(o.value))]
		}
		o.do(f.durable)
	}
	f.now, f.since, f.left, f.stopped = map[ds.Key][]byte{}, nil, 0, false
	for k, v := range f.durable {
		f.now[k] = v
	}
}

func (o op) do(to map[ds.Key][]byte) {
	if o.value == nil {
		delete(to, o.key)
		return
	}
	to[o.key] = o.value
}

// step counts an operation and stops where its turn has come. What stops may have been done.
func (f *flimsy) step(ops ...op) error {
	if f.stopped {
		return errStopped
	}
	f.since = append(f.since, ops...)
	if f.left > 0 {
		if f.left--; f.left == 0 {
			f.stopped = true
			return errStopped
		}
	}
	for _, o := range ops {
		o.do(f.now)
	}
	return nil
}

func (f *flimsy) Put(_ context.Context, k ds.Key, v []byte) error {
	return f.step(op{k, append([]byte{}, v...)})
}

func (f *flimsy) Delete(_ context.Context, k ds.Key) error { return f.step(op{key: k}) }

func (f *flimsy) Sync(context.Context, ds.Key) error {
	if err := f.step(); err != nil {
		return err
	}
	for _, o := range f.since {
		o.do(f.durable)
	}
	f.since = nil
	return nil
}

func (f *flimsy) Get(_ context.Context, k ds.Key) ([]byte, error) {
	if v, ok := f.now[k]; ok {
		return v, nil
	}
	return nil, ds.ErrNotFound
}

func (f *flimsy) Has(_ context.Context, k ds.Key) (bool, error) { return f.now[k] != nil, nil }

func (f *flimsy) GetSize(_ context.Context, k ds.Key) (int, error) {
	return ds.GetBackedSize(ctx, f, k)
}

func (f *flimsy) Query(_ context.Context, q query.Query) (query.Results, error) {
	var all []query.Entry
	for k, v := range f.now {
		all = append(all, query.Entry{Key: k.String(), Value: v, Size: len(v)})
	}
	return query.NaiveQueryApply(q, query.ResultsWithEntries(q, all)), nil
}

// Batch does one operation after the other.
func (f *flimsy) Batch(context.Context) (ds.Batch, error) { return &flimsyBatch{f: f}, nil }

type flimsyBatch struct {
	f   *flimsy
	ops []op
}

func (b *flimsyBatch) Put(_ context.Context, k ds.Key, v []byte) error {
	b.ops = append(b.ops, op{k, append([]byte{}, v...)})
	return nil
}

func (b *flimsyBatch) Delete(_ context.Context, k ds.Key) error {
	b.ops = append(b.ops, op{key: k})
	return nil
}

func (b *flimsyBatch) Commit(context.Context) error {
	for _, o := range b.ops {
		if err := b.f.step(o); err != nil {
			return err
		}
	}
	return nil
}

func (f *flimsy) Close() error { return nil }
