package sim

import (
	"fmt"
	"slices"
	"time"
)

// A scenario drives a World step by step, where a case has everything planned beforehand. Package simtest is made of it.

// Scenario draws a case without writes: machines, links, rates, and faults over ten minutes, from the moment calm has it that all
// machines have their first copy. What takes data away or puts other data in its place is left to the scenario.
func Scenario(cfg Config) *Case {
	if cfg.Faults == "" {
		cfg.Faults = FaultsNone
	}
	p := &planner{Rand: rng(cfg.Seed, 1), cfg: cfg, c: &Case{Seed: cfg.Seed, Fates: map[Message]Fate{}}}
	p.machines()
	p.c.Liar = 0
	p.c.Late, p.c.Actions, p.now = nil, nil, calm.Milliseconds()
	p.rates()
	for i, f := range faults {
		if slices.Contains([]string{"column", "rot", "wipe", "backup", "restore", "clone", "setback", "leave", "garbage", "lie"}, f.do) {
			p.total -= p.weights[i]
			p.weights[i] = 0
		}
	}
	if p.total < 1e-9 || cfg.Faults == FaultsNone {
		p.c.Rates = Rates{}
		return p.c
	}
	for p.now < (calm + 10*time.Minute).Milliseconds() {
		p.now += 1 + int64(min(p.ExpFloat64()*5*p.gap, 100*p.gap))
		p.fault()
	}
	return p.c
}

// Begin lets all machines get their first copy, without faults.
func (w *World) Begin() *Violation {
	w.Settle()
	w.run(max(w.now, epoch+calm.Milliseconds()-1))
	return w.fault
}

// Do carries out an action now.
func (w *World) Do(a Action) error {
	if a.A < 0 || a.A >= len(w.machines) || a.B < 0 || a.B >= len(w.machines) {
		return fmt.Errorf("sim: %s: there are machines 0 to %d", a, len(w.machines)-1)
	}
	if _, ok := actionForms[a.Do]; !ok {
		return fmt.Errorf("sim: there is no action %q", a.Do)
	}
	a.At = w.now - epoch
	w.act(a)
	return nil
}

// Pass lets time pass, in milliseconds.
func (w *World) Pass(ms int64) { w.run(w.now + ms) }

// Err is the first broken promise, nil for none.
func (w *World) Err() *Violation { return w.fault }

// Marks are the interesting states that the world came by so far.
func (w *World) Marks() Marks { return w.marks }

// Database returns the database of a machine, nil where it has none.
func (w *World) Database(machine int) SQL { return w.machines[machine].sql() }

// Wrote says that a program wrote the machine's database, which its replica notices a little later.
func (w *World) Wrote(machine int) {
	m := w.machines[machine]
	m.noticeSoon()
	m.free = true
}

// Runs reports whether a machine can write: it runs, and holds the group's first copy.
func (w *World) Runs(machine int) bool {
	m := w.machines[machine]
	return m.core != nil && m.core.IsReady() && w.now >= m.busy
}

// Stop stops a machine until Start.
func (w *World) Stop(machine int) { w.machines[machine].crash() }

// Start starts a machine that was stopped.
func (w *World) Start(machine int) { w.machines[machine].start() }

// Cut cuts the links between machines of different groups. A machine in no group is cut off from all.
func (w *World) Cut(groups ...[]int) {
	of := map[int]int{}
	for i, g := range groups {
		for _, m := range g {
			of[m] = i + 1
		}
	}
	for _, e := range w.edges {
		a, b := of[e.ends[0].id], of[e.ends[1].id]
		if a != b || a == 0 {
			w.cut(e, never)
		}
	}
}

// Heal ends the faults of the network.
func (w *World) Heal() { w.healNetwork() }

// Settle ends all faults and demands that all machines agree within a bounded time and hold what the oracle expects. After it
// the world can go on.
func (w *World) Settle() *Violation {
	if w.fault == nil {
		w.heal()
		w.converge()
	}
	if w.fault == nil {
		w.checkRows()
	}
	w.healed = false
	return w.fault
}
