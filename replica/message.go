package replica

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// A message is one body of any size; on the wire it is one frame or several. Compression is of the whole
// message, before it is cut into frames.

var (
	zstdEncoder = must(zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithAllLitEntropyCompression(true)))
	zstdDecoder = must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxMessageBytes), zstd.WithDecodeAllCapLimit(true)))
)

// frames cuts a message into frames, compressed where that makes it smaller.
func frames(t FrameType, body []byte) []Frame {
	f := Frame{Type: t, Body: body, Critical: t == FrameHello}
	if len(body) >= compressFrom {
		if small := zstdEncoder.EncodeAll(body, make([]byte, 0, len(body)/2)); len(small) < len(body)*9/10 && len(body) <= maxInflation*len(small) {
			f.Body, f.Zstd = small, true
		}
	}
	var out []Frame
	for len(f.Body) > pieceBytes {
		part := f
		part.Body, part.More = f.Body[:pieceBytes], true
		out = append(out, part)
		f.Body = f.Body[pieceBytes:]
	}
	return append(out, f)
}

// limit returns the most bytes that a message of this type may have, after decompression.
func (t FrameType) limit() int {
	switch t {
	case FrameChunk, FrameMend:
		return MaxMessageBytes
	case FrameBlocks:
		return maxBlocksBytes
	}
	return maxControlBytes
}

// assembler puts the frames of one stream together again.
type assembler struct {
	parts map[FrameType][]byte
}

// add takes the next frame and returns the whole message, or done = false while more of it is to come.
func (a *assembler) add(f Frame) (body []byte, done bool, err error) {
	body = f.Body
	part, begun := a.parts[f.Type]
	if begun && part == nil {
		a.pass(f)
		return nil, false, nil
	}
	if begun || f.More {
		if limit := f.Type.limit(); len(part)+len(body) > limit {
			return nil, false, fmt.Errorf("%w: %s over %d bytes", ErrFrame, f.Type, limit)
		}
		if part == nil {
			part = []byte{} // a nil part is one that is passed over
		}
		body = append(part, body...)
	}
	if f.More {
		if a.parts == nil {
			a.parts = map[FrameType][]byte{}
		}
		a.parts[f.Type] = body
		return nil, false, nil
	}
	delete(a.parts, f.Type)
	f.Body = body
	body, err = f.plain()
	return body, true, err
}

// begun reports whether a message of this type is under way.
func (a *assembler) begun(t FrameType) bool {
	_, ok := a.parts[t]
	return ok
}

// pass passes over a message that begins with this frame, or that is passed over already: it is neither kept nor inflated.
func (a *assembler) pass(f Frame) {
	if !f.More {
		delete(a.parts, f.Type)
		return
	}
	if a.parts == nil {
		a.parts = map[FrameType][]byte{}
	}
	a.parts[f.Type] = nil
}

// plain returns the body of a frame that is a message of its own.
func (f Frame) plain() ([]byte, error) {
	if f.Zstd {
		return inflate(f.Type, f.Body)
	}
	if limit := f.Type.limit(); len(f.Body) > limit {
		return nil, fmt.Errorf("%w: %s over %d bytes", ErrFrame, f.Type, limit)
	}
	return f.Body, nil
}

func inflate(t FrameType, body []byte) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(body); err != nil || !h.HasFCS {
		return nil, fmt.Errorf("%w: %s: a compressed body without its size", ErrFrame, t)
	}
	if h.FrameContentSize > uint64(t.limit()) || h.FrameContentSize > uint64(maxInflation*len(body)) {
		return nil, fmt.Errorf("%w: %s: %d bytes would become %d", ErrFrame, t, len(body), h.FrameContentSize)
	}
	out, err := zstdDecoder.DecodeAll(body, make([]byte, 0, h.FrameContentSize))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFrame, t, err)
	}
	if uint64(len(out)) != h.FrameContentSize {
		return nil, fmt.Errorf("%w: %s: a compressed body of another size than it says", ErrFrame, t)
	}
	return out, nil
}
