package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/rowmesh/rowmesh/crdt"
)

// world runs several replicas on one virtual clock. Frames on a link may be dropped, doubled and reordered;
// links are cut and made at random. After every step of a replica the invariant "claimed implies state
// dominates" is checked against every block ever written.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	now     int64
	nodes   []*node
	wires   []*wire
	nextID  LinkID
	written []*crdt.Block
	chunk   int      // bytes of a session's chunk
	large   bool     // two values of put are more than goes into one chunk of a byte
	log     []flying // all that was sent
	loss    float64
	dup     float64
}

type node struct {
	w       *world
	id      int
	store   *memStore
	r       *Replica
	in      []Input
	offset  int64 // of its wall clock
	incarn  byte
	stopped bool
	wires   map[LinkID]*wire
	found   bool
	life    history
	sees    func(to *node, f Frame) bool // of frames on their way out; false: the frame is lost
	branch  bool                         // it writes under an origin of which others know more, and has not noticed yet
}

// history is what a database wrote under its present origin.
type history struct {
	origin crdt.Origin
	blocks []*crdt.Block
}

// wire is a cable between two nodes; each end has its own link number.
type wire struct {
	a, b   *node
	la, lb LinkID
	queue  []flying
}

type flying struct {
	from, to *node
	l        LinkID
	f        Frame
}

var testSchema = must(crdt.NewSchema("t", []string{"id"}, []string{"a", "b", "c"}))

func newWorld(t *testing.T, seed uint64, n int) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: 1_700_000_000_000, chunk: 1 + int(seed%2)*200}
	for i := range n {
		nd := &node{w: w, id: i, store: newMemStore(), wires: map[LinkID]*wire{}, found: i == 0}
		w.nodes = append(w.nodes, nd)
		nd.load(Config{})
	}
	return w
}

// load loads the replica anew.
func (n *node) load(cfg Config) {
	n.incarn++
	cfg.NewOrigin = crdt.Origin{byte(n.w.rng.Uint32()), byte(n.w.rng.Uint32()), byte(n.w.rng.Uint32()), byte(n.id), n.incarn}
	cfg.ChunkBytes, cfg.PackBytes = n.w.chunk, 1
	cfg.SessionSeed = uint64(n.w.now) << 10
	if n.found {
		cfg.NewGroup = GroupID{7}
	}
	r, err := New(cfg, n.store)
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.r, n.in = r, nil
	if n.life.origin != r.Origin() {
		n.life = history{origin: r.Origin()}
	}
	n.process()
}

func (n *node) instant() Instant { return Instant{Wall: n.w.now + n.offset, Mono: n.w.now} }

func (n *node) process() {
	in := n.in
	n.in = nil
	commits := n.store.commits
	err := Process(context.Background(), n.store, n.r, n.instant(), len(n.store.drain.Groups) > 0, in, n)
	var fork *ForkError
	if errors.As(err, &fork) && n.branch {
		n.reissue()
		return
	}
	if errors.Is(err, errDisk) {
		n.store.failing = false
		n.w.restart(n)
		return
	}
	if err != nil {
		n.w.t.Fatalf("node %d: %v", n.id, err)
	}
	if n.store.commits != commits {
		n.checkClaims()
	}
}

func (n *node) checkClaims() {
	written := n.w.written
	if n.branch {
		written = slices.DeleteFunc(slices.Clone(written), func(b *crdt.Block) bool { return b.Stamp.Origin == n.life.origin })
		written = append(written, n.life.blocks...)
	}
	if err := CheckClaims(n.store.state.Coverage, written, func(k RowKey) crdt.Row { return n.store.rows[k] }); err != nil {
		n.w.t.Fatalf("node %d: %v", n.id, err)
	}
}

// requireDurable checks that a frame tells of nothing that a crash could take back (P5).
func (n *node) requireDurable(f Frame) {
	var told crdt.Coverage
	body := must(f.plain())
	switch f.Type {
	case FrameHello:
		var b helloBody
		_ = decodeBody(f.Type, body, &b)
		told = n.whole(b.Heads)
	case FrameHeads:
		var b headsBody
		_ = decodeBody(f.Type, body, &b)
		told = must(b.Heads.coverage())
		if b.All != nil {
			told.Add(n.whole(*b.All))
		}
	case FramePrune:
		var b pruneBody
		_ = decodeBody(f.Type, body, &b)
		told = must(b.Prune.coverage())
		told.Add(must(b.Graft.coverage()))
	case FrameBlocks:
		told = crdt.Coverage{}
		for len(body) > 0 {
			var item []byte
			item, body, _ = nextItem(body)
			s, _, _ := crdt.ParseBlockHead(string(item))
			told.Add(crdt.Coverage{s.Origin: s.Time})
		}
	}
	if !n.store.state.Coverage.Includes(told) {
		n.w.t.Fatalf("node %d sends %s, and has stored %s", n.id, f, n.store.state.Coverage)
	}
}

// whole returns a vector that the node packed.
func (n *node) whole(p packed) crdt.Coverage {
	_, c, err := n.r.unpack(&link{}, p)
	if err != nil {
		n.w.t.Fatalf("node %d packs a vector against one that it does not hold: %v", n.id, err)
	}
	return c
}

func (n *node) Send(l LinkID, f Frame) {
	n.requireDurable(f)
	w := n.wires[l]
	if w == nil || n.w.rng.Float64() < n.w.loss {
		return
	}
	to := flying{n, w.b, w.lb, f}
	if w.b == n {
		to = flying{n, w.a, w.la, f}
	}
	if n.sees != nil && !n.sees(to.to, f) {
		return
	}
	n.w.log = append(n.w.log, to)
	w.queue = append(w.queue, to)
	if n.w.rng.Float64() < n.w.dup {
		w.queue = append(w.queue, to)
	}
}

func (n *node) CloseLink(l LinkID, reason error) {
	n.w.t.Fatalf("node %d closed a link to an honest peer: %v", n.id, reason)
}

func (n *node) Show(b Batch) {
	if h := b.Heads[n.r.Origin()]; h != 0 && b.Origin.IsZero() && !slices.ContainsFunc(n.w.written, func(x *crdt.Block) bool { return x.Stamp == crdt.Stamp{Time: h, Origin: n.r.Origin()} }) {
		block := &crdt.Block{Stamp: crdt.Stamp{Time: h, Origin: n.r.Origin()}}
		for _, c := range b.Rows {
			var d crdt.Row
			for _, s := range c.New.Stamps(nil) {
				if s == block.Stamp {
					d = c.New.Without(without(c.New, s))
				}
			}
			if !d.IsZero() {
				block.Rows = append(block.Rows, crdt.RowDelta{Schema: c.Schema, Key: c.Key, Row: d})
			}
		}
		n.life.blocks = append(n.life.blocks, block)
		if !n.branch {
			n.w.written = append(n.w.written, block)
		}
	}
}

// without is a coverage of every transaction of the row but s.
func without(r crdt.Row, s crdt.Stamp) crdt.Coverage {
	c := crdt.Coverage{}
	for _, t := range r.Stamps(nil) {
		if t != s && t.Origin != s.Origin {
			c[t.Origin] = max(c[t.Origin], t.Time)
		}
	}
	c[s.Origin] = s.Time - 1
	return c
}

func (w *world) connect(a, b *node) {
	w.nextID += 2
	x := &wire{a: a, b: b, la: w.nextID, lb: w.nextID + 1}
	w.wires = append(w.wires, x)
	a.wires[x.la], b.wires[x.lb] = x, x
	a.in = append(a.in, Input{Up: &LinkUp{x.la, fmt.Sprint("node", b.id)}})
	b.in = append(b.in, Input{Up: &LinkUp{x.lb, fmt.Sprint("node", a.id)}})
}

// cut cuts a wire. What was on its way may still arrive.
func (w *world) cut(x *wire) {
	if w.rng.IntN(2) == 0 {
		for _, f := range x.queue {
			f.to.in = append(f.to.in, Input{From: f.l, Frame: &f.f})
		}
	}
	delete(x.a.wires, x.la)
	delete(x.b.wires, x.lb)
	x.a.in = append(x.a.in, Input{Down: x.la})
	x.b.in = append(x.b.in, Input{Down: x.lb})
	w.wires = slices.DeleteFunc(w.wires, func(y *wire) bool { return x == y })
}

// run lets time pass until `until`, delivering what is on the wires.
func (w *world) run(ms int64) {
	for end := w.now + ms; w.now < end; {
		w.now += 1 + w.rng.Int64N(20)
		for _, x := range slices.Clone(w.wires) {
			w.deliver(x)
		}
		for _, n := range w.nodes {
			if !n.stopped {
				n.process()
			}
		}
	}
}

func (w *world) deliver(x *wire) {
	q := x.queue
	x.queue = nil
	if w.loss > 0 {
		w.rng.Shuffle(len(q), func(i, j int) { q[i], q[j] = q[j], q[i] })
	}
	for _, f := range q {
		if !f.to.stopped {
			f.to.in = append(f.to.in, Input{From: f.l, Frame: &f.f})
			if w.rng.IntN(3) == 0 {
				f.to.process()
			}
		}
	}
}

// write makes a random local transaction at a node.
func (w *world) write(n *node, rows, keys int) {
	g := Group{WallMillis: w.now + n.offset}
	seen := map[int]bool{}
	for range rows {
		k := w.rng.IntN(keys)
		if seen[k] {
			continue
		}
		seen[k] = true
		key := crdt.MustKey(crdt.Integer(int64(k)))
		op := crdt.Op{Table: "t", Key: key, Kind: crdt.OpInsert}
		val := crdt.Integer(w.rng.Int64N(1e6))
		if n.store.rows[RowKey{"t", key}].Alive() {
			op.Kind = []crdt.OpKind{crdt.OpUpdate, crdt.OpUpdate, crdt.OpDelete, crdt.OpReplace}[w.rng.IntN(4)]
		}
		switch op.Kind {
		case crdt.OpUpdate:
			op.Sets = []crdt.Set{{Column: []string{"a", "b", "c"}[w.rng.IntN(3)], Value: val}}
		case crdt.OpInsert, crdt.OpReplace:
			op.Sets = []crdt.Set{{Column: "a", Value: val}, {Column: "b", Value: val}, {Column: "c", Value: val}}
		}
		g.Ops = append(g.Ops, op)
	}
	w.commit(n, g)
}

// commit makes a local transaction at a node, whose author then sees it whatever was there before (P8).
func (w *world) commit(n *node, g Group) {
	n.store.drain = Drain{Schemas: []*crdt.Schema{testSchema}, Groups: []Group{g}}
	alone := len(n.in) == 0 && len(n.r.held) == 0
	n.process()
	if !alone || len(n.store.drain.Groups) > 0 {
		return // others' writes came in too, or the commit failed
	}
	for _, op := range g.Ops {
		row := n.store.rows[RowKey{op.Table, op.Key}]
		if row.Alive() != (op.Kind != crdt.OpDelete) {
			w.t.Fatalf("node %d: after %s %s there is %s", n.id, op.Kind, op.Key, row)
		}
		for _, set := range op.Sets {
			if c, _ := row.Cell(set.Column); c.Value != set.Value {
				w.t.Fatalf("node %d: after %s %s %s=%s there is %s", n.id, op.Kind, op.Key, set.Column, set.Value, row)
			}
		}
	}
}

// put inserts a row, or updates one of its columns.
func (w *world) put(n *node, row int, column string) {
	op := crdt.Op{Table: "t", Key: crdt.MustKey(crdt.Integer(int64(row))), Kind: crdt.OpInsert}
	val := crdt.Integer(w.now % 1e6)
	if w.large {
		val = crdt.Text(fmt.Sprintf("%0*d", rowChunks/2, w.now%1e6))
	}
	for _, c := range []string{"a", "b", "c"} {
		if column == "" || column == c {
			op.Sets = append(op.Sets, crdt.Set{Column: c, Value: val})
		}
	}
	if column != "" {
		op.Kind = crdt.OpUpdate
	}
	w.commit(n, Group{WallMillis: w.now + n.offset, Ops: []crdt.Op{op}})
}

func (w *world) requireEqual() {
	w.t.Helper()
	alive := w.alive()
	a := alive[0]
	for _, b := range alive[1:] {
		if !a.store.state.Coverage.Includes(b.store.state.Coverage) || !b.store.state.Coverage.Includes(a.store.state.Coverage) {
			w.t.Fatalf("coverage of node %d %s differs from node %d's %s", b.id, b.store.state.Coverage, a.id, a.store.state.Coverage)
		}
		if len(a.store.rows) != len(b.store.rows) {
			w.t.Fatalf("node %d has %d rows, node %d has %d", b.id, len(b.store.rows), a.id, len(a.store.rows))
		}
		for k, row := range a.store.rows {
			if !row.Equal(b.store.rows[k]) {
				w.t.Fatalf("%s: node %d %s\nnode %d %s", k, a.id, row, b.id, b.store.rows[k])
			}
		}
	}
}

// TestPushReachesEveryone is the plain case: three replicas in a line, no faults.
func TestPushReachesEveryone(t *testing.T) {
	w := newWorld(t, 1, 3)
	w.connect(w.nodes[0], w.nodes[1])
	w.connect(w.nodes[1], w.nodes[2])
	w.run(1000)
	for range 20 {
		w.write(w.nodes[w.rng.IntN(3)], 5, 20)
		w.run(50)
	}
	w.run(1000)
	w.requireEqual()
	if st := w.nodes[2].r.Status(); st.Counters.BlocksMerged == 0 || st.Counters.SessionsPulled > 3 {
		t.Fatalf("live blocks should travel by push: %+v", st.Counters)
	}
	if len(w.written) != 20 {
		t.Fatalf("%d blocks noted, 20 written", len(w.written))
	}
}

// TestConvergesUnderFaults drives random worlds through loss, doubling, reordering, cuts and restarts, then
// heals them and requires equality (P1, P2, P7, M3-3).
func TestConvergesUnderFaults(t *testing.T) {
	for seed := range seeds(200) {
		if !t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { faultyWorld(t, uint64(seed)) }) {
			return
		}
	}
}

// seeds is how many seeds a test of random worlds runs: n by default, a tenth of it with -short, and with
// ROWMESH_SOAK=1 twenty times as many.
func seeds(n int) int {
	switch {
	case os.Getenv("ROWMESH_SOAK") != "":
		return 20 * n
	case testing.Short():
		return n / 10
	}
	return n
}

func faultyWorld(t *testing.T, seed uint64) {
	w := newWorld(t, seed, 3+int(seed%3))
	if seed%3 > 0 {
		w.loss, w.dup = w.rng.Float64()*0.3, w.rng.Float64()*0.5
	}
	for _, n := range w.nodes {
		n.offset = w.rng.Int64N(4000) - 2000
	}
	for range 60 {
		switch w.rng.IntN(10) {
		case 0, 1, 2, 3, 4:
			w.write(w.nodes[w.rng.IntN(len(w.nodes))], 1+w.rng.IntN(8), 12)
		case 5, 6:
			a, b := w.rng.IntN(len(w.nodes)), w.rng.IntN(len(w.nodes))
			if a != b && !w.linked(w.nodes[a], w.nodes[b]) {
				w.connect(w.nodes[min(a, b)], w.nodes[max(a, b)])
			}
		case 7:
			if len(w.wires) > 0 {
				w.cut(w.wires[w.rng.IntN(len(w.wires))])
			}
		case 8:
			w.restart(w.nodes[w.rng.IntN(len(w.nodes))])
		case 9:
			w.nodes[w.rng.IntN(len(w.nodes))].store.failing = true
		}
		w.run(w.rng.Int64N(300))
	}
	w.heal()
	w.requireEqual()
	w.requireQuiet()
	w.replay()
}

// requireQuiet lets time pass and allows nothing but the hash of all heads, once a round.
func (w *world) requireQuiet() {
	frames := 0
	for _, n := range w.nodes {
		n.sees = func(_ *node, f Frame) bool {
			frames++
			if got := f.String(); got != "HEADS hash" {
				w.t.Errorf("all are equal, and node %d sends %s", n.id, got)
			}
			return true
		}
	}
	const rounds = 4
	w.run(rounds * digestEvery.Milliseconds())
	if most := (rounds + 1) * 2 * len(w.wires); frames == 0 || frames > most {
		w.t.Errorf("%d frames in %d rounds on %d links", frames, rounds, len(w.wires))
	}
	for _, n := range w.nodes {
		n.sees = nil
	}
}

// replay has everything arrive again that ever was on a wire, shuffled, and allows no change by it.
func (w *world) replay() {
	w.rng.Shuffle(len(w.log), func(i, j int) { w.log[i], w.log[j] = w.log[j], w.log[i] })
	log, before := w.log, w.nodes[0].snapshot()
	for _, f := range log {
		for l, x := range f.to.wires {
			if x.peer(f.to) == f.from {
				f.to.in = append(f.to.in, Input{From: l, Frame: &f.f})
				f.to.process()
			}
		}
	}
	w.run(30_000)
	w.requireEqual()
	after := w.nodes[0].snapshot()
	if !maps.Equal(before.state.Coverage, after.state.Coverage) || !maps.EqualFunc(before.rows, after.rows, crdt.Row.Equal) {
		w.t.Fatal("a replay of the past changed something")
	}
}

func (w *world) linked(a, b *node) bool {
	return slices.ContainsFunc(w.wires, func(x *wire) bool { return x.a == a && x.b == b || x.a == b && x.b == a })
}

// unplug cuts all links of a node.
func (w *world) unplug(n *node) {
	for _, x := range slices.Clone(w.wires) {
		if x.a == n || x.b == n {
			w.cut(x)
		}
	}
}

// alive returns the nodes that have not vanished.
func (w *world) alive() []*node {
	return slices.DeleteFunc(slices.Clone(w.nodes), func(n *node) bool { return n.stopped })
}

// heal ends all faults, puts the nodes in a line and lets time pass.
func (w *world) heal() {
	w.loss, w.dup = 0, 0
	for _, n := range w.nodes {
		n.store.failing = false
	}
	for len(w.wires) > 0 {
		w.cut(w.wires[0])
	}
	alive := w.alive()
	for i := 1; i < len(alive); i++ {
		w.connect(alive[i-1], alive[i])
	}
	w.run(30_000)
}

// restart crashes a node: what was not committed is gone, its links too.
func (w *world) restart(n *node) {
	w.unplug(n)
	n.load(Config{})
}

// TestPullThatOvertakesHello: P2. The two streams of a link keep no order between them, so the first PULL may
// come before the HELLO that was sent earlier. It must be served then, and not when the client gives up.
func TestPullThatOvertakesHello(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.write(w.nodes[0], 3, 3)
	w.connect(w.nodes[0], w.nodes[1])
	began := w.now
	for !w.nodes[1].r.IsReady() {
		w.now++
		for _, n := range w.nodes {
			n.process()
		}
		for _, x := range w.wires {
			q := x.queue
			x.queue = nil
			slices.SortStableFunc(q, func(a, b flying) int { return cmp.Compare(order(a.f), order(b.f)) })
			for _, f := range q {
				if f.f.Type == FrameHello && f.to == w.nodes[0] && w.now < began+50 {
					x.queue = append(x.queue, f)
					continue
				}
				f.to.in = append(f.to.in, Input{From: f.l, Frame: &f.f})
			}
		}
		if w.now > began+200 {
			t.Fatal("the first copy waits for a timer")
		}
	}
}

// order is where a frame stands in a delivery that favours the sync stream.
func order(f Frame) int {
	if f.Type.Bulk() {
		return 0
	}
	return 1
}
