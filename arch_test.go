package rowmesh_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/rowmesh/rowmesh"

// arrows says what each folder may import of this module, in its code and its tests. A folder that is not listed
// may import everything that is not under cmd.
var arrows = map[string][]string{
	"hlc":                 {},
	"crdt":                {"hlc"},
	"replica":             {"hlc", "crdt", "replica/storetest"},
	"replica/dsstore":     {"hlc", "crdt", "replica", "replica/storetest"},
	"replica/storetest":   {"hlc", "crdt", "replica"},
	"replica/trace":       {"hlc", "crdt", "replica"},
	"network":             {"hlc", "crdt", "replica"},
	"sqlbridge":           {"hlc", "crdt", "replica", "replica/storetest", "examples/chinook"},
	"sim":                 {"hlc", "crdt", "replica", "replica/dsstore", "replica/storetest", "replica/trace"},
	"sim/sqlworld":        {"hlc", "crdt", "replica", "replica/trace", "replica/dsstore", "sqlbridge", "sim"},
	"sim/simtest":         {"sim", "sim/sqlworld"},
	"examples/simulation": {"sim", "sim/simtest"},
	".":                   {"hlc", "crdt", "replica", "replica/dsstore", "replica/trace", "network", "sqlbridge", "examples/chinook"},
	"examples/chinook":    {},
	"examples/datastore":  {".", "crdt", "network"},
	"cmd/peer":            {".", "hlc", "crdt", "replica", "replica/trace", "network", "sqlbridge", "sim", "sim/sqlworld", "examples/chinook"},
	"bench":               {".", "hlc", "crdt", "replica", "replica/dsstore", "network", "sqlbridge", "sim"},
}

// pure lists the folders whose code (not its tests) takes time, ids and frames as arguments and does nothing else.
var pure = []string{"hlc", "crdt", "replica", "sim"}

// impure says which imports, with all packages below them, and which names of an import, a pure folder must not use, and
// why.
var impure = map[string]map[string]string{
	"os": all("files and the environment"), "net": all("sockets"), "syscall": all("the system"), "io/ioutil": all("files"), "embed": all("files"),
	"golang.org/x/sys": all("the system"), "database/sql": all("files and sockets"), "unsafe": all("what it does is not defined"),
	"crypto/rand": all("randomness that nobody can repeat"), "math/rand": all("use math/rand/v2 with a seed"), "sync": all("there is one goroutine"),
	"hash/maphash": all("its seed differs from run to run"), "log": all("output"),
	"time": names("the clock is handed in", "Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick"),
	"math/rand/v2": names("the global source cannot be repeated", "Int", "IntN", "Int32", "Int32N", "Int64", "Int64N", "Uint32", "Uint32N", "Uint64", "Uint64N",
		"UintN", "N", "Float32", "Float64", "ExpFloat64", "NormFloat64", "Perm", "Shuffle"),
}

// rulesOf returns the rules of an import: its own, or those of a package above it.
func rulesOf(path string) map[string]string {
	for p := path; ; {
		if rules := impure[p]; rules != nil {
			return rules
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			return nil
		}
		p = p[:i]
	}
}

func all(why string) map[string]string { return map[string]string{"*": why} }

func names(why string, list ...string) map[string]string {
	m := map[string]string{}
	for _, n := range list {
		m[n] = why
	}
	return m
}

// TestArrows: packages import in one direction only, and the core does nothing but compute.
func TestArrows(t *testing.T) {
	fset := token.NewFileSet()
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(path))
		seen[folder] = true
		for _, v := range slices.Concat(arrowViolations(fset, folder, f), purityViolations(fset, folder, path, f)) {
			t.Error(v)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range pure {
		if !seen[folder] {
			t.Errorf("%s is listed as pure and has no code: give the rule to the folder that has it now", folder)
		}
	}
}

func arrowViolations(fset *token.FileSet, folder string, f *ast.File) (out []string) {
	allowed, listed := arrows[folder]
	for _, imp := range f.Imports {
		path, _ := strconv.Unquote(imp.Path.Value)
		if path != module && !strings.HasPrefix(path, module+"/") {
			continue
		}
		to := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
		if to == "" {
			to = "."
		}
		switch {
		case to == folder: // an external test of the package itself
		case listed && !slices.Contains(allowed, to):
			out = append(out, fmt.Sprintf("%s: %s must not import %s; it may import %v", fset.Position(imp.Pos()), folder, to, allowed))
		case !listed && strings.HasPrefix(to, "cmd/"):
			out = append(out, fmt.Sprintf("%s: nobody imports a command", fset.Position(imp.Pos())))
		}
	}
	return out
}

func purityViolations(fset *token.FileSet, folder, path string, f *ast.File) (out []string) {
	if !slices.Contains(pure, folder) || strings.HasSuffix(path, "_test.go") {
		return nil
	}
	report := func(n ast.Node, what, why string) {
		out = append(out, fmt.Sprintf("%s: %s is pure and must not use %s: %s", fset.Position(n.Pos()), folder, what, why))
	}
	used := map[string]map[string]string{} // by the name of the import in the file
	for _, imp := range f.Imports {
		p, _ := strconv.Unquote(imp.Path.Value)
		rules := rulesOf(p)
		switch why := rules["*"]; {
		case why != "":
			report(imp, p, why)
		case rules != nil && imp.Name != nil && imp.Name.Name == ".":
			report(imp, "import . "+p, "its names would go by unseen")
		}
		name := p[strings.LastIndexByte(p, '/')+1:]
		if strings.HasPrefix(name, "v") && strings.Contains(p, "/") {
			rest := strings.TrimSuffix(p, "/"+name)
			name = rest[strings.LastIndexByte(rest, '/')+1:]
		}
		if imp.Name != nil {
			name = imp.Name.Name
		}
		used[name] = rules
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			report(n, "go", "there is one goroutine")
		case *ast.SelectStmt:
			report(n, "select", "its choice cannot be repeated")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Obj == nil {
				if why := used[x.Name][n.Sel.Name]; why != "" {
					report(n, x.Name+"."+n.Sel.Name, why)
				}
			}
		}
		return true
	})
	return out
}

// TestArrowsAreChecked: the checks above find what they are there for.
func TestArrowsAreChecked(t *testing.T) {
	for _, c := range []struct{ folder, code string }{
		{"crdt", `import "github.com/rowmesh/rowmesh/replica"`},
		{"sqlbridge", `import "github.com/rowmesh/rowmesh/network"`},
		{"network", `import "github.com/rowmesh/rowmesh/sqlbridge"`},
		{".", `import "github.com/rowmesh/rowmesh/sim"`},
		{"fuzz", `import "github.com/rowmesh/rowmesh/cmd/peer"`},
		{"replica", `import "os"`},
		{"replica", `import "net/http"`},
		{"crdt", `import "sync/atomic"`},
		{"crdt", `import "crypto/rand"`},
		{"hlc", `import . "time"; var x = Now()`},
		{"sim", `import "time"; func f() { <-time.After(1) }`},
		{"replica/dsstore", `import "github.com/rowmesh/rowmesh/sqlbridge"`},
		{"replica", `import "github.com/rowmesh/rowmesh/replica/dsstore"`},
		{"hlc", `import "time"; var x = time.Now()`},
		{"hlc", `import clock "time"; var x = clock.Since`},
		{"sim", `import "math/rand/v2"; var x = rand.IntN(3)`},
		{"replica", `func f() { go f() }`},
		{"replica", `func f(c chan int) { select { case <-c: default: } }`},
	} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "planted.go", "package p; "+c.code, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(arrowViolations(fset, c.folder, f)) + len(purityViolations(fset, c.folder, "planted.go", f)); n != 1 {
			t.Errorf("%s in %s: %d violations found, want 1", c.code, c.folder, n)
		}
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "honest.go", `package p; import ("time"; "math/rand/v2"); type c struct{ Now int }
		func f(time c, r *rand.Rand) int { return time.Now + r.IntN(3) + rand.New(nil).IntN(2) }; var d = 3 * time.Second`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := purityViolations(fset, "sim", "honest.go", f); len(got) > 0 {
		t.Errorf("honest code is refused: %q", got)
	}
}
