package replica

import (
	"fmt"
	"slices"
	"testing"
)

// A session that breaks is where a claim can become untrue. So here one is cut after every single chunk, in
// each of the ways there are to go on. After every commit the world asserts "claimed implies state
// dominates" against the list of all blocks that were written, which no replica has a part in.

// cutCase is one way in which a session is cut and gone on with.
type cutCase struct {
	spokes int  // replicas beside the server and its clients; they know what the server knew at the start
	ready  bool // the client holds a part of the data already
	busy   bool // the server goes on writing between the chunks, over rows that it has yet to visit
	kept   bool // the spokes are told of that
	same   bool // the server comes back; else it vanishes for ever, and a spoke goes on
	two    bool // two clients are served at the same time
	large  bool // each cell of a row is a chunk of its own
}

func (c cutCase) String() string {
	s := map[int]string{1: "line", 2: "hub"}[c.spokes]
	for _, p := range []struct {
		on   bool
		name string
	}{{c.ready, "ready"}, {c.busy, "busy"}, {c.kept, "kept"}, {c.same, "same"}, {c.two, "two"}, {c.large, "large"}} {
		if p.on {
			s += "-" + p.name
		}
	}
	return s
}

// cutCases is every combination that makes sense.
func cutCases() (all []cutCase) {
	for i := range 128 {
		bit := func(n int) bool { return i>>n&1 == 1 }
		c := cutCase{spokes: 1, ready: bit(1), busy: bit(2), kept: bit(3), same: bit(4), two: bit(5), large: bit(6)}
		if bit(0) {
			c.spokes = 2
		}
		if !c.kept || c.busy {
			all = append(all, c)
		}
	}
	return all
}

// TestClaimsHoldWhereverASessionIsCut: P1, P7. Each case cuts the session after no chunk, after one, and so
// on to the last. In the end all that are left are equal.
func TestClaimsHoldWhereverASessionIsCut(t *testing.T) {
	var went resumption
	for _, c := range cutCases() {
		t.Run(c.String(), func(t *testing.T) {
			chunks := 1
			for at := 0; at <= chunks; at++ {
				n := cutSession(t, c, at, &went)
				if at == 0 && n < 2*rowsCut/3 {
					t.Fatalf("a whole session has %d chunks only", n)
				}
				if at == 0 {
					chunks = n
				}
			}
		})
	}
	if !t.Failed() && (went.same == 0 || went.other == 0 || went.anew == 0) {
		t.Fatalf("broken sessions were gone on with by the same server %d times, by another %d times, and begun anew %d times: each should happen",
			went.same, went.other, went.anew)
	}
}

// resumption counts what became of broken sessions.
type resumption struct{ same, other, anew int }

const rowsCut = 9

// cutSession runs one case, with the session cut after `at` chunks; 0: not at all. It returns how many
// chunks there were.
func cutSession(t *testing.T, c cutCase, at int, went *resumption) (chunks int) {
	w := newWorld(t, 8, 2+c.spokes+1)
	if w.chunk != 1 {
		t.Fatal("each row should be a chunk of its own")
	}
	w.large = c.large
	server, spokes, clients := w.nodes[0], w.nodes[1:1+c.spokes], w.nodes[1+c.spokes:]
	if !c.two {
		clients, w.nodes = clients[:1], w.nodes[:2+c.spokes]
	}
	for _, n := range w.nodes[1:] {
		if c.ready || n.id <= c.spokes {
			w.connect(server, n)
		}
	}
	w.run(1000)
	for row := range rowsCut {
		if row == rowsCut/3 {
			w.unplugAll(clients)
		}
		w.put(w.nodes[row%(1+c.spokes)], row, "")
		w.run(50)
	}
	w.run(1000)
	if !c.kept {
		w.unplugAll(spokes)
	}
	chunks = w.serveUntil(c, at, server, clients)
	if at == 0 {
		return chunks
	}
	w.unplug(server)
	server.sees, server.stopped = nil, true
	heirs := spokes
	if c.same {
		server.stopped, heirs = false, w.nodes[:1+c.spokes]
	}
	for _, n := range clients {
		n.sees = goesOn(heirs[0], c.same, went)
	}
	for _, n := range w.nodes {
		if n != heirs[0] && !n.stopped {
			w.connect(heirs[0], n)
		}
	}
	w.run(4000)
	w.requireEqual()
	return chunks
}

// serveUntil lets the clients pull from the server and loses everything of the sessions that comes after
// `at` chunks. It returns how many chunks the first client was sent.
func (w *world) serveUntil(c cutCase, at int, server *node, clients []*node) int {
	sent := map[*node]int{}
	server.sees = func(to *node, f Frame) bool {
		if f.Type == FrameChunk {
			sent[to]++
		}
		return at == 0 || sent[to] <= at && f.Type != FrameDone
	}
	for _, n := range clients {
		w.connect(server, n)
	}
	written := 0
	for range 60 {
		before := sent[clients[0]]
		w.run(10)
		if c.busy && sent[clients[0]] > before && written < rowsCut {
			written++ // from the last rows, which are yet to be visited, to the first, which were
			w.put(server, rowsCut-written, "a")
		}
	}
	return sent[clients[0]]
}

// goesOn counts how a client goes on after its session broke.
func goesOn(server *node, same bool, went *resumption) func(*node, Frame) bool {
	first := true
	return func(to *node, f Frame) bool {
		var b pullBody
		if f.Type != FramePull || to != server || !first || decodeBody(f.Type, must(f.plain()), &b) != nil {
			return true
		}
		first = false
		switch {
		case b.After == nil:
			went.anew++
		case same:
			went.same++
		default:
			went.other++
		}
		return true
	}
}

func (w *world) unplugAll(nodes []*node) {
	for _, n := range nodes {
		w.unplug(n)
	}
	for _, n := range nodes {
		n.process()
	}
}

// TestClaimsHoldInRandomSessions: P1, P7. Replicas pull from each other in small chunks while all of them
// write over the same few rows; links come and go, and now and then a replica vanishes for ever.
func TestClaimsHoldInRandomSessions(t *testing.T) {
	for seed := range seeds(100) {
		if !t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { vanishingWorld(t, uint64(seed)*2) }) {
			return
		}
	}
}

func vanishingWorld(t *testing.T, seed uint64) {
	w := newWorld(t, seed, 5)
	alive := slices.Clone(w.nodes)
	for range 150 {
		n := alive[w.rng.IntN(len(alive))]
		switch w.rng.IntN(8) {
		case 0, 1, 2, 3:
			w.write(n, 1+w.rng.IntN(3), 6)
		case 4, 5, 6:
			if m := alive[w.rng.IntN(len(alive))]; m != n && !w.linked(n, m) {
				w.connect(n, m)
			}
		case 7:
			w.unplug(n)
		}
		if w.rng.IntN(60) == 0 && len(alive) > 2 && n.id > 0 {
			w.unplug(n)
			n.stopped = true
			alive = slices.DeleteFunc(alive, func(m *node) bool { return m == n })
		}
		w.run(w.rng.Int64N(60))
	}
	w.heal()
	w.requireEqual()
}
