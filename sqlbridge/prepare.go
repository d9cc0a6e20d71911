package sqlbridge

import (
	"context"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// prepared is what was read ahead of a round, while programs could go on writing: the outbox, the rows that it names, and what is
// stored of them. It holds for the next round, because every write of a program to a tracked row leaves an entry behind
// those that were read, the stored rows change in rounds alone, and a change of the schema drops it.
type prepared struct {
	schemaVersion int64
	commits       int64
	upTo          int64 // the last entry
	hints         []hint
	rows          map[replica.RowKey]tableRow // as the tables held them; nil: not there
	n             map[replica.RowKey]int64
	memo          map[replica.RowKey]crdt.Row
}

// Prepare reads what programs wrote, without the write lock, so that the next round has less to do while it holds it. What they
// write meanwhile is read by the round. After an error nothing is prepared, and the round reads all.
func (b *Bridge) Prepare(ctx context.Context) error {
	b.ahead = nil
	return b.Read(ctx, func(rv replica.View) error {
		v := rv.(*view)
		version, err := b.pragma(ctx, "schema_version")
		if err != nil || version != b.schemaVersion {
			return err
		}
		p := &prepared{schemaVersion: version, commits: b.commits, rows: map[replica.RowKey]tableRow{}, n: v.n, memo: map[replica.RowKey]crdt.Row{}}
		v.memo = p.memo
		if p.hints, err = v.readOutbox(0, &p.upTo); err != nil || len(p.hints) == 0 {
			return err
		}
		byTable := map[*table][]crdt.Key{}
		for _, h := range p.hints[:min(len(p.hints), memoRows)] {
			if k := h.row(); !p.has(k) {
				p.rows[k] = nil
				byTable[h.table] = append(byTable[h.table], h.key)
			}
		}
		for t, keys := range byTable {
			if err := p.read(v, t, keys); err != nil {
				return err
			}
		}
		b.ahead = p
		return nil
	})
}

func (p *prepared) read(v *view, t *table, keys []crdt.Key) error {
	for part := range slices.Chunk(keys, readKeys) {
		rows, err := v.current(t, part)
		if err != nil {
			return err
		}
		stored := make([]replica.RowKey, len(part))
		for i, k := range part {
			stored[i] = replica.RowKey{Table: t.name, Key: k}
			p.rows[stored[i]] = rows[k]
		}
		if _, err := v.Rows(stored); err != nil { // into the memo
			return err
		}
	}
	return nil
}

func (p *prepared) has(k replica.RowKey) bool {
	_, ok := p.rows[k]
	return ok
}

// takeAhead gives the round what was prepared for it, where it still holds.
func (r *round) takeAhead() {
	p := r.b.ahead
	r.b.ahead = nil
	if p == nil || p.schemaVersion != r.b.schemaVersion || p.commits != r.b.commits {
		return
	}
	r.ahead, r.n, r.memo = p, p.n, p.memo
}

// hints returns the entries of the outbox in order, and notes the last one.
func (r *round) hints() ([]hint, error) {
	if r.ahead == nil {
		return r.readOutbox(0, &r.captured)
	}
	r.captured = r.ahead.upTo
	since, err := r.readOutbox(r.ahead.upTo, &r.captured)
	for _, h := range since {
		delete(r.ahead.rows, h.row()) // written again since
	}
	return slices.Concat(r.ahead.hints, since), err
}

// present reads rows of a table by key, those that were prepared from memory.
func (r *round) present(t *table, keys []crdt.Key) (map[crdt.Key]tableRow, error) {
	if r.ahead == nil {
		return r.current(t, keys)
	}
	out := make(map[crdt.Key]tableRow, len(keys))
	var rest []crdt.Key
	for _, k := range keys {
		row, ok := r.ahead.rows[replica.RowKey{Table: t.name, Key: k}]
		if !ok {
			rest = append(rest, k)
		} else if row != nil {
			out[k] = row
		}
	}
	if len(rest) == 0 {
		return out, nil
	}
	more, err := r.current(t, rest)
	for k, row := range more {
		out[k] = row
	}
	return out, err
}
