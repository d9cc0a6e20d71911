package sqlbridge

import (
	"fmt"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
)

// valueOf turns what a driver scanned into a value. Columns are read as +"name", so that drivers see no
// declared type and turn nothing into times or booleans; TEXT then comes as string and BLOB as bytes.
func valueOf(v any) (crdt.Value, error) {
	switch v := v.(type) {
	case nil:
		return crdt.Value{}, nil
	case int64:
		return crdt.Integer(v), nil
	case float64:
		return crdt.Real(v), nil
	case string:
		return crdt.Text(v), nil
	case []byte: // an empty blob may come as a nil slice
		return crdt.Blob(v), nil
	}
	return crdt.Value{}, fmt.Errorf("sqlbridge: the driver returned a %T, which is no SQLite value", v)
}

// bind turns a value into what drivers bind with its storage class.
func bind(v crdt.Value) any {
	switch v.Kind() {
	case crdt.KindInteger:
		return v.Integer()
	case crdt.KindReal:
		return v.Real()
	case crdt.KindText, crdt.KindRawText:
		return v.Bytes()
	case crdt.KindBlob:
		return append([]byte{}, v.Bytes()...) // never nil, which would be NULL
	}
	return nil
}

// quote writes a name as an SQL identifier.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func quoteAll(names []string, prefix string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = prefix + quote(n)
	}
	return strings.Join(out, ", ")
}

// marks is n question marks.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }
