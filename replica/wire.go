package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// Control bodies are CBOR maps with small integer keys. Unknown keys are ignored, so that later versions
// can add some; a body that is not strict CBOR ends the link. docs/PROTOCOL.md has the tables.

// Version is the protocol version this package speaks, MinVersion the oldest it still understands.
const (
	Version    = 1
	MinVersion = 1
)

type helloBody struct {
	Version    uint64 `cbor:"1,keyasint"`
	MinVersion uint64 `cbor:"2,keyasint"`
	Group      []byte `cbor:"3,keyasint,omitempty"` // 16 bytes; absent: none yet
	Origin     []byte `cbor:"4,keyasint"`
	Wall       uint64 `cbor:"5,keyasint"` // milliseconds since the Unix epoch
	Heads      packed `cbor:"6,keyasint"`
	Ready      bool   `cbor:"7,keyasint,omitempty"`
	Hub        bool   `cbor:"8,keyasint,omitempty"`
	Answer     bool   `cbor:"9,keyasint,omitempty"`  // your HELLO has come
	Audits     bool   `cbor:"10,keyasint,omitempty"` // AUDIT is answered
	Whole      bool   `cbor:"11,keyasint,omitempty"` // the base of your vector is not known here: send it whole
}

type pullBody struct {
	Session uint64        `cbor:"1,keyasint"`
	Claims  packed        `cbor:"2,keyasint"`
	CapOwn  hlc.Timestamp `cbor:"3,keyasint"` // greatest time taken of the server's own origin
	Cap     hlc.Timestamp `cbor:"4,keyasint"` // greatest time taken of any other
	Credit  uint64        `cbor:"5,keyasint"`
	Cut     *packed       `cbor:"6,keyasint,omitempty"`  // resume: the first cut of the broken session
	After   *placeBody    `cbor:"7,keyasint,omitempty"`  // resume: the place after which to go on
	Seen    *packed       `cbor:"8,keyasint,omitempty"`  // resume: what the broken session's server held last
	Copy    bool          `cbor:"9,keyasint,omitempty"`  // a first copy: visit all rows in the order of their keys first
	Holds   []byte        `cbor:"10,keyasint,omitempty"` // the hash of a vector that the server told and the client holds
	Chunk   uint64        `cbor:"11,keyasint,omitempty"` // fill chunks to so many bytes only: links have died before a larger one came
}

// placeBody is a Position on the wire. End stands for the place after everything. Without an origin (16 zero bytes) it is a
// place in the order of all rows, which a copy begins with.
type placeBody struct {
	_      struct{}      `cbor:",toarray"`
	Origin []byte        // 16 bytes
	Time   hlc.Timestamp //
	Table  string        //
	Key    []byte        // encoded key; empty: before the first row of the transaction
	End    bool          //
}

type chunkBody struct {
	Session uint64     `cbor:"1,keyasint"`
	Seq     uint64     `cbor:"2,keyasint"`
	Cut     *packed    `cbor:"3,keyasint,omitempty"` // in chunk 0: the first cut
	Schemas [][]byte   `cbor:"4,keyasint,omitempty"`
	After   *placeBody `cbor:"5,keyasint,omitempty"`
	Seen    vector     `cbor:"6,keyasint,omitempty"` // heads of the server that rose since the chunk before
	Delta   []byte     `cbor:"7,keyasint"`
	Run     uint64     `cbor:"8,keyasint"`           // the server's own number for the session
	Total   uint64     `cbor:"9,keyasint,omitempty"` // in chunk 0 of a copy: about how many rows there will be
}

type doneBody struct {
	Session uint64 `cbor:"1,keyasint"`
	Seq     uint64 `cbor:"2,keyasint"` // how many chunks came before
	Cut     packed `cbor:"3,keyasint"` // may be claimed once all chunks are merged
	Run     uint64 `cbor:"4,keyasint"`
}

type headsBody struct {
	Heads vector  `cbor:"1,keyasint,omitempty"`
	Hash  []byte  `cbor:"2,keyasint,omitempty"` // of all heads, 16 bytes
	All   *packed `cbor:"3,keyasint,omitempty"` // every head
	Want  bool    `cbor:"4,keyasint,omitempty"` // answer with all of yours
	Whole bool    `cbor:"6,keyasint,omitempty"` // and send them whole: the base of your last is not known here
	Ready bool    `cbor:"5,keyasint,omitempty"` // I hold my first copy, as my last HELLO said or should have
}

// pruneBody names origins with the sender's heads of them.
type pruneBody struct {
	Prune vector `cbor:"1,keyasint,omitempty"` // push no more of these on this link
	Graft vector `cbor:"2,keyasint,omitempty"` // push these on this link again
}

type creditBody struct {
	Session uint64 `cbor:"1,keyasint"`
	Credit  uint64 `cbor:"2,keyasint"`
}

type announceBody struct {
	Heads vector `cbor:"1,keyasint"` // pull up to here
	Rows  uint64 `cbor:"2,keyasint,omitempty"`
	Bytes uint64 `cbor:"3,keyasint,omitempty"`
}

// RejectReason says why a frame or a link was refused.
type RejectReason string

// The reasons of protocol version 1.
const (
	RejectBusy    RejectReason = "BUSY"    // not ready to serve; ask again later or elsewhere
	RejectSkew    RejectReason = "SKEW"    // holds stamps beyond the client's clock
	RejectResume  RejectReason = "RESUME"  // cannot go on with a session begun elsewhere
	RejectBase    RejectReason = "BASE"    // does not know the base of a vector
	RejectFork    RejectReason = "FORK"    // two transactions of one origin follow the same one
	RejectGroup   RejectReason = "GROUP"   // belongs to another group
	RejectVersion RejectReason = "VERSION" // speaks no common protocol version
	RejectRole    RejectReason = "ROLE"    // is no hub, and the sender talks to hubs only
	RejectSchema  RejectReason = "SCHEMA"  // one table with two different keys
	RejectFrame   RejectReason = "FRAME"   // sent bytes that are not valid
)

type rejectBody struct {
	Reason  RejectReason  `cbor:"1,keyasint"`
	Session uint64        `cbor:"2,keyasint,omitempty"` // 0: the link
	Origin  []byte        `cbor:"3,keyasint,omitempty"`
	Time    hlc.Timestamp `cbor:"4,keyasint,omitempty"`
	Text    string        `cbor:"5,keyasint,omitempty"`
}

var (
	encMode = must(cbor.EncOptions{Sort: cbor.SortCoreDeterministic, ShortestFloat: cbor.ShortestFloat16, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden}.EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		UTF8: cbor.UTF8RejectInvalid, MaxNestedLevels: 6, MaxArrayElements: 4096, MaxMapPairs: 64,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// encodeBody encodes a control body. All bodies are of our own making, so that it cannot fail.
func encodeBody(v any) []byte { return must(encMode.Marshal(v)) }

func decodeBody(t FrameType, body []byte, v any) error {
	if err := decMode.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFrame, t, err)
	}
	return nil
}

// vector is a coverage on the wire: 24 bytes an origin, its id and its head as eight big-endian bytes, in
// order of the ids.
type vector []byte

const vectorEntry = 24

func vectorOf(c crdt.Coverage) vector {
	v := make(vector, 0, vectorEntry*len(c))
	for _, o := range c.Origins() {
		v = append(v, o[:]...)
		v = binary.BigEndian.AppendUint64(v, uint64(c[o]))
	}
	return v
}

func (v vector) coverage() (crdt.Coverage, error) {
	if len(v)%vectorEntry != 0 {
		return nil, fmt.Errorf("%w: a vector of %d bytes", ErrFrame, len(v))
	}
	c := make(crdt.Coverage, len(v)/vectorEntry)
	var last crdt.Origin
	for ; len(v) > 0; v = v[vectorEntry:] {
		o := crdt.Origin(v[:16])
		h := hlc.Timestamp(binary.BigEndian.Uint64(v[16:]))
		if o.Compare(last) <= 0 || h == 0 || h > hlc.Max {
			return nil, fmt.Errorf("%w: a vector out of order or range", ErrFrame)
		}
		c[o], last = h, o
	}
	return c, nil
}

func id16(b []byte) ([16]byte, error) {
	if len(b) != 16 {
		return [16]byte{}, fmt.Errorf("%w: an id of %d bytes", ErrFrame, len(b))
	}
	return [16]byte(b), nil
}

func placeOf(p Position) *placeBody {
	return &placeBody{Origin: p.Stamp.Origin[:], Time: p.Stamp.Time, Table: p.Table, Key: []byte(p.Key.Encoded())}
}

// same reports whether two places are one; nil is none.
func (p *placeBody) same(q *placeBody) bool {
	return q != nil && bytes.Equal(p.Origin, q.Origin) && p.Time == q.Time && p.Table == q.Table && bytes.Equal(p.Key, q.Key) && p.End == q.End
}

func (p *placeBody) position() (Position, error) {
	o, err := id16(p.Origin)
	if err != nil {
		return Position{}, err
	}
	pos := Position{Stamp: crdt.Stamp{Time: p.Time, Origin: o}}
	if len(p.Key) == 0 {
		return pos, nil
	}
	if pos.Key, err = crdt.ParseKey(string(p.Key)); err != nil {
		return Position{}, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	pos.Table = p.Table
	return pos, nil
}

// BLOCKS and SCHEMA bodies are lists of items, each after its length as a uvarint.

func appendItem(dst, item []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(item))), item...)
}

var errItems = errors.New("a list of items that ends early")

// nextItem splits the first item off a list.
func nextItem(list []byte) (item, rest []byte, err error) {
	n, size := binary.Uvarint(list)
	if size <= 0 || n > uint64(len(list)-size) {
		return nil, nil, fmt.Errorf("%w: %w", ErrFrame, errItems)
	}
	return list[size : size+int(n)], list[size+int(n):], nil
}
