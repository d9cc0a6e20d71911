package replica

import (
	"fmt"

	"github.com/rowmesh/rowmesh/crdt"
)

// auditBody asks the other side to compare: either which of some segments differ, or for the rows of one.
type auditBody struct {
	Question uint64        `cbor:"1,keyasint"`
	Heads    vector        `cbor:"2,keyasint"` // the transactions to compare: of the origins that the segments touch, up to these
	After    *placeBody    `cbor:"3,keyasint"` // where the first segment begins
	Segments []segmentBody `cbor:"4,keyasint,omitempty"`
	Upper    *placeBody    `cbor:"5,keyasint,omitempty"` // instead of segments: send the rows up to here
	Tables   []string      `cbor:"6,keyasint,omitempty"` // the only ones to compare; absent: all
	Column   string        `cbor:"7,keyasint,omitempty"` // instead of all that: send the cells after this column, of the row at After
}

// segmentBody is a run of registers as the asking side holds them. It begins where the one before it ends.
type segmentBody struct {
	_     struct{}  `cbor:",toarray"`
	Upper placeBody // the last place of it
	Rows  uint64    // how many rows were come by, of any table
	Bytes uint64    // that they took
	Sum   []byte    // see segment
}

// auditedBody answers AUDIT with segments, and MEND.
type auditedBody struct {
	Question uint64   `cbor:"1,keyasint"`
	Differ   []uint64 `cbor:"2,keyasint,omitempty"` // the segments that differ; of MEND, the rows that lacked something
	Stuck    []uint64 `cbor:"3,keyasint,omitempty"` // of MEND: rows that stay different
	Anew     []uint64 `cbor:"4,keyasint,omitempty"` // of MEND: rows that were to be written anew and lacked nothing
	Left     []uint64 `cbor:"5,keyasint,omitempty"` // of MEND: rows of which nothing was there, and which stay away because the heads differ
}

// mendBody carries whole rows: those of a segment, as the answer to AUDIT, and then what they became at the asking side.
type mendBody struct {
	Question uint64     `cbor:"1,keyasint"`
	Answer   bool       `cbor:"2,keyasint,omitempty"`  // to AUDIT
	Upper    *placeBody `cbor:"3,keyasint,omitempty"`  // of an answer: these are the rows up to here
	Schemas  [][]byte   `cbor:"4,keyasint,omitempty"`  // of the rows
	Delta    []byte     `cbor:"5,keyasint,omitempty"`  // absent: no rows
	Hash     []byte     `cbor:"6,keyasint"`            // of all heads of the sender
	Anew     []uint64   `cbor:"7,keyasint,omitempty"`  // rows to write anew, also where they lack nothing
	Dry      bool       `cbor:"8,keyasint,omitempty"`  // only say what differs
	Places   []uint64   `cbor:"9,keyasint,omitempty"`  // of an answer: at how many places of the span each row was come by
	More     string     `cbor:"10,keyasint,omitempty"` // the last row has more cells, after this column; of an answer it is the only one, at Upper
	Cont     bool       `cbor:"11,keyasint,omitempty"` // else: the first row goes on with the last one of the MEND before
}

// rows reads the rows of MEND and the schemas that they need.
func (b *mendBody) rows(known *schemaSet) ([]crdt.RowDelta, []*crdt.Schema, error) {
	if len(b.Delta) == 0 {
		return nil, nil, nil
	}
	var t told
	for _, enc := range b.Schemas {
		if err := t.add(enc, known); err != nil {
			return nil, nil, err
		}
	}
	from := offered{known: known, told: t.schemas}
	rows, err := crdt.ParseDelta(string(b.Delta), from, maxMendRows)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return rows, from.used(rows), nil
}

// span is a part of the visit, after one place and up to another.
type span struct{ after, upper Position }

// places counts the places of the span at which a visit of some transactions must come by a row.
func (s span) places(heads crdt.Coverage, row RowState) (n int) {
	var buf [8]crdt.Stamp
	for _, at := range row.Row.Stamps(buf[:0]) {
		if p := (Position{at, row.RowKey}); heads.Covers(at) && p.compare(s.after) > 0 && p.compare(s.upper) <= 0 {
			n++
		}
	}
	return n
}

// endOfAll is the place after everything.
var endOfAll = Position{Stamp: crdt.Stamp{Origin: lastOrigin}}

// compare orders places as a session visits them.
func (p Position) compare(q Position) int {
	if c := visitOrder(p.Stamp, q.Stamp); c != 0 {
		return c
	}
	return p.RowKey.Compare(q.RowKey)
}

// parse checks that a question can be answered, and returns its parts.
func (b *auditBody) parse() (q question, err error) {
	q = question{n: b.Question, tables: b.Tables, column: b.Column}
	if b.After == nil || len(b.Segments) > maxAuditSegments || (len(b.Segments) > 0) == (b.Upper != nil) {
		return q, fmt.Errorf("%w: AUDIT without a segment, or with %d", ErrFrame, len(b.Segments))
	}
	if q.heads, err = b.Heads.coverage(); err != nil {
		return q, err
	}
	if q.after, err = b.After.position(); err != nil {
		return q, err
	}
	if q.column != "" && q.after.Key.IsZero() {
		return q, fmt.Errorf("%w: AUDIT of a part of no row", ErrFrame)
	}
	if b.Upper != nil {
		q.upper, err = b.Upper.position()
		return q, err
	}
	var rows, bytes uint64
	for i := range b.Segments {
		s := &b.Segments[i]
		if q.upper, err = s.Upper.position(); err != nil {
			return q, err
		}
		if rows, bytes = rows+min(s.Rows, auditRows+1), bytes+min(s.Bytes, MaxMessageBytes+1); rows > auditRows || bytes > MaxMessageBytes || len(s.Sum) != 16 {
			return q, fmt.Errorf("%w: AUDIT of %d rows and %d bytes", ErrFrame, rows, bytes)
		}
		q.segments = append(q.segments, segment{upper: q.upper, rows: int(s.Rows), bytes: int(s.Bytes), sum: [16]byte(s.Sum)})
	}
	return q, nil
}

func (b auditBody) String() string {
	what := fmt.Sprintf("%d segments of %d rows", len(b.Segments), b.rowCount())
	if b.Upper != nil {
		what = "rows up to " + b.Upper.String()
	}
	return line(fmt.Sprint(b.Question), b.Heads.String(), "after "+b.After.String(), what, iff(len(b.Tables) > 0, "of %q", b.Tables), iff(b.Column != "", "from column %q", b.Column))
}

func (b auditBody) rowCount() (n uint64) {
	for _, s := range b.Segments {
		n += s.Rows
	}
	return n
}

func (b auditedBody) String() string {
	return line(fmt.Sprint(b.Question), fmt.Sprintf("differ %d", b.Differ), iff(len(b.Stuck) > 0, "stuck %d", b.Stuck), iff(len(b.Anew) > 0, "anew %d", b.Anew), iff(len(b.Left) > 0, "left %d", b.Left))
}

func (b mendBody) String() string {
	return line(fmt.Sprint(b.Question), iff(b.Answer, "answer"), fmt.Sprintf("%d bytes", len(b.Delta)), iff(b.Upper != nil, "up to %s", b.Upper), iff(b.Cont, "goes on"), iff(b.More != "", "more after %q", b.More),
		iff(len(b.Anew) > 0, "anew %d", b.Anew), iff(b.Dry, "dry"))
}
