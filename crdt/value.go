package crdt

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Kind is the kind of a value: SQLite's five storage classes, with text that is not valid UTF-8 kept
// apart so that it survives the trip unchanged.
type Kind uint8

// The kinds of a value.
const (
	KindNull    Kind = iota
	KindInteger      // 64-bit signed
	KindReal         // 64-bit float, never NaN (SQLite has none)
	KindText         // valid UTF-8, may contain NUL
	KindBlob
	KindRawText // text that is not valid UTF-8, byte for byte
	KindRef     // a reference to a row; reserved: stored and forwarded, not read
)

var kindNames = [...]string{"null", "integer", "real", "text", "blob", "rawtext", "ref"}

func (k Kind) String() string { return kindNames[k] }

// Value is one SQL value. It holds its canonical CBOR encoding, the same bytes on the wire, in the store
// and in memory, so that equal values, and only they, compare equal with ==: INTEGER 1, REAL 1.0 and TEXT
// '1' all differ. The zero Value is NULL. A Value is immutable.
type Value struct {
	enc string // canonical CBOR; empty for NULL
}

// Integer returns an INTEGER.
func Integer(i int64) Value { return Value{string(appendInt(make([]byte, 0, 9), i))} }

// Real returns a REAL; NaN gives NULL, as in SQLite. Negative zero is kept.
func Real(f float64) Value {
	if math.IsNaN(f) {
		return Value{}
	}
	return Value{string(appendFloat(make([]byte, 0, 9), f))}
}

// Text returns a TEXT: bytes of any kind, valid UTF-8 or not.
func Text(s string) Value {
	if !utf8.ValidString(s) {
		buf := append(make([]byte, 0, len(s)+7), 0xa1, 0x00)
		return Value{string(append(appendHead(buf, majorBytes, uint64(len(s))), s...))}
	}
	return Value{string(append(appendHead(make([]byte, 0, len(s)+5), majorText, uint64(len(s))), s...))}
}

// Blob returns a BLOB; nil and empty are both the empty blob.
func Blob(b []byte) Value {
	return Value{string(append(appendHead(make([]byte, 0, len(b)+5), majorBytes, uint64(len(b))), b...))}
}

// Kind returns the kind of the value.
func (v Value) Kind() Kind {
	if v.enc == "" {
		return KindNull
	}
	switch v.enc[0] >> 5 {
	case majorUint, majorNegative:
		return KindInteger
	case majorBytes:
		return KindBlob
	case majorText:
		return KindText
	case majorMap:
		return KindRawText
	case majorArray:
		return KindRef
	}
	return KindReal
}

// IsNull reports whether the value is NULL.
func (v Value) IsNull() bool { return v.enc == "" }

// Integer returns the number of an INTEGER, and 0 for any other kind.
func (v Value) Integer() int64 {
	if v.Kind() != KindInteger {
		return 0
	}
	c := cursor{s: v.enc}
	i, _ := c.int()
	return i
}

// Real returns the number of a REAL, and 0 for any other kind.
func (v Value) Real() float64 {
	if v.Kind() != KindReal {
		return 0
	}
	c := cursor{s: v.enc}
	f, _ := c.float()
	return f
}

// Bytes returns the bytes of a TEXT or BLOB as a string without copying, and "" for any other kind.
func (v Value) Bytes() string {
	if len(v.enc) == 0 {
		return ""
	}
	s := v.enc
	switch s[0] >> 5 {
	case majorMap:
		s = s[2:]
	case majorBytes, majorText:
	default:
		return ""
	}
	return s[headLen(s[0]):]
}

// Encoded returns the canonical CBOR form, as it crosses the wire.
func (v Value) Encoded() string {
	if v.enc == "" {
		return "\xf6"
	}
	return v.enc
}

// Size returns the length of the encoded form in bytes.
func (v Value) Size() int { return max(1, len(v.enc)) }

// String is the value as an SQL literal.
func (v Value) String() string {
	switch v.Kind() {
	case KindInteger:
		return strconv.FormatInt(v.Integer(), 10)
	case KindReal:
		return formatReal(v.Real())
	case KindText:
		return quoteText(v.Bytes())
	case KindBlob:
		return "x'" + hex.EncodeToString([]byte(v.Bytes())) + "'"
	case KindRawText:
		return "CAST(x'" + hex.EncodeToString([]byte(v.Bytes())) + "' AS TEXT)"
	case KindRef:
		return "ref(" + hex.EncodeToString([]byte(v.enc)) + ")"
	}
	return "NULL"
}

func formatReal(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "9e999"
	case math.IsInf(f, -1):
		return "-9e999"
	case f == math.Trunc(f) && math.Abs(f) < 1e15:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func quoteText(s string) string {
	out := make([]byte, 0, len(s)+2)
	out = append(out, '\'')
	for i := 0; i < len(s); i++ {
		if s[i] == '\'' {
			out = append(out, '\'')
		}
		out = append(out, s[i])
	}
	return string(append(out, '\''))
}

// ParseValue reads one encoded value and refuses anything but its canonical form. The Value shares the
// memory of s.
func ParseValue(s string) (Value, error) {
	c := cursor{s: s}
	v, err := c.value()
	if err == nil && !c.done() {
		err = c.errorf("%d bytes after the value", len(s)-c.i)
	}
	if err != nil {
		return Value{}, fmt.Errorf("crdt: value: %w", err)
	}
	return v, nil
}
