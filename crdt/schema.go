package crdt

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Schema, made by NewSchema or ParseSchema, names what a peer must know to store and forward the rows of a table: the table, its key columns
// in key order, and its other replicated columns in order of their names. Schemas say nothing of types; a
// column that one peer does not have yet is kept under its name until it does.
type Schema struct {
	Table   string
	Key     []string
	Columns []string // in order of name

	cols *Columns
}

// SchemaRef is the short name of a schema on the wire: the first four bytes of the SHA-256 over its
// encoding, as a big-endian number.
type SchemaRef uint32

// ErrSchema wraps every refusal of a schema.
var ErrSchema = errors.New("crdt: not a schema")

// NewSchema makes a schema; columns may come in any order.
func NewSchema(table string, key, columns []string) (*Schema, error) {
	s := &Schema{Table: table, Key: slices.Clone(key), Columns: slices.Sorted(slices.Values(columns))}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Schema) check() error {
	if len(s.Key) == 0 || len(s.Key) > MaxKeyParts {
		return fmt.Errorf("%w: table %q has %d key columns", ErrSchema, s.Table, len(s.Key))
	}
	if len(s.Key)+len(s.Columns) > MaxColumns {
		return fmt.Errorf("%w: table %q has %d columns, the limit is %d", ErrSchema, s.Table, len(s.Key)+len(s.Columns), MaxColumns)
	}
	if err := CheckName(s.Table); err != nil {
		return err
	}
	for _, name := range slices.Concat(s.Key, s.Columns) {
		if err := CheckName(name); err != nil {
			return fmt.Errorf("table %q: %w", s.Table, err)
		}
	}
	for i := 1; i < len(s.Columns); i++ {
		if s.Columns[i-1] >= s.Columns[i] {
			return fmt.Errorf("%w: table %q: columns %q and %q are equal or out of order", ErrSchema, s.Table, s.Columns[i-1], s.Columns[i])
		}
	}
	for i, name := range s.Key {
		if _, other := s.Index(name); other || slices.Contains(s.Key[:i], name) {
			return fmt.Errorf("%w: table %q has the column %q twice", ErrSchema, s.Table, name)
		}
	}
	s.cols = NewColumns(s.Columns)
	return nil
}

// Numbering returns the columns numbered by their position in s.
func (s *Schema) Numbering() *Columns { return s.cols }

// CheckName refuses table and column names that could not be shown, quoted or compared safely.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: an empty name", ErrSchema)
	case len(name) > MaxNameBytes:
		return fmt.Errorf("%w: the name %.20q... has %d bytes, the limit is %d", ErrSchema, name, len(name), MaxNameBytes)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }):
		return fmt.Errorf("%w: the name %q holds control characters or is not UTF-8", ErrSchema, name)
	}
	return nil
}

// Ref returns the schema's short name. It costs a hash: callers keep it.
func (s *Schema) Ref() SchemaRef {
	sum := sha256.Sum256(AppendSchema(nil, s))
	return SchemaRef(binary.BigEndian.Uint32(sum[:]))
}

// Index returns the position of a column, and false where the schema has none of that name.
func (s *Schema) Index(column string) (int, bool) { return slices.BinarySearch(s.Columns, column) }

// column returns the position of a column that the schema has and that is not before one. Rows mostly have the very next.
func (s *Schema) column(from int, name string) int {
	if s.Columns[from] == name {
		return from
	}
	i, _ := slices.BinarySearch(s.Columns[from:], name)
	return from + i
}

// Equal reports whether two schemas are the same definition.
func (s *Schema) Equal(t *Schema) bool {
	return s.Table == t.Table && slices.Equal(s.Key, t.Key) && slices.Equal(s.Columns, t.Columns)
}

// With returns a schema that has the further columns too, s itself where it has them all.
func (s *Schema) With(columns []string) (*Schema, error) {
	all := slices.Concat(s.Columns, columns)
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) == len(s.Columns) {
		return s, nil
	}
	return NewSchema(s.Table, s.Key, all)
}

// String is the schema on one line.
func (s *Schema) String() string {
	return fmt.Sprintf("%s(%s; %s)", s.Table, strings.Join(s.Key, ", "), strings.Join(s.Columns, ", "))
}

// AppendSchema appends [table, [key column..], [column..]].
func AppendSchema(dst []byte, s *Schema) []byte {
	dst = appendHead(dst, majorArray, 3)
	dst = appendText(dst, s.Table)
	for _, names := range [][]string{s.Key, s.Columns} {
		dst = appendHead(dst, majorArray, uint64(len(names)))
		for _, name := range names {
			dst = appendText(dst, name)
		}
	}
	return dst
}

// ParseSchema reads one encoded schema.
func ParseSchema(b []byte) (*Schema, error) {
	c := cursor{s: string(b)}
	s, err := c.schema()
	if err == nil && !c.done() {
		err = c.errorf("%d bytes after the schema", len(b)-c.i)
	}
	if err != nil {
		return nil, fmt.Errorf("crdt: schema: %w", err)
	}
	return s, nil
}

func (c *cursor) schema() (*Schema, error) {
	if n, err := c.array("schema"); err != nil || n != 3 {
		return nil, c.errorf("no schema")
	}
	table, err := c.text(MaxNameBytes, "table name")
	if err != nil {
		return nil, err
	}
	s := &Schema{Table: table}
	for _, names := range []*[]string{&s.Key, &s.Columns} {
		n, err := c.array("list of columns")
		if err != nil {
			return nil, err
		}
		if n > MaxColumns {
			return nil, c.errorf("%d columns", n)
		}
		for range n {
			name, err := c.text(MaxNameBytes, "column name")
			if err != nil {
				return nil, err
			}
			*names = append(*names, name)
		}
	}
	return s, s.check()
}
