package crdt

import (
	"fmt"
	"math"
	"slices"

	"github.com/rowmesh/rowmesh/hlc"
)

// OpKind says what a transaction did to a row.
type OpKind uint8

// The kinds of an operation, as on the wire. Kind 3 is reserved for counters.
const (
	OpUpdate  OpKind = 0 // sets some columns; does nothing to a row that is not alive
	OpInsert  OpKind = 1 // births the row, with all its columns
	OpDelete  OpKind = 2 // ends the row
	OpReplace OpKind = 4 // ends and births the row in one transaction
)

func (k OpKind) String() string {
	switch k {
	case OpUpdate:
		return "update"
	case OpInsert:
		return "insert"
	case OpDelete:
		return "delete"
	case OpReplace:
		return "replace"
	}
	return fmt.Sprintf("op(%d)", uint8(k))
}

// Set is one column assignment of an operation.
type Set struct {
	Column string
	Value  Value
}

// Op is one operation of a local transaction, before it has a stamp.
type Op struct {
	Table string
	Key   Key
	Kind  OpKind
	Sets  []Set // in order of Column, each once; nil for a delete
}

// Delta returns the state that the operation, stamped s, merges into its row. seen is the row's birth at
// the writer, used by deletes.
func (op Op) Delta(s, seen Stamp) Row {
	var r Row
	switch op.Kind {
	case OpInsert:
		r.Birth = s
	case OpDelete:
		r.Tomb, r.Seen = s, seen
	case OpReplace:
		r.Birth, r.Tomb, r.Seen = s, s, seen
	}
	if len(op.Sets) > 0 && op.Kind != OpDelete {
		r.Cells = make([]Cell, len(op.Sets))
		for i, set := range op.Sets {
			r.Cells[i] = Cell{set.Column, s, set.Value}
		}
	}
	return r
}

// RowDelta is the state to merge into one row.
type RowDelta struct {
	Schema *Schema
	Key    Key
	Row    Row
}

// Block is one transaction of one origin: encoded once by the origin and forwarded byte for byte.
type Block struct {
	Stamp Stamp
	Prev  hlc.Timestamp // the time of the origin's transaction before; 0: this is its first
	Rows  []RowDelta    // every register stamped Stamp; Seen may name another
}

// Schemas looks up a schema by its short name; nil: not known.
type Schemas interface {
	Schema(SchemaRef) *Schema
}

// UnknownSchemaError reports a block or delta whose schema the reader has not been told yet.
type UnknownSchemaError struct{ Ref SchemaRef }

func (e UnknownSchemaError) Error() string {
	return fmt.Sprintf("crdt: schema %08x is not known", uint32(e.Ref))
}

func (d RowDelta) kind(s Stamp) OpKind {
	switch {
	case d.Row.Birth == s && d.Row.Tomb == s:
		return OpReplace
	case d.Row.Birth == s:
		return OpInsert
	case d.Row.Tomb == s:
		return OpDelete
	}
	return OpUpdate
}

// AppendBlock appends the encoding of b: [origin, time, time - prev, [group..]] where a group is
// [schema ref, kind, column mask, (key, [seen,] value..)..] and takes in neighbouring rows that agree in
// the first three. ref gives each schema's short name. Deletes and replaces carry the birth they saw.
func AppendBlock(dst []byte, b *Block, ref func(*Schema) SchemaRef) []byte {
	var body, group, mask, next []byte
	groups, items := uint64(0), uint64(0)
	var schema *Schema
	var cols *Columns
	var kind OpKind
	flush := func() {
		if items > 0 {
			groups++
			body = append(appendHead(body, majorArray, 3+items), group...)
			group, items = group[:0], 0
		}
	}
	for _, d := range b.Rows {
		k := d.kind(b.Stamp)
		if d.Schema != schema {
			cols = d.Schema.Numbering()
		}
		var ok bool
		if next, ok = cols.appendMask(next[:0], d.Row.Cells); !ok {
			panic(fmt.Sprintf("crdt: block %s: row %s has columns that its schema %s lacks", b.Stamp, d.Row, d.Schema))
		}
		if d.Schema != schema || k != kind || string(next) != string(mask) {
			flush()
			schema, kind, mask = d.Schema, k, append(mask[:0], next...)
			group = appendUint(group, uint64(ref(schema)))
			group = appendUint(group, uint64(kind))
			group = append(group, mask...)
		}
		group = append(group, d.Key.enc...)
		items++
		if kind == OpDelete || kind == OpReplace {
			group = appendSeen(group, b.Stamp, d.Row.Seen)
			items++
		}
		for _, c := range d.Row.Cells {
			group = appendValue(group, c.Value)
			items++
		}
	}
	flush()
	dst = appendHead(dst, majorArray, 4)
	dst = appendBytes(dst, b.Stamp.Origin[:])
	dst = appendUint(dst, uint64(b.Stamp.Time))
	dst = appendUint(dst, uint64(b.Stamp.Time-b.Prev))
	dst = appendHead(dst, majorArray, groups)
	return append(dst, body...)
}

// appendSeen appends the birth a delete saw: 0 for none, the distance below the block's time where the
// origin is the block's own, else [origin, distance].
func appendSeen(dst []byte, s, seen Stamp) []byte {
	switch {
	case seen.IsZero():
		return appendUint(dst, 0)
	case seen.Origin == s.Origin:
		return appendUint(dst, uint64(s.Time-seen.Time))
	}
	dst = appendHead(dst, majorArray, 2)
	dst = appendBytes(dst, seen.Origin[:])
	return appendUint(dst, uint64(s.Time-seen.Time))
}

// ParseBlockHead reads who wrote a block and which block it follows, and leaves its rows unread.
func ParseBlockHead(s string) (stamp Stamp, prev hlc.Timestamp, err error) {
	c := cursor{s: s}
	if stamp, prev, err = c.blockHead(); err != nil {
		err = fmt.Errorf("crdt: block: %w", err)
	}
	return stamp, prev, err
}

// ParseBlock reads one whole block and refuses anything but its canonical form. The rows share the memory
// of s. Where a schema is missing the error is an UnknownSchemaError.
func ParseBlock(s string, schemas Schemas) (*Block, error) {
	c := cursor{s: s}
	b, err := c.block(schemas)
	if err != nil {
		return nil, fmt.Errorf("crdt: block: %w", err)
	}
	return b, nil
}

func (c *cursor) blockHead() (Stamp, hlc.Timestamp, error) {
	if n, err := c.array("block"); err != nil || n != 4 {
		return Stamp{}, 0, c.errorf("no block of this version")
	}
	o, err := c.origin()
	if err != nil {
		return Stamp{}, 0, err
	}
	t, err := c.uint()
	if err != nil {
		return Stamp{}, 0, err
	}
	d, err := c.uint()
	if err != nil {
		return Stamp{}, 0, err
	}
	if o.IsZero() || t == 0 || t > uint64(hlc.Max) || d == 0 || d > t {
		return Stamp{}, 0, c.errorf("a stamp out of range")
	}
	return Stamp{hlc.Timestamp(t), o}, hlc.Timestamp(t - d), nil
}

func (c *cursor) block(schemas Schemas) (*Block, error) {
	if len(c.s) > MaxBlockBytes {
		return nil, c.errorf("%d bytes, the limit is %d", len(c.s), MaxBlockBytes)
	}
	stamp, prev, err := c.blockHead()
	if err != nil {
		return nil, err
	}
	b := &Block{Stamp: stamp, Prev: prev}
	groups, err := c.array("list of groups")
	if err != nil {
		return nil, err
	}
	var last groupHead
	for range groups {
		if last, err = c.group(b, schemas, last); err != nil {
			return nil, err
		}
	}
	if !c.done() {
		return nil, c.errorf("%d bytes after the block", len(c.s)-c.i)
	}
	return b, nil
}

// groupHead is what the rows of a group have in common.
type groupHead struct {
	schema *Schema
	kind   OpKind
	mask   columnMask
}

func (c *cursor) group(b *Block, schemas Schemas, last groupHead) (groupHead, error) {
	items, err := c.array("group")
	if err != nil {
		return groupHead{}, err
	}
	ref, err := c.uint()
	if err != nil {
		return groupHead{}, err
	}
	if ref > math.MaxUint32 {
		return groupHead{}, c.errorf("a schema reference of a later version")
	}
	schema := schemas.Schema(SchemaRef(ref))
	if schema == nil {
		return groupHead{}, UnknownSchemaError{SchemaRef(ref)}
	}
	kind, err := c.uint()
	if err != nil {
		return groupHead{}, err
	}
	cols := schema.Numbering()
	m, err := c.mask(len(schema.Columns))
	if err != nil {
		return groupHead{}, err
	}
	head := groupHead{schema, OpKind(kind), m}
	perRow := 1 + m.count()
	switch {
	case kind == uint64(OpUpdate) || kind == uint64(OpInsert):
	case kind == uint64(OpReplace) || kind == uint64(OpDelete) && perRow == 1:
		perRow++
	default:
		return groupHead{}, c.errorf("an operation of a later version")
	}
	if items -= 3; items <= 0 || items%perRow != 0 || head == last {
		return groupHead{}, c.errorf("a group of %d items where each row has %d", items, perRow)
	}
	b.Rows = slices.Grow(b.Rows, items/perRow)
	for range items / perRow {
		if err := c.blockRow(b, head, cols); err != nil {
			return groupHead{}, err
		}
	}
	return head, nil
}

func (c *cursor) blockRow(b *Block, g groupHead, cols *Columns) error {
	key, err := c.keyOf(g.schema)
	if err != nil {
		return err
	}
	var r Row
	if g.kind == OpInsert || g.kind == OpReplace {
		r.Birth = b.Stamp
	}
	if g.kind == OpDelete || g.kind == OpReplace {
		r.Tomb = b.Stamp
		if r.Seen, err = c.seen(b.Stamp); err != nil {
			return err
		}
	}
	if r.Cells, err = c.cells(g.mask, cols, b.Stamp); err == nil {
		err = c.values(r.Cells)
	}
	if err != nil {
		return err
	}
	if r.IsZero() {
		return c.errorf("an update of nothing")
	}
	b.Rows = append(b.Rows, RowDelta{g.schema, key, r})
	return nil
}

func (c *cursor) seen(s Stamp) (Stamp, error) {
	major, err := c.peek()
	if err != nil {
		return Stamp{}, err
	}
	o := s.Origin
	if major == majorArray {
		if n, err := c.array("stamp"); err != nil || n != 2 {
			return Stamp{}, c.errorf("no stamp")
		}
		if o, err = c.origin(); err != nil {
			return Stamp{}, err
		}
		if o == s.Origin || o.IsZero() {
			return Stamp{}, c.errorf("a stamp that is not in its shortest form")
		}
	}
	d, err := c.uint()
	if err != nil {
		return Stamp{}, err
	}
	switch {
	case d == 0 && o == s.Origin:
		return Stamp{}, nil
	case d >= uint64(s.Time):
		return Stamp{}, c.errorf("a time out of range")
	}
	return Stamp{s.Time - hlc.Timestamp(d), o}, nil
}
