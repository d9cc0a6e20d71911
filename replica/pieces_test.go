package replica

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestPiecesThatAreLost: of messages in several frames, of which a queue that was full lost some, those that are whole come as they
// were, and of the others nothing. That their frames come twice or in another order, which no stream does, changes nothing.
func TestPiecesThatAreLost(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, kind := range []FrameType{FrameHello, FrameChunk, FrameAudited} {
		for range 300 {
			var sent [][]byte
			var stream []Frame
			for n := range 4 {
				size := rnd.IntN(3 * pieceBytes)
				body := bytes.Repeat([]byte{byte(n)}, size) // compressed
				if rnd.IntN(2) == 0 {
					for i := range body {
						body[i] = byte(rnd.Uint32())
					}
				}
				sent = append(sent, body)
				stream = append(stream, frames(kind, body)...)
			}
			whole := rnd.IntN(4) == 0
			if !whole {
				for range 1 + rnd.IntN(3) {
					i, j := rnd.IntN(len(stream)), rnd.IntN(len(stream))
					switch rnd.IntN(3) {
					case 0:
						if len(stream) > 1 {
							stream = append(stream[:i:i], stream[i+1:]...)
						}
					case 1:
						stream = append(stream[:i:i], append([]Frame{stream[i]}, stream[i:]...)...)
					default:
						stream[i], stream[j] = stream[j], stream[i]
					}
				}
			}
			var a assembler
			got := 0
			for _, f := range stream {
				f, err := ReadFrame(bufio.NewReader(bytes.NewReader(AppendFrame(nil, f))), nil)
				if err != nil {
					t.Fatal(err)
				}
				body, done, err := a.add(f)
				if err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				if !done {
					continue
				}
				got++
				known := false
				for _, s := range sent {
					known = known || bytes.Equal(body, s)
				}
				if !known {
					t.Fatalf("%s: a message of %d bytes came that nobody sent", kind, len(body))
				}
			}
			if whole && got != len(sent) {
				t.Fatalf("%s: %d of %d messages came", kind, got, len(sent))
			}
		}
	}
}
