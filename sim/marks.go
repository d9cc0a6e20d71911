package sim

import (
	"fmt"
	"maps"
	"slices"
)

// Marks count interesting states that a run came by. A soak that never sees one of Wanted proves less than it
// seems to, and fails.
type Marks map[string]int

// Wanted are the states that a soak of the whole swarm must come by.
var Wanted = []string{
	"audited",
	"block ahead of the clock held back",
	"block out of order held back",
	"clock drift",
	"clock freeze",
	"clock jump",
	"cloned",
	"damage found",
	"damage mended by an audit",
	"damaged frame refused",
	"first copy begun anew",
	"first copy broken off",
	"first copy gone on with after a restart",
	"fork found",
	"grafted after loss",
	"grafted for a lost link",
	"hub failover",
	"hub preferred again",
	"hub wiped",
	"lie believed",
	"link refused",
	"message doubled",
	"message lost",
	"pruned",
	"queue overflow",
	"record damaged",
	"restored a backup",
	"rows put ahead of their commit",
	"session broken",
	"session resumed at the same server",
	"session resumed elsewhere",
	"session served in several passes",
	"set back without a sign",
	"stopped in a commit",
	"store failed",
	"stream replayed",
	"transaction announced",
	"unknown commit was kept",
	"unknown commit was lost",
	"vector of an unknown base",
	"warm vector",
	"wiped",
}

func (w *World) mark(what string) { w.marks[what]++ }

// Add takes in the marks of another run.
func (m Marks) Add(o Marks) {
	for k, n := range o {
		m[k] += n
	}
}

// Missing returns what of Wanted was never come by.
func (m Marks) Missing() (out []string) {
	for _, k := range Wanted {
		if m[k] == 0 {
			out = append(out, k)
		}
	}
	return out
}

// String lists the marks, one a line.
func (m Marks) String() string {
	s := ""
	for _, k := range slices.Sorted(maps.Keys(m)) {
		s += fmt.Sprintf("%10d  %s\n", m[k], k)
	}
	return s
}
