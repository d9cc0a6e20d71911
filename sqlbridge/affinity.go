package sqlbridge

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
)

// affinity is what a column makes of values that are stored in it (https://www.sqlite.org/datatype3.html, section 3).
type affinity int

const (
	affinityNone affinity = iota
	affinityText
	affinityNumeric // also INTEGER, which stores the same
	affinityReal
)

// affinityOf reads a declared type.
func affinityOf(decl string) affinity {
	up := strings.ToUpper(decl)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(up, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("INT"):
		return affinityNumeric
	case has("CHAR", "CLOB", "TEXT"):
		return affinityText
	case up == "" || has("BLOB"):
		return affinityNone
	case has("REAL", "FLOA", "DOUB"):
		return affinityReal
	}
	return affinityNumeric
}

// stored is an SQL expression for what a column stores of a constant expression.
func (a affinity) stored(expr string) string {
	number := fmt.Sprintf(`CASE WHEN typeof(e) = 'text' AND CAST(e AS NUMERIC) = e THEN CAST(e AS NUMERIC) ELSE e END AS e FROM (SELECT %s AS e)`, expr)
	switch a {
	case affinityText:
		return fmt.Sprintf(`SELECT CASE WHEN typeof(e) IN ('integer', 'real') THEN CAST(e AS TEXT) ELSE e END FROM (SELECT %s AS e)`, expr)
	case affinityReal:
		return `SELECT CASE typeof(e) WHEN 'integer' THEN CAST(e AS REAL) ELSE e END FROM (SELECT ` + number + `)`
	case affinityNumeric:
		return `SELECT CASE WHEN typeof(e) = 'real' AND CAST(e AS INTEGER) = e THEN CAST(e AS INTEGER) ELSE e END FROM (SELECT ` + number + `)`
	}
	return `SELECT ` + expr
}

// alters reports whether a column stores a part of a key as another key.
func (a affinity) alters(v crdt.Value) bool {
	switch v.Kind() {
	case crdt.KindInteger:
		f := float64(v.Integer())
		return a == affinityText || a == affinityReal && (f >= 1<<63 || int64(f) != v.Integer())
	case crdt.KindReal:
		return a == affinityText
	case crdt.KindText, crdt.KindRawText:
		return a >= affinityNumeric && looksNumeric(v.Bytes())
	}
	return false
}

// looksNumeric reports whether text is a number to SQLite.
func looksNumeric(s string) bool {
	s = strings.Trim(s, " \t\n\v\f\r")
	if strings.Trim(s, "+-.0123456789eE") != "" { // ParseFloat knows more: inf, 0x1, 1_0
		return false
	}
	_, err := strconv.ParseFloat(s, 64)
	return err == nil || strings.Contains(err.Error(), strconv.ErrRange.Error())
}
