package dsstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	ds "github.com/ipfs/go-datastore"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// round is one commit.
type round struct {
	view
	changes []change
	meta    meta
	fresh   []*origin         // numbered by this commit
	index   map[ds.Key][]byte // records of the index that this commit has put so far
	ahead   replica.Ahead
	over    bool
}

// Put keeps rows for the commit. A datastore has no transactions, so that they wait in memory.
func (r *round) Put(rows []replica.RowChange) error {
	r.ahead.Put(rows)
	return nil
}

// Rows reads rows by key, as the round has put them.
func (r *round) Rows(keys []replica.RowKey) ([]crdt.Row, error) {
	out, err := r.view.Rows(keys)
	if err != nil {
		return nil, err
	}
	r.ahead.Over(keys, out)
	return out, nil
}

// Tolerant returns a view that passes over rows that cannot be read, and has those that the round has put.
func (r *round) Tolerant() replica.View {
	t := *r
	t.passes = true
	return &t
}

// Capture has nothing to say: there is no SQL.
func (r *round) Capture() (replica.Drain, error) { return replica.Drain{}, nil }

// Abort ends the round.
func (r *round) Abort() {
	if !r.over {
		r.over = true
		r.forget()
	}
}

// forget takes back the numbers that a round gave out.
func (r *round) forget() {
	for _, o := range r.fresh {
		delete(r.origins, o.id)
	}
	r.byNum = r.byNum[:len(r.byNum)-len(r.fresh)]
	r.fresh = nil
}

func (r *round) put(key ds.Key, record []byte) {
	r.changes = append(r.changes, change{key, seal(key, record)})
}

func (r *round) remove(key ds.Key) { r.changes = append(r.changes, change{key: key}) }

// Commit makes the batch durable as one unit.
func (r *round) Commit(b replica.Batch) error {
	if r.over {
		return fmt.Errorf("dsstore: the round is over")
	}
	r.over = true
	if b.IsZero() {
		return nil
	}
	b.Rows = r.ahead.With(b)
	tables, err := r.collect(b)
	if err != nil {
		r.forget()
		return fmt.Errorf("dsstore: commit: %w", err)
	}
	if err := r.write(); err != nil {
		r.broken = err
		return fmt.Errorf("dsstore: commit: %w", err)
	}
	r.number++
	if b.Restart {
		r.order = tableOrder{}
	}
	r.grew(b.Rows)
	r.Store.meta = r.meta
	r.schemas = append(r.schemas, b.Schemas...)
	for _, t := range tables {
		r.tables[t.name] = t
	}
	for id, h := range b.Heads {
		r.origins[id].head = h
	}
	return nil
}

// write puts the record of the commit, which is the commit point, and then carries it out.
func (r *round) write() error {
	key := recordKey(r.number + 1)
	record := appendChanges(binary.AppendUvarint(nil, r.number+1), r.changes)
	if err := r.ds.Put(r.ctx, key, seal(key, record)); err != nil {
		return err
	}
	if err := r.ds.Sync(r.ctx, ds.RawKey("/")); err != nil {
		return err
	}
	return r.apply(r.ctx, r.changes)
}

// collect turns a batch into puts and deletes. It returns the tables that grew.
func (r *round) collect(b replica.Batch) (tables []*table, err error) {
	r.meta = r.Store.meta
	if !b.Origin.IsZero() {
		r.meta.origin = b.Origin
	}
	if b.Group != (replica.GroupID{}) {
		r.meta.group = b.Group
	}
	r.meta.ready = r.meta.ready || b.Ready
	if b.Copy != nil {
		r.meta.copy = b.Copy
	}
	if b.Restart {
		if err := r.forgetRows(); err != nil {
			return nil, err
		}
	}
	r.put(metaKey, r.meta.record(r.number+1))
	for i, s := range b.Schemas {
		r.put(schemaKey(len(r.schemas)+i), crdt.AppendSchema(nil, s))
	}
	if tables, err = r.collectRows(b.Rows); err != nil {
		return nil, err
	}
	heads := map[*origin]bool{}
	for _, id := range b.Heads.Origins() {
		o := *r.numbering(id)
		heads[r.origins[id]] = true
		o.head = b.Heads[id]
		r.put(originKey(o.number), o.record())
	}
	for _, o := range r.fresh {
		if !heads[o] {
			r.put(originKey(o.number), o.record())
		}
	}
	return tables, nil
}

// forgetRows removes all rows and the index.
func (r *round) forgetRows() error {
	rows := r.eachKey(r.ctx, "/r", func(key string) error { r.remove(ds.RawKey(key)); return nil })
	refs := r.eachKey(r.ctx, "/i", func(key string) error { r.removeRefs(ds.RawKey(key)); return nil })
	return errors.Join(rows, refs)
}

// numbering returns an origin, with a new number where it has none.
func (r *round) numbering(id crdt.Origin) *origin {
	o := r.origins[id]
	if o == nil {
		o = &origin{id: id, number: uint64(len(r.byNum) + 1)}
		r.origins[id] = o
		r.byNum = append(r.byNum, o)
		r.fresh = append(r.fresh, o)
	}
	return o
}

// Number numbers origins for the encoding of rows.
func (r *round) Number(id crdt.Origin) uint64 { return r.numbering(id).number }

// collectRows puts the rows of a batch, and keeps the index of the transactions that they name.
func (r *round) collectRows(rows []replica.RowChange) ([]*table, error) {
	grown := map[string]*table{}
	var order []*table
	named, gone := map[crdt.Stamp][]replica.RowKey{}, map[crdt.Stamp][]replica.RowKey{}
	var before, after []crdt.Stamp
	newest := map[string]*crdt.Schema{} // rows that were put ahead may come before a column that others have
	for _, c := range rows {
		newest[c.Schema.Table] = c.Schema
	}
	for _, c := range rows {
		t := grown[c.Schema.Table]
		if t == nil {
			t = r.grown(newest[c.Schema.Table])
			grown[c.Schema.Table] = t
			if t != r.tables[t.name] {
				order = append(order, t)
				r.put(tableKey(t.name), t.record())
			}
		}
		k := replica.RowKey{Table: t.name, Key: c.Key}
		base := c.New.Base()
		body := binary.AppendUvarint(nil, r.Number(base.Origin))
		body = binary.BigEndian.AppendUint64(body, uint64(base.Time))
		r.put(rowKey(k), crdt.AppendRow(body, c.New, r, t.cols))
		before, after = c.Old.Stamps(before[:0]), c.New.Stamps(after[:0])
		for _, s := range after {
			if c.Anew || !c.Old.Names(s) {
				named[s] = append(named[s], k)
			}
		}
		for _, s := range before {
			if !c.New.Names(s) {
				gone[s] = append(gone[s], k)
			}
		}
	}
	for _, s := range sortedStamps(named) {
		if err := r.addRefs(s, named[s]); err != nil {
			return nil, err
		}
	}
	for _, s := range sortedStamps(gone) {
		if err := r.dropRefs(s, gone[s]); err != nil {
			return nil, err
		}
	}
	return order, nil
}

func sortedStamps(m map[crdt.Stamp][]replica.RowKey) []crdt.Stamp {
	out := make([]crdt.Stamp, 0, len(m))
	for s := range m {
		out = append(out, s)
	}
	slices.SortFunc(out, crdt.Stamp.Compare)
	return out
}

// grown returns the table of a schema with all its columns numbered.
func (r *round) grown(s *crdt.Schema) *table {
	t := r.tables[s.Table]
	if t == nil {
		return &table{s.Table, s.Key, crdt.NewColumns(slices.Clone(s.Columns))}
	}
	names := t.cols.Names()
	for _, c := range s.Columns {
		if !slices.Contains(names, c) {
			names = append(slices.Clip(names), c)
		}
	}
	if len(names) == len(t.cols.Names()) {
		return t
	}
	return &table{t.name, t.key, crdt.NewColumns(names)}
}

// refRecord is one record of the index.
type refRecord struct {
	key  ds.Key
	refs []replica.RowKey
	size int
}

// refRecords reads the index records of a transaction.
func (r *round) refRecords(o *origin, s crdt.Stamp) (out []refRecord, err error) {
	if _, found := slices.BinarySearch(o.buckets, bucketOf(s.Time)); !found {
		return nil, nil
	}
	for n := 0; ; n++ {
		key := refKey(o.number, s.Time, n)
		b, ok := r.index[key]
		if !ok {
			var err error
			if b, err = r.get(r.ctx, key); err != nil {
				return nil, err
			}
		}
		if b == nil {
			return out, nil
		}
		refs, err := parseRefs(key, b)
		if err != nil {
			return nil, err
		}
		out = append(out, refRecord{key, refs, len(b)})
	}
}

// addRefs notes the rows that name a transaction.
func (r *round) addRefs(s crdt.Stamp, keys []replica.RowKey) error {
	o := r.numbering(s.Origin)
	old, err := r.refRecords(o, s)
	if err != nil {
		return err
	}
	for _, rec := range old {
		keys = append(keys, rec.refs...)
	}
	slices.SortFunc(keys, replica.RowKey.Compare)
	keys = slices.Compact(keys)
	n := 0
	for part := range slices.Chunk(keys, refsPerRecord) {
		r.putRefs(refKey(o.number, s.Time, n), part)
		n++
	}
	for _, rec := range old[min(n, len(old)):] { // rows that were named twice
		r.removeRefs(rec.key)
	}
	o.addBucket(bucketOf(s.Time))
	return nil
}

func (r *round) putRefs(key ds.Key, refs []replica.RowKey) {
	r.index[key] = appendRefs([]byte{}, refs)
	r.put(key, r.index[key])
}

func (r *round) removeRefs(key ds.Key) {
	r.index[key] = nil
	r.remove(key)
}

// dropRefs forgets rows that name a transaction no more, where that is cheap. A record that becomes empty stays
// while others of its transaction follow, which are found by counting.
func (r *round) dropRefs(s crdt.Stamp, keys []replica.RowKey) error {
	o := r.numbering(s.Origin)
	records, err := r.refRecords(o, s)
	if err != nil {
		return err
	}
	for i, rec := range slices.Backward(records) {
		if rec.size > sweepBytes {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(rec.refs), func(k replica.RowKey) bool { return slices.Contains(keys, k) })
		switch {
		case len(rest) == len(rec.refs):
		case len(rest) == 0 && i == len(records)-1:
			r.removeRefs(rec.key)
			records = records[:i]
		default:
			r.putRefs(rec.key, rest)
		}
	}
	return nil
}
