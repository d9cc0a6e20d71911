package replica

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// planted is a bug, as the change of source text that makes it. The tests named must notice it.
type planted struct {
	name  string
	tests string
	edits []edit
	soak  bool // checked with ROWMESH_SOAK=1 only: each takes a build of its own
}

type edit struct{ file, old, new string }

// plantedBugs are the ways to break the claim rule, and what it rests on, that have tempted somebody.
var plantedBugs = []planted{
	{name: "claims made per chunk", tests: "TestClaims", edits: []edit{
		{"step.go", "t == FrameBlocks || t == FrameDone", "t == FrameBlocks || t == FrameDone || t == FrameChunk"},
		{"pull.go", "	p.chunks++", `	if err := r.learn(p.schemas); err != nil {
		return err
	}
	if _, err := r.rows.merge(v, got.rows, false); err != nil {
		return err
	}
	if at, err := c.After.position(); err == nil && !c.After.End && p.cut.Covers(at.Stamp) {
		r.raise(at.Stamp.Origin, at.Stamp.Time-1)
	}
	p.chunks++`},
	}},
	{name: "a session is gone on with anywhere", tests: "TestClaims", soak: true, edits: []edit{
		{"serve.go", "|| !r.coverage.Includes(seen) || !r.coverage.Includes(cut)", ""},
		{"pull.go", " || !l.known.Includes(p.seen)", ""},
	}},
	{name: "gone on with by whoever holds the first cut", tests: "TestClaims", edits: []edit{
		{"serve.go", "!r.coverage.Includes(seen) || ", ""},
		{"pull.go", "p.cut == nil || !l.known.Includes(p.seen)", "p.cut == nil || !l.known.Includes(p.cut)"},
	}},
	{name: "only the named transaction's registers are sent", tests: "TestClaims", soak: true, edits: []edit{
		{"serve.go", "		if !f.add(here, row.Row) {", `		others := crdt.Coverage{at.Origin: at.Time - 1}
		for _, t := range row.Row.Stamps(nil) {
			if t.Origin != at.Origin {
				others[t.Origin] = max(others[t.Origin], t.Time)
			}
		}
		if !f.add(here, row.Row.Without(others)) {`},
	}},
	{name: "one pass only", tests: "TestClaims", soak: true, edits: []edit{
		{"serve.go", "for err == nil && done && !s.cut.Includes(r.coverage) {", "for false {"},
	}},
	{name: "claimed before it is durable", tests: "TestConverges|TestClaims", soak: true, edits: []edit{
		{"process.go", `	if err := round.Commit(rd.Batch); err != nil {
		return fmt.Errorf("replica: commit: %w", err)
	}
	r.finish(rd, out)
`, `	r.finish(rd, out)
	if err := round.Commit(rd.Batch); err != nil {
		return fmt.Errorf("replica: commit: %w", err)
	}
`},
	}},
	{name: "the last merged wins", tests: "TestConverges|TestClaims", soak: true, edits: []edit{
		{"../crdt/row.go", "c, a, b = newer(a[0], b[0]), a[1:], b[1:]", "c, a, b = b[0], a[1:], b[1:]"},
	}},
	{name: "a gap is accepted in a push", tests: "TestConverges|TestClaims", soak: true, edits: []edit{
		{"push.go", "case b.prev > head || b.stamp.Time", "case b.stamp.Time"},
	}},
	{name: "a forked database goes on claiming", tests: "TestSetBack", soak: true, edits: []edit{
		{"fork.go", "	delete(r.coverage, old)\n", ""},
		{"fork.go", "{old: 0, r.origin: head}", "{r.origin: head}"},
	}},
	{name: "a forked database issues nothing anew", tests: "TestSetBack", soak: true, edits: []edit{
		{"fork.go", "if s.Origin == from {", "if false {"},
	}},
	{name: "a lost acknowledgement is never noticed", tests: "TestScripts", soak: true, edits: []edit{
		{"step.go", "		r.sameHeads(l)\n", ""},
	}},
	{name: "only a head beyond the own one proves a fork", tests: "TestSetBack", soak: true, edits: []edit{
		{"fork.go", "return t > w.from && !found", "return t > max(w.from, append(w.times, 0)[max(len(w.times)-1, 0)]) && !found"},
	}},
}

// TestPlantedBugsAreNoticed: P25. The tests that are to guard the claim rule fail where it is broken. Each bug
// is planted in a copy of a source file that the go command is told to build in its place (-overlay), so
// that the product has no switch for any of it.
func TestPlantedBugsAreNoticed(t *testing.T) {
	if os.Getenv("ROWMESH_PLANTED") != "" {
		t.Skip("this is the run that should fail elsewhere")
	}
	for _, bug := range plantedBugs {
		t.Run(strings.ReplaceAll(bug.name, " ", "-"), func(t *testing.T) {
			if bug.soak && os.Getenv("ROWMESH_SOAK") == "" || testing.Short() {
				t.Skip("set ROWMESH_SOAK=1 to check this one too")
			}
			cmd := exec.Command("go", "test", "-overlay", bug.plant(t), "-vet=off", "-count=1", "-failfast", "-run", bug.tests, ".")
			cmd.Env = append(os.Environ(), "ROWMESH_PLANTED=1", "ROWMESH_SOAK=")
			out, err := cmd.CombinedOutput()
			switch {
			case err == nil:
				t.Errorf("no test noticed it:\n%s", out)
			case !strings.Contains(string(out), "--- FAIL: Test"):
				t.Errorf("it was not a test that failed: %v\n%s", err, out)
			}
		})
	}
}

// plant writes the changed files and returns the name of the overlay that puts them in place.
func (p planted) plant(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	for _, e := range p.edits {
		path := must(filepath.Abs(e.file))
		from := path
		if copied := replace[path]; copied != "" {
			from = copied
		}
		text := string(must(os.ReadFile(from)))
		if strings.Count(text, e.old) != 1 {
			t.Fatalf("%s holds %q %d times: this bug must be planted anew", e.file, e.old, strings.Count(text, e.old))
		}
		replace[path] = filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(replace[path], []byte(strings.Replace(text, e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, must(json.Marshal(map[string]any{"Replace": replace})), 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}
