package replica

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
)

// segment is a run of the registers of transactions, in the order of Position, up to a place.
type segment struct {
	upper Position
	rows  int // come by, of any table
	bytes int // of their digests
	sum   [16]byte
}

// summer sums up registers. The sum is the first half of the SHA-256 over each row's table and key with the registers that
// the transaction by which it is come by wrote to it.
type summer struct {
	tables      []string
	rows, bytes int
	h           hash.Hash
	buf         []byte
}

func newSummer(tables []string) *summer { return &summer{tables: tables, h: sha256.New()} }

func (s *summer) add(at crdt.Stamp, row RowState) {
	s.buf = appendDigest(s.buf[:0], RowState{row.RowKey, row.Row.Of(at)})
	s.rows++
	s.bytes += len(s.buf)
	if wanted(s.tables, row.Table) {
		s.h.Write(s.buf)
	}
}

// cut ends a segment and begins the next.
func (s *summer) cut(upper Position) segment {
	out := segment{upper, s.rows, min(s.bytes, MaxMessageBytes), [16]byte(s.h.Sum(nil))}
	s.rows, s.bytes = 0, 0
	s.h.Reset()
	return out
}

func wanted(tables []string, table string) bool {
	return len(tables) == 0 || slices.Contains(tables, table)
}

// question is what the other side of a link asks.
type question struct {
	n        uint64
	heads    crdt.Coverage
	after    Position
	upper    Position
	segments []segment // none: it asks for rows
	tables   []string
	column   string // the rest of a row is asked for, after this one
}

// onAudit takes in a question, which Serve answers. A later one takes the place of one that still waits.
func (r *Replica) onAudit(l *link, body []byte) error {
	var b auditBody
	if err := decodeBody(FrameAudit, body, &b); err != nil {
		return err
	}
	q, err := b.parse()
	if err != nil {
		return err
	}
	if !r.ready {
		r.send(l, FrameReject, encodeBody(rejectBody{Reason: RejectBusy, Session: q.n}))
		return nil
	}
	for o, h := range q.heads {
		q.heads[o] = min(h, r.coverage[o])
	}
	l.asked = &q
	return nil
}

// auditsServed reports whether Serve has to do with an audit.
func (r *Replica) auditsServed() bool {
	a := r.auditing()
	return a != nil && a.step == auditReads || slices.ContainsFunc(r.links, func(l *link) bool { return l.asked != nil })
}

// serveAudits answers the questions that wait, and reads on for the own one.
func (r *Replica) serveAudits(v View) error {
	v = v.Tolerant()
	for _, l := range r.links {
		q := l.asked
		if l.asked = nil; q == nil {
			continue
		}
		answer := r.compareSegments
		if q.column != "" {
			answer = r.sendRest
		} else if len(q.segments) == 0 {
			answer = r.sendRows
		}
		if err := answer(v, l, q); err != nil {
			return err
		}
	}
	if a := r.auditing(); a != nil && a.step == auditReads {
		return r.readSegment(v)
	}
	return nil
}

// compareSegments says which segments are others here. It reads little more than the asking side did: what comes after
// counts as different.
func (r *Replica) compareSegments(v View, l *link, q *question) error {
	left, size := auditPart, 0
	for _, s := range q.segments {
		left, size = left+s.rows, size+s.bytes
	}
	b := auditedBody{Question: q.n}
	i, sum := 0, newSummer(q.tables)
	next := func() {
		s := q.segments[i]
		if sum.cut(s.upper).sum != s.sum {
			b.Differ = append(b.Differ, uint64(i))
		}
		i++
	}
	short := false
	err := v.Changed(q.heads, crdt.Coverage{}, q.after, func(at crdt.Stamp, rows []RowState) bool {
		for _, row := range rows {
			here := Position{at, row.RowKey}
			for i < len(q.segments) && here.compare(q.segments[i].upper) > 0 {
				next()
			}
			if i == len(q.segments) {
				return false
			}
			sum.add(at, row)
			if left--; left < 0 || sum.bytes > size+auditBytes {
				short = true
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	for i < len(q.segments) {
		if short {
			sum.h.Write([]byte{0})
		}
		next()
	}
	r.send(l, FrameAudited, encodeBody(b))
	return nil
}

// sendRows sends the rows of a span, or the first of them: a row for each transaction that still names it there. A large row stands alone,
// and of it only the first cells go along.
func (r *Replica) sendRows(v View, l *link, q *question) error {
	var delta crdt.DeltaBuilder
	b := mendBody{Question: q.n, Answer: true, Upper: placeOf(q.upper), Hash: r.hashBytes()}
	told, sent := map[*crdt.Schema]struct{}{}, map[RowKey]int{}
	visits := 0
	last := q.after
	err := v.Changed(q.heads, crdt.Coverage{}, q.after, func(at crdt.Stamp, rows []RowState) bool {
		for _, row := range rows {
			here := Position{at, row.RowKey}
			if here.compare(q.upper) > 0 {
				return false
			}
			n, ok := sent[row.RowKey]
			switch {
			case ok:
				b.Places[n]++
			case wanted(q.tables, row.Table):
				part, rest := row.Row.Split(rowBytes(r.cfg.ChunkBytes))
				if !rest.IsZero() {
					if len(sent) > 0 {
						b.Upper = placeOf(last)
						return false
					}
					row.Row, b.More = part, lastColumn(part)
				}
				sent[row.RowKey] = len(b.Places)
				b.Places = append(b.Places, 1)
				b.Schemas = r.addRow(&delta, told, b.Schemas, row)
			}
			if visits++; visits == auditRows || len(sent) == maxMendRows || delta.Size() >= r.cfg.ChunkBytes || b.More != "" {
				b.Upper = placeOf(here)
				return false
			}
			last = here
		}
		return true
	})
	if err != nil {
		return err
	}
	r.sendMend(l, b, delta)
	return nil
}

func (r *Replica) sendMend(l *link, b mendBody, delta crdt.DeltaBuilder) {
	if delta.Rows() > 0 {
		b.Delta = delta.Finish()
	}
	r.letMend(l)
	r.send(l, FrameMend, encodeBody(b))
}

// sendRest sends more cells of a large row.
func (r *Replica) sendRest(v View, l *link, q *question) error {
	rows, err := v.Rows([]RowKey{q.after.RowKey})
	if err != nil {
		return err
	}
	var delta crdt.DeltaBuilder
	b := mendBody{Question: q.n, Answer: true, Upper: placeOf(q.after), Hash: r.hashBytes()}
	part, rest := rows[0].After(q.column).Split(rowBytes(r.cfg.ChunkBytes))
	if !part.IsZero() {
		b.Places = []uint64{1}
		b.Schemas = r.addRow(&delta, map[*crdt.Schema]struct{}{}, nil, RowState{q.after.RowKey, part})
	}
	if !rest.IsZero() {
		b.More = lastColumn(part)
	}
	r.sendMend(l, b, delta)
	return nil
}

// addRow adds a row to a delta, and its schema to those that go along.
func (r *Replica) addRow(delta *crdt.DeltaBuilder, told map[*crdt.Schema]struct{}, schemas [][]byte, row RowState) [][]byte {
	schema := r.schemas.current[row.Table]
	if _, ok := told[schema]; !ok {
		told[schema] = struct{}{}
		schemas = append(schemas, crdt.AppendSchema(nil, schema))
	}
	delta.Add(schema, r.schemas.ref(schema), row.Key, row.Row)
	return schemas
}

// mends reports whether MEND is expected on a link, from whom it was asked or who asked for rows.
func (r *Replica) mends(l *link) bool {
	a := r.auditing()
	return r.now.Mono < l.mends || a != nil && a.link == l && a.step == auditRowsOf
}

// letMend lets the other side say what rows became, for as long as it would go on without an answer.
func (r *Replica) letMend(l *link) { l.mends = r.now.Mono + millis(auditPatience) }

func (r *Replica) onMend(v View, l *link, body []byte) error {
	var b mendBody
	if err := decodeBody(FrameMend, body, &b); err != nil {
		return err
	}
	if b.Answer {
		if a := r.answered(l, b.Question); a != nil && a.step == auditRowsOf {
			return r.takeRows(v.Tolerant(), a, b)
		}
		return nil
	}
	if r.now.Mono >= l.mends || b.Question < l.mended {
		return nil
	}
	l.mended = b.Question
	r.letMend(l)
	return r.mend(v.Tolerant(), l, b)
}

// mend joins the rows that the asking side has come to into those held here, and says what they lacked.
func (r *Replica) mend(v View, l *link, b mendBody) error {
	rows, unknown, err := b.rows(r.schemas)
	if err != nil {
		return err
	}
	if err := r.learn(unknown); err != nil {
		return err
	}
	if rows, err = l.gather(rows, b); err != nil {
		return err
	}
	keys := make([]RowKey, len(rows))
	for i, d := range rows {
		keys[i] = RowKey{d.Schema.Table, d.Key}
	}
	own, err := r.rows.fresh(v, keys)
	if err != nil {
		return err
	}
	out := auditedBody{Question: b.Question}
	same := bytes.Equal(b.Hash, r.hashBytes())
	for i, d := range rows {
		n := uint64(i)
		joined := own[i].Merge(d.Row.Within(r.coverage))
		lacks := !joined.Equal(own[i])
		left := lacks && own[i].IsZero() && !same // see compareRow
		anew := !lacks && slices.Contains(b.Anew, n)
		stuck := same && !d.Row.Merge(joined.Within(r.coverage)).Equal(joined)
		if lacks {
			out.Differ = append(out.Differ, n)
		}
		if left {
			out.Left = append(out.Left, n)
		}
		if stuck {
			out.Stuck = append(out.Stuck, n)
		}
		if anew && same && !stuck {
			out.Anew = append(out.Anew, n)
		}
		if !b.Dry && !left && (lacks || anew && !stuck) && !joined.IsZero() {
			r.rows.anew(keys[i], own[i], joined)
			r.stats.RowsMerged++
		}
	}
	r.send(l, FrameAudited, encodeBody(out))
	return nil
}

// gather puts the parts of a large row together. It is joined as a whole: a part of a row of which nothing was left would look like a row.
func (l *link) gather(rows []crdt.RowDelta, b mendBody) ([]crdt.RowDelta, error) {
	if !b.Cont {
		l.mending = nil
	}
	if len(rows) == 0 || b.Cont && (l.mending == nil || l.mending.Schema.Table != rows[0].Schema.Table || l.mending.Key != rows[0].Key) {
		if b.Cont || b.More != "" {
			return nil, fmt.Errorf("%w: MEND of a part of no row", ErrFrame)
		}
		return rows, nil
	}
	if b.Cont { // it may have come before
		rows[0].Row = l.mending.Row.Merge(rows[0].Row)
		l.mending = &rows[0]
	}
	if b.More != "" {
		last := len(rows) - 1
		l.mending, rows = &rows[last], rows[:last]
	}
	return rows, nil
}

// hashBytes is the hash of all that is claimed here.
func (r *Replica) hashBytes() []byte {
	h := r.coverageHash()
	return h[:]
}
