package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rowmesh/rowmesh"
)

// TestProgress: L-5. The bar follows what the peer says: a wheel until anybody knows how much there is, then a bar, which is not
// full before the end though the estimate was short. The line is clear at the end.
func TestProgress(t *testing.T) {
	steps := []struct {
		p    rowmesh.Progress
		want string
	}{
		{rowmesh.Progress{}, "syncing"},
		{rowmesh.Progress{Phase: "connecting"}, "connecting"},
		{rowmesh.Progress{Phase: "first copy", Table: "t", Done: 10, Bytes: 2_500_000}, "first copy, table t, 10 rows, 2.5 MB"},
		{rowmesh.Progress{Phase: "first copy", Table: "t", Done: 250, Total: 1000, Rate: 50, LeftMS: 15_000}, "250 of about 1000 rows, 50 rows/s, 15 s left  25%"},
		{rowmesh.Progress{Phase: "first copy", Table: "u", Done: 1200, Total: 1000}, "1200 of about 1000 rows  99%"},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	ticks, drawn, gone := make(chan time.Time), make(chan rowmesh.Progress), make(chan struct{})
	go func() {
		defer close(gone)
		drawProgress(ctx, &out, "syncing", ticks, func(ctx context.Context) (rowmesh.Progress, error) {
			select {
			case p := <-drawn:
				return p, nil
			case <-ctx.Done():
				return rowmesh.Progress{}, ctx.Err()
			}
		})
	}()
	for _, s := range steps {
		ticks <- time.Now()
		drawn <- s.p
	}
	ticks <- time.Now() // the last is drawn
	cancel()
	<-gone
	text := out.String()
	for _, s := range steps {
		_, rest, found := strings.Cut(text, s.want)
		if !found {
			t.Fatalf("%q is not shown, or not in its turn:\n%q", s.want, out.String())
		}
		text = rest
	}
	if last := text[strings.LastIndex(strings.TrimRight(text, "\r"), "\r")+1:]; strings.TrimSpace(last) != "" {
		t.Errorf("%q stays on the line", last)
	}
}
