package sim

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestCaseInTheDocs: the case that docs/SIMULATION.md shows runs.
func TestCaseInTheDocs(t *testing.T) {
	doc, err := os.ReadFile("../docs/SIMULATION.md")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^    rowmesh-sim 1\n(    .*\n)+`).FindString(string(doc))
	c, err := ParseCase(strings.ReplaceAll(text, "\n    ", "\n")[4:])
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Actions) != 4 || len(c.Fates) != 1 {
		t.Errorf("it has %d actions and %d fates", len(c.Actions), len(c.Fates))
	}
	if r := Run(c, Options{}); r.Err != nil {
		t.Error(r)
	}
}
