package crdt

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// Columns numbers the columns of a table: number i is names[i]. Encoded rows name their columns by a mask
// of these numbers and hold the values in order of the names. A store's numbering only grows at its end,
// so that rows written earlier keep their meaning.
type Columns struct {
	names  []string
	byName []int // numbers in order of name
	sorted bool  // which is their own order
}

// NewColumns numbers names by their position. The slice is kept and must not change.
func NewColumns(names []string) *Columns {
	c := &Columns{names: names, byName: make([]int, len(names)), sorted: slices.IsSorted(names)}
	for i := range names {
		c.byName[i] = i
	}
	slices.SortFunc(c.byName, func(a, b int) int { return strings.Compare(names[a], names[b]) })
	return c
}

// Names returns the names by number. The slice belongs to c.
func (c *Columns) Names() []string { return c.names }

// appendMask appends the numbers of the cells' columns: an unsigned number with bit i for column i, or,
// where a number is 64 or more, a byte string with bit i%8 of byte i/8, without zero bytes at its end. It
// reports false where a cell's column has no number.
func (c *Columns) appendMask(dst []byte, cells []Cell) ([]byte, bool) {
	var low uint64
	var wide []byte
	next := 0
	for _, i := range c.byName {
		if next == len(cells) {
			break
		}
		if c.names[i] != cells[next].Column {
			continue
		}
		next++
		if i < 64 {
			low |= 1 << i
			continue
		}
		for len(wide) <= i/8 {
			wide = append(wide, 0)
		}
		wide[i/8] |= 1 << (i % 8)
	}
	if next < len(cells) {
		return dst, false
	}
	if wide == nil {
		return appendUint(dst, low), true
	}
	var head [8]byte
	binary.LittleEndian.PutUint64(head[:], low)
	copy(wide, head[:])
	return appendBytes(dst, wide), true
}

// mustAppendMask is appendMask for a row whose columns have numbers.
func (c *Columns) mustAppendMask(dst []byte, r Row) []byte {
	dst, ok := c.appendMask(dst, r.Cells)
	if !ok {
		panic(fmt.Sprintf("crdt: a row has columns without a number: %s, numbered are %q", r, c.names))
	}
	return dst
}

// columnMask is a decoded mask.
type columnMask struct {
	low  uint64
	wide string
}

func (m columnMask) has(i int) bool {
	if m.wide == "" {
		return i < 64 && m.low>>i&1 == 1
	}
	return i/8 < len(m.wide) && m.wide[i/8]>>(i%8)&1 == 1
}

func (m columnMask) count() int {
	n := bits.OnesCount64(m.low)
	for i := range len(m.wide) {
		n += bits.OnesCount8(m.wide[i])
	}
	return n
}

// numbers yields the numbers in m in their order.
func (m columnMask) numbers(yield func(int) bool) {
	for x := m.low; x != 0; x &= x - 1 {
		if !yield(bits.TrailingZeros64(x)) {
			return
		}
	}
	for b := range len(m.wide) {
		for x := m.wide[b]; x != 0; x &= x - 1 {
			if !yield(8*b + bits.TrailingZeros8(x)) {
				return
			}
		}
	}
}

// mask reads a column mask in which every number is below columns.
func (c *cursor) mask(columns int) (columnMask, error) {
	major, err := c.peek()
	if err != nil {
		return columnMask{}, err
	}
	var m columnMask
	top := 0
	if major == majorUint {
		m.low, _ = c.uint()
		top = bits.Len64(m.low)
	} else {
		if m.wide, err = c.bytes((MaxColumns+7)/8, "column mask"); err != nil {
			return columnMask{}, err
		}
		if len(m.wide) <= 8 || m.wide[len(m.wide)-1] == 0 {
			return columnMask{}, c.errorf("a column mask in more bytes than it needs")
		}
		top = 8*(len(m.wide)-1) + bits.Len8(m.wide[len(m.wide)-1])
	}
	if top > columns {
		return columnMask{}, c.errorf("a column mask with number %d of %d", top-1, columns)
	}
	return m, nil
}

// cells makes cells of the columns in m, in order of name, each stamped s. Their values are among what is left to read.
func (c *cursor) cells(m columnMask, cols *Columns, s Stamp) ([]Cell, error) {
	n := m.count()
	if n == 0 {
		return nil, nil
	}
	if n > len(c.s)-c.i {
		return nil, c.errorf("%d values in %d bytes", n, len(c.s)-c.i)
	}
	cells := make([]Cell, 0, n)
	if cols.sorted {
		for i := range m.numbers { // there may be many rows of a few of many columns
			cells = append(cells, Cell{Column: cols.names[i], Stamp: s})
		}
		return cells, nil
	}
	for _, i := range cols.byName {
		if m.has(i) {
			cells = append(cells, Cell{Column: cols.names[i], Stamp: s})
		}
	}
	return cells, nil
}

// values reads the values of some cells.
func (c *cursor) values(cells []Cell) (err error) {
	for i := range cells {
		if cells[i].Value, err = c.value(); err != nil {
			return err
		}
	}
	return nil
}
