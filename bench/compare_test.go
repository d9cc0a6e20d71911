package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == peerFlag {
		asPeer(os.Args[2], os.Args[3:])
		return
	}
	os.Exit(m.Run())
}

// TestCompare: every engine that is here goes through the whole workload, which ends the program where its two sides differ, and fills
// its column. Those that are not here are named with the reason.
func TestCompare(t *testing.T) {
	*rows, *runs, *idle = 1000, 1, 0
	var out bytes.Buffer
	compare(&out, t.TempDir())
	for _, c := range contenders {
		if !strings.Contains(out.String(), " "+c.name+" |") && !strings.Contains(out.String(), c.name+" is not in the table: ") {
			t.Errorf("%s is neither in the table nor said to be missing", c.name)
		}
	}
	for _, l := range table {
		_, cells, found := strings.Cut(out.String(), "| "+l.name+" |")
		cells, _, _ = strings.Cut(cells, "\n")
		if idle := strings.HasPrefix(l.key, "idle"); !found || strings.Contains(cells, "not measured") != idle {
			t.Errorf("the line %q has %q", l.name, cells)
		}
	}
	if t.Failed() || testing.Verbose() {
		t.Log("\n" + out.String())
	}
}
