package crdt

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Key identifies a row within its table: the values of its key columns, in the canonical form in which
// numerically equal keys are one key (2.0 is 2, -0.0 is 0). It holds its CBOR encoding, so keys compare
// with == and serve as map keys. The zero Key is no key. A Key is immutable.
type Key struct {
	enc string // the value itself, or an array of the parts of a composite key
}

// ErrKey wraps every refusal to make a key of some values.
var ErrKey = errors.New("crdt: not a key")

// KeyOf makes the key of a row from the values of its key columns, in their order. NULL is refused, and so
// is a REAL inside a composite key: SQL compares such keys in ways that no text or byte form keeps.
func KeyOf(parts ...Value) (Key, error) {
	if len(parts) == 0 || len(parts) > MaxKeyParts {
		return Key{}, fmt.Errorf("%w: %d parts, between 1 and %d are possible", ErrKey, len(parts), MaxKeyParts)
	}
	size := 1
	for i, p := range parts {
		parts[i] = canonicalPart(p)
		size += parts[i].Size()
		if err := checkPart(parts[i], len(parts) > 1); err != nil {
			return Key{}, err
		}
	}
	if size > MaxKeyBytes {
		return Key{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrKey, size, MaxKeyBytes)
	}
	if len(parts) == 1 {
		return Key{parts[0].enc}, nil
	}
	buf := appendHead(make([]byte, 0, size+1), majorArray, uint64(len(parts)))
	for _, p := range parts {
		buf = append(buf, p.enc...)
	}
	return Key{string(buf)}, nil
}

// MustKey is KeyOf for tests: it panics where KeyOf fails.
func MustKey(parts ...Value) Key {
	k, err := KeyOf(parts...)
	if err != nil {
		panic(err)
	}
	return k
}

// canonicalPart turns a REAL that is exactly a 64-bit integer into that integer.
func canonicalPart(v Value) Value {
	if v.Kind() != KindReal {
		return v
	}
	f := v.Real()
	if f == math.Trunc(f) && f >= -1<<63 && f < 1<<63 {
		return Integer(int64(f))
	}
	return v
}

func checkPart(v Value, composite bool) error {
	switch v.Kind() {
	case KindNull:
		return fmt.Errorf("%w: a key column is NULL", ErrKey)
	case KindRef:
		return fmt.Errorf("%w: a key column is a reference", ErrKey)
	case KindReal:
		if composite {
			return fmt.Errorf("%w: a composite key holds the REAL %s", ErrKey, v)
		}
	}
	return nil
}

// IsZero reports whether k is no key.
func (k Key) IsZero() bool { return k.enc == "" }

// Compare orders keys as SQLite's BINARY collation does: numbers before text before blobs, numbers by value, the
// others by their bytes. Composite keys go part by part, but by kind and then by the digits of their integers, as the
// text does in which package sqlbridge keeps them (keyColumn there). So one index of a database, and every other store,
// visits the rows of a table in the same order, and a visit can be gone on with elsewhere.
func (k Key) Compare(l Key) int {
	if k.enc == l.enc {
		return 0
	}
	a, b := cursor{s: k.enc}, cursor{s: l.enc}
	n, m := a.parts(), b.parts()
	if n <= 1 || m <= 1 {
		return cmp.Or(cmp.Compare(n, m), compareSingle(k.value(), l.value()))
	}
	for range min(n, m) {
		if c := comparePart(a.part(), b.part()); c != 0 {
			return c
		}
	}
	return cmp.Compare(n, m)
}

// value returns the only part of a key.
func (k Key) value() Value { return Value(k) }

// parts reads how many parts a key has. The cursor is on a checked key, or on none.
func (c *cursor) parts() int {
	switch {
	case c.s == "":
		return 0
	case c.s[0]>>5 != majorArray:
		return 1
	}
	n, _ := c.array("key")
	return n
}

func (c *cursor) part() Value {
	v, err := c.value()
	if err != nil {
		panic(fmt.Sprintf("crdt: key %x: %v", c.s, err)) // every Key was checked when it was made
	}
	return v
}

// storageOrder is SQLite's order of storage classes.
func storageOrder(k Kind) int {
	switch k {
	case KindNull:
		return 0
	case KindInteger, KindReal:
		return 1
	case KindText, KindRawText:
		return 2
	}
	return 3
}

func compareSingle(a, b Value) int {
	x, y := a.Kind(), b.Kind()
	if c := cmp.Compare(storageOrder(x), storageOrder(y)); c != 0 {
		return c
	}
	switch {
	case x == KindInteger && y == KindInteger:
		return cmp.Compare(a.Integer(), b.Integer())
	case x == KindReal && y == KindReal:
		return cmp.Compare(a.Real(), b.Real())
	case x == KindInteger:
		return compareIntReal(a.Integer(), b.Real())
	case x == KindReal:
		return -compareIntReal(b.Integer(), a.Real())
	}
	return strings.Compare(a.Bytes(), b.Bytes())
}

// compareIntReal compares without rounding the integer. The REAL of a key is never a 64-bit integer itself.
func compareIntReal(i int64, f float64) int {
	switch {
	case f >= 1<<63:
		return -1
	case f < -1<<63:
		return 1
	}
	if c := cmp.Compare(i, int64(f)); c != 0 { // int64 cuts towards zero
		return c
	}
	return cmp.Compare(0, f-math.Trunc(f))
}

// comparePart compares two parts of composite keys: blobs, integers, text, in the order of the letters that mark them.
func comparePart(a, b Value) int {
	if c := cmp.Compare(partOrder(a.Kind()), partOrder(b.Kind())); c != 0 {
		return c
	}
	if a.Kind() == KindInteger {
		var x, y [20]byte
		return bytes.Compare(strconv.AppendInt(x[:0], a.Integer(), 10), strconv.AppendInt(y[:0], b.Integer(), 10))
	}
	return strings.Compare(a.Bytes(), b.Bytes())
}

func partOrder(k Kind) byte {
	switch k {
	case KindBlob:
		return 'b'
	case KindInteger:
		return 'i'
	}
	return 't'
}

// Encoded returns the canonical CBOR form.
func (k Key) Encoded() string { return k.enc }

// Values returns the parts of the key.
func (k Key) Values() []Value {
	if k.enc == "" {
		return nil
	}
	c := cursor{s: k.enc}
	n := 1
	if k.enc[0]>>5 == majorArray {
		n, _ = c.array("key")
	}
	parts := make([]Value, 0, n)
	for range n {
		v, err := c.value()
		if err != nil {
			panic(fmt.Sprintf("crdt: key %x: %v", k.enc, err)) // every Key was checked when it was made
		}
		parts = append(parts, v)
	}
	return parts
}

// String is the key as SQL literals.
func (k Key) String() string {
	parts := k.Values()
	if len(parts) == 1 {
		return parts[0].String()
	}
	text := make([]string, len(parts))
	for i, p := range parts {
		text[i] = p.String()
	}
	return "(" + strings.Join(text, ", ") + ")"
}

// ParseKey reads one encoded key and refuses anything but its canonical form. The Key shares the memory
// of s.
func ParseKey(s string) (Key, error) {
	c := cursor{s: s}
	k, err := c.key()
	if err == nil && !c.done() {
		err = c.errorf("%d bytes after the key", len(s)-c.i)
	}
	if err != nil {
		return Key{}, fmt.Errorf("crdt: key: %w", err)
	}
	return k, nil
}

func (c *cursor) key() (Key, error) {
	at := c.i
	major, err := c.peek()
	if err != nil {
		return Key{}, err
	}
	n := 1
	if major == majorArray {
		if n, err = c.array("key"); err != nil {
			return Key{}, err
		}
		if n < 2 || n > MaxKeyParts {
			return Key{}, c.errorf("a composite key of %d parts", n)
		}
	}
	for range n {
		if err := c.keyPart(n > 1); err != nil {
			return Key{}, err
		}
	}
	if c.i-at > MaxKeyBytes {
		return Key{}, c.errorf("a key of %d bytes, the limit is %d", c.i-at, MaxKeyBytes)
	}
	return Key{c.s[at:c.i]}, nil
}

// keyOf reads a key of a table.
func (c *cursor) keyOf(s *Schema) (Key, error) {
	k, err := c.key()
	if err != nil {
		return Key{}, err
	}
	if n := (&cursor{s: k.enc}).parts(); n != len(s.Key) {
		return Key{}, c.errorf("a key of %d parts, that of %q has %d", n, s.Table, len(s.Key))
	}
	return k, nil
}

func (c *cursor) keyPart(composite bool) error {
	if major, err := c.peek(); err != nil || major == majorArray {
		return c.errorf("no key part")
	}
	v, err := c.value()
	if err != nil {
		return err
	}
	if err := checkPart(v, composite); err != nil || canonicalPart(v) != v {
		return c.errorf("%s is not a canonical key part", v)
	}
	return nil
}
