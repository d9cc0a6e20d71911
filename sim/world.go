package sim

import (
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/trace"
)

// epoch is the true time at which every world begins, in milliseconds since 1970.
const epoch = 1_700_000_000_000

// World is one simulated group of machines in one run. It is not safe for concurrent use.
type World struct {
	c        *Case
	now      int64
	events   queue
	machines []*machine
	edges    []*edge
	lastLink replica.LinkID
	oracle   *oracle
	marks    Marks
	stats    Stats
	atOnce   int // events of this moment so far
	digest   hash.Hash64
	log      io.Writer // nil: no log
	fault    *Violation
	healed   bool
	forked   bool // a machine was set back without a sign, so that peers may refuse each other
	hurt     bool // rows were damaged, so that audits may find something
	damaged  bool // some messages arrive damaged, so that links may be refused
	forks    map[crdt.Origin]*fork
	lies     lies
	most     int      // events; 0: no bound
	masked   bool     // the recordings are, so that there are no audits
	acting   *machine // whose replica runs just now
	recorded map[Message]Fate
}

// Stats count what a run did.
type Stats struct {
	Events  int   // deliveries, timers and actions
	Frames  int   // sent
	Commits int   // rounds with content
	Txns    int   // local transactions
	Virtual int64 // milliseconds of virtual time
	Rounds  int   // of the slow digest, from the last fault until all agreed
}

// Violation is a broken promise.
type Violation struct {
	Promise string // its number in docs/SIMULATION.md
	Text    string
	Event   int   // the event at which it was found
	At      int64 // virtual milliseconds after the start
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%s %q event=%d at=%dms", v.Promise, v.Text, v.Event, v.At)
}

// NewWorld sets up the machines of a case.
func NewWorld(c *Case, opt Options) *World {
	w := &World{c: c, now: epoch, oracle: newOracle(), marks: Marks{}, most: opt.most, masked: opt.Mask != nil || opt.unaudited, forks: map[crdt.Origin]*fork{},
		lies: lies{map[replica.RowKey]bool{}, map[crdt.Origin]bool{}, map[*machine]string{}}, digest: xxhash.New(), log: opt.Log}
	medium := opt.medium(c)
	w.forked = c.Liar > 0 // who was told different things may refuse each other
	w.damaged = c.Rates.Cut > 0 || slices.ContainsFunc(c.Actions, func(a Action) bool { return a.Do == "garbage" })
	for _, f := range c.Fates {
		w.damaged = w.damaged || f.Cut
	}
	for i := range c.Replicas {
		m := &machine{
			w: w, id: i, liar: c.Liar == i && i > 0, medium: medium(), edges: map[replica.LinkID]*edge{}, founder: i == 0, columns: firstColumns,
			own: true, clock: wallClock{since: epoch}, rows: map[replica.RowKey]crdt.Row{}, claimed: crdt.Coverage{},
		}
		w.machines = append(w.machines, m)
		m.mount()
		if opt.Traces != nil {
			var err error
			if m.tape, err = trace.New(opt.Traces(i), 0, opt.Mask); err != nil {
				w.violate("harness", "%v", err)
			}
		}
	}
	for _, l := range c.Links {
		e := &edge{ends: [2]*machine{w.machines[l[0]], w.machines[l[1]]}}
		w.edges = append(w.edges, e)
		for i, m := range e.ends {
			if m.isSpoke() && e.ends[1-i].isHub() {
				m.star = append(m.star, e)
			}
		}
	}
	for _, m := range w.machines {
		if !slices.Contains(c.Late, m.id) {
			m.start()
		}
	}
	for _, a := range c.Actions {
		w.at(epoch+a.At, func() { w.act(a) })
	}
	return w
}

func (w *World) at(t int64, do func())     { w.events.push(max(t, w.now), do) }
func (w *World) after(ms int64, do func()) { w.events.push(w.now+ms, do) }

// step carries out the next event.
func (w *World) step() {
	e := w.events.pop()
	if e.at > w.now {
		w.atOnce = 0
	}
	w.now = e.at
	w.stats.Events++
	e.do()
	if w.atOnce++; w.atOnce > maxAtOnce {
		w.violate("P2", "no end: %d events in one moment", w.atOnce)
	}
}

// run lets the world go on until a moment, or a violation.
func (w *World) run(until int64) {
	for len(w.events.heap) > 0 && w.events.heap[0].at <= until && w.fault == nil && !w.spent() {
		w.step()
	}
	if w.fault == nil {
		w.now = until
	}
}

func (w *World) edgesOf(m *machine) (out []*edge) {
	for _, e := range w.edges {
		if e.ends[0] == m || e.ends[1] == m {
			out = append(out, e)
		}
	}
	return out
}

// between returns the edge between two machines and the end that a is, nil where there is none.
func (w *World) between(a, b int) (*edge, int) {
	for _, e := range w.edges {
		if e.ends[0].id == a && e.ends[1].id == b {
			return e, 0
		}
		if e.ends[0].id == b && e.ends[1].id == a {
			return e, 1
		}
	}
	return nil, 0
}

func (w *World) fate(m Message) Fate {
	f, ok := w.c.Fates[m]
	if !ok && !w.healed {
		f = w.c.Rates.fate(w.c.Seed, m)
	}
	if w.recorded != nil && f != (Fate{}) {
		w.recorded[m] = f
	}
	return f
}

// violate notes the first broken promise, which ends the run.
func (w *World) violate(promise, format string, args ...any) {
	if a := w.acting; a != nil && a.liar && promise != "P17" && promise != "harness" {
		return // it may believe its own lies when they come back to it
	}
	if w.fault == nil {
		w.fault = &Violation{promise, fmt.Sprintf(format, args...), w.stats.Events, w.now - epoch}
		w.trace("VIOLATION", nil, w.fault.Error())
	}
}

// hash takes bytes into the digest of the run, by which two runs are compared.
func (w *World) hash(b []byte) {
	var head [12]byte
	binary.LittleEndian.PutUint64(head[:], uint64(w.now))
	binary.LittleEndian.PutUint32(head[8:], uint32(len(b)))
	_, _ = w.digest.Write(head[:])
	_, _ = w.digest.Write(b)
}

// trace notes what happens, for the digest and for people.
func (w *World) trace(what string, m *machine, detail string) {
	w.hash([]byte(what))
	if m != nil {
		w.hash([]byte{byte(m.id)})
	}
	if w.log == nil || what == "run" {
		return
	}
	name := ""
	if m != nil {
		name = m.name()
	}
	fmt.Fprintf(w.log, "%7d %9d %-4s %-10s %s\n", w.stats.Events, w.now-epoch, name, what, detail)
}

// act carries out an action of the case. One that makes no sense now does nothing.
func (w *World) act(a Action) {
	m := w.machines[a.A]
	if w.healed || m.gone {
		return
	}
	w.trace(a.Do, m, a.String())
	switch a.Do {
	case "write":
		m.write(a.Write)
	case "column":
		m.columns = min(m.columns+1, len(allColumns))
		if m.sql() != nil {
			m.addColumn(allColumns[m.columns-1 : m.columns])
		}
	case "alter":
		if m.sql() != nil {
			m.alter(a.N)
		}
	case "start":
		m.start()
	case "audit":
		m.actAudit(a.B)
	case "unaudit":
		m.input(replica.Input{Leave: true})
	case "jump", "drift", "freeze":
		w.actClock(m, a)
	case "cut", "isolate", "deafen", "clog", "replay", "garbage", "lie":
		w.actNet(m, a)
	default:
		w.actMachine(m, a)
	}
}

func (w *World) actClock(m *machine, a Action) {
	m.clock.settle(w.now)
	switch a.Do {
	case "jump":
		m.clock.offset += a.N
	case "drift":
		m.clock.drift = max(min(a.N, 100), -100)
	case "freeze":
		m.clock.frozen, m.clock.frozenN = w.now, w.now+a.N
	}
	w.mark("clock " + a.Do)
}

func (w *World) actNet(m *machine, a Action) {
	if a.Do == "isolate" {
		for _, e := range w.edgesOf(m) {
			w.cut(e, a.N)
		}
		return
	}
	e, i := w.between(a.A, a.B)
	if e == nil {
		return
	}
	switch a.Do {
	case "cut":
		w.cut(e, a.N)
	case "deafen":
		e.sides[i].deafUntil = max(e.sides[i].deafUntil, w.now+a.N)
	case "clog":
		e.sides[i].clogUntil = max(e.sides[i].clogUntil, w.now+a.N)
		w.at(e.sides[i].clogUntil, func() {
			if w.now >= e.sides[i].clogUntil {
				w.unclog(e, i)
			}
		})
	case "replay":
		if e.up {
			w.replay(e, i)
		}
	case "garbage":
		w.garbage(e, i, a.N)
	case "lie":
		w.lie(e, i, a.N)
	}
}

func (w *World) cut(e *edge, ms int64) {
	e.cutUntil = max(e.cutUntil, w.now+ms)
	w.disconnect(e)
}

// garbage delivers a frame that no honest peer sends.
func (w *World) garbage(e *edge, from int, n int64) {
	if !e.up {
		return
	}
	g := rng(w.c.Seed, 0x6a4ba9e, uint64(n))
	b := make([]byte, g.IntN(60))
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	f := replica.Frame{Type: replica.FrameType(1 + g.IntN(31)), Critical: g.IntN(4) == 0, Zstd: g.IntN(8) == 0, More: g.IntN(16) == 0, Body: b}
	if f.Type == replica.FrameReject {
		return // a peer that refuses us is believed
	}
	w.fly(e, from, replica.AppendFrame(nil, f), 1)
}

func (w *World) actMachine(m *machine, a Action) {
	switch a.Do {
	case "crash":
		m.crash()
		w.after(a.N, m.start)
	case "pause":
		if m.up() {
			m.busy = w.now + a.N
			m.schedule(m.busy)
		}
	case "slow":
		m.slow, m.slowEnd = 1+a.N%1000, w.now+a.N
	case "break":
		m.medium.Set(Trouble{StopAfter: a.N + 1})
	case "fail":
		m.medium.Set(Trouble{FailAfter: a.N + 1})
	case "full":
		m.medium.Set(Trouble{Full: true})
		w.after(a.N, func() { m.medium.Set(Trouble{}) })
	case "backup":
		if m.core != nil && m.core.IsReady() && m.rotten == 0 && m.branch() == nil {
			m.backup = m.save()
		}
	case "restore":
		if m.backup != nil && m.branch() == nil {
			w.mark("restored a backup")
			w.replace(m, m.backup.on(m.backup.medium.Copy()), a.N, true)
		}
	case "wipe":
		if w.othersReady(m) && m.branch() == nil {
			w.mark("wiped")
			if m.isHub() {
				w.mark("hub wiped")
			}
			w.replace(m, newSaved(m.medium), a.N, false)
		}
	case "setback":
		w.actSetBack(m, a)
	case "rot":
		w.actRot(m, a)
	case "clone":
		w.actClone(m, a)
	case "leave":
		if m.gone = len(w.alive()) > 2 && m.branch() == nil; !m.gone {
			return
		}
		if m.gone = w.othersReady(m) && w.connected(); m.gone {
			m.crash()
			w.lose()
		}
	}
}

// actClone puts a copy of one machine's database on another.
func (w *World) actClone(m *machine, a Action) {
	to := w.machines[a.B]
	if m.core == nil || !m.core.IsReady() || m.rotten > 0 || m.branch() != nil || to.gone || to.branch() != nil || !w.othersReady(to) {
		return
	}
	w.mark("cloned")
	w.replace(to, m.save(), a.N, true)
}

// actRot damages a stored record, where others that are to be trusted hold all that this machine does.
func (w *World) actRot(m *machine, a Action) {
	d, ok := m.medium.(*Disk)
	others := crdt.Coverage{}
	for _, o := range w.alive() {
		if o != m && !o.liar && o.rotten == 0 {
			others.Add(o.claimed)
		}
	}
	if ok && len(m.claimed) > 0 && m.branch() == nil && others.Includes(m.claimed) && d.Rot(a.N) {
		m.rotten++
		w.hurt = true
		w.mark("record damaged")
	}
}

// newMediumLike returns an empty medium of the same kind.
func newMediumLike(m Medium) Medium {
	if e, ok := m.(interface{ Empty() Medium }); ok {
		return e.Empty()
	}
	return newMemory()
}

// save sets aside what the machine has committed.
func (m *machine) save() *saved {
	return &saved{m.medium.Copy(), maps.Clone(m.rows), m.claimed.Clone(), m.shape, maps.Clone(m.remade), slices.Clone(m.loose), m.writer}
}

// othersReady reports whether a machine can lose its database: another must be able to give it a copy, from a medium without
// damage.
func (w *World) othersReady(m *machine) bool {
	return slices.ContainsFunc(w.machines, func(o *machine) bool { return o != m && !o.gone && !o.liar && o.rotten == 0 && len(o.claimed) > 0 })
}

// connected reports whether a chain of links leads from each machine that is not gone to each other.
func (w *World) connected() bool {
	all := slices.DeleteFunc(w.alive(), func(m *machine) bool { return m.liar }) // it will be expelled
	return len(all) > 0 && len(w.distances(all[0])) == len(all)
}

// replace gives a machine another database, and starts it again after a while. The fence notices, so that it
// takes a new origin.
func (w *World) replace(m *machine, s *saved, ms int64, copied bool) {
	m.crash()
	old := m.medium
	m.medium, m.rows, m.claimed, m.doubt, m.shape = s.medium, s.rows, s.claimed, nil, s.shape
	m.copied, m.founder, m.rotten, m.replaced, m.unseen, m.added = copied, false, 0, copied, false, nil
	m.own = false
	m.lived, m.remade, m.loose = nil, maps.Clone(s.remade), slices.Clone(s.loose)
	q := m.sql()
	if m.touched = q != nil && copied; m.touched && ms%2 == 0 {
		q.Replace(old)
	}
	m.mount()
	w.lose()
	w.after(ms, m.start)
}
