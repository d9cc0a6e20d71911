package sqlbridge

import (
	"fmt"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
)

func TestTokens(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "[] true",
		"a b2,c":                  "[{a false} {b2 false} {, false} {c false}] true",
		`"a""b" [c] 'd' ` + "`e`": "[{a\"b true} {c true} {d true} {e true}] true",
		"a -- no ; here\nb":       "[{a false} {b false}] true",
		"a /* ; ' */ b":           "[{a false} {b false}] true",
		"a/**/b":                  "[{a false} {b false}] true",
		"'open":                   "[] false",
		"a 'open''":               "[{a false}] false",
		"a /* open":               "[{a false}] false",
		"a /*":                    "[{a false}] false",
		"a /*/":                   "[{a false}] false",
		"a -- open":               "[{a false}] false",
		"''":                      "[{ true}] true",
		"[]":                      "[{ true}] true",
	} {
		if list, whole := tokens(text); fmt.Sprint(list, whole) != want {
			t.Errorf("tokens(%q) = %v %v, expected %s", text, list, whole, want)
		}
	}
}

func TestWritten(t *testing.T) {
	const head = `CREATE TRIGGER x AFTER INSERT ON t WHEN "begin" = 'BEGIN' BEGIN `
	for body, want := range map[string]string{
		`SELECT RAISE(ABORT, 'update u') WHERE NEW.a IN (SELECT b FROM u); END`: "[]",
		`UPDATE u SET a = 1; END`:           "[u]",
		`UPDATE OR IGNORE u SET a = 1; END`: "[u]",
		`INSERT INTO"u"VALUES(1); SELECT 1; DELETE FROM [a b] WHERE c = 'FROM'; END`:          "[u a b]",
		`INSERT OR REPLACE INTO u SELECT CASE WHEN 1 THEN 2 END; REPLACE INTO v SELECT 1;END`: "[u v]",
		`/* a */ update -- b
		u set a = 1; END`: "[u]",
	} {
		list, _ := tokens(head + body)
		if got, ok := written(list); fmt.Sprint(got) != want || !ok {
			t.Errorf("%s\nwrites %s %v, expected %s", body, got, ok, want)
		}
	}
	for _, bodyless := range []string{"", "BEGIN", "CREATE TRIGGER x AFTER UPDATE OF begin, end ON t"} {
		list, _ := tokens(bodyless)
		if got, ok := written(list); ok {
			t.Errorf("%s writes %s", bodyless, got)
		}
	}
}

// TestAffinity: what a column stores of a value is what SQLite says it does.
func TestAffinity(t *testing.T) {
	db := openDB(t, t.TempDir()+"/affinity.db")
	values := []string{"NULL", "0", "1", "-7", "0.0", "1.5", "1e3", "9e18", "1e30", "9223372036854775807", "'0'", "' 12 '", "'1.0'", "'1e2'", "'abc'", "'12abc'", "''", "' '", "'0x10'", "'inf'", "'1_0'",
		"'.5'", "'5.'", "'.'", "'+3'", "'--3'", "'1e'", "'1e400'", "x'31'", "TRUE", "-5", "+5"}
	for _, decl := range []string{"", "INTEGER", "BIGINT", "TEXT", "VARCHAR(20)", "REAL", "DOUBLE PRECISION", "NUMERIC", "DECIMAL(10,2)", "BOOLEAN", "BLOB", "DATETIME", "FLOATING POINT"} {
		for _, v := range values {
			want, typ := "", ""
			if _, err := db.Exec(fmt.Sprintf(`DROP TABLE IF EXISTS t; CREATE TABLE t(id INTEGER PRIMARY KEY, v %s DEFAULT %s); INSERT INTO t(id) VALUES(1)`, decl, v)); err != nil {
				t.Fatal(err)
			}
			if err := db.QueryRow(`SELECT quote(v), typeof(v) FROM t`).Scan(&want, &typ); err != nil {
				t.Fatal(err)
			}
			got, gotType := "", ""
			query := affinityOf(decl).stored(v)
			if err := db.QueryRow(`SELECT quote(x), typeof(x) FROM (SELECT (`+query+`) AS x)`).Scan(&got, &gotType); err != nil {
				t.Fatal(err)
			}
			if got != want || gotType != typ {
				t.Errorf("DEFAULT %s of a column %q stores %s (%s), said to be %s (%s)", v, decl, want, typ, got, gotType)
			}
			var raw any
			if err := db.QueryRow(`SELECT ` + v).Scan(&raw); err != nil {
				t.Fatal(err)
			}
			value, err := valueOf(raw)
			if err != nil || value.IsNull() {
				continue
			}
			var stored any
			if err := db.QueryRow(`SELECT +v FROM t`).Scan(&stored); err != nil {
				t.Fatal(err)
			}
			after, err := valueOf(stored)
			if err != nil {
				t.Fatal(err)
			}
			if alters := crdt.MustKey(after) != crdt.MustKey(value); alters != affinityOf(decl).alters(value) {
				t.Errorf("a column %q stores the key %s as %s: altered is %v", decl, v, want, alters)
			}
		}
	}
}
