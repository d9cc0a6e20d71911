package sqlbridge

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
)

// The column k of our tables holds a row's key: the value itself where the key is one column, so that SQL can
// compare it with the user's, else text with the parts joined by commas, each i and decimal digits, t and
// hexadecimal text, or b and hexadecimal bytes. This pair of functions is the only place that knows.

// keyColumn returns the key as bound to a column k.
func keyColumn(k crdt.Key) any {
	parts := k.Values()
	if len(parts) == 1 {
		return bind(parts[0])
	}
	text := make([]string, len(parts))
	for i, p := range parts {
		switch p.Kind() {
		case crdt.KindInteger:
			text[i] = "i" + strconv.FormatInt(p.Integer(), 10)
		case crdt.KindBlob:
			text[i] = "b" + strings.ToUpper(hex.EncodeToString([]byte(p.Bytes())))
		default:
			text[i] = "t" + strings.ToUpper(hex.EncodeToString([]byte(p.Bytes())))
		}
	}
	return strings.Join(text, ",")
}

// parseKeyColumn reads a column k of a table whose key has so many parts.
func parseKeyColumn(v any, parts int) (crdt.Key, error) {
	if parts == 1 {
		value, err := valueOf(v)
		if err != nil {
			return crdt.Key{}, err
		}
		return crdt.KeyOf(value)
	}
	s, ok := v.(string)
	if !ok {
		return crdt.Key{}, fmt.Errorf("sqlbridge: a stored composite key is a %T", v)
	}
	var values []crdt.Value
	for part := range strings.SplitSeq(s, ",") {
		value, err := parseKeyPart(part)
		if err != nil {
			return crdt.Key{}, fmt.Errorf("sqlbridge: the stored key %q is damaged: %w", s, err)
		}
		values = append(values, value)
	}
	if len(values) != parts {
		return crdt.Key{}, fmt.Errorf("sqlbridge: the stored key %q has %d parts where its table has %d", s, len(values), parts)
	}
	return crdt.KeyOf(values...)
}

func parseKeyPart(s string) (crdt.Value, error) {
	if s == "" {
		return crdt.Value{}, fmt.Errorf("an empty part")
	}
	if s[0] == 'i' {
		i, err := strconv.ParseInt(s[1:], 10, 64)
		return crdt.Integer(i), err
	}
	b, err := hex.DecodeString(s[1:])
	switch {
	case err != nil:
		return crdt.Value{}, err
	case s[0] == 't':
		return crdt.Text(string(b)), nil
	case s[0] == 'b':
		return crdt.Blob(b), nil
	}
	return crdt.Value{}, fmt.Errorf("a part of the kind %q", s[0])
}
