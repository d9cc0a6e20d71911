package sqlbridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// project shows the changed rows in their tables, in the transaction that stores them. What a table shows is
// a function of the merged rows alone. Our connection does not enforce foreign keys: a merge never fails
// over one. The capture triggers are held back meanwhile.
func (b *Bridge) project(r *round, changes []replica.RowChange) error {
	remote := slices.ContainsFunc(changes, func(c replica.RowChange) bool { return !c.Local })
	arbitrate := slices.ContainsFunc(changes, func(c replica.RowChange) bool {
		t := b.catalog[c.Schema.Table]
		return t != nil && len(t.unique) > 0
	})
	if !remote && !arbitrate && len(b.reshow) == 0 {
		if parked, err := r.anyParked(); err != nil || !parked {
			return err
		}
	}
	return b.heldBack(r, func() error { return b.projectAll(r, changes) })
}

// heldBack calls f while no trigger captures. Triggers of the user that f drops are put back.
func (b *Bridge) heldBack(r *round, f func() error) error {
	if err := b.exec(r.ctx, `UPDATE _rowmesh_suppress SET on_ = 1`); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	if err := r.putBack(); err != nil {
		return err
	}
	return b.exec(r.ctx, `UPDATE _rowmesh_suppress SET on_ = 0`)
}

// drop drops triggers of a table that must not run for rows from elsewhere: nothing in SQL holds them back. They are put back
// in the same transaction, so that others see only that the schema has moved.
func (r *round) drop(t *table, triggers []trigger) error {
	for _, x := range triggers {
		if slices.Contains(r.dropped[t], x) {
			continue
		}
		if _, err := r.b.conn.ExecContext(r.ctx, "DROP TRIGGER "+quote(x.name)); err != nil {
			return fmt.Errorf("hold back the trigger %s: %w", x.name, err)
		}
		r.dropped[t] = append(r.dropped[t], x)
	}
	return nil
}

func (r *round) putBack() error {
	if len(r.dropped) == 0 {
		return nil
	}
	for t, triggers := range r.dropped {
		for _, x := range triggers {
			if _, err := r.b.conn.ExecContext(r.ctx, x.sql); err != nil {
				return fmt.Errorf("put back the trigger %s of %s: %w", x.name, t.name, err)
			}
		}
	}
	clear(r.dropped)
	v, err := r.b.pragma(r.ctx, "schema_version")
	r.b.schemaVersion = v // moved by us
	return err
}

func (b *Bridge) projectAll(r *round, changes []replica.RowChange) error {
	byTable := map[string][]replica.RowChange{}
	for _, c := range changes {
		byTable[c.Schema.Table] = append(byTable[c.Schema.Table], c)
	}
	if err := b.applyRegistry(r, byTable); err != nil {
		return err
	}
	for _, name := range b.tableNames() {
		s, t := b.tables[name], b.catalog[name]
		var err error
		switch {
		case t != nil && b.reshow[name]:
			err = b.projectTable(r, t)
		case t != nil && len(byTable[name]) > 0:
			err = b.projectRows(r, t, byTable[name])
		case s.state == stateSuspended, s.state == stateUntracked:
			err = b.keepUnshown(r, s, byTable[name])
		}
		if err != nil {
			return fmt.Errorf("sqlbridge: project %s: %w", name, err)
		}
	}
	clear(b.reshow)
	return nil
}

// projectCopy shows a first copy, which is whole: it makes the group's tables and fills them. What is in tables that were
// here before is compared with it afterwards: what they have beyond it counts as written now.
func (b *Bridge) projectCopy(r *round) error {
	var defs []replica.RowChange
	for _, schema := range registrySchemas {
		if err := r.Scan(schema.Table, crdt.Key{}, func(rows []replica.RowState) bool {
			for _, st := range rows {
				defs = append(defs, replica.RowChange{Schema: schema, Key: st.Key, New: st.Row})
			}
			return true
		}); err != nil {
			return err
		}
	}
	for name := range b.catalog {
		b.reshow[name] = true
		if err := b.setDrift(r.ctx, b.tables[name], driftEdits); err != nil {
			return err
		}
	}
	return b.heldBack(r, func() error { return b.projectAll(r, defs) })
}

// keepUnshown notes what a table that is left alone shows of rows that changed.
func (b *Bridge) keepUnshown(r *round, s *stored, changes []replica.RowChange) error {
	for _, c := range changes {
		if err := r.setUnshown(s, c.Key, c.Old); err != nil {
			return err
		}
	}
	return nil
}

// projectTable shows a whole table from the stored rows.
func (b *Bridge) projectTable(r *round, t *table) error {
	if err := r.drop(t, t.effects); err != nil {
		return err
	}
	err := b.exec(r.ctx, `DELETE FROM _rowmesh_unshown WHERE tbl = ?1 AND k NOT IN (SELECT k FROM _rowmesh_parked WHERE tbl = ?1)`, t.tbl)
	if err != nil {
		return err
	}
	var failed error
	err = r.Scan(t.name, crdt.Key{}, func(rows []replica.RowState) bool {
		if b.mine[t.name] {
			if rows, failed = r.notHere(t, rows); failed != nil {
				return false
			}
		}
		changes := make([]replica.RowChange, len(rows))
		for i, st := range rows {
			changes[i] = replica.RowChange{Schema: t.schema, Key: st.Key, New: st.Row}
		}
		failed = b.projectRows(r, t, changes)
		return failed == nil
	})
	delete(b.mine, t.name)
	if s := b.tables[t.name]; s.drift == driftFirst {
		err = errors.Join(err, b.setDrift(r.ctx, s, driftEdits))
	}
	return errors.Join(err, failed, b.noteColumns(r.ctx, t))
}

// notHere drops the rows that the table has already.
func (r *round) notHere(t *table, rows []replica.RowState) (rest []replica.RowState, err error) {
	for part := range slices.Chunk(rows, readKeys) {
		keys := make([]crdt.Key, len(part))
		for i, st := range part {
			keys[i] = st.Key
		}
		here, err := r.current(t, keys)
		if err != nil {
			return nil, err
		}
		for _, st := range part {
			if _, ok := here[st.Key]; !ok {
				rest = append(rest, st)
			}
		}
	}
	return rest, nil
}

// projectRows shows some rows of one table: first it takes away what must leave, then it shows the rest, so
// that rows may swap unique values.
func (b *Bridge) projectRows(r *round, t *table, changes []replica.RowChange) error {
	p := &projector{ctx: r.ctx, r: r, t: t, s: b.tables[t.name]}
	var err error
	if p.parked, err = r.parkedKeys(t); err != nil {
		return err
	}
	if len(t.unique) == 0 {
		p.placePlain(changes)
	} else if err := p.place(newArbiter(r, t, changes)); err != nil {
		return err
	}
	return p.carryOut()
}

// projector collects what is to be done to one table.
type projector struct {
	ctx    context.Context
	r      *round
	t      *table
	s      *stored
	parked map[crdt.Key]bool
	hide   []crdt.Key // not in the table afterwards
	clear  []crdt.Key // taken away before it is shown anew, because a unique value of it changes
	show   []shownRow
	park   []parkedRow
	unpark []crdt.Key
}

type shownRow struct {
	key  crdt.Key
	row  crdt.Row
	here bool // the table should show the row already, with other values
}

type parkedRow struct {
	shownRow
	reason, detail string
	by             crdt.Key
}

// parkStranger parks a row whose key the table would store as another key, which may be that of another row.
func (p *projector) parkStranger(k crdt.Key, row crdt.Row) {
	detail := fmt.Sprintf("the column %s stores the key %s as another one", p.t.key[p.t.altered(k)], k)
	p.park = append(p.park, parkedRow{shownRow{k, row, false}, "datatype", detail, crdt.Key{}})
}

// altered returns which part of a key the table stores as another one, -1 where it stores all of them as they are.
func (t *table) altered(k crdt.Key) int {
	if !slices.ContainsFunc(t.keyAs, func(a affinity) bool { return a != affinityNone }) {
		return -1
	}
	for i, v := range k.Values() {
		if t.keyAs[i].alters(v) {
			return i
		}
	}
	return -1
}

// placePlain decides for a table in which rows cannot get in each other's way.
func (p *projector) placePlain(changes []replica.RowChange) {
	for _, c := range changes {
		if p.parked[c.Key] {
			p.unpark = append(p.unpark, c.Key)
		}
		switch {
		case c.Local: // the table shows it
		case p.t.altered(c.Key) >= 0:
			if c.New.Alive() {
				p.parkStranger(c.Key, c.New)
			}
		case c.New.Alive():
			p.show = append(p.show, shownRow{c.Key, c.New, c.Old.Alive() && !p.parked[c.Key]})
		default:
			p.hide = append(p.hide, c.Key)
		}
	}
}

// place decides for a table with UNIQUE indexes.
func (p *projector) place(a *arbiter) error {
	keys, err := a.judge()
	if err != nil {
		return err
	}
	for _, k := range keys {
		row, err := a.state(k)
		if err != nil {
			return err
		}
		change, inBatch := a.batch[k]
		stranger := !change.Local && p.t.altered(k) >= 0 // it is not in the table, and no statement on it may name it
		if !row.Alive() {
			if p.parked[k] {
				p.unpark = append(p.unpark, k)
			}
			if inBatch && !change.Local && !stranger {
				p.hide = append(p.hide, k)
			}
			continue
		}
		if stranger {
			if inBatch {
				p.parkStranger(k, row)
			}
			continue
		}
		index, by, err := a.blocked(k, row)
		if err != nil {
			return err
		}
		switch {
		case !by.IsZero():
			p.hide = append(p.hide, k)
			p.park = append(p.park, parkedRow{shownRow{k, row, false}, "unique", index, by})
		case p.parked[k]:
			p.unpark = append(p.unpark, k)
			p.show = append(p.show, shownRow{k, row, false})
		case inBatch && !change.Local:
			cleared := change.Anew || !slices.Equal(p.t.claimsOf(k, change.Old), p.t.claimsOf(k, row))
			if cleared {
				p.clear = append(p.clear, k)
			}
			p.show = append(p.show, shownRow{k, row, change.Old.Alive() && !cleared})
		}
	}
	return nil
}

func (p *projector) carryOut() error {
	if len(p.hide)+len(p.clear)+len(p.show) > 0 {
		if err := p.r.drop(p.t, p.t.effects); err != nil {
			return err
		}
	}
	for _, k := range slices.Concat(p.hide, p.clear) {
		if err := p.remove(k); err != nil {
			return err
		}
	}
	for _, k := range p.unpark {
		if err := p.r.unpark(p.t, k); err != nil {
			return err
		}
	}
	for _, x := range p.show {
		if err := p.showRow(x); err != nil {
			return err
		}
	}
	for _, x := range p.park {
		if err := p.r.park(p.t, p.s, x); err != nil {
			return err
		}
	}
	return nil
}

// remove takes a row out of the table. That cannot be refused: the row is deleted in the group, or another holds its unique value.
func (p *projector) remove(k crdt.Key) error {
	return p.unchecked(func() error {
		return p.r.b.exec(p.ctx, "DELETE FROM "+quote(p.t.name)+" WHERE "+p.t.keyIs(), keyArgs(k)...)
	}, func(err error) bool { return isMalformed(err) || !isStoreError(err) })
}

// unchecked calls f, and once more without the user's triggers where they may be the cause of its error.
func (p *projector) unchecked(f func() error, blamed func(error) bool) error {
	err := f()
	if err == nil || len(p.t.checks) == 0 || !blamed(err) {
		return err
	}
	if err := p.r.drop(p.t, p.t.checks); err != nil {
		return err
	}
	return f()
}

// showRow writes a row into the table, or parks it where the table refuses it.
func (p *projector) showRow(x shownRow) error {
	if err := p.r.caller.Err(); err != nil {
		return err
	}
	err := p.unchecked(func() error { return p.write(x) }, isMalformed)
	if err == nil || isStoreError(err) {
		return err
	}
	if err := p.remove(x.key); err != nil {
		return err
	}
	reason := refusedRow(err)
	if reason == "" {
		reason = "refused"
	}
	p.park = append(p.park, parkedRow{x, reason, err.Error(), crdt.Key{}})
	return nil
}

// write updates a row that the table shows, which costs half of an upsert, and upserts others.
func (p *projector) write(x shownRow) error {
	shape, values := p.t.values(x.row)
	keys := keyArgs(x.key)
	if x.here && len(values) > 0 {
		s, err := p.r.b.stmt(p.ctx, p.t.update(shape))
		if err != nil {
			return err
		}
		res, err := s.ExecContext(p.ctx, append(values, keys...)...)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
	}
	return p.r.b.exec(p.ctx, p.t.upsert(shape), append(keys, values...)...)
}

// shape says which columns a statement writes: '1' for each of t.cols that it does. It is empty for all of them.
type shape string

// values returns what a table shows of a row. A column without a register shows its DEFAULT; where only SQLite knows that value
// the column is left to it.
func (t *table) values(row crdt.Row) (shape, []any) {
	args := make([]any, 0, len(t.key)+len(t.cols))
	var left []byte
	for i, c := range t.cols {
		cell, ok := row.Cell(c.name)
		switch {
		case ok:
			args = append(args, bind(cell.Value))
		case c.constant:
			args = append(args, bind(c.dflt))
		default:
			if left == nil {
				left = bytes.Repeat([]byte{'1'}, len(t.cols))
			}
			left[i] = '0'
		}
	}
	return shape(left), args
}

// written lists the columns of a shape.
func (t *table) written(s shape) (names []string) {
	for i, c := range t.cols {
		if s == "" || s[i] == '1' {
			names = append(names, c.name)
		}
	}
	return names
}

// statement makes a statement for a shape once.
func (t *table) statement(verb string, s shape, text func(names []string) string) string {
	id := verb + string(s)
	q, ok := t.statements[id]
	if !ok {
		if q = text(t.written(s)); t.statements == nil {
			t.statements = map[string]string{}
		}
		t.statements[id] = q
	}
	return q
}

// update returns the statement that shows a row which the table has: values first, then the key. Here and in upsert a row that the
// table refuses is an error, also where a constraint of it has another ON CONFLICT clause.
func (t *table) update(s shape) string {
	return t.statement("update", s, func(names []string) string {
		sets := make([]string, len(names))
		for i, n := range names {
			sets[i] = quote(n) + " = ?"
		}
		return fmt.Sprintf("UPDATE OR ABORT %s SET %s WHERE %s", quote(t.name), strings.Join(sets, ", "), t.keyIs())
	})
}

// upsert returns the statement that shows any row: its key first, then the values.
func (t *table) upsert(s shape) string {
	return t.statement("upsert", s, func(names []string) string {
		var sets []string
		for _, n := range names {
			sets = append(sets, quote(n)+" = excluded."+quote(n))
		}
		action := "NOTHING"
		if len(sets) > 0 {
			action = "UPDATE SET " + strings.Join(sets, ", ")
		}
		all := slices.Concat(t.key, names)
		return fmt.Sprintf("INSERT OR ABORT INTO %s(%s) VALUES(%s) ON CONFLICT(%s) DO %s", quote(t.name), quoteAll(all, ""), marks(len(all)),
			quoteAll(t.key, ""), action)
	})
}

// anyParked reports whether rows wait, of which a local edit may have shown one.
func (v *view) anyParked() (parked bool, err error) {
	err = v.b.one(v.ctx, `SELECT EXISTS(SELECT 1 FROM _rowmesh_parked)`, nil, &parked)
	return parked, err
}

// parkedKeys lists the parked rows of a table.
func (v *view) parkedKeys(t *table) (map[crdt.Key]bool, error) {
	rows, err := v.b.query(v.ctx, `SELECT k FROM _rowmesh_parked WHERE tbl = ?`, t.tbl)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[crdt.Key]bool{}
	for rows.Next() {
		var k any
		if err := rows.Scan(&k); err != nil {
			return nil, err
		}
		key, err := parseKeyColumn(k, len(t.key))
		if err != nil {
			return nil, err
		}
		out[key] = true
	}
	return out, rows.Err()
}

// park keeps a row out of its table, with the reason and its claims.
func (r *round) park(t *table, s *stored, x parkedRow) error {
	if err := r.unpark(t, x.key); err != nil {
		return err
	}
	var by any
	if !x.by.IsZero() {
		by = keyColumn(x.by)
	}
	k := keyColumn(x.key)
	if err := r.b.exec(r.ctx, `INSERT INTO _rowmesh_parked(tbl, k, reason, detail, blocked_by) VALUES(?, ?, ?, ?, ?)`, t.tbl, k, x.reason, x.detail, by); err != nil {
		return err
	}
	for _, id := range t.claimsOf(x.key, x.row) {
		if err := r.b.exec(r.ctx, `INSERT INTO _rowmesh_claims(tbl, idx, tuple, k) VALUES(?, ?, ?, ?)`, t.tbl, id.index, []byte(id.tuple), k); err != nil {
			return err
		}
	}
	return r.setUnshown(s, x.key, crdt.Row{})
}

func (r *round) unpark(t *table, k crdt.Key) error {
	for _, q := range []string{
		`DELETE FROM _rowmesh_parked WHERE tbl = ? AND k = ?`,
		`DELETE FROM _rowmesh_claims WHERE tbl = ? AND k = ?`,
		`DELETE FROM _rowmesh_unshown WHERE tbl = ? AND k = ?`,
	} {
		if err := r.b.exec(r.ctx, q, t.tbl, keyColumn(k)); err != nil {
			return err
		}
	}
	return nil
}
