package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestUnaskedFramesAreNotUnpacked: P17, P18. A chunk that belongs to no session of ours, and a frame that this version does not read, cost
// neither memory nor time, whatever they would become, also when they come in several frames, and the link goes on.
func TestUnaskedFramesAreNotUnpacked(t *testing.T) {
	for _, kind := range []FrameType{FrameChunk, FrameVector, FrameAck, FrameSnapshot, 0x1f} {
		t.Run(kind.String(), func(t *testing.T) { unasked(t, kind) })
	}
}

func unasked(t *testing.T, kind FrameType) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	large := enc.EncodeAll(bytes.Repeat([]byte("all the same "), 4<<20), nil)
	l := &link{id: 1, greeted: true}
	r := &Replica{links: []*link{l}}
	for range 20 {
		for i, part := range [][]byte{large[:100], large[100:]} {
			if i == 1 {
				part = append(binary.BigEndian.AppendUint32(nil, crc32.Checksum(large[:100], castagnoli)), part...)
			}
			if err := r.Step(nil, Instant{}, 1, Frame{Type: kind, Zstd: true, More: i == 0, Cont: i == 1, Body: part}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := testing.AllocsPerRun(10, func() { _ = r.Step(nil, Instant{}, 1, Frame{Type: kind, Zstd: true, Body: large}) }); n > 2 {
		t.Errorf("%v allocations", n)
	}
	if len(r.closed) > 0 || l.parts[0].begun(kind) || l.parts[1].begun(kind) {
		t.Errorf("the link is closed: %v, or a part is kept", r.closed)
	}
	err = r.Step(nil, Instant{}, 1, Frame{Type: kind, Zstd: true, Critical: true, More: true, Body: large[:100]})
	if refused := errors.Is(errors.Join(reasons(r)...), ErrVersion); err != nil || refused == kind.used() {
		t.Errorf("a critical one: %v, closed is %v", err, r.closed)
	}
}

func reasons(r *Replica) (all []error) {
	for _, c := range r.closed {
		all = append(all, c.Reason)
	}
	return all
}
