package replica

import (
	"fmt"

	"github.com/rowmesh/rowmesh/crdt"
)

// Write takes in what the store captured: local transactions, as one atomic unit. It returns the stamp of
// the last one, zero where there was nothing to write. Each group gets one stamp, of its own wall time
// where that is possible and always greater than every stamp merged here so far, so that a local edit beats
// whatever its author had seen. Local writes are never refused for reasons of time.
func (r *Replica) Write(v View, now Instant, d Drain) (crdt.Stamp, error) {
	r.now = now
	if err := r.learn(d.Schemas); err != nil {
		return crdt.Stamp{}, err
	}
	var last crdt.Stamp
	var blocks []push
	for _, g := range d.Groups {
		if len(g.Ops) == 0 {
			continue
		}
		p, err := r.writeGroup(v, g)
		if err != nil {
			return crdt.Stamp{}, err
		}
		blocks = append(blocks, p)
		last = p.block.Stamp
	}
	r.stats.BlocksWritten += uint64(len(blocks))
	if len(blocks) > 1 {
		for i := range blocks {
			blocks[i].announce = true // a chain is one unit: only a session carries it whole
		}
	}
	r.pushes = append(r.pushes, blocks...)
	return last, nil
}

func (r *Replica) writeGroup(v View, g Group) (push, error) {
	wall := r.now.Wall
	if g.WallMillis > 0 {
		wall = min(wall, g.WallMillis)
	}
	b := &crdt.Block{Stamp: crdt.Stamp{Time: r.clock.Now(wall), Origin: r.origin}, Prev: r.coverage[r.origin]}
	for _, op := range g.Ops {
		schema := r.schemas.current[op.Table]
		if schema == nil {
			return push{}, fmt.Errorf("replica: write %s %s: the table's schema was not given", op.Table, op.Key)
		}
		b.Rows = append(b.Rows, crdt.RowDelta{Schema: schema, Key: op.Key, Row: op.Delta(b.Stamp, crdt.Stamp{})})
	}
	if err := r.noteSeen(v, b); err != nil {
		return push{}, err
	}
	if _, err := r.rows.merge(v, b.Rows, true); err != nil {
		return push{}, err
	}
	r.own.add(b.Stamp.Time)
	r.raise(r.origin, b.Stamp.Time)
	return r.encode(b), nil
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
