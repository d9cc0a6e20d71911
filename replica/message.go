package replica

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

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
	f := Frame{Type: t, Body: body, Critical: t.critical()}
	if len(body) >= compressFrom {
		if small := zstdEncoder.EncodeAll(body, make([]byte, 0, len(body)/2)); len(small) < len(body)*9/10 && len(body) <= maxInflation*len(small) {
			f.Body, f.Zstd = small, true
		}
	}
	var out []Frame
	sum := uint32(0)
	for body = f.Body; ; body = body[pieceBytes:] {
		piece := f
		piece.Body, piece.More = body[:min(len(body), pieceBytes)], len(body) > pieceBytes
		before := sum
		if sum = crc32.Update(sum, castagnoli, piece.Body); len(out) > 0 {
			piece.Cont = true
			piece.Body = append(binary.BigEndian.AppendUint32(make([]byte, 0, sumBytes+len(piece.Body)), before), piece.Body...)
		}
		if out = append(out, piece); !piece.More {
			return out
		}
	}
}

// sumBytes is how much of a frame that goes on with a body is the checksum (CRC-32C) of all of the body that came before: by it a frame is
// known whose forerunner was lost.
const sumBytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

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

// assembler puts the frames of one stream together again. Of a message of which a piece was lost, as a queue that is full loses them, it
// forgets the rest.
type assembler struct {
	parts map[FrameType]message
}

// message is what has come of one.
type message struct {
	body []byte
	sum  uint32
}

// add takes the next frame and returns the whole message, or done = false while more of it is to come.
func (a *assembler) add(f Frame) (body []byte, done bool, err error) {
	var came message
	if f.Cont {
		if len(f.Body) < sumBytes {
			return nil, false, fmt.Errorf("%w: %s goes on with %d bytes", ErrFrame, f.Type, len(f.Body))
		}
		var begun bool
		if came, begun = a.parts[f.Type]; !begun || came.sum != binary.BigEndian.Uint32(f.Body) {
			a.drop(f.Type)
			return nil, false, nil
		}
		f.Body = f.Body[sumBytes:]
	}
	a.drop(f.Type)
	if limit := f.Type.limit(); len(came.body)+len(f.Body) > limit {
		return nil, false, fmt.Errorf("%w: %s over %d bytes", ErrFrame, f.Type, limit)
	}
	if f.More {
		if a.parts == nil {
			a.parts = map[FrameType]message{}
		}
		a.parts[f.Type] = message{append(came.body, f.Body...), crc32.Update(came.sum, castagnoli, f.Body)}
		return nil, false, nil
	}
	if f.Cont {
		f.Body = append(came.body, f.Body...)
	}
	body, err = f.plain()
	return body, true, err
}

// begun reports whether a message of this type is under way.
func (a *assembler) begun(t FrameType) bool {
	_, ok := a.parts[t]
	return ok
}

// drop forgets a message that is under way. What follows of it is passed over.
func (a *assembler) drop(t FrameType) { delete(a.parts, t) }

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
