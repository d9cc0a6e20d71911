package crdt

import (
	"fmt"

	"github.com/rowmesh/rowmesh/hlc"
)

// A row is encoded around its base stamp, which nearly every row has as its only one: the birth, or
// without one the tomb, or without both the first cell's stamp. After the base come, as CBOR items:
//
//	flags       unsigned, the bits below
//	tomb        origin number, base time minus its time           if flagTomb
//	seen        origin number, base time minus its time           if flagSeen
//	mask        the columns of the cells                          if flagCells
//	values      one per column of the mask, in order of name      if flagCells
//	exceptions  a count, then for each cell whose stamp is not    if flagExceptions
//	            the base: position, origin number, base time minus its time
//
// Where the base itself is written depends on the place: a store keeps it beside the row, a delta writes
// it after the flags unless it repeats the row before. A delta has the values elsewhere, too: see there.
const (
	flagBirth      = 1 << iota // the base is the birth
	flagTombIsBase             // the base is the tomb (with flagBirth: replaced in one transaction)
	flagTomb                   // another tomb follows
	flagSeen                   // the birth that the deleter saw follows
	flagCells
	flagExceptions
	flagSameBase // in a delta: the base is that of the row before

	allRowFlags = 1<<iota - 1
)

// headStamps is how many stamps, each a number and a distance, follow the flags of a row in a delta, before its mask.
func headStamps(flags uint) (n int) {
	for _, f := range []uint{^flags & flagSameBase, flags & flagTomb, flags & flagSeen} {
		if f != 0 {
			n++
		}
	}
	return n
}

// OriginNumbers numbers origins for an encoder.
type OriginNumbers interface {
	Number(Origin) uint64
}

// OriginNames is the reverse of OriginNumbers, for a decoder.
type OriginNames interface {
	Origin(n uint64) (Origin, bool)
}

// Base returns the stamp that an encoding of r is built around. It is zero for the zero row only.
func (r Row) Base() Stamp {
	switch {
	case !r.Birth.IsZero():
		return r.Birth
	case !r.Tomb.IsZero():
		return r.Tomb
	case len(r.Cells) > 0:
		return r.Cells[0].Stamp
	}
	return Stamp{}
}

// AppendRow appends the encoding of r without its base. It panics where a cell's column is not in cols:
// the caller numbers columns before it stores their cells.
func AppendRow(dst []byte, r Row, origins OriginNumbers, cols *Columns) []byte {
	base := r.Base()
	dst = appendUint(dst, uint64(rowFlags(r, base)))
	dst = appendOtherStamps(dst, r, base, origins)
	if len(r.Cells) > 0 {
		dst = cols.mustAppendMask(dst, r)
		for _, c := range r.Cells {
			dst = appendValue(dst, c.Value)
		}
	}
	return appendExceptions(dst, r, base, origins)
}

// ParseRow reads what AppendRow wrote. The row shares the memory of body.
func ParseRow(base Stamp, body string, origins OriginNames, cols *Columns) (Row, error) {
	c := cursor{s: body}
	flags, err := c.rowFlags()
	if err != nil {
		return Row{}, fmt.Errorf("crdt: row: %w", err)
	}
	r, err := c.rowHead(flags, base, origins, cols)
	if err == nil {
		err = c.values(r.Cells)
	}
	if err == nil {
		err = c.rowTail(r, flags, base, origins)
	}
	if err == nil && (flags&flagSameBase != 0 || !c.done()) {
		err = c.errorf("more than a row")
	}
	if err != nil {
		return Row{}, fmt.Errorf("crdt: row: %w", err)
	}
	return r, nil
}

func rowFlags(r Row, base Stamp) (flags uint) {
	if !r.Birth.IsZero() {
		flags |= flagBirth
	}
	switch {
	case r.Tomb.IsZero():
	case r.Tomb == base:
		flags |= flagTombIsBase
	default:
		flags |= flagTomb
	}
	if !r.Seen.IsZero() {
		flags |= flagSeen
	}
	if len(r.Cells) > 0 {
		flags |= flagCells
	}
	if r.exceptions(base) > 0 {
		flags |= flagExceptions
	}
	return flags
}

// appendStamp appends the number of a stamp's origin and how far its time is below that of base.
func appendStamp(dst []byte, s, base Stamp, origins OriginNumbers) []byte {
	dst = appendUint(dst, origins.Number(s.Origin))
	return appendInt(dst, int64(base.Time)-int64(s.Time))
}

// appendOtherStamps appends the tomb and the birth that the deleter saw.
func appendOtherStamps(dst []byte, r Row, base Stamp, origins OriginNumbers) []byte {
	if !r.Tomb.IsZero() && r.Tomb != base {
		dst = appendStamp(dst, r.Tomb, base, origins)
	}
	if !r.Seen.IsZero() {
		dst = appendStamp(dst, r.Seen, base, origins)
	}
	return dst
}

func appendExceptions(dst []byte, r Row, base Stamp, origins OriginNumbers) []byte {
	n := r.exceptions(base)
	if n == 0 {
		return dst
	}
	dst = appendUint(dst, uint64(n))
	for i, c := range r.Cells {
		if c.Stamp != base {
			dst = appendStamp(appendUint(dst, uint64(i)), c.Stamp, base, origins)
		}
	}
	return dst
}

// exceptions counts the cells whose stamp is not the base.
func (r Row) exceptions(base Stamp) (n int) {
	for _, c := range r.Cells {
		if c.Stamp != base {
			n++
		}
	}
	return n
}

func (c *cursor) rowFlags() (uint, error) {
	n, err := c.uint()
	if err == nil && n > allRowFlags {
		err = c.errorf("row flags %#x of a later version", n)
	}
	return uint(n), err
}

// stamp reads an origin number and the distance of a time below base.
func (c *cursor) stamp(base hlc.Timestamp, origins OriginNames) (Stamp, error) {
	n, err := c.uint()
	if err != nil {
		return Stamp{}, err
	}
	o, ok := origins.Origin(n)
	if !ok {
		return Stamp{}, c.errorf("origin number %d is not defined", n)
	}
	d, err := c.int()
	if err != nil {
		return Stamp{}, err
	}
	t := int64(base) - d
	if t <= 0 || (d < 0) != (t > int64(base)) {
		return Stamp{}, c.errorf("a time out of range")
	}
	return Stamp{hlc.Timestamp(t), o}, nil
}

// rowHead reads what follows the flags and the base, up to the mask. The cells have no values yet.
func (c *cursor) rowHead(flags uint, base Stamp, origins OriginNames, cols *Columns) (r Row, err error) {
	if flags&flagBirth != 0 {
		r.Birth = base
	}
	if flags&flagTombIsBase != 0 {
		r.Tomb = base
	}
	if flags&flagTomb != 0 {
		if r.Tomb, err = c.stamp(base.Time, origins); err != nil {
			return Row{}, err
		}
	}
	if flags&flagSeen != 0 {
		if r.Seen, err = c.stamp(base.Time, origins); err != nil {
			return Row{}, err
		}
	}
	if flags&flagCells != 0 {
		m, err := c.mask(len(cols.names))
		if err != nil {
			return Row{}, err
		}
		if r.Cells, err = c.cells(m, cols, base); err != nil {
			return Row{}, err
		}
	}
	return r, nil
}

// rowTail reads the exceptions and checks the row.
func (c *cursor) rowTail(r Row, flags uint, base Stamp, origins OriginNames) error {
	if flags&flagExceptions != 0 {
		if err := c.exceptions(r.Cells, base, origins); err != nil {
			return err
		}
	}
	if base.IsZero() || r.Base() != base || rowFlags(r, base) != flags&^flagSameBase || !r.normal() {
		return c.errorf("a row that is not in its normal form")
	}
	return nil
}

func (c *cursor) exceptions(cells []Cell, base Stamp, origins OriginNames) error {
	n, err := c.uint()
	if err != nil {
		return err
	}
	if n == 0 || n > uint64(len(cells)) {
		return c.errorf("%d exceptions for %d cells", n, len(cells))
	}
	next := uint64(0)
	for range n {
		i, err := c.uint()
		if err != nil {
			return err
		}
		if i < next || i >= uint64(len(cells)) {
			return c.errorf("exceptions out of order")
		}
		next = i + 1
		s, err := c.stamp(base.Time, origins)
		if err != nil {
			return err
		}
		if s == base {
			return c.errorf("an exception that is none")
		}
		cells[i].Stamp = s
	}
	return nil
}

// normal reports whether the row holds nothing superseded: what Merge would leave as it is.
func (r Row) normal() bool {
	if !r.Birth.IsZero() && r.Birth.Less(r.Tomb) || r.Tomb.IsZero() && !r.Seen.IsZero() {
		return false
	}
	floor := r.Floor()
	for _, c := range r.Cells {
		if c.Stamp.Less(floor) {
			return false
		}
	}
	return true
}
