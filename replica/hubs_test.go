package replica

import (
	"fmt"
	"testing"
	"time"
)

// TestHubs: L-9. A spoke's choice among three hubs as they come and go: each line is a moment, which hubs work then, and to
// how many from the first links are wanted.
func TestHubs(t *testing.T) {
	const a, b, c = 1, 2, 4
	h := NewHubs(1000, 3)
	for _, x := range []struct {
		at    time.Duration
		works int
		reach int
		inUse int
		wake  time.Duration // 0: never
	}{
		{0, 0, 1, -1, 2 * time.Second},
		{1999 * time.Millisecond, 0, 1, -1, 2 * time.Second},
		{2 * time.Second, 0, 2, -1, 4 * time.Second}, // a has had its time
		{3 * time.Second, b, 2, 1, 0},
		{60 * time.Second, b, 2, 1, 0},
		{61 * time.Second, a | b, 2, 0, 71 * time.Second}, // a is back, b is kept for a while
		{70 * time.Second, b, 2, 1, 0},                    // it did not last
		{76 * time.Second, a | b, 2, 0, 86 * time.Second},
		{85 * time.Second, a | b, 2, 0, 86 * time.Second},
		{86 * time.Second, a | b, 1, 0, 0},
		{87 * time.Second, a, 1, 0, 0},
		{90 * time.Second, 0, 1, -1, 92 * time.Second}, // the time begins with the loss, however long the last look is ago
		{91 * time.Second, a, 1, 0, 0},                 // it was a short break
		{93 * time.Second, 0, 1, -1, 95 * time.Second},
		{95 * time.Second, 0, 2, -1, 97 * time.Second},
		{97 * time.Second, 0, 3, -1, 0},
		{99 * time.Second, 0, 3, -1, 0}, // there is no more
		{100 * time.Second, c, 3, 2, 0},
		{101 * time.Second, b | c, 3, 1, 111 * time.Second},
		{110 * time.Second, a | b | c, 3, 0, 111 * time.Second},
		{111 * time.Second, a | b | c, 2, 0, 120 * time.Second},
		{120 * time.Second, a | b | c, 1, 0, 0},
	} {
		now := 1000 + x.at.Milliseconds()
		reach := h.Choose(now, func(i int) bool { return x.works>>i&1 == 1 })
		wake := 1000 + x.wake.Milliseconds()
		if got := h.Wake(); x.wake == 0 && got < never || x.wake > 0 && got != wake {
			t.Errorf("at %s: wakes at %d, want %d", x.at, got-1000, wake-1000)
		}
		if got := fmt.Sprint(reach, h.InUse()); got != fmt.Sprint(x.reach, x.inUse) {
			t.Errorf("at %s: reach and hub in use are %s, want %d %d", x.at, got, x.reach, x.inUse)
		}
	}
	if none := NewHubs(0, 0); none.Choose(5000, nil) != 0 || none.InUse() != -1 || none.Wake() < never {
		t.Error("a choice without hubs wants one")
	}
	if forever := time.Duration(NewHubs(0, 0).Wake()) * time.Millisecond; forever < 100*365*24*time.Hour {
		t.Errorf("a peer sleeps for %s until a moment that never comes", forever)
	}
}
