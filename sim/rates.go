package sim

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Rates say how often messages meet each fault. Shares are of all messages.
type Rates struct {
	Drop, Copy, Cut float64
	DelayLeast      int64   // milliseconds
	DelayMean       float64 // of the exponential part, in milliseconds
}

func (r Rates) String() string {
	return fmt.Sprintf("drop=%g copy=%g cut=%g least=%d mean=%g", r.Drop, r.Copy, r.Cut, r.DelayLeast, r.DelayMean)
}

func (r *Rates) parse(s string) error {
	for w := range strings.FieldsSeq(s) {
		name, value, _ := strings.Cut(w, "=")
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return err
		}
		switch name {
		case "drop":
			r.Drop = f
		case "copy":
			r.Copy = f
		case "cut":
			r.Cut = f
		case "least":
			r.DelayLeast = int64(f)
		case "mean":
			r.DelayMean = f
		default:
			return fmt.Errorf("there is no rate %s", name)
		}
	}
	return nil
}

// fate draws what becomes of a message.
func (r Rates) fate(seed uint64, m Message) Fate {
	if r == (Rates{}) {
		return Fate{}
	}
	g := rng(seed, 0xfa7e, uint64(m.From), uint64(m.To), m.N)
	switch p := g.Float64(); {
	case p < r.Drop:
		return Fate{Drop: true}
	case p < r.Drop+r.Cut:
		return Fate{Cut: true}
	}
	f := Fate{Delay: r.DelayLeast + int64(min(g.ExpFloat64()*r.DelayMean, 20*r.DelayMean))}
	if g.Float64() < r.Copy {
		f.Copies = 2
	}
	return f
}

// fault is a kind of action that the plan of a seed may hold.
type fault struct {
	do     string
	group  Faults  // where a run asks for some faults only
	most   float64 // its greatest weight, against 100 for writes
	always bool    // not subject to being off in a third of the seeds: another draw has decided
}

// Faults names what may go wrong in a run.
type Faults string

// The kinds of faults.
const (
	FaultsSwarm Faults = "swarm" // everything, each off in a third of the seeds
	FaultsNone  Faults = "none"
	FaultsNet   Faults = "net"
	FaultsDisk  Faults = "disk"
	FaultsClock Faults = "clock"
	FaultsLies  Faults = "lies" // one machine speaks the protocol well, and lies
)

// The actions of a plan. docs/SIMULATION.md has them with their meaning.
var actionForms = map[string]form{
	"write": formWrite, "column": formNone, "alter": formNumber, "start": formNone, "leave": formNone,
	"crash": formNumber, "pause": formNumber, "wipe": formNumber, "backup": formNone, "restore": formNumber, "clone": formPairNumber, "setback": formNumber,
	"audit": formPair, "unaudit": formNone,
	"cut": formPairNumber, "deafen": formPairNumber, "clog": formPairNumber, "isolate": formNumber, "replay": formPair, "garbage": formPairNumber,
	"lie":  formPairNumber,
	"jump": formNumber, "drift": formNumber, "freeze": formNumber,
	"break": formNumber, "fail": formNumber, "full": formNumber, "slow": formNumber, "rot": formNumber,
}

var faults = []fault{
	{"column", "", 3, false},
	{"crash", FaultsDisk, 4, false},
	{"break", FaultsDisk, 3, false},
	{"fail", FaultsDisk, 2, false},
	{"full", FaultsDisk, 1, false},
	{"slow", FaultsDisk, 1, false},
	{"rot", FaultsDisk, 3, false},
	{"wipe", FaultsDisk, 0.7, false},
	{"backup", FaultsDisk, 1.5, false},
	{"restore", FaultsDisk, 0.7, false},
	{"clone", FaultsDisk, 0.4, false},
	{"setback", FaultsDisk, 1.5, false},
	{"leave", FaultsDisk, 0.2, false},
	{"pause", FaultsDisk, 1, false},
	{"cut", FaultsNet, 4, false},
	{"isolate", FaultsNet, 1.5, false},
	{"deafen", FaultsNet, 2, false},
	{"clog", FaultsNet, 3, false},
	{"swizzle", FaultsNet, 0.5, false},
	{"replay", FaultsNet, 1.5, false},
	{"garbage", FaultsNet, 1, false},
	{"lie", FaultsLies, 60, true},
	{"jump", FaultsClock, 2, false},
	{"drift", FaultsClock, 1, false},
	{"freeze", FaultsClock, 1, false},
}

// Topology is the shape of a group.
type Topology string

// The shapes.
const (
	Mesh   Topology = "mesh"
	Star   Topology = "star"
	Ring   Topology = "ring"
	Random Topology = "random"
)

// Store is what machines keep their replicas on.
type Store string

// The stores.
const (
	StoreMemory Store = "memory" // maps
	StoreDisk   Store = "disk"   // the store over a datastore, on a simulated disk
	StoreSQL    Store = "sql"    // databases; programs write their tables
)

// Config says what a seed is drawn for. The zero Config, with a seed, is a swarm run.
type Config struct {
	Seed     uint64
	Steps    int      // about how many events the faulty phase has; 0: 3000
	Replicas int      // 0: 3 to 7
	Topology Topology // "": any
	Faults   Faults   // "": swarm
	Store    Store    // "": memory or disk
}

// planner draws a case from a seed.
type planner struct {
	*rand.Rand
	cfg     Config
	c       *Case
	now     int64
	weights []float64
	total   float64
	keys    int
	rows    int
	value   int64
	gap     float64
	until   []float64 // the part of the run in which each machine writes: one that fell silent early says nothing new
	part    float64   // of the run that is planned
}

// Plan draws a case from a seed. It knows nothing of what will happen: an action that makes no sense when its
// time comes does nothing.
func Plan(cfg Config) *Case {
	if cfg.Steps == 0 {
		cfg.Steps = 3000
	}
	if cfg.Faults == "" {
		cfg.Faults = FaultsSwarm
	}
	p := &planner{Rand: rng(cfg.Seed, 1), cfg: cfg, c: &Case{Seed: cfg.Seed, Fates: map[Message]Fate{}}}
	p.machines()
	p.rates()
	// A write meets every machine at least once, and brings a few more messages with it.
	writes := max(cfg.Steps/(5*p.c.Replicas), 10)
	for n := 0; n < writes; {
		p.now += 1 + int64(min(p.ExpFloat64()*p.gap, 20*p.gap))
		if p.Float64()*(100+p.total) < 100 {
			p.part = float64(n) / float64(writes)
			p.write()
			n++
		} else {
			p.fault()
		}
	}
	p.c.End = p.now + 1
	p.audits()
	p.alters()
	slices.SortStableFunc(p.c.Actions, func(a, b Action) int { return cmp.Compare(a.At, b.At) })
	return p.c
}

func (p *planner) machines() {
	n := p.cfg.Replicas
	if n == 0 {
		n = 3 + p.IntN(5)
	}
	p.c.Replicas = n
	p.c.Links = p.links(n)
	p.c.Disk = p.IntN(4) == 0
	if p.cfg.Store != "" {
		p.c.Disk, p.c.SQL = p.cfg.Store == StoreDisk, p.cfg.Store == StoreSQL
	}
	for i := 1; i < n; i++ {
		if p.cfg.Faults == FaultsSwarm && p.IntN(8) == 0 {
			p.c.Late = append(p.c.Late, i)
		}
	}
	if p.cfg.Faults != FaultsNone && p.IntN(2) == 0 { // make the rare paths common
		p.c.Chunk = []int{1, 60, 300, 3000}[p.IntN(4)]
		p.c.Cache = []int{2, 8, 64}[p.IntN(3)]
	}
	p.liar()
	p.keys = []int{1, 3, 10, 40}[p.IntN(4)]
	p.rows = []int{1, 3, 8}[p.IntN(3)]
	p.gap = []float64{5, 50, 300, 1500}[p.IntN(4)]
	few := p.IntN(3) == 0
	for range n {
		p.until = append(p.until, 1)
		if few {
			p.until[len(p.until)-1] = p.Float64()
		}
	}
	for _, i := range p.c.Late {
		p.c.Actions = append(p.c.Actions, Action{At: int64(p.ExpFloat64() * 20 * p.gap), Do: "start", A: i})
	}
}

// liar picks the machine that lies, one without which the others are still connected, no hub, and there from the start.
func (p *planner) liar() {
	if p.cfg.Faults != FaultsLies && (p.cfg.Faults != FaultsSwarm || p.IntN(10) > 0) {
		return
	}
	n := 1 + p.IntN(p.c.Replicas-1)
	rest := *p.c
	if rest.remove(n); p.c.Replicas > 2 && n >= p.c.Hubs && rest.connected() {
		p.c.Liar = n
		p.c.Late = slices.DeleteFunc(p.c.Late, func(i int) bool { return i == n })
	}
}

func (p *planner) links(n int) (out [][2]int) {
	t := p.cfg.Topology
	if t == "" {
		t = []Topology{Mesh, Mesh, Star, Ring, Random}[p.IntN(5)]
	}
	if t == Star {
		p.c.Hubs = 1 + p.IntN(2)
	}
	have := map[[2]int]bool{}
	add := func(a, b int) {
		if a > b {
			a, b = b, a
		}
		if a != b && !have[[2]int{a, b}] {
			have[[2]int{a, b}] = true
			out = append(out, [2]int{a, b})
		}
	}
	for i := 1; i < n; i++ {
		switch t {
		case Star:
			for hub := range p.c.Hubs {
				add(hub, i)
			}
		case Ring:
			add(i-1, i)
			add(i, (i+1)%n)
		case Random:
			add(i, p.IntN(i))
			add(i, p.IntN(n))
		default:
			for j := range i {
				add(j, i)
			}
		}
	}
	return out
}

// audits plans comparisons in half of the seeds. They are drawn apart: a seed is what it would be without them.
func (p *planner) audits() {
	g := rng(p.c.Seed, 0xa0d17)
	if g.IntN(2) == 0 || len(p.c.Links) == 0 {
		return
	}
	for range 1 + g.IntN(8) {
		l := p.c.Links[g.IntN(len(p.c.Links))]
		if g.IntN(2) == 0 {
			l[0], l[1] = l[1], l[0]
		}
		at := g.Int64N(p.c.End)
		p.c.Actions = append(p.c.Actions, Action{At: at, Do: "audit", A: l[0], B: l[1]})
		if g.IntN(3) == 0 {
			p.c.Actions = append(p.c.Actions, Action{At: min(at+g.Int64N(500), p.c.End-1), Do: "unaudit", A: l[0]})
		}
	}
}

// alters plans what programs do to their tables, in half of the seeds with databases. They are drawn apart as well.
func (p *planner) alters() {
	g := rng(p.c.Seed, 0xa17e5)
	rots := slices.ContainsFunc(p.c.Actions, func(a Action) bool { return a.Do == "rot" }) // a table that is compared shows what is damaged
	if !p.c.SQL || rots || g.IntN(2) == 0 {
		return
	}
	for range 1 + g.IntN(24) {
		p.c.Actions = append(p.c.Actions, Action{At: g.Int64N(p.c.End), Do: "alter", A: g.IntN(p.c.Replicas), N: g.Int64N(1 << 20)})
	}
}

// rates turns each fault off in a third of the seeds, and gives it a random rate in the others.
func (p *planner) rates() {
	on := func(group Faults) bool {
		if p.cfg.Faults == FaultsSwarm {
			return p.IntN(3) > 0
		}
		return group == "" || group == p.cfg.Faults
	}
	r := &p.c.Rates
	r.DelayMean = math.Exp(p.Float64() * 7.6) // 1 ms to 2 s
	r.DelayLeast = p.Int64N(30)
	if p.IntN(2) == 0 {
		r.DelayMean = 1 + p.Float64()*20
	}
	if on(FaultsNet) {
		r.Drop = p.Float64() * 0.3
	}
	if on(FaultsNet) {
		r.Copy = p.Float64() * 0.5
	}
	if on(FaultsNet) && p.IntN(3) == 0 {
		r.Cut = p.Float64() * 0.02
	}
	for _, f := range faults {
		w := 0.0
		if f.always && p.c.Liar > 0 || !f.always && on(f.group) {
			w = p.Float64() * f.most
		}
		p.weights = append(p.weights, w)
		p.total += w
	}
	if on(FaultsClock) {
		p.clocks()
	}
}

// clocks sets clocks wrong at the start: a little everywhere, and in some seeds one of them by far.
func (p *planner) clocks() {
	for i := range p.c.Replicas {
		p.act("jump", i, 0, p.Int64N(4001)-2000)
	}
	if p.IntN(10) == 0 {
		far := []int64{3600e3, 30 * 3600e3, 400 * 86400e3}[p.IntN(3)]
		if p.IntN(2) == 0 {
			far = -far
		}
		p.act("jump", p.IntN(p.c.Replicas), 0, far)
	}
}

func (p *planner) act(do string, a, b int, n int64) {
	p.c.Actions = append(p.c.Actions, Action{At: p.now, Do: do, A: a, B: b, N: n})
}

// write plans one local transaction. Values are numbered, so that each tells who wrote it.
func (p *planner) write() {
	a := Action{At: p.now, Do: "write", A: p.IntN(p.c.Replicas)}
	if p.part > p.until[a.A] {
		return
	}
	used := map[string]bool{}
	pad := 0
	switch p.IntN(40) {
	case 0:
		pad = 70_000 // too large to push
	case 1, 2:
		pad = 2000
	}
	for range 1 + p.IntN(8)/7*2 { // now and then a drain of three groups
		var ops []Op
		for range 1 + p.IntN(p.rows) {
			op := p.op()
			if id := fmt.Sprint(op.Table, op.Key); !used[id] {
				used[id] = true
				op.Pad = pad
				ops = append(ops, op)
			}
			pad = 0
		}
		if len(ops) > 0 {
			a.Write = append(a.Write, ops)
		}
	}
	if len(a.Write) > 0 {
		p.c.Actions = append(p.c.Actions, a)
	}
}

func (p *planner) op() Op {
	op := Op{Table: tableNames[p.IntN(len(tableNames))], Key: p.IntN(p.keys), Value: p.value}
	p.value += 10
	switch n := p.IntN(10); {
	case n < 4:
		op.Verb, op.Cols = "put", allColumns[:3]
	case n < 7:
		op.Verb = "set"
		for _, c := range allColumns {
			if p.IntN(3) == 0 {
				op.Cols += string(c)
			}
		}
		if op.Cols == "" {
			op.Cols = "a"
		}
	case n < 9:
		op.Verb = "del"
	default:
		op.Verb, op.Cols = "rep", allColumns[:3]
	}
	return op
}

// fault plans one fault, by weight.
func (p *planner) fault() {
	x := p.Float64() * p.total
	i := 0
	for x >= p.weights[i] && i < len(faults)-1 {
		x -= p.weights[i]
		i++
	}
	a := p.IntN(p.c.Replicas)
	long := 1 + int64(min(p.ExpFloat64()*10*p.gap, 300*p.gap))
	switch do := faults[i].do; do {
	case "cut", "deafen", "clog":
		if b, ok := p.neighbour(a); ok {
			p.act(do, a, b, long)
		}
	case "replay":
		if b, ok := p.neighbour(a); ok {
			p.act(do, a, b, 0)
		}
	case "garbage", "lie":
		if do == "lie" {
			a = p.c.Liar
		}
		if b, ok := p.neighbour(a); ok {
			p.act(do, a, b, p.Int64N(1<<30))
		}
	case "swizzle":
		p.swizzle(long)
	case "clone":
		if b := p.IntN(p.c.Replicas); b != a {
			p.act(do, a, b, long)
		}
	case "jump":
		p.act(do, a, 0, int64(p.NormFloat64()*math.Pow(10, 1+p.Float64()*6)))
		if p.IntN(10) == 0 {
			p.act(do, a, 0, (p.Int64N(3)-1)*10*365*86400e3)
		}
	case "setback":
		p.act("backup", a, 0, 0)
		at := p.now + long
		p.c.Actions = append(p.c.Actions, Action{At: at, Do: do, A: a, N: 1 + p.Int64N(500)})
		if p.IntN(4) > 0 { // it writes before it meets anybody
			p.c.Actions = append(p.c.Actions, Action{At: at, Do: "isolate", A: a, N: long})
		}
	case "drift":
		p.act(do, a, 0, p.Int64N(201)-100) // thousandths
	case "break", "fail":
		p.act(do, a, 0, p.Int64N(60)) // after so many operations of the disk
	case "rot":
		p.act(do, a, 0, p.Int64N(1<<30)) // which byte
	default:
		p.act(do, a, 0, long)
	}
}

// neighbour returns a machine that a is linked with.
func (p *planner) neighbour(a int) (int, bool) {
	var all []int
	for _, l := range p.c.Links {
		if l[0] == a {
			all = append(all, l[1])
		} else if l[1] == a {
			all = append(all, l[0])
		}
	}
	if len(all) == 0 {
		return 0, false
	}
	return all[p.IntN(len(all))], true
}

// swizzle clogs a random part of all links one by one, and unclogs them in another order, after the model of
// FoundationDB's simulator.
func (p *planner) swizzle(long int64) {
	picked := slices.DeleteFunc(slices.Clone(p.c.Links), func([2]int) bool { return p.IntN(2) == 0 })
	at := p.now
	for _, l := range picked {
		at += p.Int64N(long)
		p.c.Actions = append(p.c.Actions, Action{At: at, Do: "clog", A: l[0], B: l[1], N: 1 + p.Int64N(3*long)})
	}
}
