package sim

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/dsstore"
)

// Disk is a datastore on a simulated disk: what was put is seen at once, and durable only after a Sync. A crash keeps
// each operation since then or loses it, one by one and in no order. The store of users runs on it.
type Disk struct {
	image   map[string][]byte // as read
	keys    []string          // of image, sorted
	durable map[string][]byte
	since   []diskOp // operations since the last Sync
	Trouble
	stopped bool
}

// diskOp is a put, or with a nil value a delete.
type diskOp struct {
	key   string
	value []byte
}

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{image: map[string][]byte{}, durable: map[string][]byte{}} }

// Open opens the users' store on the disk.
func (d *Disk) Open() (replica.Store, error) { return dsstore.Open(context.Background(), d) }

// Empty returns another, empty disk.
func (d *Disk) Empty() Medium { return NewDisk() }

// Copy returns a disk with what is durable here.
func (d *Disk) Copy() Medium {
	c := NewDisk()
	for k, v := range d.durable {
		c.durable[k] = v
	}
	c.restart()
	return c
}

// Set arms a fault.
func (d *Disk) Set(t Trouble) { d.Trouble = t }

// Crash loses some of what was not synced.
func (d *Disk) Crash(g *rand.Rand) {
	for _, op := range d.since {
		if g.IntN(2) == 0 {
			d.keep(op)
		}
	}
	d.restart()
}

func (d *Disk) keep(op diskOp) {
	if op.value == nil {
		delete(d.durable, op.key)
	} else {
		d.durable[op.key] = op.value
	}
}

// restart shows what is durable.
func (d *Disk) restart() {
	d.image, d.keys, d.since, d.stopped, d.Trouble = map[string][]byte{}, nil, nil, false, Trouble{}
	for k, v := range d.durable {
		d.image[k] = v
		d.keys = append(d.keys, k)
	}
	slices.Sort(d.keys)
}

// Rot flips one bit of a stored row or index record, by a number. It reports whether there is one.
func (d *Disk) Rot(n int64) bool {
	var some []string
	for _, k := range d.keys {
		if strings.HasPrefix(k, "/r/") || strings.HasPrefix(k, "/i/") {
			some = append(some, k)
		}
	}
	if len(some) == 0 {
		return false
	}
	k := some[n%int64(len(some))]
	v := slices.Clone(d.image[k])
	v[n/7%int64(len(v))] ^= 1 << (n % 8)
	d.image[k] = v
	if _, ok := d.durable[k]; ok {
		d.durable[k] = v
	}
	return true
}

// trouble lets an armed fault happen where its operation has come.
func (d *Disk) trouble(writes bool) error {
	if d.stopped {
		return ErrStopped
	}
	if d.StopAfter > 0 {
		if d.StopAfter--; d.StopAfter == 0 {
			d.stopped = true
			return ErrStopped
		}
	}
	if d.FailAfter > 0 {
		if d.FailAfter--; d.FailAfter == 0 {
			return ErrIO
		}
	}
	if d.Full && writes {
		return ErrFull
	}
	return nil
}

func (d *Disk) do(op diskOp) error {
	if err := d.trouble(op.value != nil); err != nil {
		return err
	}
	i, found := slices.BinarySearch(d.keys, op.key)
	switch {
	case op.value == nil && found:
		delete(d.image, op.key)
		d.keys = slices.Delete(d.keys, i, i+1)
	case op.value != nil:
		d.image[op.key] = op.value
		if !found {
			d.keys = slices.Insert(d.keys, i, op.key)
		}
	}
	d.since = append(d.since, op)
	return nil
}

// Put, Delete, Sync, Get, Has, GetSize, Query, Batch and Close make the disk a ds.Batching.

// Put writes a record.
func (d *Disk) Put(_ context.Context, k ds.Key, v []byte) error {
	return d.do(diskOp{k.String(), append([]byte{}, v...)})
}

// Delete removes a record.
func (d *Disk) Delete(_ context.Context, k ds.Key) error { return d.do(diskOp{key: k.String()}) }

// Sync makes everything durable.
func (d *Disk) Sync(context.Context, ds.Key) error {
	if err := d.trouble(false); err != nil {
		return err
	}
	for _, op := range d.since {
		d.keep(op)
	}
	d.since = d.since[:0]
	return nil
}

// Get reads a record.
func (d *Disk) Get(_ context.Context, k ds.Key) ([]byte, error) {
	if d.stopped {
		return nil, ErrStopped
	}
	v, ok := d.image[k.String()]
	if !ok {
		return nil, ds.ErrNotFound
	}
	return v, nil
}

// Has reports whether there is a record.
func (d *Disk) Has(_ context.Context, k ds.Key) (bool, error) {
	_, ok := d.image[k.String()]
	return ok, nil
}

// GetSize returns the length of a record.
func (d *Disk) GetSize(ctx context.Context, k ds.Key) (int, error) {
	return ds.GetBackedSize(ctx, d, k)
}

// Query reads the records below a prefix, in order of their keys.
func (d *Disk) Query(_ context.Context, q query.Query) (query.Results, error) {
	if d.stopped {
		return nil, ErrStopped
	}
	prefix := strings.TrimSuffix(q.Prefix, "/") + "/"
	i, _ := slices.BinarySearch(d.keys, prefix)
	var out []query.Entry
	for ; i < len(d.keys) && strings.HasPrefix(d.keys[i], prefix); i++ {
		out = append(out, query.Entry{Key: d.keys[i], Value: d.image[d.keys[i]], Size: len(d.image[d.keys[i]])})
	}
	return query.ResultsWithEntries(q, out), nil
}

// Batch collects operations. They are carried out one by one, and a crash may come between any two.
func (d *Disk) Batch(context.Context) (ds.Batch, error) { return &diskBatch{d: d}, nil }

// Close does nothing.
func (d *Disk) Close() error { return nil }

type diskBatch struct {
	d   *Disk
	ops []diskOp
}

func (b *diskBatch) Put(_ context.Context, k ds.Key, v []byte) error {
	b.ops = append(b.ops, diskOp{k.String(), append([]byte{}, v...)})
	return nil
}

func (b *diskBatch) Delete(_ context.Context, k ds.Key) error {
	b.ops = append(b.ops, diskOp{key: k.String()})
	return nil
}

func (b *diskBatch) Commit(context.Context) error {
	for _, op := range b.ops {
		if err := b.d.do(op); err != nil {
			return err
		}
	}
	b.ops = nil
	return nil
}

var _ ds.Batching = (*Disk)(nil)
