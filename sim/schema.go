package sim

import (
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// The tables of a simulated group: one with a text key, one with a composite key, and one that in SQL has a UNIQUE
// constraint. Columns a, b, c are there from the start; a machine learns of d and e by the action column, at a time of
// its own.
const (
	allColumns   = "abcde"
	firstColumns = 3
)

var tableNames = []string{"t", "u", "v"}

// tables holds, for each table, its schemas with 3, 4 and 5 columns.
var tables = map[string][]*crdt.Schema{"t": schemas("t", "id"), "u": schemas("u", "x", "y"), "v": schemas("v", "id")}

func schemas(name string, key ...string) (out []*crdt.Schema) {
	for n := firstColumns; n <= len(allColumns); n++ {
		s, err := crdt.NewSchema(name, key, strings.Split(allColumns[:n], ""))
		if err != nil {
			panic(err)
		}
		out = append(out, s)
	}
	return out
}

// rowKey is the key of the n-th row of a table.
func rowKey(table string, n int) replica.RowKey {
	if table == "u" {
		return replica.RowKey{Table: table, Key: crdt.MustKey(crdt.Integer(int64(n%3)), crdt.Text(string(rune('a'+n%26))+strings.Repeat("x", n/26)))}
	}
	return replica.RowKey{Table: table, Key: crdt.MustKey(crdt.Text("k" + string(rune('a'+n%26)) + strings.Repeat("x", n/26)))}
}

// operation turns a write of a case into what a program's statement would do to a row in the given state; ok is
// false where it would do nothing.
func (op Op) operation(row crdt.Row, columns int) (out crdt.Op, ok bool) {
	k := rowKey(op.Table, op.Key)
	out = crdt.Op{Table: k.Table, Key: k.Key}
	switch alive := row.Alive(); {
	case op.Verb == "del":
		out.Kind = crdt.OpDelete
		return out, alive
	case op.Verb == "rep":
		out.Kind = crdt.OpReplace
	case op.Verb == "put" && !alive:
		out.Kind = crdt.OpInsert
	case alive:
		out.Kind = crdt.OpUpdate
	default:
		return out, false
	}
	for i, c := range op.Cols {
		if strings.IndexRune(allColumns, c) >= columns {
			continue
		}
		v := crdt.Integer(op.Value + int64(i))
		if op.Pad > 0 && i == 0 {
			v = crdt.Text(pad(op.Value, op.Pad))
		}
		out.Sets = append(out.Sets, crdt.Set{Column: string(c), Value: v})
	}
	return out, len(out.Sets) > 0
}

// pad returns text that does not compress.
func pad(seed int64, n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	b := make([]byte, n)
	x := uint64(seed)
	for i := range b {
		if i%10 == 0 {
			x = mix(x)
		}
		b[i] = letters[x>>(6*(i%10))&63]
	}
	return string(b)
}
