package replica

import (
	"fmt"

	"github.com/rowmesh/rowmesh/crdt"
)

// Write takes in what the store captured: local transactions, as one atomic unit. It returns the stamp of
// the last one, zero where there was nothing to write. Each group gets one stamp, of its own wall time
// where that is possible and always greater than every stamp merged here so far, so that a local edit beats
// whatever its author had seen. Local writes are never refused for reasons of time.
func (r *Replica) Write(v Round, now Instant, d Drain) (crdt.Stamp, error) {
	r.now = now
	if err := r.learn(d.Schemas); err != nil {
		return crdt.Stamp{}, err
	}
	var all push
	for _, g := range d.Groups {
		p, err := r.writeGroup(v, g)
		if err != nil {
			return crdt.Stamp{}, err
		}
		all = all.then(p)
	}
	if all.blocks == 0 {
		return crdt.Stamp{}, nil
	}
	r.stats.BlocksWritten += uint64(all.blocks)
	r.pushes = append(r.pushes, all)
	return all.block.Stamp, nil
}

// writeGroup writes one block. What fits into one part is pushed, if it is not too large; of a larger one only a part is ever in
// memory, for it is announced and fetched by sessions. Nothing is written of a group without operations.
func (r *Replica) writeGroup(v Round, g Group) (out push, err error) {
	var b *crdt.Block
	err = g.Each(func(ops []crdt.Op) error {
		if len(ops) == 0 {
			return nil
		}
		more := b != nil
		if more {
			if err := r.put(v); err != nil {
				return err
			}
			b.Rows = nil
		} else {
			b = r.newBlock(g.WallMillis)
		}
		if err := r.writeOps(v, b, ops); err != nil {
			return err
		}
		part := r.encode(b)
		part.announce = part.announce || more
		part.bytes, part.rows = out.bytes+part.bytes, out.rows+part.rows
		out = part
		if g.Parts == nil {
			return nil
		}
		return r.putRows(v)
	})
	if err != nil || b == nil {
		return push{}, err
	}
	r.own.add(b.Stamp.Time)
	r.raise(r.origin, b.Stamp.Time)
	return out, nil
}

// newBlock begins a block, made at a moment by the wall clock; 0: now.
func (r *Replica) newBlock(wallMillis int64) *crdt.Block {
	wall := r.now.Wall
	if wallMillis > 0 {
		wall = min(wall, wallMillis)
	}
	return &crdt.Block{Stamp: crdt.Stamp{Time: r.clock.Now(wall), Origin: r.origin}, Prev: r.coverage[r.origin]}
}

// writeOps adds operations to a block and merges their rows.
func (r *Replica) writeOps(v View, b *crdt.Block, ops []crdt.Op) error {
	for _, op := range ops {
		schema := r.schemas.current[op.Table]
		if schema == nil {
			return fmt.Errorf("replica: write %s %s: the table's schema was not given", op.Table, op.Key)
		}
		b.Rows = append(b.Rows, crdt.RowDelta{Schema: schema, Key: op.Key, Row: op.Delta(b.Stamp, crdt.Stamp{})})
	}
	if err := r.noteSeen(v, b); err != nil {
		return err
	}
	_, err := r.rows.merge(v, b.Rows, true)
	return err
}

// noteSeen gives each delete the birth that its author saw, which is the one stored here.
func (r *Replica) noteSeen(v View, b *crdt.Block) error {
	var at []int
	var ends []crdt.RowDelta
	for i, d := range b.Rows {
		if !d.Row.Tomb.IsZero() {
			at, ends = append(at, i), append(ends, d)
		}
	}
	for len(ends) > 0 {
		n := min(len(ends), readBatch)
		rows, err := r.rows.read(v, ends[:n])
		if err != nil {
			return err
		}
		for j, d := range ends[:n] {
			b.Rows[at[j]].Row.Seen = r.rows.birth(RowKey{d.Schema.Table, d.Key}, rows)
		}
		at, ends = at[n:], ends[n:]
	}
	return nil
}
