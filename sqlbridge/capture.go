package sqlbridge

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// Capture returns what programs wrote to tracked tables since the last round. Outbox entries are hints:
// each row they name is read again and compared with what the last projection left in the table, so
// that doubled entries, same-value updates and missed suppression do no harm. Rows are read when the replica asks for them, some
// thousand at a time. A row belongs to the last group that names it.
func (r *round) Capture() (replica.Drain, error) {
	d := drainer{r: r, tables: map[*table]bool{}}
	if err := d.run(); err != nil {
		return replica.Drain{}, d.explain(err)
	}
	return d.out, nil
}

// drainer collects the groups of one drain.
type drainer struct {
	r      *round
	line   timeline        // of the entries that are taken in
	tables map[*table]bool // that they name
	named  named
	out    replica.Drain
}

func (d *drainer) note(h hint) {
	d.line.add(h)
	d.tables[h.table] = true
}

func (d *drainer) explain(err error) error {
	if err == nil {
		return nil
	}
	return explain(d.r.b.opt.Path, fmt.Errorf("sqlbridge: capture: %w", err))
}

func (d *drainer) run() error {
	err := d.takeHeld()
	if errors.Is(err, errMany) {
		err = d.takeAll()
	}
	if err != nil {
		return err
	}
	after := int64(0)
	for _, run := range d.line.runs {
		from := after
		d.out.Groups = append(d.out.Groups, replica.Group{WallMillis: run.ms, Parts: func(yield func([]crdt.Op) error) error {
			return d.explain(d.group(from, run.seq, yield))
		}})
		after = run.seq
	}
	registry, err := d.r.registryOps()
	if err != nil {
		return err
	}
	due := d.due()
	for _, t := range due {
		d.tables[t] = true
	}
	for _, t := range slices.SortedFunc(maps.Keys(d.tables), byNumber) {
		d.out.Schemas = append(d.out.Schemas, t.schema)
	}
	if len(registry) > 0 {
		d.out.Schemas = append(d.out.Schemas, registrySchemas...)
	}
	if len(due) > 0 || len(registry) > 0 {
		d.out.Groups = append(d.out.Groups, replica.Group{Parts: func(yield func([]crdt.Op) error) error {
			return d.explain(d.drift(due, registry, yield))
		}})
	}
	return nil
}

func byNumber(t, u *table) int { return cmp.Compare(t.tbl, u.tbl) }

// takeHeld finds what this capture takes in, from memory.
func (d *drainer) takeHeld() error {
	r := d.r
	whole := r.ahead == nil || r.ahead.cut == r.ahead.upTo
	if r.ahead == nil {
		r.ahead = newPrepared(r.b)
		r.ahead.n, r.ahead.memo = r.n, r.memo
	}
	p := r.ahead
	if !r.b.unwritten() {
		if err := p.readOutbox(&r.view, !whole); err != nil {
			return err
		}
	}
	r.b.noteEnd(p.upTo)
	if whole {
		if p.cut = p.upTo; p.behind > 0 {
			return errMany
		}
	}
	taken := p.taken()
	for _, h := range taken {
		d.note(h)
	}
	d.named = hold(taken, p.later)
	r.taken = len(taken)
	r.captured, r.part, r.emptied = p.cut, !whole, whole
	r.b.busy = r.b.ahead != nil && (r.b.busy || p.upTo > p.seen)
	return nil
}

// takeAll finds it without memory for more than a page: it takes in the whole outbox.
func (d *drainer) takeAll() (err error) {
	r := d.r
	r.ahead, r.b.ahead, r.b.busy = nil, nil, false
	err = r.entries(outboxTable, &r.captured, math.MaxInt64, -1, func(h hint) error { d.note(h); r.taken++; return nil })
	if err != nil {
		return err
	}
	r.gathered, r.emptied = true, true
	d.named, err = r.gather()
	return err
}

// group compares the rows of a run of entries, those that no later run names.
func (d *drainer) group(from, to int64, yield func([]crdt.Op) error) error {
	out := parts{most: d.r.b.partRows, yield: yield}
	waiting := map[*table][]hint{}
	for after := from; ; {
		before := after
		page, err := d.named.next(&after, to)
		if err != nil {
			return err
		}
		if after == before {
			break
		}
		for _, h := range page {
			if waiting[h.table] = append(waiting[h.table], h); len(waiting[h.table]) < readKeys {
				continue
			}
			if err := d.compare(h.table, waiting[h.table], &out); err != nil {
				return err
			}
			waiting[h.table] = waiting[h.table][:0]
		}
	}
	for _, t := range slices.SortedFunc(maps.Keys(waiting), byNumber) {
		if err := d.compare(t, waiting[t], &out); err != nil {
			return err
		}
	}
	return out.flush()
}

func (d *drainer) compare(t *table, hints []hint, out *parts) error {
	if len(hints) == 0 {
		return nil
	}
	keys := make([]crdt.Key, len(hints))
	reborn := make(map[crdt.Key]bool, len(hints))
	for i, h := range hints {
		keys[i], reborn[h.key] = h.key, h.reborn()
	}
	ops, err := d.r.compare(t, keys, func(k crdt.Key) bool { return reborn[k] })
	if err != nil {
		return fmt.Errorf("table %s: %w", t.name, err)
	}
	for _, op := range ops {
		if err := out.add(op); err != nil {
			return err
		}
	}
	return nil
}

// parts gathers operations that are handed on together.
type parts struct {
	ops   []crdt.Op
	bytes int
	most  int
	yield func([]crdt.Op) error
}

func (p *parts) add(op crdt.Op) error {
	p.ops = append(p.ops, op)
	for _, s := range op.Sets {
		p.bytes += s.Value.Size()
	}
	if len(p.ops) < p.most && p.bytes < partBytes {
		return nil
	}
	return p.flush()
}

func (p *parts) flush() error {
	ops := p.ops
	p.ops, p.bytes = nil, 0
	return p.yield(ops)
}

// due lists the tables that are to be compared as a whole now.
func (d *drainer) due() (due []*table) {
	for _, name := range d.r.b.tableNames() {
		t := d.r.b.catalog[name]
		if t == nil {
			continue
		}
		if need := d.r.b.tables[name].drift; need == driftEdits || need == driftReturned {
			due = append(due, t)
		}
	}
	return due
}

// drift compares tables with what they should show, and yields what differs after some operations that come first.
func (d *drainer) drift(due []*table, first []crdt.Op, yield func([]crdt.Op) error) error {
	out := parts{ops: first, most: d.r.b.partRows, yield: yield}
	for _, t := range due {
		s := d.r.b.tables[t.name]
		if s.drift == driftReturned {
			if err := d.r.hideMissing(s, t); err != nil {
				return fmt.Errorf("look for missing rows of table %s: %w", t.name, err)
			}
		}
		err := d.r.differences(t, drifted, func(op crdt.Op) error {
			if done, err := d.named.has(replica.RowKey{Table: op.Table, Key: op.Key}); err != nil || done {
				return err
			}
			return out.add(op)
		})
		if err != nil {
			return fmt.Errorf("compare table %s: %w", t.name, err)
		}
		d.r.drifted = append(d.r.drifted, s)
	}
	return out.flush()
}

// forgetCaptured cuts the outbox and the marks of what Capture took in.
func (r *round) forgetCaptured() error {
	if r.captured > 0 {
		if err := r.b.exec(r.ctx, `DELETE FROM _rowmesh_outbox WHERE seq <= ?`, r.captured); err != nil {
			return err
		}
	}
	if !r.part {
		r.b.counted = 0 // the numbers of entries begin again
	}
	if r.gathered {
		if err := r.dropGathered(); err != nil {
			return err
		}
	}
	if r.part {
		if err := r.leaveRest(); err != nil {
			return err
		}
	}
	for _, s := range r.drifted {
		if err := r.b.setDrift(r.ctx, s, driftNone); err != nil {
			return err
		}
	}
	return nil
}
