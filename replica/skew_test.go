package replica

import (
	"fmt"
	"testing"
	"time"

	"github.com/rowmesh/rowmesh/hlc"
)

// TestClocksAheadAreHeldBack: P10. One replica's clock is minutes or an hour ahead. No honest clock is led
// further than twice the limit, no row shows what is beyond it, local writes go on everywhere, and once that
// time has come all are equal: nothing was lost.
func TestClocksAheadAreHeldBack(t *testing.T) {
	held, refused := uint64(0), uint64(0)
	for seed := range seeds(60) {
		ok := t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			h, r := skewedWorld(t, uint64(seed))
			held, refused = held+h, refused+r
		})
		if !ok {
			return
		}
	}
	if held == 0 || refused == 0 {
		t.Fatalf("%d blocks were held back and %d sessions refused: both should happen", held, refused)
	}
}

func skewedWorld(t *testing.T, seed uint64) (held, refused uint64) {
	w := newWorld(t, seed, 3+int(seed%2))
	ahead := w.nodes[1+w.rng.IntN(len(w.nodes)-1)]
	lead := []time.Duration{6 * time.Minute, 9 * time.Minute, 20 * time.Minute, time.Hour}[seed%4]
	for _, n := range w.nodes {
		n.sees = func(_ *node, f Frame) bool {
			var b rejectBody
			if f.Type == FrameReject && decodeBody(f.Type, must(f.plain()), &b) == nil && b.Reason == RejectSkew {
				refused++
			}
			return true
		}
	}
	for i := 1; i < len(w.nodes); i++ {
		w.connect(w.nodes[i-1], w.nodes[i])
	}
	w.run(3000)
	for range 60 {
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		switch w.rng.IntN(8) {
		case 0, 1, 2, 3, 4:
			w.write(n, 1+w.rng.IntN(4), 12)
		case 5:
			if m := w.nodes[w.rng.IntN(len(w.nodes))]; m != n && !w.linked(n, m) {
				w.connect(n, m)
			}
		case 6:
			w.unplug(n)
		case 7:
			ahead.offset = lead.Milliseconds()
		}
		w.run(w.rng.Int64N(300))
		w.checkLead(ahead)
	}
	for _, n := range w.nodes {
		held += n.r.stats.BlocksHeld
	}
	ahead.offset = 0 // it is repaired, and writes on with its former stamps until time has caught up
	w.write(ahead, 3, 12)
	w.checkLead(ahead)
	w.now += lead.Milliseconds()
	w.heal()
	w.requireEqual()
	return held, refused
}

// checkLead looks at the clocks of all but one replica, and at what their rows hold.
func (w *world) checkLead(ahead *node) {
	limit := hlc.FromMillis(w.now+2*maxSkew.Milliseconds()) | 0xffff
	for _, n := range w.nodes {
		if n == ahead {
			continue
		}
		if last := n.r.Last(); last > limit {
			w.t.Fatalf("node %d: its clock was led to %s, the limit is %s", n.id, last, limit)
		}
		for k, row := range n.store.rows {
			if row.Max().Time > limit {
				w.t.Fatalf("node %d: %s holds %s, which is beyond %s", n.id, k, row, limit)
			}
		}
	}
}
