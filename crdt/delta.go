package crdt

import (
	"fmt"
	"math"
	"slices"

	"github.com/rowmesh/rowmesh/hlc"
)

// A delta carries parts of rows with their own stamps, in a session: what one replica lacks of another's
// state. It is self-contained but for its schemas:
//
//	[ [origin id..], [group..] ]
//	group = [schema ref, number of rows, key.., head.., value..]
//	head  = flags, [origin number, time below the group's previous base,] rest of the row without its values
//
// Origin numbers are positions in the delta's own list. The base stamp is left out where it repeats the row before. The values
// of a group come column by column, those of a column in order of the rows: values of one column are alike, which makes the rows of a
// real database a sixth shorter when they are compressed than they would be row by row (docs/PROTOCOL.md, section 7).

// DeltaBuilder collects rows for one delta. The zero DeltaBuilder is empty.
type DeltaBuilder struct {
	origins map[Origin]uint64
	ids     []byte
	groups  []byte // finished groups
	nGroups uint64
	rows    int

	// the open group
	schema *Schema
	ref    SchemaRef
	base   Stamp
	n      int // its rows
	items  int
	keys   []byte
	heads  []byte
	values [][]byte // by column
	bytes  int      // of all values
}

// Number gives an origin its position in the delta's list.
func (d *DeltaBuilder) Number(o Origin) uint64 {
	n, ok := d.origins[o]
	if !ok {
		if d.origins == nil {
			d.origins = map[Origin]uint64{}
		}
		n = uint64(len(d.origins))
		d.origins[o] = n
		d.ids = appendBytes(d.ids, o[:])
	}
	return n
}

// Add appends a row that is not zero. ref is the short name of its schema, which has all its columns.
func (d *DeltaBuilder) Add(schema *Schema, ref SchemaRef, key Key, r Row) {
	if schema != d.schema {
		d.flush()
		d.schema, d.ref, d.values = schema, ref, make([][]byte, len(schema.Columns))
	}
	base := r.Base()
	flags := rowFlags(r, base)
	if base == d.base {
		flags |= flagSameBase
	}
	d.keys = append(d.keys, key.enc...)
	d.heads = appendUint(d.heads, uint64(flags))
	if base != d.base {
		d.heads = appendStamp(d.heads, base, d.base, d)
		d.base = base
	}
	d.heads = appendOtherStamps(d.heads, r, base, d)
	if len(r.Cells) > 0 {
		d.heads = schema.cols.mustAppendMask(d.heads, r)
	}
	d.heads = appendExceptions(d.heads, r, base, d)
	column := 0
	for _, c := range r.Cells {
		column = schema.column(column, c.Column)
		d.values[column] = appendValue(d.values[column], c.Value)
		d.bytes += len(c.Value.Encoded())
		column++
	}
	d.items += 1 + headItems(r, flags) + len(r.Cells)
	d.n++
	d.rows++
}

// headItems is the number of CBOR items of a row's head.
func headItems(r Row, flags uint) int {
	n := 1 + 2*headStamps(flags)
	if flags&flagCells != 0 {
		n++
	}
	if flags&flagExceptions != 0 {
		n += 1 + 3*r.exceptions(r.Base())
	}
	return n
}

func (d *DeltaBuilder) flush() {
	if d.n == 0 {
		return
	}
	d.groups = appendHead(d.groups, majorArray, uint64(2+d.items))
	d.groups = appendUint(d.groups, uint64(d.ref))
	d.groups = appendUint(d.groups, uint64(d.n))
	d.groups = append(append(d.groups, d.keys...), d.heads...)
	for _, v := range d.values {
		d.groups = append(d.groups, v...)
	}
	d.nGroups++
	d.base, d.n, d.items, d.keys, d.heads, d.bytes = Stamp{}, 0, 0, d.keys[:0], d.heads[:0], 0
}

// Rows returns how many rows were added.
func (d *DeltaBuilder) Rows() int { return d.rows }

// Size returns about how many bytes the delta has so far.
func (d *DeltaBuilder) Size() int {
	return len(d.ids) + len(d.groups) + len(d.keys) + len(d.heads) + d.bytes
}

// Finish returns the encoded delta and empties the builder.
func (d *DeltaBuilder) Finish() []byte {
	d.flush()
	out := make([]byte, 0, d.Size()+12)
	out = appendHead(out, majorArray, 2)
	out = appendHead(out, majorArray, uint64(len(d.origins)))
	out = append(out, d.ids...)
	out = appendHead(out, majorArray, d.nGroups)
	out = append(out, d.groups...)
	*d = DeltaBuilder{}
	return out
}

// deltaOrigins is the list of a delta's origins as a decoder sees it.
type deltaOrigins []Origin

// Origin returns the origin at position n.
func (d deltaOrigins) Origin(n uint64) (Origin, bool) {
	if n >= uint64(len(d)) {
		return Origin{}, false
	}
	return d[n], true
}

// ParseDelta reads one encoded delta of so many rows at most, and refuses what is not well-formed. The rows share the memory of s.
// Where a schema is missing the error is an UnknownSchemaError.
func ParseDelta(s string, schemas Schemas, maxRows int) ([]RowDelta, error) {
	c := cursor{s: s}
	rows, err := c.delta(schemas, maxRows)
	if err != nil {
		return nil, fmt.Errorf("crdt: delta: %w", err)
	}
	return rows, nil
}

func (c *cursor) delta(schemas Schemas, maxRows int) ([]RowDelta, error) {
	if n, err := c.array("delta"); err != nil || n != 2 {
		return nil, c.errorf("no delta of this version")
	}
	n, err := c.array("list of origins")
	if err != nil {
		return nil, err
	}
	if n > MaxDeltaOrigins {
		return nil, c.errorf("%d origins, the limit is %d", n, MaxDeltaOrigins)
	}
	var origins deltaOrigins
	for range n {
		o, err := c.origin()
		if err != nil {
			return nil, err
		}
		origins = append(origins, o)
	}
	groups, err := c.array("list of groups")
	if err != nil {
		return nil, err
	}
	d := deltaReader{cursor: c, origins: origins, maxRows: maxRows}
	for range groups {
		if err := d.group(schemas); err != nil {
			return nil, err
		}
	}
	if !c.done() {
		return nil, c.errorf("%d bytes after the delta", len(c.s)-c.i)
	}
	return d.rows, nil
}

type deltaReader struct {
	*cursor
	origins deltaOrigins
	maxRows int
	items   int // rows and cells
	rows    []RowDelta
	cells   [][]*Cell // of the group, by column, in order of the rows: their values are still to be read
	used    []int     // the columns that have any
}

func (d *deltaReader) group(schemas Schemas) error {
	items, err := d.array("group")
	if err != nil {
		return err
	}
	ref, err := d.uint()
	if err != nil {
		return err
	}
	if ref > math.MaxUint32 {
		return d.errorf("a schema reference of a later version")
	}
	schema := schemas.Schema(SchemaRef(ref))
	if schema == nil {
		return UnknownSchemaError{SchemaRef(ref)}
	}
	n, err := d.groupRows(items)
	if err != nil {
		return err
	}
	first := len(d.rows)
	if first+n > d.maxRows {
		return d.errorf("%d rows, the limit is %d", first+n, d.maxRows)
	}
	d.items += n
	d.rows = slices.Grow(d.rows, n)
	for range n {
		key, err := d.keyOf(schema)
		if err != nil {
			return err
		}
		d.rows = append(d.rows, RowDelta{Schema: schema, Key: key})
	}
	rows := d.rows[first:]
	left := items - 2 - n
	var base Stamp
	for i := range rows {
		took := 0
		if rows[i].Row, took, err = d.head(&base, schema.cols); err != nil {
			return err
		}
		if left -= took + len(rows[i].Row.Cells); left < 0 {
			return d.errorf("the rows of a group run over its end")
		}
		if d.items += len(rows[i].Row.Cells); d.items > MaxDeltaItems {
			return d.errorf("more than %d rows and cells", MaxDeltaItems)
		}
	}
	if left > 0 {
		return d.errorf("%d items after the rows of a group", left)
	}
	return d.columns(schema, rows)
}

// groupRows reads the number of rows of a group, each of which has a key and flags at least.
func (c *cursor) groupRows(items int) (int, error) {
	n, err := c.uint()
	if err == nil && (n == 0 || items < 2 || n > uint64(items-2)/2) {
		err = c.errorf("%d rows in a group of %d items", n, items)
	}
	return int(n), err
}

// head reads a row without its key and values, and returns how many items that took.
func (d *deltaReader) head(base *Stamp, cols *Columns) (r Row, items int, err error) {
	flags, err := d.rowFlags()
	if err != nil {
		return Row{}, 0, err
	}
	if flags&flagSameBase == 0 {
		before := *base
		if *base, err = d.stamp(before.Time, d.origins); err != nil {
			return Row{}, 0, err
		}
		if *base == before {
			return Row{}, 0, d.errorf("a base that repeats the row before")
		}
	}
	if r, err = d.rowHead(flags, *base, d.origins, cols); err == nil {
		err = d.rowTail(r, flags, *base, d.origins)
	}
	return r, headItems(r, flags), err
}

// columns reads the values of some rows.
func (d *deltaReader) columns(schema *Schema, rows []RowDelta) error {
	if n := len(schema.Columns); n > len(d.cells) {
		d.cells = make([][]*Cell, n)
	}
	for i := range rows {
		column := 0
		for j := range rows[i].Row.Cells {
			c := &rows[i].Row.Cells[j]
			column = schema.column(column, c.Column)
			if len(d.cells[column]) == 0 {
				d.used = append(d.used, column)
			}
			d.cells[column] = append(d.cells[column], c)
			column++
		}
	}
	slices.Sort(d.used)
	for _, column := range d.used {
		for _, c := range d.cells[column] {
			v, err := d.value()
			if err != nil {
				return err
			}
			c.Value = v
		}
		d.cells[column] = d.cells[column][:0]
	}
	d.used = d.used[:0]
	return nil
}

// MaxTime returns the greatest time of any register in rows, for the check against the clock.
func MaxTime(rows []RowDelta) hlc.Timestamp {
	var m hlc.Timestamp
	for _, d := range rows {
		m = max(m, d.Row.Max().Time)
	}
	return m
}
