package sqlbridge

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// hint is one entry of the outbox.
type hint struct {
	seq   int64
	table *table
	key   crdt.Key
	op    string
	ms    int64
}

// reborn reports whether the row may have lived and died in between.
func (h hint) reborn() bool { return h.op == hintInsert || h.op == hintDelete || h.op == hintMove }

func (h hint) row() replica.RowKey { return replica.RowKey{Table: h.table.name, Key: h.key} }

// Capture returns what programs wrote to tracked tables since the last round. Outbox entries are hints:
// each row they name is read again and compared with what the last projection left in the table, so
// that doubled entries, same-value updates and missed suppression do no harm.
func (r *round) Capture() (replica.Drain, error) {
	d := drainer{r: r, done: map[replica.RowKey]bool{}, reborn: map[replica.RowKey]bool{}}
	if err := d.run(); err != nil {
		return replica.Drain{}, explain(r.b.opt.Path, fmt.Errorf("sqlbridge: capture: %w", err))
	}
	return d.out, nil
}

// drainer collects the groups of one drain.
type drainer struct {
	r      *round
	out    replica.Drain
	done   map[replica.RowKey]bool // rows that a later group names
	reborn map[replica.RowKey]bool // rows that may have lived and died in between, by the entries of any group
	used   map[string]bool
}

func (d *drainer) run() error {
	hints, err := d.r.hints()
	if err != nil {
		return err
	}
	for _, h := range hints {
		if h.reborn() {
			d.reborn[h.row()] = true
		}
	}
	runs := splitRuns(hints)
	groups := make([]replica.Group, len(runs))
	for i, run := range slices.Backward(runs) { // a row belongs to the last group that names it
		if groups[i], err = d.group(run); err != nil {
			return err
		}
	}
	registry, err := d.r.registryOps()
	if err != nil {
		return err
	}
	if len(registry) > 0 {
		d.out.Schemas = append(d.out.Schemas, registrySchemas...)
	}
	last := replica.Group{Ops: registry}
	due := d.due()
	if len(due) > 0 {
		last.Parts = func(yield func([]crdt.Op) error) error { return d.drift(due, registry, yield) }
	}
	d.out.Groups = slices.DeleteFunc(append(groups, last), func(g replica.Group) bool { return len(g.Ops) == 0 && g.Parts == nil })
	return nil
}

// keyNames lists the key columns of the outbox, each after a comma.
func keyNames(n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, ", k%d", i+1)
	}
	return s.String()
}

// readOutbox reads the entries after one, and notes the last one.
func (v *view) readOutbox(after int64, last *int64) ([]hint, error) {
	width := 1
	for _, t := range v.b.catalog {
		width = max(width, len(t.key))
	}
	rows, err := v.b.query(v.ctx, `SELECT seq, tbl, op, ms`+keyNames(width)+` FROM _rowmesh_outbox WHERE seq > ? ORDER BY seq`, after)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	keys := make([]any, width)
	var tbl int64
	var at any
	var op string
	dest := []any{last, &tbl, &op, &at}
	for i := range keys {
		dest = append(dest, &keys[i])
	}
	var out []hint
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		s := v.b.byTbl[tbl]
		if s == nil || v.b.catalog[s.name] == nil {
			continue // suspended or no longer tracked: a drift scan looks at it when it is again
		}
		t := v.b.catalog[s.name]
		key, err := keyOf(keys[:len(t.key)])
		if err != nil {
			v.b.keptLocal[t.name]++ // a row with a NULL in its key stays local
			continue
		}
		out = append(out, hint{*last, t, key, op, wallMillis(at)})
	}
	return out, rows.Err()
}

// wallMillis reads the time of an entry: milliseconds since 1970, or a Julian day as defaultClock gives it.
func wallMillis(at any) int64 {
	switch at := at.(type) {
	case int64:
		return at
	case float64:
		const epoch, day = 2440587.5, 86_400_000
		return int64(math.Round((at - epoch) * day))
	}
	return 0 // now
}

// keyOf makes the key of a row from its scanned key columns.
func keyOf(cols []any) (crdt.Key, error) {
	parts := make([]crdt.Value, len(cols))
	for i, c := range cols {
		v, err := valueOf(c)
		if err != nil {
			return crdt.Key{}, err
		}
		parts[i] = v
	}
	return crdt.KeyOf(parts...)
}

// splitRuns cuts the entries where neighbours are more than groupGap apart.
func splitRuns(hints []hint) (runs [][]hint) {
	start := 0
	for i := range hints {
		if i > 0 && hints[i].ms-hints[i-1].ms > groupGap.Milliseconds() {
			runs = append(runs, hints[start:i])
			start = i
		}
	}
	if start < len(hints) {
		runs = append(runs, hints[start:])
	}
	return runs
}

// group turns a run of entries into operations, each row once, in the order of their first mention.
func (d *drainer) group(run []hint) (replica.Group, error) {
	g := replica.Group{WallMillis: run[len(run)-1].ms}
	byTable := map[*table][]crdt.Key{}
	var order []*table
	for _, h := range run {
		k := h.row()
		if d.done[k] || d.r.ahead.later(k) {
			continue
		}
		d.done[k] = true
		if byTable[h.table] == nil {
			order = append(order, h.table)
		}
		byTable[h.table] = append(byTable[h.table], h.key)
	}
	for _, t := range order {
		d.use(t)
		for keys := range slices.Chunk(byTable[t], readKeys) {
			ops, err := d.r.compare(t, keys, func(k crdt.Key) bool { return d.reborn[replica.RowKey{Table: t.name, Key: k}] })
			if err != nil {
				return g, fmt.Errorf("table %s: %w", t.name, err)
			}
			g.Ops = append(g.Ops, ops...)
		}
	}
	return g, nil
}

func (d *drainer) use(t *table) {
	if d.used == nil {
		d.used = map[string]bool{}
	}
	if !d.used[t.name] {
		d.used[t.name] = true
		d.out.Schemas = append(d.out.Schemas, t.schema)
	}
}

// due lists the tables that are to be compared as a whole.
func (d *drainer) due() (due []*table) {
	for _, name := range d.r.b.tableNames() {
		if t := d.r.b.catalog[name]; t != nil && d.r.b.tables[name].drift {
			d.use(t)
			due = append(due, t)
		}
	}
	return due
}

// drift compares tables with what they should show, and yields what differs after some operations that come first.
func (d *drainer) drift(due []*table, ops []crdt.Op, yield func([]crdt.Op) error) error {
	for _, t := range due {
		s := d.r.b.tables[t.name]
		if d.r.b.returned[t.name] {
			if err := d.r.hideMissing(s, t); err != nil {
				return fmt.Errorf("sqlbridge: look for missing rows of table %s: %w", t.name, err)
			}
		}
		err := d.r.differences(t, func(op crdt.Op) error {
			if d.done[replica.RowKey{Table: op.Table, Key: op.Key}] {
				return nil
			}
			if ops = append(ops, op); len(ops) < driftPart {
				return nil
			}
			err := yield(ops)
			ops = ops[:0:0]
			return err
		})
		if err != nil {
			return explain(d.r.b.opt.Path, fmt.Errorf("sqlbridge: compare table %s: %w", t.name, err))
		}
		d.r.drifted = append(d.r.drifted, s)
	}
	return yield(ops)
}

// forgetCaptured cuts the outbox and the marks of what Capture took in.
func (r *round) forgetCaptured() error {
	if r.captured > 0 {
		if err := r.b.exec(r.ctx, `DELETE FROM _rowmesh_outbox WHERE seq <= ?`, r.captured); err != nil {
			return err
		}
	}
	if r.part {
		if err := r.leaveRest(); err != nil {
			return err
		}
	}
	for _, s := range r.drifted {
		if err := r.b.setDrift(r.ctx, s, false); err != nil {
			return err
		}
	}
	return nil
}
