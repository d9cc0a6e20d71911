package replica

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
)

// readSegment reads the next segment and asks whether it differs.
func (r *Replica) readSegment(v View) error {
	a := r.audit
	whole, part := newSummer(a.Tables), newSummer(a.Tables)
	a.parts = nil
	last, full := a.after, false
	err := v.Changed(a.cut, crdt.Coverage{}, a.after, func(at crdt.Stamp, rows []RowState) bool {
		for _, row := range rows {
			if part.rows == auditPart {
				a.parts = append(a.parts, part.cut(last))
			}
			whole.add(at, row)
			part.add(at, row)
			a.count(at, row)
			last = Position{at, row.RowKey}
			if full = whole.rows == auditRows || whole.bytes >= auditBytes; full {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	if !full {
		last = endOfAll
	}
	a.parts = append(a.parts, part.cut(last))
	a.whole = whole.cut(last)
	r.inquire(auditWhole, FrameAudit, func(n uint64) any { return a.segments(n, a.whole) })
	return nil
}

// count counts a row where the walk comes by its newest register.
func (a *audit) count(at crdt.Stamp, row RowState) {
	if wanted(a.Tables, row.Table) && row.Row.Max() == at {
		a.table(row.Table).Rows++
	}
}

func (a *audit) table(name string) *AuditTable {
	t := a.rows[name]
	if t == nil {
		t = &AuditTable{Name: name}
		a.rows[name] = t
	}
	return t
}

// segments makes the question which of some neighbouring segments differ.
func (a *audit) segments(number uint64, list ...segment) auditBody {
	b := auditBody{Question: number, After: placeOf(a.after), Tables: a.Tables}
	for _, s := range list {
		b.Segments = append(b.Segments, segmentBody{Upper: *placeOf(s.upper), Rows: uint64(s.rows), Bytes: uint64(s.bytes), Sum: s.sum[:]})
	}
	b.Heads = vectorOf(a.touched(span{a.after, list[len(list)-1].upper}))
	return b
}

// touched is the part of the cut that a span touches.
func (a *audit) touched(s span) crdt.Coverage {
	in := crdt.Coverage{}
	for o, h := range a.cut {
		if o.Compare(s.after.Stamp.Origin) >= 0 && o.Compare(s.upper.Stamp.Origin) <= 0 {
			in[o] = h
		}
	}
	return in
}

// onAudited takes the answer to a question and goes on.
func (r *Replica) onAudited(l *link, body []byte) error {
	var b auditedBody
	if err := decodeBody(FrameAudited, body, &b); err != nil {
		return err
	}
	a := r.answered(l, b.Question)
	if a == nil {
		return nil
	}
	switch a.step {
	case auditWhole:
		a.report.Segments++
		if len(b.Differ) > 0 && len(a.parts) > 1 {
			r.inquire(auditParts, FrameAudit, func(n uint64) any { return a.segments(n, a.parts...) })
			return nil
		}
		if len(b.Differ) > 0 {
			a.spans = []span{{a.after, a.whole.upper}}
		}
		r.nextSpan()
	case auditParts:
		if err := a.differ(b.Differ); err != nil {
			return err
		}
		r.nextSpan()
	case auditTells:
		if err := a.learnTold(b); err != nil {
			return err
		}
		r.tellPage()
	}
	return nil
}

// differ notes the parts that differ, neighbours as one span.
func (a *audit) differ(indexes []uint64) error {
	for i, n := range indexes {
		if n >= uint64(len(a.parts)) || i > 0 && n <= indexes[i-1] {
			return fmt.Errorf("%w: AUDITED names segment %d of %d", ErrFrame, n, len(a.parts))
		}
		after := a.after
		if n > 0 {
			after = a.parts[n-1].upper
		}
		if k := len(a.spans) - 1; k >= 0 && a.spans[k].upper == after {
			a.spans[k].upper = a.parts[n].upper
		} else {
			a.spans = append(a.spans, span{after, a.parts[n].upper})
		}
	}
	return nil
}

// nextSpan asks for the rows of the next span, or goes on to the next segment.
func (r *Replica) nextSpan() {
	a := r.audit
	if len(a.spans) > 0 {
		s := a.spans[0]
		r.inquire(auditRowsOf, FrameAudit, func(n uint64) any {
			return auditBody{Question: n, After: placeOf(s.after), Upper: placeOf(s.upper), Tables: a.Tables, Heads: vectorOf(a.touched(s))}
		})
		return
	}
	if a.after = a.whole.upper; a.after == endOfAll {
		r.endAudit(nil)
		return
	}
	a.step = auditReads
}

// takeRows compares the rows that the other side holds in a span with those held here, joins them, and tells the other side
// what they became where that is not what it holds.
func (r *Replica) takeRows(v View, a *audit, b mendBody) error {
	theirs, unknown, err := b.rows(r.schemas)
	if err != nil {
		return err
	}
	if b.Upper == nil || len(b.Places) != len(theirs) {
		return fmt.Errorf("%w: MEND without its end, or its places", ErrFrame)
	}
	s := a.spans[0]
	if a.upper, err = b.Upper.position(); err != nil {
		return err
	}
	upper, clean := a.upper, !r.Dirty()
	same := clean && bytes.Equal(b.Hash, r.hashBytes())
	if a.upper.compare(s.after) <= 0 || a.upper.compare(s.upper) > 0 {
		return fmt.Errorf("%w: MEND up to a place that was not asked for", ErrFrame)
	}
	if err := r.learn(unknown); err != nil {
		return err
	}
	if a.part != nil {
		for _, d := range theirs {
			a.part.Row = a.part.Row.Merge(d.Row)
		}
		theirs, b.Places = []crdt.RowDelta{*a.part}, []uint64{1}
	}
	if a.part = nil; b.More != "" {
		return r.askMore(a, theirs, b)
	}
	keys, visits, err := r.ownKeys(v, a)
	if err != nil {
		return err
	}
	shown := make(map[RowKey]int, len(theirs))
	for i, d := range theirs {
		k := RowKey{d.Schema.Table, d.Key}
		if visits[k] == 0 {
			keys = append(keys, k)
		}
		shown[k] = i
	}
	own, err := r.rows.fresh(v, keys)
	if err != nil {
		return err
	}
	a.page, a.told = nil, 0
	for i, k := range keys {
		p := pageRow{AuditRow: AuditRow{RowKey: k}}
		p.Index = clean && visits[k] < span{s.after, a.upper}.places(a.cut, RowState{k, own[i]})
		var row crdt.Row
		if n, ok := shown[k]; ok {
			row = theirs[n].Row
			p.unseen = b.Places[n] < uint64(span{s.after, upper}.places(a.cut, RowState{k, row}))
		} else {
			p.unseen = same
		}
		r.compareRow(a, p, own[i], row, same)
	}
	r.tellPage()
	return nil
}

// askMore asks for more cells of a large row, before it is compared as a whole.
func (r *Replica) askMore(a *audit, theirs []crdt.RowDelta, b mendBody) error {
	if len(theirs) != 1 {
		return fmt.Errorf("%w: MEND with %d rows, one of which goes on", ErrFrame, len(theirs))
	}
	a.part = &theirs[0]
	heads := vectorOf(a.touched(a.spans[0]))
	r.inquire(auditRowsOf, FrameAudit, func(n uint64) any {
		return auditBody{Question: n, After: b.Upper, Upper: b.Upper, Column: b.More, Tables: a.Tables, Heads: heads}
	})
	return nil
}

// ownKeys lists the rows that a walk comes by in the page, which it may cut short, and at how many places.
func (r *Replica) ownKeys(v View, a *audit) (keys []RowKey, visits map[RowKey]int, err error) {
	visits = map[RowKey]int{}
	all, size := 0, 0
	s := span{a.spans[0].after, a.upper}
	err = v.Changed(a.touched(s), crdt.Coverage{}, s.after, func(at crdt.Stamp, rows []RowState) bool {
		for _, row := range rows {
			here := Position{at, row.RowKey}
			if here.compare(a.upper) > 0 {
				return false
			}
			if wanted(a.Tables, row.Table) {
				if visits[row.RowKey]++; visits[row.RowKey] == 1 {
					keys = append(keys, row.RowKey)
					size += len(appendDigest(nil, row))
				}
			}
			if all++; all == maxMendRows || size >= r.cfg.ChunkBytes {
				a.upper = here
				return false
			}
		}
		return true
	})
	return keys, visits, err
}

// compareRow joins a row with that of the other side, and notes it where one of them is not as it should be. Of a row that is gone
// nobody can tell what it held: only a side with the same heads gives it back, or what it alone held would be claimed and lost.
func (r *Replica) compareRow(a *audit, p pageRow, own, theirs crdt.Row, same bool) {
	joined := own.Merge(theirs.Within(r.coverage))
	two := !own.Equal(theirs) && sameStamps(own, theirs)
	p.Here, p.gone = !joined.Equal(own), own.IsZero()
	p.Left = p.Here && p.gone && !same
	p.anew = two || p.unseen
	p.tell = p.anew || !joined.Equal(theirs)
	if !p.Here && !p.Index && !p.tell {
		return
	}
	if !a.Dry && !p.Left && (p.Here || p.Index || two) {
		r.rows.anew(p.RowKey, own, joined)
		r.stats.RowsMerged++
	}
	p.delta = crdt.RowDelta{Schema: r.schemas.current[p.Table], Key: p.Key}
	p.first = len(a.page)
	for p.more = true; p.more; {
		p.delta.Row, joined = joined.Split(rowBytes(r.cfg.ChunkBytes))
		p.more = !joined.IsZero()
		a.page = append(a.page, p)
	}
}

// sameStamps reports whether two rows hold registers of the same transactions, column by column. Where they differ nevertheless,
// one of the two was changed by something that is no transaction.
func sameStamps(a, b crdt.Row) bool {
	return a.Birth == b.Birth && a.Tomb == b.Tomb &&
		slices.EqualFunc(a.Cells, b.Cells, func(x, y crdt.Cell) bool { return x.Column == y.Column && x.Stamp == y.Stamp })
}

// tellPage tells the other side what the next rows of the page became, or ends the page.
func (r *Replica) tellPage() {
	a := r.audit
	var delta crdt.DeltaBuilder
	body := mendBody{Dry: a.Dry, Hash: r.hashBytes()}
	a.telling = a.telling[:0]
	told := map[*crdt.Schema]struct{}{}
	for ; a.told < len(a.page) && len(a.telling) < maxMendRows && delta.Size() < r.cfg.ChunkBytes; a.told++ {
		p := &a.page[a.told]
		if !p.tell {
			continue
		}
		if p.anew && !p.more {
			body.Anew = append(body.Anew, uint64(len(a.telling)))
		}
		if len(a.telling) == 0 {
			body.Cont = p.first < a.told
		}
		a.telling = append(a.telling, a.told)
		body.Schemas = r.addRow(&delta, told, body.Schemas, RowState{p.RowKey, p.delta.Row})
		if p.more {
			body.More = lastColumn(p.delta.Row)
			a.told++
			break
		}
	}
	if len(a.telling) == 0 {
		r.endPage()
		return
	}
	body.Delta = delta.Finish()
	r.inquire(auditTells, FrameMend, func(n uint64) any {
		body.Question = n
		return body
	})
}

// learnTold notes what the other side says of the rows that it was told.
func (a *audit) learnTold(b auditedBody) error {
	for _, list := range []struct {
		indexes []uint64
		note    func(*pageRow)
	}{
		{b.Differ, func(p *pageRow) { p.There = true }},
		{b.Stuck, func(p *pageRow) { p.Stuck = true }},
		{b.Left, func(p *pageRow) { p.Left = true }},
		{b.Anew, func(p *pageRow) { p.Index = p.Index || p.unseen }},
	} {
		for _, i := range list.indexes {
			if i >= uint64(len(a.telling)) {
				return fmt.Errorf("%w: AUDITED names row %d of %d", ErrFrame, i, len(a.telling))
			}
			list.note(&a.page[a.page[a.telling[i]].first])
		}
	}
	return nil
}

// endPage reports the rows of the page and goes on.
func (r *Replica) endPage() {
	a := r.audit
	for i := range a.page {
		a.name(&a.page[i])
	}
	a.page, a.told = nil, 0
	if a.spans[0].after = a.upper; a.upper == a.spans[0].upper {
		a.spans = a.spans[1:]
	}
	r.nextSpan()
}

// name reports a row once, although the walk comes by it at each of its transactions.
func (a *audit) name(p *pageRow) {
	row := p.AuditRow
	if _, ok := a.named[row.RowKey]; ok || !row.differs() {
		return
	}
	if len(a.named) < maxAuditNamed {
		a.named[row.RowKey] = struct{}{}
		a.report.Rows = append(a.report.Rows, row)
	}
	t := a.table(row.Table)
	if p.gone {
		t.Rows++ // the walk cannot have counted it
	}
	if t.Differ++; a.Dry || !row.Mended() {
		t.Unmended++
	}
}
