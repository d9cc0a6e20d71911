package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/rowmesh/rowmesh"
)

// progressEvery is how often a bar is drawn anew.
const progressEvery = 200 * time.Millisecond

// showProgress draws on the terminal how far a copy has come, until it is stopped; where there is no terminal, nothing. what
// is said while nothing is copied. read may be nil, where nobody can be asked: then a wheel turns.
func showProgress(w io.Writer, what string, read func(context.Context) (rowmesh.Progress, error)) (stop func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	tick := time.NewTicker(progressEvery)
	go func() {
		defer close(gone)
		defer tick.Stop()
		drawProgress(ctx, w, what, tick.C, read)
	}()
	return func() { cancel(); <-gone }
}

// drawProgress draws at each tick, and clears the line at the end.
func drawProgress(ctx context.Context, w io.Writer, what string, ticks <-chan time.Time, read func(context.Context) (rowmesh.Progress, error)) {
	var bar *progressbar.ProgressBar
	total := int64(-1)
	for {
		select {
		case <-ctx.Done():
			if bar != nil {
				_ = bar.Clear()
			}
			return
		case <-ticks:
		}
		var p rowmesh.Progress
		if read != nil {
			var err error
			if p, err = read(ctx); err != nil {
				continue
			}
		}
		if p.Phase == "" {
			p.Phase = what
		}
		// The estimate may fall short.
		most := int64(max(p.Total, p.Done))
		if p.Total == 0 {
			most = 0
		}
		if bar == nil || (most == 0) != (total == 0) {
			bar = newBar(w, most)
		} else if most != total && most > 0 {
			bar.ChangeMax64(most)
		}
		total = most
		bar.Describe(describeProgress(p))
		if most > 0 {
			_ = bar.Set64(min(int64(p.Done), most-1)) // a full bar is one that has ended
		} else {
			_ = bar.Add(1)
		}
	}
}

// newBar makes a bar of so many rows, or where nobody knows how many, a wheel.
func newBar(w io.Writer, rows int64) *progressbar.ProgressBar {
	if rows == 0 {
		rows = -1
	}
	return progressbar.NewOptions64(rows, progressbar.OptionSetWriter(w), progressbar.OptionSpinnerType(14), progressbar.OptionSetWidth(20),
		progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionClearOnFinish())
}

// describeProgress is what stands before the bar.
func describeProgress(p rowmesh.Progress) string {
	text := []string{p.Phase}
	if p.Table != "" {
		text = append(text, "table "+p.Table)
	}
	switch {
	case p.Total > 0:
		text = append(text, fmt.Sprintf("%d of about %d rows", p.Done, p.Total))
	case p.Done > 0:
		text = append(text, fmt.Sprintf("%d rows", p.Done))
	}
	if p.Bytes > 0 {
		text = append(text, fmt.Sprintf("%.1f MB", float64(p.Bytes)/1e6))
	}
	if p.Rate >= 1 {
		text = append(text, fmt.Sprintf("%.0f rows/s", p.Rate))
	}
	if p.LeftMS > 0 {
		text = append(text, short(time.Duration(p.LeftMS)*time.Millisecond)+" left")
	}
	return strings.Join(text, ", ")
}
