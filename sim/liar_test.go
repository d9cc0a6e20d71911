package sim

import (
	"slices"
	"strings"
	"testing"
)

// TestLiars: P2, P3, P5, P8, P9, P10, P17, P18. Whatever a peer says that was let in, no replica fails, takes a time from too far ahead, or
// keeps more than it may; the others agree once it is expelled, and what it did not lie about is as it must be.
func TestLiars(t *testing.T) {
	worlds := 200
	if testing.Short() {
		worlds = 20
	}
	marks := Marks{}
	for seed := uint64(1); worlds > 0; seed++ {
		faults := FaultsSwarm
		if seed%20 == 0 {
			faults = FaultsLies // and nothing else
		}
		c := Plan(Config{Seed: seed, Steps: 500, Faults: faults})
		if c.Liar == 0 {
			continue
		}
		worlds--
		r := Run(c, Options{})
		marks.Add(r.Marks)
		if r.Err != nil {
			t.Fatalf("%v\n%s", r, Shrink(c, Options{}, nil))
		}
	}
	told := ""
	for k := range marks {
		if strings.HasPrefix(k, "lie: ") {
			told += k + "\n"
		}
	}
	if n := strings.Count(told, "\n"); n < 15 && !testing.Short() {
		t.Errorf("only %d kinds of lies:\n%s", n, told)
	}
	if n := marks["row beside lies"]; n < 200 && !testing.Short() {
		t.Errorf("of only %d rows the truth was known", n)
	}
	list := strings.Split(marks.String(), "\n")
	t.Log("\n" + strings.Join(slices.DeleteFunc(list, func(s string) bool {
		return !strings.Contains(s, "lie") && !strings.Contains(s, "fork") && !strings.Contains(s, "beside")
	}), "\n"))
}
