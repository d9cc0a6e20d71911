package sim

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// Scale measures how blocks spread in a large group: a thousand replicas in five regions, of which some write. It is a
// world of its own, for it is after figures and not after faults: no checker looks at each commit, and time runs in
// microseconds. At the end all must have agreed nevertheless.
type Scale struct {
	Seed     uint64
	Nodes    int
	Writers  int
	Messages int      // measured
	Warmup   int      // messages of each writer before that
	PerS     float64  // messages a second, of all writers
	Topology Topology // Mesh, by replica.Neighbours, or Star
	Flood    bool     // every PRUNE comes back as a GRAFT, so that each block goes over each link
}

// Spread is what came of it.
type Spread struct {
	Scale      Scale
	Phase      Phase
	Deliveries int    // of measured messages to other nodes
	Pulled     int    // of these: by a session
	Pruned     uint64 // links, for an origin, while it was measured
	Grafted    uint64
	Copies     float64       // blocks that came by push and deliveries by a session, for each delivery
	P50, P99   time.Duration // from a write to its delivery
	Max        time.Duration
	Bytes      float64 // frames as on the wire, for each node and message
	ByType     map[replica.FrameType]float64
	Links      float64 // of each node
	Events     int
	Virtual    time.Duration
	Err        error // they did not agree
}

// Bounds of a group at scale.
const (
	regions     = 5
	uplink      = 100e6 / 8 // bytes a second
	scaleText   = 150       // bytes of the value that makes a block one of 220
	noticeAfter = 5 * time.Second
	resendAfter = 200 * time.Millisecond
	scaleSettle = 5 * time.Second
	scaleAgree  = 60 * time.Second
	warmFaster  = 10 // than what is measured
)

// scaleRun is a run under way.
type scaleRun struct {
	Scale
	g      *rand.Rand
	now    int64 // microseconds
	events queue
	nodes  []*scaleNode
	byID   map[crdt.Origin]*scaleNode
	schema *crdt.Schema

	phase     Phase
	measuring bool
	delays    []int64
	pushed    int // copies
	bytes     map[replica.FrameType]int
	out       Spread
}

// scaleNode is one replica.
type scaleNode struct {
	w      *scaleRun
	id     int
	store  *memory
	core   *replica.Replica
	links  []scaleLink // the number of a link is its place here and one more
	wakeAt int64
	freeAt int64 // of its uplink
	gone   bool
	wrote  []scaleMessage // in order of time
	got    crdt.Coverage
}

type scaleMessage struct {
	stamp hlc.Timestamp
	at    int64
	count bool // it is measured
}

type scaleLink struct {
	to    *scaleNode
	back  replica.LinkID // its number at the other end
	delay int64
}

// Phase is what goes wrong while messages are measured.
type Phase struct {
	Loss    float64 // share of frames that are lost; those of sessions are sent again by the stream
	Crashes float64 // share of nodes that stop for ever
}

// Run measures once for each phase, one after the other, in one group.
func (s Scale) Run(phases ...Phase) (out []Spread) {
	w := &scaleRun{Scale: s, g: rng(s.Seed, 0x5ca1e), byID: map[crdt.Origin]*scaleNode{}, bytes: map[replica.FrameType]int{}, schema: tables["t"][0]}
	for i := range s.Nodes {
		w.add(i)
	}
	w.link()
	for _, n := range w.nodes {
		n.run()
	}
	w.until(2 * time.Second)
	for range s.Warmup {
		w.write(w.nodes[:s.Writers], s.Writers, warmFaster*s.PerS, false)
	}
	w.until(scaleSettle)
	for _, p := range phases {
		out = append(out, w.measure(p))
	}
	return out
}

func (w *scaleRun) measure(p Phase) Spread {
	before := w.counters()
	w.phase, w.measuring, w.delays, w.pushed = p, true, nil, 0
	clear(w.bytes)
	w.crashes()
	w.write(w.nodes[:w.Writers], w.Messages, w.PerS, true)
	w.until(scaleSettle)
	w.measuring = false
	return w.judge(before)
}

func (w *scaleRun) add(i int) {
	n := &scaleNode{w: w, id: i, store: newMemory(), wakeAt: never, got: crdt.Coverage{}}
	n.store.state.Group, n.store.state.Ready = replica.GroupID{1}, true
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], w.g.Uint64()|1)
	binary.BigEndian.PutUint64(id[8:], w.g.Uint64())
	var err error
	if n.core, err = replica.New(replica.Config{NewOrigin: id}, n.store); err != nil {
		panic(err) // a store in memory that is empty
	}
	w.nodes = append(w.nodes, n)
	w.byID[n.core.Origin()] = n
}

// delay draws the time of one way between two nodes.
func (w *scaleRun) delay(a, b int) int64 {
	g := rng(w.Seed, 0xde1a, uint64(min(a, b)), uint64(max(a, b)))
	if a%regions == b%regions {
		return 2000 + g.Int64N(6000)
	}
	return 30_000 + g.Int64N(90_000)
}

// link links the nodes: all with the first, or each with those it dials.
func (w *scaleRun) link() {
	linked := map[[2]int]bool{}
	link := func(a, b int) {
		if a, b = min(a, b), max(a, b); linked[[2]int{a, b}] {
			return
		}
		linked[[2]int{a, b}] = true
		x, y, d := w.nodes[a], w.nodes[b], w.delay(a, b)
		x.links = append(x.links, scaleLink{y, replica.LinkID(len(y.links) + 1), d})
		y.links = append(y.links, scaleLink{x, replica.LinkID(len(x.links)), d})
	}
	byName := map[string]int{}
	for _, n := range w.nodes {
		byName[n.name()] = n.id
	}
	for _, n := range w.nodes {
		if w.Topology == Star {
			if n.id > 0 {
				link(0, n.id)
			}
			continue
		}
		var others []replica.Candidate
		for _, o := range w.nodes {
			if o != n {
				others = append(others, replica.Candidate{ID: o.name(), RTT: 2 * time.Duration(w.delay(n.id, o.id)) * time.Microsecond})
			}
		}
		for _, name := range replica.Neighbours(n.name(), others) {
			link(n.id, byName[name])
		}
	}
	w.out.Links = 2 * float64(len(linked)) / float64(len(w.nodes))
	for _, n := range w.nodes {
		for i, l := range n.links {
			n.input(replica.Input{Up: &replica.LinkUp{Link: replica.LinkID(i + 1), Peer: l.to.name()}})
		}
	}
}

func (n *scaleNode) name() string { return fmt.Sprint("n", n.id) }

// until lets time pass.
func (w *scaleRun) until(d time.Duration) {
	for end := w.now + d.Microseconds(); ; {
		if len(w.events.heap) == 0 || w.events.heap[0].at > end {
			w.now = end
			return
		}
		e := w.events.pop()
		w.now = e.at
		w.out.Events++
		e.do()
	}
}

// write has nodes write so many messages, one after the other and each in its turn.
func (w *scaleRun) write(by []*scaleNode, messages int, perS float64, count bool) {
	order := w.g.Perm(len(by))
	for i := range messages {
		n := by[order[i%len(by)]]
		w.until(time.Duration(w.g.ExpFloat64() / perS * 1e9))
		if !n.gone {
			n.write(count)
		}
	}
}

func (n *scaleNode) write(count bool) {
	text := make([]byte, scaleText)
	for i := range text {
		text[i] = byte('a' + n.w.g.IntN(26))
	}
	op := crdt.Op{Table: n.w.schema.Table, Key: crdt.MustKey(crdt.Integer(int64(n.id))), Kind: crdt.OpInsert}
	if len(n.wrote) > 0 {
		op.Kind = crdt.OpUpdate
	}
	for _, c := range n.w.schema.Columns[:1] {
		op.Sets = append(op.Sets, crdt.Set{Column: c, Value: crdt.Text(string(text))})
	}
	n.wrote = append(n.wrote, scaleMessage{at: n.w.now, count: count})
	n.input(replica.Input{Write: &replica.Drain{Schemas: []*crdt.Schema{n.w.schema}, Groups: []replica.Group{{Ops: []crdt.Op{op}}}}})
}

// crashes stops nodes at random moments of the measured phase. Their neighbours notice it after a while: the machine is
// gone and closes nothing.
func (w *scaleRun) crashes() {
	phase := float64(w.Messages) / w.PerS * 1e6
	for _, i := range w.g.Perm(len(w.nodes))[:int(w.phase.Crashes*float64(len(w.nodes)))] {
		n := w.nodes[i]
		if i == 0 {
			continue // it is the hub
		}
		w.events.push(w.now+int64(w.g.Float64()*phase), func() {
			n.gone = true
			w.events.push(w.now+noticeAfter.Microseconds(), func() {
				for _, l := range n.links {
					if !l.to.gone {
						l.to.input(replica.Input{Down: l.back})
					}
				}
			})
		})
	}
}

// input gives the replica one thing.
func (n *scaleNode) input(in ...replica.Input) {
	if n.gone {
		return
	}
	now := replica.Instant{Wall: epoch + n.w.now/1000, Mono: n.w.now / 1000}
	if err := replica.Process(context.Background(), n.store, n.core, now, false, in, n); err != nil && n.w.out.Err == nil {
		n.w.out.Err = fmt.Errorf("sim: %s: %w", n.name(), err)
	}
	if at := n.core.Wake() * 1000; at < n.wakeAt || n.wakeAt <= n.w.now {
		n.wakeAt = max(at, n.w.now)
		n.w.events.push(n.wakeAt, n.run)
	}
}

// run lets the replica do what is due.
func (n *scaleNode) run() {
	if n.wakeAt <= n.w.now && !n.gone {
		n.wakeAt = never
		n.input()
	}
}

// Send puts a frame on the wire.
func (n *scaleNode) Send(id replica.LinkID, f replica.Frame) {
	w, l := n.w, n.links[id-1]
	if w.Flood && f.Type == replica.FramePrune {
		n.bounce(id, f)
		return
	}
	size := 1 + len(binary.AppendUvarint(nil, uint64(len(f.Body)))) + len(f.Body)
	if w.measuring {
		w.bytes[f.Type] += size
	}
	n.freeAt = max(n.freeAt, w.now) + int64(float64(size)/uplink*1e6)
	delay := l.delay
	if w.measuring && w.g.Float64() < w.phase.Loss {
		if !f.Type.Bulk() {
			return
		}
		delay += resendAfter.Microseconds()
	}
	w.events.push(n.freeAt+delay, func() {
		if l.to.gone {
			return
		}
		l.to.copies(f)
		l.to.input(replica.Input{From: l.back, Frame: &f})
	})
}

// bounce returns a PRUNE as a GRAFT: the origins stand under 1 in the one and under 2 in the other.
func (n *scaleNode) bounce(id replica.LinkID, f replica.Frame) {
	body := slices.Clone(f.Body)
	if body[0] == 0xa1 && body[1] == 1 {
		body[1] = 2
		n.w.events.push(n.w.now, func() {
			n.input(replica.Input{From: id, Frame: &replica.Frame{Type: f.Type, Body: body}})
		})
	}
}

// copies counts the measured blocks in a frame.
func (n *scaleNode) copies(f replica.Frame) {
	if f.Type != replica.FrameBlocks || f.Zstd {
		return
	}
	for s := range blocksOf(f.Body) {
		if n.w.byID[s.Origin].message(s.Time).count {
			n.w.pushed++
		}
	}
}

// message finds a message by its stamp.
func (n *scaleNode) message(h hlc.Timestamp) *scaleMessage {
	i, _ := slices.BinarySearchFunc(n.wrote, h, func(m scaleMessage, h hlc.Timestamp) int { return cmp.Compare(m.stamp, h) })
	return &n.wrote[i]
}

// CloseLink would be told of a peer that is refused.
func (n *scaleNode) CloseLink(_ replica.LinkID, reason error) {
	n.w.out.Err = fmt.Errorf("sim: %s refuses a link: %w", n.name(), reason)
}

// Show is told of what is committed: a delivery of each message below the new heads.
func (n *scaleNode) Show(b replica.Batch) {
	for o, h := range b.Heads {
		from := n.w.byID[o]
		if from == n {
			from.wrote[len(from.wrote)-1].stamp = h
			continue
		}
		for i := range slices.Backward(from.wrote) {
			m := &from.wrote[i]
			if m.stamp > h || m.stamp == 0 {
				continue
			}
			if m.stamp <= n.got[o] {
				break
			}
			if m.count {
				n.w.delays = append(n.w.delays, n.w.now-m.at)
			}
		}
		n.got[o] = h
	}
}

func (w *scaleRun) counters() (sum replica.Counters) {
	for _, n := range w.nodes {
		c := n.core.Counters()
		sum.BlocksMerged += c.BlocksMerged
		sum.LinksPruned += c.LinksPruned
		sum.LinksGrafted += c.LinksGrafted + c.LinksReplanted
	}
	return sum
}

// judge waits until all agree, and sums up.
func (w *scaleRun) judge(before replica.Counters) Spread {
	for began := w.now; !w.agreed() && w.out.Err == nil; w.until(time.Second) {
		if w.now-began > scaleAgree.Microseconds() {
			w.out.Err = fmt.Errorf("sim: no agreement %s after the last message", scaleAgree)
		}
	}
	after, o := w.counters(), &w.out
	o.Scale, o.Phase, o.Virtual, o.Deliveries = w.Scale, w.phase, time.Duration(w.now)*time.Microsecond, len(w.delays)
	o.Pruned, o.Grafted = after.LinksPruned-before.LinksPruned, after.LinksGrafted-before.LinksGrafted
	o.Pulled = max(o.Deliveries-int(after.BlocksMerged-before.BlocksMerged), 0)
	if o.Deliveries == 0 {
		return *o
	}
	slices.Sort(w.delays)
	at := func(part float64) time.Duration {
		return time.Duration(w.delays[int(part*float64(len(w.delays)-1))]) * time.Microsecond
	}
	o.P50, o.P99, o.Max = at(0.5), at(0.99), at(1)
	o.Copies = float64(w.pushed+o.Pulled) / float64(o.Deliveries)
	o.ByType, o.Bytes = map[replica.FrameType]float64{}, 0
	for t, n := range w.bytes {
		o.ByType[t] = float64(n) / float64(w.Nodes*w.Messages)
		o.Bytes += o.ByType[t]
	}
	return *o
}

// agreed reports whether all nodes hold the same.
func (w *scaleRun) agreed() bool {
	var first *[32]byte
	for _, n := range w.nodes {
		if n.gone {
			continue
		}
		sum, err := replica.Digest(n.store)
		if err != nil {
			w.out.Err = err
		}
		if first == nil {
			first = &sum
		}
		if sum != *first {
			return false
		}
	}
	return true
}

// String is one line.
func (s Spread) String() string {
	flood := ""
	if s.Scale.Flood {
		flood = ", flooding"
	}
	line := fmt.Sprintf("%d nodes, %s%s, %.1f links each, %d writers, loss %g, crashes %g: p50 %s p99 %s max %s, %.3f copies, %.0f B for each node and message",
		s.Scale.Nodes, s.Scale.Topology, flood, s.Links, s.Scale.Writers, s.Phase.Loss, s.Phase.Crashes,
		s.P50.Round(time.Millisecond), s.P99.Round(time.Millisecond), s.Max.Round(time.Millisecond), s.Copies, s.Bytes)
	var kinds []string
	for _, t := range slices.Sorted(maps.Keys(s.ByType)) {
		kinds = append(kinds, fmt.Sprintf("%s %.1f", t, s.ByType[t]))
	}
	return fmt.Sprintf("%s (%s), %d deliveries, %.2f %% of them pulled, %d prunes, %d grafts, %d events", line, strings.Join(kinds, ", "),
		s.Deliveries, 100*float64(s.Pulled)/float64(max(s.Deliveries, 1)), s.Pruned, s.Grafted, s.Events)
}
