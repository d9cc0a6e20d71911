package replica

import (
	"bytes"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestUnaskedChunksAreNotUnpacked: P17, P18. A chunk that belongs to no session of ours costs neither memory nor time, whatever it would
// become, also when it comes in several frames, and the link goes on.
func TestUnaskedChunksAreNotUnpacked(t *testing.T) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	large := enc.EncodeAll(bytes.Repeat([]byte("all the same "), 4<<20), nil)
	l := &link{id: 1, greeted: true}
	r := &Replica{links: []*link{l}}
	for range 20 {
		for i, part := range [][]byte{large[:100], large[100:]} {
			if err := r.Step(nil, Instant{}, 1, Frame{Type: FrameChunk, Zstd: true, More: i == 0, Body: part}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := testing.AllocsPerRun(10, func() { _ = r.Step(nil, Instant{}, 1, Frame{Type: FrameChunk, Zstd: true, Body: large}) }); n > 2 {
		t.Errorf("%v allocations", n)
	}
	if len(r.closed) > 0 || l.parts[1].begun(FrameChunk) {
		t.Errorf("the link is closed: %v, or a part is kept", r.closed)
	}
}
