package crdt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/x448/float16"
)

// The codec of everything that holds user values is our own: values stay raw bytes from wire to store to
// projection, and the strictness (shortest heads, definite lengths, no tags, a closed set of kinds) is part
// of the canonical form that hashing relies on. It is the deterministic CBOR of RFC 8949, section 4.2.1.

const (
	majorUint byte = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

const (
	cborNull  = 0xf6
	cborFalse = 0xf4
)

// ErrEncoding wraps every refusal of bytes that are not the canonical encoding of what they should be.
var ErrEncoding = errors.New("malformed encoding")

func appendHead(dst []byte, major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return append(dst, m|byte(n))
	case n <= math.MaxUint8:
		return append(dst, m|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, m|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, m|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, m|27), n)
}

// headLen is the length of a head by its first byte.
func headLen(b byte) int {
	if info := b & 31; info >= 24 {
		return 1 + 1<<(info-24)
	}
	return 1
}

func appendUint(dst []byte, n uint64) []byte { return appendHead(dst, majorUint, n) }

func appendInt(dst []byte, i int64) []byte {
	if i < 0 {
		return appendHead(dst, majorNegative, uint64(^i))
	}
	return appendHead(dst, majorUint, uint64(i))
}

// appendFloat appends the shortest of the three float forms that keeps f exactly. f is not NaN.
func appendFloat(dst []byte, f float64) []byte {
	f32 := float32(f)
	if float64(f32) != f {
		return binary.BigEndian.AppendUint64(append(dst, 0xfb), math.Float64bits(f))
	}
	if half := float16.Fromfloat32(f32); half.Float32() == f32 {
		return binary.BigEndian.AppendUint16(append(dst, 0xf9), half.Bits())
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xfa), math.Float32bits(f32))
}

func appendBytes(dst []byte, b []byte) []byte {
	return append(appendHead(dst, majorBytes, uint64(len(b))), b...)
}

func appendText(dst []byte, s string) []byte {
	return append(appendHead(dst, majorText, uint64(len(s))), s...)
}

func appendValue(dst []byte, v Value) []byte { return append(dst, v.Encoded()...) }

// cursor reads canonical CBOR from a string, handing out parts of it without copying.
type cursor struct {
	s string
	i int
}

func (c *cursor) done() bool { return c.i == len(c.s) }

func (c *cursor) errorf(format string, args ...any) error {
	return fmt.Errorf("%w at byte %d: %s", ErrEncoding, c.i, fmt.Sprintf(format, args...))
}

// peek returns the major type of the next item.
func (c *cursor) peek() (byte, error) {
	if c.done() {
		return 0, c.errorf("it ends early")
	}
	return c.s[c.i] >> 5, nil
}

// head reads a head and refuses indefinite lengths and heads longer than need be.
func (c *cursor) head() (major byte, n uint64, err error) {
	if c.done() {
		return 0, 0, c.errorf("it ends early")
	}
	b := c.s[c.i]
	major, info := b>>5, b&31
	if info < 24 {
		c.i++
		return major, uint64(info), nil
	}
	if info > 27 {
		return 0, 0, c.errorf("indefinite or reserved length")
	}
	size := 1 << (info - 24)
	if len(c.s)-c.i < 1+size {
		return 0, 0, c.errorf("it ends early")
	}
	for _, x := range []byte(c.s[c.i+1 : c.i+1+size]) {
		n = n<<8 | uint64(x)
	}
	if major != majorSimple && (n < 24 || size > 1 && n>>(uint(size)*4) == 0) {
		return 0, 0, c.errorf("a number in more bytes than it needs")
	}
	c.i += 1 + size
	return major, n, nil
}

func (c *cursor) expect(want byte, what string) (uint64, error) {
	at := c.i
	major, n, err := c.head()
	if err != nil {
		return 0, err
	}
	if major != want {
		c.i = at
		return 0, c.errorf("no %s", what)
	}
	return n, nil
}

func (c *cursor) uint() (uint64, error) { return c.expect(majorUint, "unsigned number") }

func (c *cursor) int() (int64, error) {
	at := c.i
	major, n, err := c.head()
	if err != nil {
		return 0, err
	}
	if major > majorNegative || n > math.MaxInt64 {
		c.i = at
		return 0, c.errorf("no 64-bit integer")
	}
	if major == majorNegative {
		return ^int64(n), nil
	}
	return int64(n), nil
}

// array reads an array's head; no item is shorter than a byte, so a count beyond the rest is refused here,
// before anything is allocated for it.
func (c *cursor) array(what string) (int, error) {
	n, err := c.expect(majorArray, what)
	if err != nil {
		return 0, err
	}
	if n > uint64(len(c.s)-c.i) {
		return 0, c.errorf("%s of %d items in %d bytes", what, n, len(c.s)-c.i)
	}
	return int(n), nil
}

// take returns the next n bytes.
func (c *cursor) take(n uint64, limit int, what string) (string, error) {
	if n > uint64(limit) {
		return "", c.errorf("%s of %d bytes, the limit is %d", what, n, limit)
	}
	if n > uint64(len(c.s)-c.i) {
		return "", c.errorf("it ends early")
	}
	s := c.s[c.i : c.i+int(n)]
	c.i += int(n)
	return s, nil
}

func (c *cursor) bytes(limit int, what string) (string, error) {
	n, err := c.expect(majorBytes, what)
	if err != nil {
		return "", err
	}
	return c.take(n, limit, what)
}

func (c *cursor) text(limit int, what string) (string, error) {
	n, err := c.expect(majorText, what)
	if err != nil {
		return "", err
	}
	s, err := c.take(n, limit, what)
	if err == nil && !utf8.ValidString(s) {
		return "", c.errorf("%s is not UTF-8", what)
	}
	return s, err
}

func (c *cursor) origin() (Origin, error) {
	s, err := c.bytes(len(Origin{}), "origin id")
	if err != nil {
		return Origin{}, err
	}
	if len(s) != len(Origin{}) {
		return Origin{}, c.errorf("an origin id of %d bytes", len(s))
	}
	return Origin([]byte(s)), nil
}

func (c *cursor) float() (float64, error) {
	if c.done() {
		return 0, c.errorf("it ends early")
	}
	at, b := c.i, c.s[c.i]
	if b < 0xf9 || b > 0xfb {
		return 0, c.errorf("no number")
	}
	_, bits, err := c.head()
	if err != nil {
		return 0, err
	}
	var f float64
	switch b {
	case 0xf9:
		f = float64(float16.Frombits(uint16(bits)).Float32())
	case 0xfa:
		f = float64(math.Float32frombits(uint32(bits)))
	default:
		f = math.Float64frombits(bits)
	}
	if math.IsNaN(f) || string(appendFloat(nil, f)) != c.s[at:c.i] {
		c.i = at
		return 0, c.errorf("a number that is NaN or in more bytes than it needs")
	}
	return f, nil
}

// value reads one value of the closed set of kinds.
func (c *cursor) value() (Value, error) {
	at := c.i
	major, err := c.peek()
	if err != nil {
		return Value{}, err
	}
	switch major {
	case majorUint, majorNegative:
		_, err = c.int()
	case majorBytes:
		_, err = c.bytes(MaxValueBytes, "blob")
	case majorText:
		_, err = c.text(MaxValueBytes, "text")
	case majorArray:
		err = c.ref()
	case majorMap:
		err = c.rawText()
	case majorSimple:
		if c.s[c.i] == cborNull {
			c.i++
			return Value{}, nil
		}
		_, err = c.float()
	default:
		err = c.errorf("a kind of value this version does not know")
	}
	if err != nil {
		return Value{}, err
	}
	return Value{c.s[at:c.i]}, nil
}

// rawText reads {0: bytes}, the form of text that is not UTF-8. Valid text in this form is not canonical.
func (c *cursor) rawText() error {
	if len(c.s)-c.i < 2 || c.s[c.i] != 0xa1 || c.s[c.i+1] != 0x00 {
		return c.errorf("a kind of value this version does not know")
	}
	c.i += 2
	s, err := c.bytes(MaxValueBytes, "text")
	if err == nil && utf8.ValidString(s) {
		return c.errorf("valid UTF-8 marked as not valid")
	}
	return err
}

// ref checks and passes over a reference: [k], [k, n] or [k, n, i].
func (c *cursor) ref() error {
	n, err := c.array("reference")
	if err != nil {
		return err
	}
	if n < 1 || n > maxRefParts {
		return c.errorf("a reference of %d parts", n)
	}
	if _, err := c.key(); err != nil {
		return err
	}
	for range n - 1 {
		if _, err := c.uint(); err != nil {
			return err
		}
	}
	return nil
}
