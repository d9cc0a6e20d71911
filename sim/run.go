package sim

import (
	"fmt"
	"io"
	"time"
)

// Result is what came of a run.
type Result struct {
	Case  *Case
	Err   *Violation // nil: every promise was kept
	Stats Stats
	Marks Marks
	Trace uint64 // equal for equal runs
}

// Options say how a case is run.
type Options struct {
	Medium func() Medium               // what machines keep their replicas on; nil: as the case says
	SQL    func() SQL                  // the databases of a case with SQL; see package sqlworld
	Log    io.Writer                   // one line for each thing that happens; nil: none
	Traces func(machine int) io.Writer // where the replica of each machine is recorded; nil: nowhere
	Mask   *[32]byte                   // the key by which keys and values in these recordings are masked; nil: they are not
	Record bool                        // list in the case of the result the fate of every message

	unaudited bool // without audits
	unjudged  bool // end with the faults
	most      int  // events, then the run ends without a verdict; 0: no bound
}

// RunSeed plans a seed and runs it. Not for SQL.
func RunSeed(cfg Config) Result { return Run(Plan(cfg), Options{}) }

// medium returns what makes the media of a case.
func (opt Options) medium(c *Case) func() Medium {
	switch {
	case opt.Medium != nil:
		return opt.Medium
	case c.SQL && opt.SQL != nil:
		return func() Medium { return opt.SQL() }
	case c.Disk:
		return func() Medium { return NewDisk() }
	}
	return func() Medium { return newMemory() }
}

// Run carries out a case: first its faults, then everything is healed and all machines must agree within a
// bounded time, hold what the oracle expects, and fall silent.
func Run(c *Case, opt Options) Result {
	w := NewWorld(c, opt)
	if c.SQL && opt.SQL == nil && opt.Medium == nil {
		w.violate("harness", "the case has SQL, and Options.SQL is nil")
	}
	if opt.Record {
		w.recorded = map[Message]Fate{}
	}
	w.run(epoch + c.End)
	if !opt.unjudged {
		w.finish()
	}
	w.discard()
	w.stats.Virtual = w.now - epoch
	r := Result{Case: c, Err: w.fault, Stats: w.stats, Marks: w.marks, Trace: w.digest.Sum64()}
	if opt.Record {
		copied := *c
		copied.Rates, copied.Fates = Rates{}, w.recorded
		r.Case = &copied
	}
	return r
}

// discard gives back what the media of the world hold.
func (w *World) discard() {
	for _, m := range w.machines {
		media := []Medium{m.medium}
		if m.backup != nil {
			media = append(media, m.backup.medium)
		}
		for _, x := range media {
			if d, ok := x.(interface{ Discard() }); ok {
				d.Discard()
			}
		}
	}
}

// finish heals everything and judges.
func (w *World) finish() {
	for _, judge := range []func(){w.heal, w.converge, w.checkRows, w.checkForks, w.audits, w.quiet, w.audit, w.checkAcked, w.reopen} {
		if w.fault == nil && !w.spent() {
			judge()
		}
	}
}

// spent reports whether the run has had all the events that it may have.
func (w *World) spent() bool { return w.most > 0 && w.stats.Events >= w.most }

// reopen turns every machine off and on, and compares what it finds with what it had committed.
func (w *World) reopen() {
	for _, m := range w.alive() {
		if w.fault == nil {
			m.crash()
			m.start()
		}
	}
}

// heal ends every fault: links are up, machines run, disks work and clocks are right. Where a wrong clock has
// stamped ahead, wall time passes until all stamps are in the past, and what is held back for its time, unless that is days off, is due.
func (w *World) heal() {
	w.trace("heal", nil, "")
	w.healed = true
	w.expel()
	for _, m := range w.alive() {
		m.medium.Set(Trouble{})
		m.busy, m.slowEnd = 0, 0
		if m.rotten > 0 {
			m.crash() // so that it reads all its rows
		}
		m.start()
		if m.core == nil {
			m.load()
		}
	}
	ahead := int64(0)
	for _, list := range w.oracle.byOrigin {
		ahead = max(ahead, list[len(list)-1].stamp.Time.Millis())
	}
	for _, m := range w.alive() {
		if m.core != nil {
			ahead = max(ahead, m.core.Last().Millis())
			for _, h := range m.core.Status().Held {
				if t := h.First.Millis(); t < max(ahead, w.now)+dueSoon.Milliseconds() {
					ahead = max(ahead, t)
				}
			}
		}
	}
	for _, m := range w.alive() {
		m.clock = wallClock{offset: max(ahead-w.now, 0), since: w.now}
		m.schedule(w.now)
	}
	w.healNetwork()
}

// healNetwork ends the faults of the links.
func (w *World) healNetwork() {
	for _, e := range w.edges {
		e.cutUntil = 0
		for i := range e.sides {
			e.sides[i].deafUntil, e.sides[i].clogUntil = 0, 0
			w.unclog(e, i)
		}
		w.dial(e)
	}
}

// converge requires that all agree within a bounded number of rounds.
func (w *World) converge() {
	began := w.now
	limit := int64(roundsToConverge*(w.diameter()+1)) * roundLength.Milliseconds()
	for w.fault == nil && !w.agreed() && !w.spent() {
		if w.now-began > limit {
			w.violate("P2", "no liveness: after %s %s", time.Duration(limit)*time.Millisecond, w.laggards())
			return
		}
		w.run(w.now + 100)
	}
	w.stats.Rounds = int((w.now - began) / roundLength.Milliseconds())
}

// laggards says who lacks what.
func (w *World) laggards() (s string) {
	want := w.owed()
	for _, m := range w.alive() {
		switch {
		case m.core == nil:
			s += fmt.Sprintf("%s does not run; ", m.name())
		case !m.core.IsReady():
			s += fmt.Sprintf("%s has no first copy; ", m.name())
		}
		for _, o := range want.Origins() {
			if h := want[o]; m.claimed[o] < h {
				s += fmt.Sprintf("%s has %s of %s@%s; ", m.name(), m.claimed[o], h, o.Short())
			}
		}
	}
	if s == "" {
		s = "some cover what nobody owes: "
		for _, m := range w.alive() {
			s += m.name() + " " + m.claimed.String() + " "
		}
	}
	return s
}

// diameter is the number of links between the two machines that are farthest apart.
func (w *World) diameter() (longest int) {
	for _, from := range w.alive() {
		for _, n := range w.distances(from) {
			longest = max(longest, n)
		}
	}
	return longest
}

// distances says how many links lead from one machine to each that it can reach.
func (w *World) distances(from *machine) map[*machine]int {
	far := map[*machine]int{from: 0}
	for next := []*machine{from}; len(next) > 0; next = next[1:] {
		for _, e := range w.edgesOf(next[0]) {
			o := e.ends[1-e.index(next[0])]
			if _, seen := far[o]; !seen && !o.gone && !o.liar {
				far[o] = far[next[0]] + 1
				next = append(next, o)
			}
		}
	}
	return far
}

// quiet requires that machines that agree commit nothing and send nothing but the slow digest.
func (w *World) quiet() {
	w.run(w.now + 2*roundLength.Milliseconds()) // what is on its way arrives
	frames, commits := w.stats.Frames, w.stats.Commits
	w.run(w.now + quietFor.Milliseconds())
	if w.spent() {
		return
	}
	if n := w.stats.Commits - commits; n > 0 {
		w.violate("P2", "%d commits after all agreed", n)
	}
	most := 2 * len(w.edges) * int(quietFor/roundLength+1)
	if n := w.stats.Frames - frames; n > most {
		w.violate("P2", "%d frames in %s after all agreed, %d are enough", n, quietFor, most)
	}
	if w.fault == nil && !w.agreed() {
		w.violate("P1", "machines that agreed differ again")
	}
}

// summary is the last line of a run.
func (r Result) String() string {
	virtual := time.Duration(r.Stats.Virtual) * time.Millisecond
	if r.Err != nil {
		return fmt.Sprintf("FAIL seed=%d %v trace=%016x", r.Case.Seed, r.Err, r.Trace)
	}
	return fmt.Sprintf("PASS seed=%d events=%d virtual=%s txns=%d rounds=%d trace=%016x", r.Case.Seed, r.Stats.Events, virtual.Round(time.Second), r.Stats.Txns, r.Stats.Rounds, r.Trace)
}
