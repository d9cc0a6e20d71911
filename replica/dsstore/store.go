package dsstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// Store is a replica.Store on a go-datastore. Use it from one goroutine at a time.
type Store struct {
	ds     ds.Batching
	number uint64 // of the last commit
	meta   meta
	// What is small and always needed is held in memory.
	origins map[crdt.Origin]*origin
	byNum   []*origin // number n at n-1
	tables  map[string]*table
	schemas []*crdt.Schema
	broken  error      // a commit failed: what it left behind is known after the next open only
	order   tableOrder // of the table that is being scanned
}

type meta struct {
	origin crdt.Origin
	group  replica.GroupID
	ready  bool
	copy   []byte // the state of an unfinished first copy
}

type origin struct {
	id      crdt.Origin
	number  uint64
	head    hlc.Timestamp
	buckets []uint64 // of the index, sorted; some may be empty
}

// table numbers the columns of a table, in the order in which they were learnt.
type table struct {
	name string
	key  []string
	cols *crdt.Columns
}

// Open opens the replica kept on d, or begins a new one. d stays the caller's, who closes it after the Store.
func Open(ctx context.Context, d ds.Batching) (*Store, error) {
	s := &Store{ds: d, origins: map[crdt.Origin]*origin{}, tables: map[string]*table{}}
	if err := s.recover(ctx); err != nil {
		return nil, fmt.Errorf("dsstore: open: %w", err)
	}
	for _, load := range []func(context.Context) error{s.loadMeta, s.loadOrigins, s.loadTables, s.loadSchemas, s.loadBuckets} {
		if err := load(ctx); err != nil {
			return nil, fmt.Errorf("dsstore: open: %w", err)
		}
	}
	return s, nil
}

var metaKey = ds.RawKey("/m")

func recordKey(number uint64) ds.Key { return ds.RawKey(fmt.Sprintf("/j/%d", number%2)) }

// commitRecord is one commit as its record tells it.
type commitRecord struct {
	number  uint64
	changes []change
}

// recover carries out the last two commits again, the older first. A record that is damaged was never finished, unless
// its commit has left traces.
func (s *Store) recover(ctx context.Context) error {
	records, torn, err := s.records(ctx)
	if err != nil {
		return err
	}
	applied, err := s.loadNumber(ctx) // before anything is carried out again, which sets it back
	if err != nil && (torn || len(records) == 0) {
		return err
	}
	if len(records) > 0 {
		s.number = records[len(records)-1].number
	}
	if applied > s.number || len(records) == 2 && records[0].number+1 != s.number {
		return fmt.Errorf("%w (commit %d has left traces, and the record of it or of the one before is lost)", ErrCorrupt, max(applied, s.number))
	}
	for _, r := range records {
		if err := s.apply(ctx, r.changes); err != nil {
			return err
		}
	}
	if len(records) == 0 {
		return nil
	}
	return s.ds.Sync(ctx, ds.RawKey("/"))
}

// records reads the commit records, the older first, and tells whether one is damaged.
func (s *Store) records(ctx context.Context) (records []commitRecord, torn bool, err error) {
	for _, key := range []ds.Key{recordKey(0), recordKey(1)} {
		sealed, err := s.ds.Get(ctx, key)
		if errors.Is(err, ds.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		body, err := unseal(key, sealed)
		if err != nil {
			torn = true
			continue
		}
		number, body, ok := cutNumber(body)
		if !ok || recordKey(number) != key {
			return nil, false, damaged(key, "it has another number")
		}
		changes, err := parseChanges(key, body)
		if err != nil {
			return nil, false, err
		}
		records = append(records, commitRecord{number, changes})
	}
	slices.SortFunc(records, func(a, b commitRecord) int { return cmp.Compare(a.number, b.number) })
	return records, torn, nil
}

func (s *Store) loadNumber(ctx context.Context) (uint64, error) {
	b, err := s.get(ctx, metaKey)
	if err != nil || b == nil {
		return 0, err
	}
	n, _, ok := cutNumber(b)
	if !ok {
		return 0, damaged(metaKey, "it has no number")
	}
	return n, nil
}

// apply carries out the changes of a commit.
func (s *Store) apply(ctx context.Context, changes []change) error {
	b, err := s.ds.Batch(ctx)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.value == nil {
			err = b.Delete(ctx, c.key)
		} else {
			err = b.Put(ctx, c.key, c.value)
		}
		if err != nil {
			return err
		}
	}
	return b.Commit(ctx)
}

// get reads a record, nil where there is none.
func (s *Store) get(ctx context.Context, key ds.Key) ([]byte, error) {
	sealed, err := s.ds.Get(ctx, key)
	if errors.Is(err, ds.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return unseal(key, sealed)
}

// each calls f for every record below a prefix, in order of the keys where ordered, until f returns false.
func (s *Store) each(ctx context.Context, prefix string, ordered bool, f func(key ds.Key, record []byte) (bool, error)) error {
	q := query.Query{Prefix: prefix}
	if ordered {
		q.Orders = []query.Order{query.OrderByKey{}}
	}
	return s.visit(ctx, q, func(e query.Entry) (bool, error) {
		key := ds.RawKey(e.Key)
		record, err := unseal(key, e.Value)
		if err != nil {
			return false, err
		}
		return f(key, record)
	})
}

// eachKey calls f for every key below a prefix.
func (s *Store) eachKey(ctx context.Context, prefix string, f func(key string) error) error {
	return s.visit(ctx, query.Query{Prefix: prefix, KeysOnly: true}, func(e query.Entry) (bool, error) { return true, f(e.Key) })
}

// visit calls f for all that a query finds, until f returns false.
func (s *Store) visit(ctx context.Context, q query.Query, f func(query.Entry) (bool, error)) error {
	res, err := s.ds.Query(ctx, q)
	if err != nil {
		return err
	}
	defer res.Close()
	for {
		r, ok := res.NextSync()
		if !ok {
			return nil
		}
		if r.Error != nil {
			return r.Error
		}
		if more, err := f(r.Entry); err != nil || !more {
			return err
		}
	}
}

func (m meta) record(number uint64) []byte {
	b := binary.AppendUvarint(nil, number)
	b = append(b, m.origin[:]...)
	b = append(b, m.group[:]...)
	if m.ready {
		return append(b, 1)
	}
	return append(append(b, 0), m.copy...)
}

func (s *Store) loadMeta(ctx context.Context) error {
	b, err := s.get(ctx, metaKey)
	if err != nil || b == nil {
		return err
	}
	_, b, ok := cutNumber(b)
	if !ok || len(b) < 33 || b[32] == 1 && len(b) > 33 {
		return damaged(metaKey, "it has another length")
	}
	s.meta = meta{crdt.Origin(b[:16]), replica.GroupID(b[16:32]), b[32] == 1, b[33:]}
	return nil
}

func originKey(n uint64) ds.Key { return ds.RawKey(fmt.Sprintf("/v/%08x", n)) }

func (s *Store) loadOrigins(ctx context.Context) error {
	return s.each(ctx, "/v", true, func(key ds.Key, b []byte) (bool, error) {
		if len(b) != 24 || key != originKey(uint64(len(s.byNum)+1)) {
			return false, damaged(key, "it is not the next origin")
		}
		o := &origin{id: crdt.Origin(b[:16]), number: uint64(len(s.byNum) + 1), head: hlc.Timestamp(binary.BigEndian.Uint64(b[16:]))}
		if o.id.IsZero() || o.head > hlc.Max || s.origins[o.id] != nil {
			return false, damaged(key, "its origin or head cannot be")
		}
		s.byNum, s.origins[o.id] = append(s.byNum, o), o
		return true, nil
	})
}

func (o *origin) record() []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 24), o.id[:]...), uint64(o.head))
}

func tableKey(name string) ds.Key { return ds.RawKey("/t/" + escape.Replace(name)) }

func (t *table) record() []byte {
	b := binary.AppendUvarint(appendText(nil, t.name), uint64(len(t.key)))
	for _, c := range slices.Concat(t.key, t.cols.Names()) {
		b = appendText(b, c)
	}
	return b
}

func (s *Store) loadTables(ctx context.Context) error {
	return s.each(ctx, "/t", false, func(key ds.Key, b []byte) (bool, error) {
		t := &table{}
		var ok bool
		var parts uint64
		if t.name, b, ok = cutText(b); ok {
			parts, b, ok = cutNumber(b)
		}
		var names []string
		for ok && len(b) > 0 {
			var name string
			name, b, ok = cutText(b)
			names = append(names, name)
		}
		if !ok || parts > uint64(len(names)) {
			return false, damaged(key, "it ends early")
		}
		t.key, t.cols = names[:parts:parts], crdt.NewColumns(names[parts:])
		s.tables[t.name] = t
		return true, nil
	})
}

func schemaKey(n int) ds.Key { return ds.RawKey(fmt.Sprintf("/s/%08x", n)) }

func (s *Store) loadSchemas(ctx context.Context) error {
	return s.each(ctx, "/s", true, func(key ds.Key, b []byte) (bool, error) {
		schema, err := crdt.ParseSchema(b)
		if err != nil {
			return false, damaged(key, err)
		}
		s.schemas = append(s.schemas, schema)
		return true, nil
	})
}

// loadBuckets learns which buckets of the index there are.
func (s *Store) loadBuckets(ctx context.Context) error {
	return s.eachKey(ctx, "/i", func(key string) error {
		n, h, err := parseRefKey(key)
		if err != nil {
			return err
		}
		o, ok := s.numbered(n)
		if !ok {
			return fmt.Errorf("%w (key %q names no origin)", ErrCorrupt, key)
		}
		o.addBucket(bucketOf(h))
		return nil
	})
}

func (o *origin) addBucket(b uint64) {
	if i, found := slices.BinarySearch(o.buckets, b); !found {
		o.buckets = slices.Insert(o.buckets, i, b)
	}
}

func (s *Store) numbered(n uint64) (*origin, bool) {
	if n == 0 || n > uint64(len(s.byNum)) {
		return nil, false
	}
	return s.byNum[n-1], true
}

// Origin and Number are the dictionary of stored rows.

// Origin returns the origin of a number.
func (s *Store) Origin(n uint64) (crdt.Origin, bool) {
	o, ok := s.numbered(n)
	if !ok {
		return crdt.Origin{}, false
	}
	return o.id, true
}

// Begin opens a round. Nobody else writes the store, so that it does not wait.
func (s *Store) Begin(ctx context.Context) (replica.Round, error) {
	if s.broken != nil {
		return nil, fmt.Errorf("dsstore: open the store again: %w", s.broken)
	}
	return &round{view: view{Store: s, ctx: ctx}, index: map[ds.Key][]byte{}}, nil
}

// Read calls f with a view of the committed state.
func (s *Store) Read(ctx context.Context, f func(replica.View) error) error {
	if s.broken != nil {
		return fmt.Errorf("dsstore: open the store again: %w", s.broken)
	}
	return f(view{Store: s, ctx: ctx})
}

// Close does nothing: the datastore is the caller's.
func (s *Store) Close() error { return nil }

// view reads the committed state.
type view struct {
	*Store
	ctx    context.Context
	passes bool // over rows that cannot be read
}

// Tolerant returns a view that passes over rows that cannot be read. What else is damaged is an error to it too.
func (v view) Tolerant() replica.View {
	v.passes = true
	return v
}

// Load returns what is held in memory.
func (v view) Load() (replica.State, error) {
	st := replica.State{Origin: v.meta.origin, Group: v.meta.group, Ready: v.meta.ready, Copy: slices.Clone(v.meta.copy), Coverage: crdt.Coverage{}, Schemas: slices.Clone(v.schemas)}
	for _, o := range v.byNum {
		if o.head > 0 {
			st.Coverage[o.id] = o.head
		}
	}
	return st, nil
}

// Rows reads rows by key.
func (v view) Rows(keys []replica.RowKey) ([]crdt.Row, error) {
	out := make([]crdt.Row, len(keys))
	for i, k := range keys {
		key := rowKey(k)
		b, err := v.get(v.ctx, key)
		if err == nil && b != nil {
			out[i], err = v.parseRow(key, k.Table, b)
		}
		if err != nil && !(v.passes && errors.Is(err, ErrCorrupt)) {
			return nil, fmt.Errorf("dsstore: read %s: %w", k, err)
		}
	}
	return out, nil
}

func (s *Store) parseRow(key ds.Key, tbl string, b []byte) (crdt.Row, error) {
	t := s.tables[tbl]
	n, b, ok := cutNumber(b)
	o, known := s.numbered(n)
	if t == nil || !ok || !known || len(b) < 8 {
		return crdt.Row{}, damaged(key, "its table or origin is not known")
	}
	base := crdt.Stamp{Time: hlc.Timestamp(binary.BigEndian.Uint64(b)), Origin: o.id}
	row, err := crdt.ParseRow(base, string(b[8:]), s, t.cols)
	if err != nil {
		return crdt.Row{}, damaged(key, err)
	}
	return row, nil
}

// Scan calls yield for the rows of a table in order of their keys.
func (v view) Scan(tbl string, after crdt.Key, yield func([]replica.RowState) bool) error {
	keys, err := v.sortedKeys(v.ctx, tbl)
	if err != nil {
		return fmt.Errorf("dsstore: scan %s: %w", tbl, err)
	}
	i, found := slices.BinarySearchFunc(keys, after, crdt.Key.Compare)
	if found {
		i++
	}
	for part := range slices.Chunk(keys[i:], scanRows) {
		at := make([]replica.RowKey, len(part))
		for j, k := range part {
			at[j] = replica.RowKey{Table: tbl, Key: k}
		}
		rows, err := v.Rows(at)
		if err != nil {
			return err
		}
		page := make([]replica.RowState, len(part))
		for j, k := range at {
			page[j] = replica.RowState{RowKey: k, Row: rows[j]}
		}
		if !yield(page) {
			return nil
		}
	}
	v.order = tableOrder{} // nobody goes on after the end
	return nil
}

// Count counts the keys of all rows.
func (v view) Count() (n uint64, err error) {
	if err := v.eachKey(v.ctx, "/r", func(string) error { n++; return nil }); err != nil {
		return 0, fmt.Errorf("dsstore: count rows: %w", err)
	}
	return n, nil
}

// tableOrder is the keys of one table in order. A datastore has no order of its own that SQL shares, and a copy for a
// newcomer scans a table in many short visits, so the order is kept from one to the next. Commits add to it.
type tableOrder struct {
	table string
	keys  []crdt.Key
	fresh []crdt.Key // added since, not sorted in yet
}

func (s *Store) sortedKeys(ctx context.Context, tbl string) ([]crdt.Key, error) {
	if s.order.table != tbl {
		s.order = tableOrder{}
		keys, err := s.listKeys(ctx, tbl)
		if err != nil {
			return nil, err
		}
		s.order = tableOrder{table: tbl, keys: keys}
	}
	if o := &s.order; len(o.fresh) > 0 {
		o.keys = append(o.keys, o.fresh...)
		o.fresh = nil
		slices.SortFunc(o.keys, crdt.Key.Compare)
		o.keys = slices.Compact(o.keys) // a damaged row that was written anew is not a new one
	}
	return s.order.keys, nil
}

func (s *Store) listKeys(ctx context.Context, tbl string) (keys []crdt.Key, err error) {
	err = s.eachKey(ctx, rowPrefix(tbl), func(key string) error {
		k, err := parseRowKey(tbl, key)
		keys = append(keys, k.Key)
		return err
	})
	slices.SortFunc(keys, crdt.Key.Compare)
	return keys, err
}

// grew notes rows that a commit has added.
func (s *Store) grew(rows []replica.RowChange) {
	for _, c := range rows {
		if c.Schema.Table == s.order.table && c.Old.IsZero() {
			s.order.fresh = append(s.order.fresh, c.Key)
		}
	}
}

// Changed visits the rows of the transactions in in and not in notIn.
func (v view) Changed(in, notIn crdt.Coverage, after replica.Position, yield func(crdt.Stamp, []replica.RowState) bool) error {
	for _, id := range in.Origins() {
		o := v.origins[id]
		from := notIn[id] + 1
		if id == after.Stamp.Origin {
			from = max(from, after.Stamp.Time)
		}
		if o == nil || id.Compare(after.Stamp.Origin) < 0 || from > in[id] {
			continue
		}
		i, _ := slices.BinarySearch(o.buckets, bucketOf(from))
		for ; i < len(o.buckets) && o.buckets[i] <= bucketOf(in[id]); i++ {
			if more, err := v.bucket(o, o.buckets[i], from, in[id], after, yield); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

// bucket visits the transactions of one bucket from one time up to another.
func (v view) bucket(o *origin, bucket uint64, from, upTo hlc.Timestamp, after replica.Position, yield func(crdt.Stamp, []replica.RowState) bool) (more bool, err error) {
	more = true
	first := refKey(o.number, from, 0).String()
	err = v.each(v.ctx, bucketPrefix(o.number, bucket), true, func(key ds.Key, b []byte) (bool, error) {
		if key.String() < first {
			return true, nil
		}
		_, h, err := parseRefKey(key.String())
		if err != nil || h > upTo {
			return false, err
		}
		refs, err := parseRefs(key, b)
		if err != nil {
			return false, err
		}
		at := crdt.Stamp{Time: h, Origin: o.id}
		if at == after.Stamp && !after.Key.IsZero() {
			i, found := slices.BinarySearchFunc(refs, after.RowKey, replica.RowKey.Compare)
			if found {
				i++
			}
			refs = refs[i:]
		}
		rows, err := v.naming(at, refs)
		if err != nil {
			return false, err
		}
		more = len(rows) == 0 || yield(at, rows)
		return more, nil
	})
	return more, err
}

// naming reads rows and passes over those that name the transaction no more.
func (v view) naming(at crdt.Stamp, refs []replica.RowKey) ([]replica.RowState, error) {
	rows, err := v.Rows(refs)
	if err != nil {
		return nil, err
	}
	out := make([]replica.RowState, 0, len(refs))
	for i, k := range refs {
		if rows[i].Names(at) {
			out = append(out, replica.RowState{RowKey: k, Row: rows[i]})
		}
	}
	return out, nil
}

var _ replica.Store = (*Store)(nil)
