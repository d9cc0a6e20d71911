package sqlbridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// round is one write transaction: capture, merge, coverage and projection together.
type round struct {
	view
	over      bool
	captured  int64                // the last outbox entry that Capture took in
	taken     int                  // how many entries that were
	ahead     *prepared            // nil: nothing was read ahead
	part      bool                 // Capture took in a part of what was written: nothing else may change rows
	emptied   bool                 // it took in all
	gathered  bool                 // Capture made a temporary table
	unsettled bool                 // see settle
	drifted   []*stored            // tables whose drift scan Capture made
	dropped   map[*table][]trigger // of the user, held back
	made      map[string]bool      // tables of the group that were made in this round
}

// Begin opens a round. It waits for other writers in short retries, so that ctx can end the wait, and reads between them what
// they wrote.
func (b *Bridge) Begin(ctx context.Context) (replica.Round, error) {
	err := b.retry(ctx, func() error {
		err := b.exec(ctx, "BEGIN IMMEDIATE")
		if isBusy(err) {
			b.prepareMore(ctx)
		}
		return err
	})
	if err != nil {
		return nil, explain(b.opt.Path, err)
	}
	b.lockedAt = time.Now()
	r := &round{view: b.view(ctx), dropped: map[*table][]trigger{}, made: map[string]bool{}}
	r.memo = map[replica.RowKey]crdt.Row{}
	if err := r.begun(); err != nil {
		r.Abort()
		return nil, explain(b.opt.Path, err)
	}
	return r, nil
}

// Held is for how long the last round had the write lock.
func (b *Bridge) Held() time.Duration { return b.held }

// begun checks that the file and its tables are still those of the last round.
func (r *round) begun() error {
	if err := r.b.stillOurs(r.ctx); err != nil {
		return err
	}
	var err error
	if r.b.dataVersion, err = r.b.pragma(r.ctx, "data_version"); err != nil { // nobody can write from here to the commit
		return err
	}
	v, err := r.b.pragma(r.ctx, "schema_version")
	if err != nil {
		return err
	}
	if v == r.b.schemaVersion {
		r.takeAhead()
		return nil
	}
	r.b.ahead, r.b.ends = nil, nil
	return r.b.schemaMoved(r.ctx)
}

// Read calls f with a view in a read transaction.
func (b *Bridge) Read(ctx context.Context, f func(replica.View) error) error {
	if err := b.exec(ctx, "BEGIN"); err != nil {
		return explain(b.opt.Path, err)
	}
	defer b.rollback()
	v := b.view(ctx)
	return explain(b.opt.Path, f(&v))
}

// Abort ends the round without a change.
func (r *round) Abort() {
	if !r.over {
		r.over = true
		r.b.rollback()
		_ = r.b.reload(context.Background()) // what was entered in memory is gone with the transaction
	}
}

// Commit shows the batch in the tables and makes it durable, in one transaction.
func (r *round) Commit(batch replica.Batch) error {
	if err := r.store(batch); err != nil {
		r.Abort()
		return explain(r.b.opt.Path, err)
	}
	r.over = true
	err := r.b.commitUnsynced(r.caller)
	r.b.held = time.Since(r.b.lockedAt)
	if err == nil {
		err = r.b.sync()
	}
	if err != nil {
		_ = r.b.reload(context.Background())
		return explain(r.b.opt.Path, err)
	}
	r.b.commits++
	if batch.Ready {
		r.b.ready, r.b.copying = true, false
	}
	r.committed()
	r.b.driftDue = r.b.anyDrift() // a first copy leaves tables to be compared
	r.b.origins.fresh = nil
	return nil
}

// committed notes what the round leaves for the next one, and how many rows the next capture may take in.
func (r *round) committed() {
	b := r.b
	if r.taken >= paceRows && b.opt.CaptureRows == 0 {
		b.captureRows = min(max(int(captureHold*time.Duration(r.taken)/max(b.held, 1)), paceRows), memoRows)
	}
	b.capturedAt = -1
	if r.part {
		r.ahead.next(b)
		return
	}
	b.ahead, b.ends = nil, nil
	if r.emptied {
		b.capturedAt = b.dataVersion
	}
}

var errPart = errors.New("sqlbridge: rows of others came into a round that took in a part of the outbox")

func (r *round) store(batch replica.Batch) error {
	if r.part && slices.ContainsFunc(batch.Rows, func(c replica.RowChange) bool { return !c.Local }) {
		return errPart
	}
	if err := r.storeState(batch); err != nil {
		return err
	}
	if err := r.storeRows(batch.Rows); err != nil {
		return err
	}
	if err := r.show(batch); err != nil {
		return err
	}
	if err := r.forgetCaptured(); err != nil {
		return err
	}
	if err := r.storeHeads(batch.Heads); err != nil {
		return err
	}
	return r.b.setMeta(r.ctx, "commits", r.b.commits+1)
}

// show projects the batch. Of a first copy nothing is shown before it is whole, and then everything.
func (r *round) show(batch replica.Batch) error {
	founded := batch.Ready && !r.b.copying
	switch {
	case r.b.ready || founded:
		if err := r.settle(); err != nil {
			return err
		}
		return r.b.project(r, batch.Rows)
	case !batch.Ready:
		return nil
	}
	return r.b.projectCopy(r)
}

// Put stores rows ahead of the commit, and shows them unless they are of a first copy.
func (r *round) Put(rows []replica.RowChange) error {
	if r.part && slices.ContainsFunc(rows, func(c replica.RowChange) bool { return !c.Local }) {
		r.Abort()
		return errPart
	}
	if err := r.put(rows); err != nil {
		r.Abort()
		return explain(r.b.opt.Path, err)
	}
	return nil
}

func (r *round) put(rows []replica.RowChange) error {
	if err := r.storeRows(rows); err != nil {
		return err
	}
	for _, c := range rows {
		delete(r.n, replica.RowKey{Table: c.Schema.Table, Key: c.Key})
	}
	if len(r.n)+len(r.memo) > 2*heldEntries { // more than was read ahead: a session may come by any number
		clear(r.n)
		clear(r.memo)
	}
	switch {
	case !slices.ContainsFunc(rows, func(c replica.RowChange) bool { return !c.Local }):
		return r.unsettle(rows)
	case !r.b.ready:
		r.b.copying = true // its end may come in the same round
		return nil
	}
	if err := r.settle(); err != nil {
		return err
	}
	return r.b.project(r, rows)
}

func (r *round) storeState(batch replica.Batch) error {
	b, ctx := r.b, r.ctx
	if batch.Restart {
		for _, q := range []string{`DELETE FROM _rowmesh_rows`, `DELETE FROM _rowmesh_txns`} {
			if err := b.exec(ctx, q); err != nil {
				return err
			}
		}
	}
	if batch.Copy != nil {
		b.copying = b.copying || len(batch.Copy) > 0
		if err := b.setMeta(ctx, "copy", batch.Copy); err != nil {
			return err
		}
	}
	for _, s := range batch.Schemas {
		if err := b.exec(ctx, `INSERT INTO _rowmesh_schemas(def) VALUES(?)`, crdt.AppendSchema(nil, s)); err != nil {
			return err
		}
	}
	if !batch.Origin.IsZero() {
		b.own = batch.Origin
		if err := b.setMeta(ctx, "origin", batch.Origin[:]); err != nil {
			return err
		}
	}
	if batch.Group != (replica.GroupID{}) {
		if err := b.setMeta(ctx, "group", batch.Group[:]); err != nil {
			return err
		}
	}
	if batch.Ready {
		return b.setMeta(ctx, "ready", 1)
	}
	return nil
}

func (r *round) storeHeads(heads crdt.Coverage) error {
	for _, o := range heads.Origins() {
		r.b.origins.Number(o)
	}
	for _, o := range r.b.origins.fresh {
		if err := r.b.exec(r.ctx, `INSERT INTO _rowmesh_origins(o, id, head) VALUES(?, ?, 0)`, r.b.origins.number[o], o[:]); err != nil {
			return err
		}
	}
	for o, h := range heads {
		if err := r.b.exec(r.ctx, `UPDATE _rowmesh_origins SET head = ? WHERE o = ?`, int64(h), r.b.origins.number[o]); err != nil {
			return err
		}
	}
	return r.b.extendLease(r.ctx, heads[r.b.own])
}

// storeRows writes the rows and keeps the index from transactions to rows.
func (r *round) storeRows(changes []replica.RowChange) error {
	refs := map[crdt.Stamp][]int64{}
	gone := map[crdt.Stamp][]int64{}
	if err := r.findNumbers(changes); err != nil {
		return err
	}
	var before, after []crdt.Stamp
	for _, c := range changes {
		if err := r.caller.Err(); err != nil {
			return err
		}
		s, err := r.b.storedTable(r.ctx, c.Schema)
		if err != nil {
			return err
		}
		n, err := r.storeRow(s, c)
		if err != nil {
			return fmt.Errorf("sqlbridge: store %s %s: %w", s.name, c.Key, err)
		}
		before, after = c.Old.Stamps(before[:0]), c.New.Stamps(after[:0])
		for _, st := range after {
			if c.Anew || !c.Old.Names(st) {
				refs[st] = append(refs[st], n)
			}
		}
		for _, st := range before {
			if !c.New.Names(st) {
				gone[st] = append(gone[st], n)
			}
		}
	}
	for st, numbers := range refs {
		if err := r.addRefs(st, numbers); err != nil {
			return fmt.Errorf("sqlbridge: index transaction %s: %w", st, err)
		}
	}
	for st, numbers := range gone {
		if err := r.dropRefs(st, numbers); err != nil {
			return fmt.Errorf("sqlbridge: index transaction %s: %w", st, err)
		}
	}
	return nil
}

// findNumbers reads the numbers of stored rows that the round has not come by, because the replica had them in its cache. The
// index has them: the rows are not read.
func (r *round) findNumbers(changes []replica.RowChange) error {
	missing := map[*stored][]crdt.Key{}
	for _, c := range changes {
		k := replica.RowKey{Table: c.Schema.Table, Key: c.Key}
		if _, ok := r.n[k]; !ok && (c.Anew || !c.Old.IsZero()) {
			if s := r.b.tables[k.Table]; s != nil {
				missing[s] = append(missing[s], c.Key)
			}
		}
	}
	for s, keys := range missing {
		for part := range slices.Chunk(keys, readKeys) {
			if err := r.numbersOf(s, part); err != nil {
				return fmt.Errorf("sqlbridge: read the numbers of rows of %s: %w", s.name, err)
			}
		}
	}
	return nil
}

func (r *round) numbersOf(s *stored, keys []crdt.Key) error {
	args := make([]any, 1, readKeys+1)
	args[0] = s.tbl
	for _, k := range keys {
		args = append(args, keyColumn(k))
	}
	these, args := inList("k", args, 1)
	rows, err := r.b.query(r.ctx, `SELECT n, k FROM _rowmesh_rows WHERE tbl = ? AND `+these, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var n int64
	var column any
	for rows.Next() {
		if err := rows.Scan(&n, &column); err != nil {
			return err
		}
		key, err := parseKeyColumn(column, s.parts)
		if err != nil {
			return err
		}
		r.n[replica.RowKey{Table: s.name, Key: key}] = n
	}
	return rows.Err()
}

func (r *round) storeRow(s *stored, c replica.RowChange) (n int64, err error) {
	b := r.b
	base := c.New.Base()
	o := b.origins.Number(base.Origin)
	body := crdt.AppendRow(nil, c.New, &b.origins, s.cols)
	k := replica.RowKey{Table: s.name, Key: c.Key}
	delete(r.memo, k)
	if n, ok := r.n[k]; ok {
		return n, b.exec(r.ctx, `UPDATE _rowmesh_rows SET o = ?, h = ?, v = ? WHERE n = ?`, o, int64(base.Time), body, n)
	}
	n = b.nextRow
	b.nextRow++
	r.n[k] = n
	return n, b.exec(r.ctx, `INSERT INTO _rowmesh_rows(n, tbl, k, o, h, v) VALUES(?, ?, ?, ?, ?, ?)`, n, s.tbl, keyColumn(c.Key), o, int64(base.Time), body)
}

// addRefs notes that rows name a transaction. SQLite joins the lists, which may be of megabytes.
func (r *round) addRefs(st crdt.Stamp, numbers []int64) error {
	return r.b.exec(r.ctx, `INSERT INTO _rowmesh_txns(o, h, rows) VALUES(?, ?, ?) ON CONFLICT(o, h) DO UPDATE SET rows = CAST(rows || excluded.rows AS BLOB)`,
		r.b.origins.Number(st.Origin), int64(st.Time), appendNumbers(nil, numbers))
}

// shortRefs reads the list of rows that name a transaction, nothing where it is longer than sweepBytes.
func (r *round) shortRefs(o uint64, h int64) (list []byte, err error) {
	rows, err := r.b.query(r.ctx, `SELECT rows FROM _rowmesh_txns WHERE o = ? AND h = ? AND length(rows) <= ?`, o, h, sweepBytes)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if rows.Next() {
		err = rows.Scan(&list)
	}
	return list, errors.Join(err, rows.Err())
}

// dropRefs forgets that rows name a transaction, where that is cheap.
func (r *round) dropRefs(st crdt.Stamp, numbers []int64) error {
	o, h := r.b.origins.Number(st.Origin), int64(st.Time)
	list, err := r.shortRefs(o, h)
	if err != nil || len(list) == 0 {
		return err
	}
	gone := make(map[int64]bool, len(numbers))
	for _, n := range numbers {
		gone[n] = true
	}
	var rest []int64
	for _, n := range parseNumbers(list) {
		if !gone[n] {
			rest = append(rest, n)
		}
	}
	if len(rest) == 0 {
		return r.b.exec(r.ctx, `DELETE FROM _rowmesh_txns WHERE o = ? AND h = ?`, o, h)
	}
	return r.b.exec(r.ctx, `UPDATE _rowmesh_txns SET rows = ? WHERE o = ? AND h = ?`, appendNumbers(nil, rest), o, h)
}
