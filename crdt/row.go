package crdt

import (
	"fmt"
	"slices"
	"strings"
)

// Cell is the register of one column: a value and the stamp of the transaction that wrote it.
type Cell struct {
	Column string
	Stamp  Stamp
	Value  Value
}

// Row is the merged state of one row: a birth register, a tomb register and one register per written
// column, each keeping the greatest stamp. The zero Row is a row that nobody ever wrote.
//
// Rows in normal form, which every function here returns, hold no superseded part: no cell older than the
// floor, no birth older than the tomb. Normal form loses nothing, because the floor only rises: what is
// below it could never show again. Two replicas with the same transactions hold equal rows in normal form.
//
// A Row is a value. Cells is shared between copies and never changed in place.
type Row struct {
	Birth Stamp  // the newest INSERT that no later DELETE has ended; zero: none
	Tomb  Stamp  // the newest DELETE; zero: never deleted
	Seen  Stamp  // the birth that the deleter of Tomb saw, zero where it saw none
	Cells []Cell // in order of Column, each column once, none older than the floor
}

// Alive reports whether the row exists: its newest insert is not older than its newest delete. An update
// alone never brings a row to life.
func (r Row) Alive() bool { return !r.Birth.IsZero() && !r.Birth.Less(r.Tomb) }

// Floor is the stamp below which cells are dropped: the later of birth and tomb.
func (r Row) Floor() Stamp { return maxStamp(r.Birth, r.Tomb) }

// IsZero reports whether nothing was ever written to the row.
func (r Row) IsZero() bool { return r.Birth.IsZero() && r.Tomb.IsZero() && len(r.Cells) == 0 }

// Cell returns the register of a column and whether the row has one. An alive row without one shows the
// column's DEFAULT.
func (r Row) Cell(column string) (Cell, bool) {
	i, ok := slices.BinarySearchFunc(r.Cells, column, func(c Cell, name string) int { return strings.Compare(c.Column, name) })
	if !ok {
		return Cell{}, false
	}
	return r.Cells[i], true
}

// Merge joins two states of one row. It commutes, associates and is idempotent (PROMISES of any
// state-based CRDT: Shapiro et al. 2011), so replicas may merge in any order and any number of times.
func (r Row) Merge(o Row) Row {
	out := Row{Birth: maxStamp(r.Birth, o.Birth)}
	out.Tomb, out.Seen = r.Tomb, r.Seen
	if c := o.Tomb.Compare(r.Tomb); c > 0 || c == 0 && r.Seen.Less(o.Seen) {
		out.Tomb, out.Seen = o.Tomb, o.Seen
	}
	floor := out.Floor()
	if out.Birth.Less(out.Tomb) {
		out.Birth = Stamp{}
	}
	out.Cells = mergeCells(r.Cells, o.Cells, floor)
	return out
}

// mergeCells joins two sorted cell lists, keeping per column the greater stamp and nothing older than
// floor. Where one list already is the answer it is returned as it is.
func mergeCells(a, b []Cell, floor Stamp) []Cell {
	if len(b) == 0 {
		return atLeast(a, floor)
	}
	if len(a) == 0 {
		return atLeast(b, floor)
	}
	out := make([]Cell, 0, max(len(a), len(b)))
	for len(a) > 0 || len(b) > 0 {
		var c Cell
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Column < b[0].Column:
			c, a = a[0], a[1:]
		case len(a) == 0 || b[0].Column < a[0].Column:
			c, b = b[0], b[1:]
		default:
			c, a, b = newer(a[0], b[0]), a[1:], b[1:]
		}
		if !c.Stamp.Less(floor) {
			out = append(out, c)
		}
	}
	return out
}

// newer returns the cell with the greater stamp. Equal stamps name one transaction, so their values are
// equal; should a faulty peer break that, the greater encoding wins, and any value over NULL, and the merge still is a lattice.
func newer(a, b Cell) Cell {
	if c := a.Stamp.Compare(b.Stamp); c < 0 || c == 0 && a.Value.enc < b.Value.enc {
		return b
	}
	return a
}

// atLeast returns the cells not older than floor, the list itself where that is all of them.
func atLeast(cells []Cell, floor Stamp) []Cell {
	keep := func(c Cell) bool { return !c.Stamp.Less(floor) }
	i := slices.IndexFunc(cells, func(c Cell) bool { return !keep(c) })
	if i < 0 {
		return cells
	}
	out := append(make([]Cell, 0, len(cells)-1), cells[:i]...)
	for _, c := range cells[i+1:] {
		if keep(c) {
			out = append(out, c)
		}
	}
	return out
}

// Equal reports whether two rows in normal form are the same state.
func (r Row) Equal(o Row) bool {
	return r.Birth == o.Birth && r.Tomb == o.Tomb && r.Seen == o.Seen && slices.Equal(r.Cells, o.Cells)
}

// Dominates reports whether merging o into r changes nothing: r holds all of o, or something newer.
func (r Row) Dominates(o Row) bool { return r.Merge(o).Equal(r) }

// Without returns the part of the row that coverage c lacks: the registers written by transactions outside
// it. A replica that covers c and merges the part holds at least what r holds.
func (r Row) Without(c Coverage) Row {
	return r.where(func(s Stamp) bool { return !c.Covers(s) })
}

// Within returns the part of the row that coverage c holds: the registers written by transactions inside it. Whoever
// covers c holds at least this part, or has lost something.
func (r Row) Within(c Coverage) Row {
	return r.where(func(s Stamp) bool { return c.Covers(s) })
}

// Of returns the registers that the transaction s wrote.
func (r Row) Of(s Stamp) Row {
	return r.where(func(t Stamp) bool { return s == t })
}

// where returns the registers whose stamps pass.
func (r Row) where(pass func(Stamp) bool) Row {
	var out Row
	if pass(r.Birth) {
		out.Birth = r.Birth
	}
	if pass(r.Tomb) {
		out.Tomb, out.Seen = r.Tomb, r.Seen
	}
	if !slices.ContainsFunc(r.Cells, func(c Cell) bool { return !pass(c.Stamp) }) {
		out.Cells = r.Cells
		return out
	}
	for _, c := range r.Cells {
		if pass(c.Stamp) {
			out.Cells = append(out.Cells, c)
		}
	}
	return out
}

// Split cuts the row in two, of which the first part has the birth, the tomb and the first cells: as many as take up to so many bytes,
// and at least one. rest is zero where that is all. Merged, the two are the row again.
func (r Row) Split(size int) (part, rest Row) {
	for i, c := range r.Cells {
		if size -= c.Value.Size(); size < 0 && i > 0 {
			part, rest.Cells = r, r.Cells[i:]
			part.Cells = r.Cells[:i:i]
			return part, rest
		}
	}
	return r, Row{}
}

// After returns the cells of the columns after the given one.
func (r Row) After(column string) Row {
	for i, c := range r.Cells {
		if c.Column > column {
			return Row{Cells: r.Cells[i:]}
		}
	}
	return Row{}
}

// Stamps appends the distinct stamps of the row's registers to dst: the transactions it still names.
func (r Row) Stamps(dst []Stamp) []Stamp {
	first := len(dst)
	add := func(s Stamp) {
		if !s.IsZero() && !slices.Contains(dst[first:], s) {
			dst = append(dst, s)
		}
	}
	add(r.Birth)
	add(r.Tomb)
	for i, c := range r.Cells {
		if i == 0 || c.Stamp != r.Cells[i-1].Stamp {
			add(c.Stamp)
		}
	}
	return dst
}

// Names reports whether a register of the row carries the stamp s.
func (r Row) Names(s Stamp) bool {
	return r.Birth == s || r.Tomb == s || slices.ContainsFunc(r.Cells, func(c Cell) bool { return c.Stamp == s })
}

// Max returns the greatest stamp of the row's registers.
func (r Row) Max() Stamp {
	m := r.Floor()
	for _, c := range r.Cells {
		m = maxStamp(m, c.Stamp)
	}
	return m
}

// String is the row on one line.
func (r Row) String() string {
	var b strings.Builder
	switch {
	case r.IsZero():
		return "(none)"
	case r.Alive():
		fmt.Fprintf(&b, "alive %s", r.Birth)
	case !r.Tomb.IsZero():
		fmt.Fprintf(&b, "deleted %s", r.Tomb)
	default:
		b.WriteString("unborn")
	}
	if r.Alive() && !r.Tomb.IsZero() {
		fmt.Fprintf(&b, " tomb %s", r.Tomb)
	}
	for _, c := range r.Cells {
		fmt.Fprintf(&b, " %s=%s", c.Column, c.Value)
		if c.Stamp != r.Birth {
			fmt.Fprintf(&b, "/%s", c.Stamp)
		}
	}
	return b.String()
}
