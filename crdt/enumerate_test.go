package crdt

import (
	"math/bits"
	"os"
	"testing"

	"github.com/rowmesh/rowmesh/hlc"
)

// The exhaustive proof: every history of a few operations on one row by three replicas. Operations are numbered by
// their stamps, so that every order of stamps that is consistent with what the authors had seen is one history. An
// author has seen, of each other author, some number of its first operations; who is called first, second and
// third makes no difference where all times differ, so that authors are numbered in the order in which they come.
// Where times may be equal the origins decide, and every author may come at every place.

// event is one operation of a history.
type event struct {
	author int
	kind   OpKind
	col    int  // of an update
	tie    bool // its time is that of the operation before, its origin is greater
	seen   uint // the operations that its author had seen, its own included, as a set
}

// world enumerates histories of up to n operations. A history is checked as it grows: the sets that contain its last
// operation are new, the others were those of the history before.
type world struct {
	t      *testing.T
	n      int
	whole  bool // of five operations too, join every two sets, and not only a set and one operation
	ties   bool // times may be equal
	events []event
	deltas []Row
	states []Row           // the merged state of each set of the operations so far
	counts []int           // histories of so many operations
	ends   map[ending]bool // the last operations that were checked after the ones before
}

// ending is what a last operation is to other replicas. Its author's knowledge shows in nothing but the birth that it
// saw, so that endings which agree in that are merged, and checked, alike.
type ending struct {
	event
	birth Stamp
}

func newWorld(t *testing.T, n int) *world {
	return &world{t: t, n: n, states: make([]Row, 1, 1<<n), counts: make([]int, n+1), ends: map[ending]bool{}}
}

// next tries every operation that may come as number i.
func (w *world) next(i int) {
	if i == w.n {
		return
	}
	if i == w.n-1 {
		clear(w.ends)
	}
	authors := 2
	if !w.ties {
		authors = -1
		for _, e := range w.events {
			authors = max(authors, e.author)
		}
	}
	for a := range min(authors+2, 3) {
		w.withSeen(a, 0, 0)
	}
}

// withSeen chooses how much the author has seen of each author from o on.
func (w *world) withSeen(a, o int, seen uint) {
	if o == 3 {
		w.withKind(a, seen)
		return
	}
	if o == a {
		for i, e := range w.events {
			if e.author == o {
				seen |= 1 << i
			}
		}
		w.withSeen(a, o+1, seen)
		return
	}
	w.withSeen(a, o+1, seen)
	for i, e := range w.events {
		if e.author == o {
			seen |= 1 << i
			w.withSeen(a, o+1, seen)
		}
	}
}

// withKind chooses what the author does: what SQL would do to the row that it sees.
func (w *world) withKind(a int, seen uint) {
	alive, _ := outcome(w.events, seen)
	add := func(k OpKind, col int) {
		w.with(event{author: a, kind: k, col: col, seen: seen})
		if w.mayTie(a, seen) {
			w.with(event{author: a, kind: k, col: col, seen: seen, tie: true})
		}
	}
	if alive {
		add(OpUpdate, 0)
		add(OpUpdate, 1)
		add(OpDelete, 0)
	} else {
		add(OpInsert, 0)
	}
	add(OpReplace, 0)
}

// mayTie reports whether the next operation can have the time of the one before: no author of that time is
// greater, and none was seen, because a clock goes beyond all that it sees.
func (w *world) mayTie(a int, seen uint) bool {
	i := len(w.events) - 1
	if !w.ties || i < 0 || w.events[i].author >= a {
		return false
	}
	for ; seen&(1<<i) == 0; i-- {
		if !w.events[i].tie {
			return true
		}
	}
	return false
}

// outcome is the oracle. It says, from the definition alone, what a row shows once the operations of a set are
// there: it is alive when the newest of all inserts, deletes and replacements is not a delete, and a column shows the
// newest value written to it since then. It knows nothing of registers and merging. Values are operation numbers.
func outcome(events []event, set uint) (alive bool, cells [2]int) {
	born := -1
	for i, e := range events {
		if set&(1<<i) != 0 && e.kind != OpUpdate {
			alive, born = e.kind != OpDelete, i
		}
	}
	if !alive {
		return false, cells
	}
	for i := born; i < len(events); i++ {
		switch e := events[i]; {
		case set&(1<<i) == 0:
		case e.kind == OpUpdate:
			cells[e.col] = i + 1
		default:
			cells = [2]int{i + 1, i + 1}
		}
	}
	return true, cells
}

var columnNames = [2]string{"a", "b"}

// delta is the last operation as replicas exchange it.
func (w *world) delta() Row {
	i := len(w.events) - 1
	e := w.events[i]
	time := hlc.Timestamp(0)
	for _, e := range w.events {
		if !e.tie {
			time++
		}
	}
	op := Op{Kind: e.kind}
	for c, name := range columnNames {
		if e.kind != OpDelete && (e.kind != OpUpdate || e.col == c) {
			op.Sets = append(op.Sets, Set{name, Integer(int64(i + 1))})
		}
	}
	return op.Delta(Stamp{Time: time, Origin: Origin{byte(e.author + 1)}}, w.states[e.seen].Birth)
}

// shows compares a state with what the oracle says.
func shows(r Row, alive bool, cells [2]int) bool {
	if r.Alive() != alive {
		return false
	}
	for i, name := range columnNames {
		c, ok := r.Cell(name)
		if alive && (!ok || c.Value != Integer(int64(cells[i]))) {
			return false
		}
	}
	return true
}

// with adds an operation, checks the history that it makes and goes on to longer ones.
func (w *world) with(e event) {
	i := len(w.events)
	w.counts[i+1]++
	if i == w.n-1 {
		end := ending{e, w.states[e.seen].Birth}
		end.seen = 0
		if w.ends[end] {
			return
		}
		w.ends[end] = true
	}
	w.events = append(w.events, e)
	w.deltas = append(w.deltas, w.delta())
	w.check(i)
	w.next(i + 1)
	w.events, w.deltas, w.states = w.events[:i], w.deltas[:i], w.states[:1<<i]
}

// check looks at every set that has the last operation. The sets are merged in every order and every batching: an
// order is a chain of sets, and a batch joins two states, so it is enough that the state of a set is the same
// whichever two disjoint sets it is joined of. Each is compared with the oracle.
func (w *world) check(i int) {
	last := uint(1) << i
	for rest := range last {
		set := rest | last
		state := w.states[rest].Merge(w.deltas[i])
		w.states = append(w.states, state)
		for a := (set - 1) & set; a > 0; a = (a - 1) & set {
			if i == 4 && !w.whole && bits.OnesCount(a) != 1 {
				continue
			}
			if got := w.states[set&^a].Merge(w.states[a]); !got.Equal(state) {
				w.t.Fatalf("%v: the sets %b and %b join to %s, want %s", w.events, a, set&^a, got, state)
			}
		}
		if alive, cells := outcome(w.events, set); !shows(state, alive, cells) {
			w.t.Fatalf("%v: the set %b shows %s, want alive=%v %v", w.events, set, state, alive, cells)
		}
	}
}

// TestEveryHistory: P12. The number of histories is part of the test: it changes when the enumeration does. With
// ROWMESH_EXHAUSTIVE=1 all batchings of five operations are tried too, not only all orders.
func TestEveryHistory(t *testing.T) {
	most := 5
	if testing.Short() {
		most = 4
	}
	w := newWorld(t, most)
	w.whole = os.Getenv("ROWMESH_EXHAUSTIVE") != ""
	w.requireCounts(0, 2, 20, 428, 16152, 873860)
}

// TestEveryHistoryWithTies: P12. The same where times may be equal, as on machines whose clocks are coarse.
func TestEveryHistoryWithTies(t *testing.T) {
	w := newWorld(t, 4)
	w.ties = true
	w.requireCounts(0, 6, 108, 3356, 156708)
}

func (w *world) requireCounts(want ...int) {
	w.next(0)
	for n, count := range w.counts {
		if count != want[n] {
			w.t.Errorf("%d operations make %d histories, want %d", n, count, want[n])
		}
	}
	w.t.Logf("histories of 0 to %d operations: %v, disagreements = 0", w.n, w.counts)
}
