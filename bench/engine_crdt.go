package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/namespace"
	"github.com/ipfs/go-datastore/query"
	crdtds "github.com/ipfs/go-ds-crdt"
	pebbleds "github.com/ipfs/go-ds-pebble"
	ipld "github.com/ipfs/go-ipld-format"
	logging "github.com/ipfs/go-log/v2"
)

// merkle is a pair of go-ds-crdt replicas in this process, each over a Pebble datastore of its own that holds its elements and its
// blocks. A row is one key whose value is the row as JSON, the finest grain at which a row is written by one Put.
type merkle struct {
	l     *lab
	rows  [][]any
	casts [2]*cast
	dags  [2]*dag
	store [2]*pebbleds.Datastore
	r     [2]*crdtds.Datastore
	wire  atomic.Int64
}

func openMerkle(l *lab, all [][]any) engine {
	check(logging.SetLogLevel("crdt", "error"))
	m := &merkle{l: l, rows: all}
	for i := range m.casts {
		m.casts[i] = newCast(&m.wire)
	}
	m.casts[0].other, m.casts[1].other = m.casts[1], m.casts[0]
	m.open(0)
	return m
}

func (m *merkle) open(side int) {
	m.store[side] = must(pebbleds.NewDatastore(m.l.path() + ".pebble"))
	m.dags[side] = &dag{blocks: namespace.Wrap(m.store[side], ds.NewKey("blocks")), wire: &m.wire}
	m.casts[side].on = true
	if side == 1 {
		m.dags[0].other, m.dags[1].other = m.dags[1], m.dags[0]
	}
	m.r[side] = must(crdtds.New(m.store[side], ds.NewKey("crdt"), m.dags[side], m.casts[side], crdtds.DefaultOptions()))
}

func (m *merkle) write(w write) time.Duration {
	ctx := context.Background()
	r := m.r[w.side]
	return timed(func() {
		for part := range slices.Chunk(w.rows, w.per) {
			b := must(r.Batch(ctx))
			for _, i := range part {
				k := ds.NewKey(m.rows[i][0].(string))
				switch w.op {
				case "insert":
					check(b.Put(ctx, k, must(json.Marshal(m.rows[i][1:]))))
				case "update":
					var row []any
					check(json.Unmarshal(must(r.Get(ctx, k)), &row))
					row[0] = w.value + i
					check(b.Put(ctx, k, must(json.Marshal(row))))
				case "delete":
					check(b.Delete(ctx, k))
				}
			}
			check(b.Commit(ctx))
		}
	})
}

func (m *merkle) settle() time.Duration { return 0 }

// join does not wait for the next broadcast of the heads, which comes once a minute: the new replica hears the last one.
func (m *merkle) join() time.Duration {
	return timed(func() {
		m.open(1)
		m.casts[1].hear(m.casts[0].last)
		m.wait()
	})
}

// ship waits: the replicas ship by themselves.
func (m *merkle) ship(...write) time.Duration { return timed(m.wait) }

func (m *merkle) moved() int64 { return m.wire.Load() }

func (m *merkle) wait() {
	for side, c := range m.casts {
		if m.r[side] != nil {
			c.wait()
		}
	}
}

func (m *merkle) size() int64 {
	check(m.store[0].DB.Flush())
	return int64(must(m.store[0].DiskUsage(context.Background())))
}

func (m *merkle) digest(side int) string {
	all := must(must(m.r[side].Query(context.Background(), query.Query{Orders: []query.Order{query.OrderByKey{}}})).Rest())
	h := sha256.New()
	for _, e := range all {
		fmt.Fprintf(h, "%s %s\n", e.Key, e.Value)
	}
	return fmt.Sprintf("%d rows, %x", len(all), h.Sum(nil))
}

func (m *merkle) cpu() time.Duration { return ownCPU() }

func (m *merkle) close() {
	for i, r := range m.r {
		m.casts[i].stop()
		if r != nil {
			check(r.Close())
			check(m.store[i].Close())
		}
	}
}

// cast is a broadcaster between two replicas. Its replica asks for the next message when it has done all that the last one
// brought, so that cast knows when there is nothing left to do.
type cast struct {
	other  *cast
	wire   *atomic.Int64
	last   []byte // the last message to the other side
	on     bool   // the replica is there
	mu     sync.Mutex
	change *sync.Cond
	queue  [][]byte
	asking bool // the replica waits for a message
}

func newCast(wire *atomic.Int64) *cast {
	c := &cast{wire: wire}
	c.change = sync.NewCond(&c.mu)
	return c
}

// Broadcast hands a message to the other side.
func (c *cast) Broadcast(_ context.Context, b []byte) error {
	c.last = slices.Clone(b)
	c.other.hear(c.last)
	return nil
}

func (c *cast) hear(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.on {
		return
	}
	c.wire.Add(int64(len(b)))
	c.queue = append(c.queue, b)
	c.change.Broadcast()
}

// Next returns the next message.
func (c *cast) Next(context.Context) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking = true
	c.change.Broadcast()
	for len(c.queue) == 0 && c.on {
		c.change.Wait()
	}
	if !c.on {
		return nil, crdtds.ErrNoMoreBroadcast
	}
	c.asking = false
	b := c.queue[0]
	c.queue = c.queue[1:]
	return b, nil
}

// wait returns when the replica has done all that it heard of.
func (c *cast) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.asking || len(c.queue) > 0 {
		c.change.Wait()
	}
}

func (c *cast) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = false
	c.change.Broadcast()
}

// dag is a DAG service that keeps its blocks and fetches those it lacks from the other side, without a network between.
type dag struct {
	other  *dag
	blocks ds.Datastore
	wire   *atomic.Int64
}

func blockKey(c cid.Cid) ds.Key { return ds.NewKey(c.Hash().HexString()) }

func (d *dag) Get(ctx context.Context, c cid.Cid) (ipld.Node, error) {
	raw, err := d.blocks.Get(ctx, blockKey(c))
	if err == ds.ErrNotFound && d.other != nil {
		if raw, err = d.other.blocks.Get(ctx, blockKey(c)); err == nil {
			d.wire.Add(int64(len(raw) + len(c.Bytes())))
			err = d.blocks.Put(ctx, blockKey(c), raw)
		}
	}
	if err != nil {
		return nil, err
	}
	b, err := blocks.NewBlockWithCid(raw, c)
	if err != nil {
		return nil, err
	}
	return merkledag.DecodeProtobufBlock(b)
}

func (d *dag) GetMany(ctx context.Context, cids []cid.Cid) <-chan *ipld.NodeOption {
	out := make(chan *ipld.NodeOption, len(cids))
	for _, c := range cids {
		n, err := d.Get(ctx, c)
		out <- &ipld.NodeOption{Node: n, Err: err}
	}
	close(out)
	return out
}

func (d *dag) Add(ctx context.Context, n ipld.Node) error {
	return d.blocks.Put(ctx, blockKey(n.Cid()), n.RawData())
}

func (d *dag) AddMany(ctx context.Context, all []ipld.Node) error {
	for _, n := range all {
		if err := d.Add(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (d *dag) Remove(ctx context.Context, c cid.Cid) error {
	return d.blocks.Delete(ctx, blockKey(c))
}

func (d *dag) RemoveMany(ctx context.Context, cids []cid.Cid) error {
	for _, c := range cids {
		if err := d.Remove(ctx, c); err != nil {
			return err
		}
	}
	return nil
}
