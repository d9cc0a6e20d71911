package replica

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// FrameType says what a frame's body is. docs/PROTOCOL.md has the table of bodies.
type FrameType byte

// The frame types of protocol version 1.
const (
	FrameHello    FrameType = 0x01 // who I am and what I cover; first on every link, in both directions
	FrameVector   FrameType = 0x02 // reserved: coverage as a base hash and changes
	FramePull     FrameType = 0x03 // opens a session: send me what this coverage lacks
	FrameChunk    FrameType = 0x04 // rows of a session
	FrameDone     FrameType = 0x05 // ends a session and names the cut that may be claimed
	FrameHeads    FrameType = 0x06 // changed heads since the last such frame on this link, and a hash of all
	FrameAck      FrameType = 0x07 // a head of yours that is durable here
	FramePrune    FrameType = 0x08 // which origins' blocks to push on this link
	FrameSnapshot FrameType = 0x09 // reserved
	FrameAudit    FrameType = 0x0a // compare these segments, or send the rows of one
	FrameReject   FrameType = 0x0b // a refusal with a named reason
	FrameSchema   FrameType = 0x0c // the definitions behind schema references
	FrameAnnounce FrameType = 0x0d // a block too large to push: pull it
	FrameBlocks   FrameType = 0x0e // whole blocks, as their origins encoded them
	FrameCredit   FrameType = 0x0f // allows the server of a session to send more chunks
	FrameAudited  FrameType = 0x10 // what differs, of the segments of an AUDIT or the rows of a MEND
	FrameMend     FrameType = 0x11 // whole rows, to be joined

	frameTypeMask FrameType = 0x1f
	flagCritical  byte      = 0x20 // a peer that does not know the type must refuse, not skip; turned round in a frame that goes on with a body
	flagMore      byte      = 0x40 // the body goes on in the next frame of this type
	flagZstd      byte      = 0x80 // the body is one zstd frame
)

// Bulk reports whether frames of this type travel on the sync stream, so that a long catch-up never
// holds up live blocks and heads on the control stream.
func (t FrameType) Bulk() bool {
	switch t {
	case FramePull, FrameChunk, FrameDone, FrameSnapshot, FrameAudit, FrameCredit, FrameAudited, FrameMend:
		return true
	}
	return false
}

var frameNames = map[FrameType]string{
	FrameHello: "HELLO", FrameVector: "VECTOR", FramePull: "PULL", FrameChunk: "CHUNK", FrameDone: "DONE",
	FrameHeads: "HEADS", FrameAck: "ACK", FramePrune: "PRUNE", FrameSnapshot: "SNAPSHOT", FrameAudit: "AUDIT",
	FrameReject: "REJECT", FrameSchema: "SCHEMA", FrameAnnounce: "ANNOUNCE", FrameBlocks: "BLOCKS", FrameCredit: "CREDIT",
	FrameAudited: "AUDITED", FrameMend: "MEND",
}

func (t FrameType) String() string {
	if name, ok := frameNames[t]; ok {
		return name
	}
	return fmt.Sprintf("FRAME(%#02x)", byte(t))
}

// used reports whether this version reads frames of this type. Others are passed over, or end the link where they are critical.
func (t FrameType) used() bool {
	switch t {
	case FrameVector, FrameAck, FrameSnapshot:
		return false
	}
	return frameNames[t] != ""
}

// Frame is one message between two replicas: on the wire a type byte, the body's length as a uvarint,
// and the body. A frame's body is never changed after it was made, so it may be shared between links.
type Frame struct {
	Type     FrameType
	Critical bool // a receiver that does not know Type must end the link with VERSION
	Zstd     bool // the whole body is one compressed piece
	More     bool // the body goes on in the next frame of this type
	Cont     bool // the frame goes on with a body: Body is a checksum of what came before, and more of it
	Body     []byte
}

// critical reports whether frames of this type are critical. Of a type that this version does not know nobody can say: the frame does.
func (t FrameType) critical() bool { return t == FrameHello }

// ErrFrame wraps every refusal of bytes that are not a frame. The link they came from is beyond repair,
// for nobody knows where its next frame begins.
var ErrFrame = errors.New("replica: malformed frame")

// AppendFrame appends the encoded frame to dst.
func AppendFrame(dst []byte, f Frame) []byte {
	head := byte(f.Type & frameTypeMask)
	if f.Critical != f.Cont {
		head |= flagCritical
	}
	if f.Zstd {
		head |= flagZstd
	}
	if f.More {
		head |= flagMore
	}
	dst = append(dst, head)
	dst = binary.AppendUvarint(dst, uint64(len(f.Body)))
	return append(dst, f.Body...)
}

// ReadFrame reads one frame. grow is called with the body's length, which is at most MaxFrameBytes, before
// anything of that size is allocated; an error from it is returned as it is (nil: no accounting). At a
// clean end between two frames the error is io.EOF.
func ReadFrame(r *bufio.Reader, grow func(n int) error) (Frame, error) {
	head, err := r.ReadByte()
	if err != nil {
		return Frame{}, err
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return Frame{}, unexpected(err)
	}
	if size > MaxFrameBytes {
		return Frame{}, fmt.Errorf("%w: a body of %d bytes, the limit is %d", ErrFrame, size, MaxFrameBytes)
	}
	if grow != nil {
		if err := grow(int(size)); err != nil {
			return Frame{}, err
		}
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return Frame{}, unexpected(err)
	}
	f := Frame{
		Type:     FrameType(head) & frameTypeMask,
		Critical: head&flagCritical != 0,
		Zstd:     head&flagZstd != 0,
		More:     head&flagMore != 0,
		Body:     body,
	}
	if f.Type.used() {
		f.Cont = f.Critical != f.Type.critical()
		f.Critical = f.Type.critical()
	}
	return f, nil
}

// unexpected turns an end of input inside a frame into io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
