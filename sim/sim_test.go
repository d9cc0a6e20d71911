package sim

import (
	"flag"
	"testing"
)

var (
	fromFlag  = flag.Uint64("from", 0, "")
	seedsFlag = flag.Uint64("seeds", 200, "")
)

func TestSeeds(t *testing.T) {
	marks := Marks{}
	events, bad := 0, 0
	for seed := *fromFlag; seed < *fromFlag+*seedsFlag; seed++ {
		r := RunSeed(Config{Seed: seed})
		marks.Add(r.Marks)
		events += r.Stats.Events
		if r.Err != nil {
			if bad++; bad < 20 {
				t.Errorf("%v", r)
			}
		}
	}
	t.Logf("%d bad, %d events\n%s", bad, events, marks)
	t.Logf("missing %q", marks.Missing())
}
