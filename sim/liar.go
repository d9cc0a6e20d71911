package sim

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// A liar is a machine that was let into the group, speaks the protocol well, and lies. Its replica is a real one; what it sends is
// changed on its way out, and lies are sent beside. When everything is healed it is expelled.
//
// Nobody finds a liar out, so what it lied about is nobody's promise: the rows that it named, and the origins whose heads it made up. The rest
// of what the group promises must hold among the others all the same.

// lies notes what a liar has said.
type lies struct {
	rows    map[replica.RowKey]bool
	origins map[crdt.Origin]bool
	next    map[*machine]string // how the next session that it serves to a machine is falsified
}

// lie tells a machine something that is not so.
func (w *World) lie(e *edge, from int, n int64) {
	if !e.ends[from].liar || e.ends[from].core == nil {
		return
	}
	g := rng(w.c.Seed, 0x11e5, uint64(n))
	l := &liar{w: w, m: e.ends[from], to: e.ends[1-from], Rand: g, edge: e, from: from}
	w.lies.origins[l.m.writer] = true
	kinds := []struct {
		name string
		tell func()
	}{
		{"two contents of one stamp", l.equivocate}, {"two blocks after one", l.fork}, {"a block from long ago", l.backdate}, {"a block from the future", l.future},
		{"a block of another", l.forge}, {"a flood", l.flood}, {"heads that are not there", l.boast}, {"a session gone on with wrongly", l.resume},
		{"a fork that is none", l.reject}, {lieDone, l.arm(lieDone)}, {lieLess, l.arm(lieLess)}, {lieMore, l.arm(lieMore)},
	}
	k := kinds[g.IntN(len(kinds))]
	w.mark("lie: " + k.name)
	k.tell()
}

// liar is a lie on its way.
type liar struct {
	w    *World
	m    *machine
	to   *machine
	edge *edge
	from int
	*rand.Rand
}

// send sends a frame past the replica of the liar.
func (l *liar) send(t replica.FrameType, body []byte) {
	if l.edge.up {
		l.w.fly(l.edge, l.from, replica.AppendFrame(nil, replica.Frame{Type: t, Critical: t == replica.FrameHello, Body: body}), 1)
	}
}

// block sends a block of a few rows, always the same ones, so that others remain of which the truth is known.
func (l *liar) block(s crdt.Stamp, prev hlc.Timestamp) {
	l.w.lies.origins[s.Origin] = true
	b := &crdt.Block{Stamp: s, Prev: prev}
	used := map[replica.RowKey]bool{}
	for range 1 + l.IntN(3) {
		table := tableNames[l.IntN(len(tableNames))]
		k := rowKey(table, 7*l.IntN(2))
		if used[k] {
			continue
		}
		used[k] = true
		op := crdt.Op{Table: table, Key: k.Key, Kind: []crdt.OpKind{crdt.OpInsert, crdt.OpUpdate, crdt.OpDelete, crdt.OpReplace}[l.IntN(4)]}
		if op.Kind != crdt.OpDelete {
			op.Sets = []crdt.Set{{Column: "a", Value: crdt.Integer(l.Int64())}, {Column: "b", Value: crdt.Text("lie")}}
		}
		b.Rows = append(b.Rows, crdt.RowDelta{Schema: tables[table][0], Key: k.Key, Row: op.Delta(s, crdt.Stamp{})})
		l.w.lies.rows[k] = true
	}
	var schemas []byte
	for _, d := range b.Rows {
		schemas = appendItem(schemas, crdt.AppendSchema(nil, d.Schema))
	}
	l.send(replica.FrameSchema, schemas)
	l.send(replica.FrameBlocks, appendItem(nil, crdt.AppendBlock(nil, b, (*crdt.Schema).Ref)))
}

func appendItem(dst, item []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(item))), item...)
}

// now is a time that the liar's next block may have.
func (l *liar) now() hlc.Timestamp {
	return max(hlc.FromMillis(l.m.instant().Wall), l.m.claimed.Max()+1)
}

// origin makes one up.
func (l *liar) origin() (o crdt.Origin) {
	binary.BigEndian.PutUint64(o[:], l.Uint64())
	return o
}

// victim is another machine.
func (l *liar) victim() *machine {
	for {
		if m := l.w.machines[l.IntN(len(l.w.machines))]; m != l.m {
			return m
		}
	}
}

func (l *liar) equivocate() {
	s, prev := crdt.Stamp{Time: l.now(), Origin: l.m.writer}, l.m.claimed[l.m.writer]
	for _, e := range l.w.edgesOf(l.m) {
		l.edge, l.from = e, e.index(l.m)
		l.block(s, prev)
	}
}

func (l *liar) fork() {
	prev := l.m.claimed[l.m.writer]
	for i, e := range l.w.edgesOf(l.m) {
		l.edge, l.from = e, e.index(l.m)
		l.block(crdt.Stamp{Time: l.now() + hlc.Timestamp(i), Origin: l.m.writer}, prev)
	}
}

func (l *liar) backdate() {
	l.block(crdt.Stamp{Time: hlc.FromMillis(l.Int64N(epoch)) + 1, Origin: l.origin()}, 0)
}

func (l *liar) future() {
	ahead := []int64{4 * 60e3, 6 * 60e3, 400 * 86400e3}[l.IntN(3)]
	s := crdt.Stamp{Time: hlc.FromMillis(l.w.now + ahead), Origin: l.m.writer}
	if prev := l.m.claimed[l.m.writer]; prev < s.Time {
		l.block(s, prev)
	}
	l.block(crdt.Stamp{Time: hlc.Max - hlc.Timestamp(l.IntN(2)), Origin: l.origin()}, 0)
}

func (l *liar) forge() {
	v := l.victim()
	head := v.claimed[v.writer]
	l.block(crdt.Stamp{Time: max(head+1, l.now()), Origin: v.writer}, head)
	if head > 1 {
		l.block(crdt.Stamp{Time: head + 1, Origin: v.writer}, head-1) // after one that is not there
	}
}

// flood sends more of everything than anybody needs: blocks that follow nothing, of many origins, and questions.
func (l *liar) flood() {
	for range 80 {
		o := l.origin()
		for i := range hlc.Timestamp(3) {
			l.block(crdt.Stamp{Time: l.now() + 10*i, Origin: o}, l.now()+10*i-1)
		}
	}
	o := l.origin()
	for i := range hlc.Timestamp(1200) {
		l.block(crdt.Stamp{Time: l.now() + 10*i, Origin: o}, l.now()+10*i-1)
	}
	for range 50 {
		l.heads(map[uint64]any{3: packed(nil), 4: true}, crdt.Coverage{})
		l.send(replica.FramePull, encode(map[uint64]any{1: l.Uint64(), 2: packed(nil), 3: hlc.Max, 4: hlc.Max, 5: uint64(1000)}))
		l.send(replica.FrameCredit, encode(map[uint64]any{1: l.Uint64N(10), 2: uint64(1) << 62}))
	}
}

// boast tells of heads that nobody has. No origin is claimed by it: who asks for them gets what there is.
func (l *liar) boast() {
	heads := crdt.Coverage{l.origin(): l.now()}
	for o := range l.m.claimed {
		heads[o] = l.now()
	}
	if v := l.victim(); l.IntN(2) == 0 {
		heads[v.writer] = l.now()
	}
	for o := range heads {
		l.w.lies.origins[o] = true // its machine takes itself for set back
	}
	if l.IntN(2) == 0 {
		l.heads(map[uint64]any{3: packed(heads)}, crdt.Coverage{})
		return
	}
	l.send(replica.FrameAnnounce, encode(map[uint64]any{1: vector(heads)}))
}

func (l *liar) heads(body map[uint64]any, heads crdt.Coverage) {
	body[1] = vector(heads)
	l.send(replica.FrameHeads, encode(body))
}

// resume asks for the rest of a session that there never was.
func (l *liar) resume() {
	at := l.origin()
	l.send(replica.FramePull, encode(map[uint64]any{
		1: uint64(1)<<40 + l.Uint64N(1<<20), 2: packed(crdt.Coverage{l.origin(): 7}), 3: hlc.Max, 4: hlc.Max, 5: uint64(1000), 6: packed(l.m.claimed), 8: packed(l.to.claimed),
		7: []any{at[:], l.now(), "t", []byte(rowKey("t", 3).Key.Encoded()), l.IntN(2) == 0},
	}))
}

// reject refuses a machine for a fork of its own that it does not have.
func (l *liar) reject() {
	l.w.lies.origins[l.to.writer] = true
	l.send(replica.FrameReject, encode(map[uint64]any{1: replica.RejectFork, 3: l.to.writer[:], 4: l.now(), 5: "lie"}))
}

// How a session is falsified.
const (
	lieDone = "DONE with too much"
	lieLess = "a chunk withheld"
	lieMore = "a chunk with more"
)

// arm falsifies the next session that is served to the machine; see falsify.
func (l *liar) arm(how string) func() { return func() { l.w.lies.next[l.to] = how } }

func encode(v any) []byte {
	mode, err := cbor.CoreDetEncOptions().EncMode() // a map has no order of its own
	if err != nil {
		panic(err)
	}
	b, err := mode.Marshal(v)
	if err != nil {
		panic(err) // made here
	}
	return b
}

// vector is a coverage on the wire.
func vector(c crdt.Coverage) []byte {
	v := []byte{}
	for _, o := range c.Origins() {
		v = binary.BigEndian.AppendUint64(append(v, o[:]...), uint64(c[o]))
	}
	return v
}

// packed is a coverage on the wire where it may be sent as changes, as a whole.
func packed(c crdt.Coverage) []any { return []any{[]byte{}, []byte{}, vector(c)} }

// falsify changes what a liar sends, where that is armed.
func (w *World) falsify(m, to *machine, f replica.Frame) replica.Frame {
	how := w.lies.next[to]
	if !m.liar || f.Zstd || f.More || f.Cont || f.Type != replica.FrameChunk && f.Type != replica.FrameDone {
		return f
	}
	var body map[uint64]cbor.RawMessage
	if err := cbor.Unmarshal(f.Body, &body); err != nil {
		w.violate("harness", "%s sends %s: %v", m.name(), f.Type, err)
		return f
	}
	set := func(key uint64, v any) {
		body[key] = encode(v)
		f.Body = encode(body)
		w.mark("lie: " + how + ", told")
		delete(w.lies.next, to)
	}
	withhold := func() {
		for o, h := range m.claimed {
			w.lies.origins[o] = w.lies.origins[o] || h > to.claimed[o]
		}
	}
	g := rng(w.c.Seed, 0xfa15e, uint64(w.stats.Frames))
	switch done := f.Type == replica.FrameDone; {
	case how == lieDone && done:
		cut := m.claimed.Clone()
		v := w.machines[g.IntN(len(w.machines))].writer
		if cut[v] = max(cut[v], to.claimed[v]) + hlc.Timestamp(g.IntN(10)); cut[v] == 0 {
			delete(cut, v)
		}
		w.lies.origins[v] = true
		set(3, packed(cut))
	case how == lieLess && !done:
		withhold()
		set(7, []byte{0x82, 0x80, 0x80})
	case how == lieMore && !done:
		withhold() // what was in it
		k := rowKey("t", 7*g.IntN(2))
		w.lies.rows[k], w.lies.origins[to.writer] = true, true
		var d crdt.DeltaBuilder
		s := crdt.Stamp{Time: to.claimed[to.writer] + 3, Origin: to.writer}
		d.Add(tables["t"][0], tables["t"][0].Ref(), k.Key, crdt.Op{Kind: crdt.OpInsert, Sets: []crdt.Set{{Column: "a", Value: crdt.Integer(g.Int64())}}}.Delta(s, crdt.Stamp{}))
		set(7, d.Finish())
	}
	return f
}

// expel ends the liar's part in the group, as an operator who revokes it does.
func (w *World) expel() {
	for _, m := range w.alive() {
		if m.liar {
			m.crash()
			m.gone = true
			w.lose()
		}
	}
}

// doubtful reports whether a liar has named an origin, so that nobody promises what it wrote.
func (w *World) doubtful(o crdt.Origin) bool { return w.lies.origins[o] }

// lied reports whether a liar has named a row, or an origin that wrote it.
func (w *World) lied(k replica.RowKey) bool {
	return len(w.lies.origins) > 0 && (w.lies.rows[k] || slices.ContainsFunc(w.oracle.byRow[k], func(x write) bool { return w.lies.origins[x.stamp.Origin] }))
}

// checkBounds checks that a replica keeps no more for others than it may.
func (w *World) checkBounds(m *machine) {
	held := m.core.Status().Held
	if len(held) > 64 {
		w.violate("P18", "%s holds blocks of %d origins back", m.name(), len(held))
	}
	for _, h := range held {
		if h.Blocks > 1000 {
			w.violate("P18", "%s holds %d blocks of %s back", m.name(), h.Blocks, h.Origin.Short())
		}
	}
}
