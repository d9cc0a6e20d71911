package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/trace"
)

// recorded reports whether a file was written by peer run --record.
func recorded(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, len("rowmesh-trace"))
	_, err = io.ReadFull(f, head)
	return err == nil && string(head) == "rowmesh-trace"
}

// replayRecording runs the replica of a peer again, from what was recorded of it.
func replayRecording(out io.Writer, file string, lines bool) error {
	f, err := os.Open(file)
	if err != nil {
		return simUse(err)
	}
	defer f.Close()
	sum, err := trace.Replay(f, func(round int, now replica.Instant, in []replica.Input, digest uint64) {
		if lines {
			fmt.Fprintf(out, "%7d %s %016x%s\n", round, time.UnixMilli(now.Wall).UTC().Format("2006-01-02 15:04:05.000"), digest, describeInputs(in))
		}
	})
	switch {
	case errors.As(err, new(*trace.DivergedError)):
		fmt.Fprintf(out, "FAIL rounds=%d inputs=%d %v\n", sum.Rounds, sum.Inputs, err)
		return simError{simUndetermined}
	case err != nil:
		return simUse(fmt.Errorf("%s: %w", file, err))
	}
	note := ""
	if sum.Cut {
		note = " (the peer was killed while it wrote the rest)"
	}
	if sum.Full {
		note = " (the recording reached its bound here)"
	}
	fmt.Fprintf(out, "PASS rounds=%d inputs=%d frames=%d digest=%016x%s\n", sum.Rounds, sum.Inputs, sum.Frames, sum.Digest, note)
	return nil
}

// describeInputs says what a round was given, beside its captured rows.
func describeInputs(in []replica.Input) (s string) {
	for _, i := range in {
		switch {
		case i.Up != nil:
			s += fmt.Sprintf("  link %d up to %s", i.Up.Link, i.Up.Peer)
		case i.Down != 0:
			s += fmt.Sprintf("  link %d down", i.Down)
		case i.Lag != 0:
			s += fmt.Sprintf("  link %d lags", i.Lag)
		case i.Frame != nil:
			s += fmt.Sprintf("  %s of %d B on %d", i.Frame.Type, len(i.Frame.Body), i.From)
		case i.Write != nil:
			s += "  a write"
		default:
			s += "  asked to sync"
		}
	}
	return s
}
