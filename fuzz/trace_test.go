package fuzz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"github.com/rowmesh/rowmesh/replica/trace"
	"github.com/rowmesh/rowmesh/sim"
)

// FuzzTrace: P17. A recording from outside is replayed, or refused with its place or its difference, and nothing else happens.
func FuzzTrace(f *testing.F) {
	var tapes []*bytes.Buffer
	sim.Run(sim.Plan(sim.Config{Seed: 1, Steps: 20, Replicas: 2}), sim.Options{Traces: func(int) io.Writer {
		tapes = append(tapes, &bytes.Buffer{})
		return tapes[len(tapes)-1]
	}})
	for _, t := range tapes {
		f.Add(t.Bytes()[:min(t.Len(), 4000)])
	}
	f.Add([]byte("rowmesh-trace 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, sealed(b)} {
			_, err := trace.Replay(bytes.NewReader(b), nil)
			if err != nil && !errors.As(err, new(*trace.DamageError)) && !errors.As(err, new(*trace.DivergedError)) {
				t.Errorf("an error of another kind: %v", err)
			}
		}
	})
}

// sealed gives each record of a recording the checksum that it ought to have.
func sealed(b []byte) []byte {
	const header = len("rowmesh-trace 1\n")
	b = bytes.Clone(b)
	for at := header; at < len(b); {
		size, n := binary.Uvarint(b[at:])
		body := at + n + 4
		if n <= 0 || size > uint64(len(b)) || body+int(size) > len(b) {
			break
		}
		binary.BigEndian.PutUint32(b[at+n:], crc32.Checksum(b[body:body+int(size)], crc32.MakeTable(crc32.Castagnoli)))
		at = body + int(size)
	}
	return b
}
