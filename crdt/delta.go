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
//	[ [origin id..], [group..] ]     group = [schema ref, (key, flags, [origin number, time below the
//	                                 delta's previous base,] rest of the row)..]
//
// Origin numbers are positions in the delta's own list. The base stamp is left out where it repeats the
// row before, which makes the rows of one transaction cost two bytes beside their keys and values.

// DeltaBuilder collects rows for one delta. The zero DeltaBuilder is empty.
type DeltaBuilder struct {
	origins map[Origin]uint64
	ids     []byte
	groups  []byte // finished groups
	nGroups uint64
	group   []byte // items of the open group
	items   uint64
	schema  *Schema
	cols    *Columns
	base    Stamp
	rows    int
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
		d.schema, d.cols = schema, schema.Numbering()
		d.group = appendUint(d.group[:0], uint64(ref))
		d.items = 1
	}
	base := r.Base()
	flags := rowFlags(r, base)
	if base == d.base {
		flags |= flagSameBase
	}
	d.group = append(d.group, key.enc...)
	d.group = appendUint(d.group, uint64(flags))
	if base != d.base {
		d.group = appendUint(d.group, d.Number(base.Origin))
		d.group = appendInt(d.group, int64(d.base.Time)-int64(base.Time))
		d.base = base
	}
	d.group = appendRowRest(d.group, r, base, d, d.cols)
	d.items += uint64(rowItems(r, flags))
	d.rows++
}

// rowItems is the number of CBOR items that a row takes in a delta, its key included.
func rowItems(r Row, flags uint) int {
	n := 2
	if flags&flagSameBase == 0 {
		n += 2
	}
	if flags&flagTomb != 0 {
		n += 2
	}
	if flags&flagSeen != 0 {
		n += 2
	}
	if flags&flagCells != 0 {
		n += 1 + len(r.Cells)
	}
	if flags&flagExceptions != 0 {
		n++
		base := r.Base()
		for _, c := range r.Cells {
			if c.Stamp != base {
				n += 3
			}
		}
	}
	return n
}

func (d *DeltaBuilder) flush() {
	if d.schema != nil {
		d.nGroups++
		d.groups = append(appendHead(d.groups, majorArray, d.items), d.group...)
	}
}

// Rows returns how many rows were added.
func (d *DeltaBuilder) Rows() int { return d.rows }

// Size returns about how many bytes the delta has so far.
func (d *DeltaBuilder) Size() int { return len(d.ids) + len(d.groups) + len(d.group) }

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

// ParseDelta reads one encoded delta and refuses what is not well-formed. The rows share the memory of s.
// Where a schema is missing the error is an UnknownSchemaError.
func ParseDelta(s string, schemas Schemas) ([]RowDelta, error) {
	c := cursor{s: s}
	rows, err := c.delta(schemas)
	if err != nil {
		return nil, fmt.Errorf("crdt: delta: %w", err)
	}
	return rows, nil
}

func (c *cursor) delta(schemas Schemas) ([]RowDelta, error) {
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
	d := deltaReader{cursor: c, origins: origins}
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
	base    Stamp
	rows    []RowDelta
}

func (d *deltaReader) group(schemas Schemas) error {
	items, err := d.array("group")
	if err != nil {
		return err
	}
	if items < 3 {
		return d.errorf("a group of %d items", items)
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
	cols := schema.Numbering()
	first := len(d.rows)
	for items--; items > 0; {
		n, err := d.row(schema, cols)
		if err != nil {
			return err
		}
		if items -= n; len(d.rows) == first+1 && items > 0 {
			d.rows = slices.Grow(d.rows, items/n) // most rows of a group are alike
		}
	}
	if items < 0 {
		return d.errorf("the last row of a group runs over its end")
	}
	return nil
}

// row reads one row and returns how many items it took.
func (d *deltaReader) row(schema *Schema, cols *Columns) (items int, err error) {
	key, err := d.key()
	if err != nil {
		return 0, err
	}
	flags, err := d.rowFlags()
	if err != nil {
		return 0, err
	}
	if flags&flagSameBase == 0 {
		before := d.base
		if d.base, err = d.stamp(before.Time, d.origins); err != nil {
			return 0, err
		}
		if d.base == before {
			return 0, d.errorf("a base that repeats the row before")
		}
	}
	r, err := d.rowRest(flags, d.base, d.origins, cols)
	if err != nil {
		return 0, err
	}
	d.rows = append(d.rows, RowDelta{schema, key, r})
	return rowItems(r, flags), nil
}

// MaxTime returns the greatest time of any register in rows, for the check against the clock.
func MaxTime(rows []RowDelta) hlc.Timestamp {
	var m hlc.Timestamp
	for _, d := range rows {
		m = max(m, d.Row.Max().Time)
	}
	return m
}
