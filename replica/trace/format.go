package trace

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// header begins every trace.
const header = "rowmesh-trace 1\n"

// kind says what a record holds.
type kind uint8

const (
	kindLoad    kind = 1 + iota // a core is made: configRec
	kindRound                   // inputs are handed in: roundRec
	kindBegin                   // the store began a round
	kindCapture                 // what it captured: drainRec
	kindState                   // a view's Load: stateRec
	kindRows                    // a view's Rows: []rowRec
	kindChanged                 // one call of yield by a view's Changed: changedRec; then kindEnd
	kindScan                    // one call of yield by a view's Scan: []rowStateRec; then kindEnd
	kindEnd                     // Changed, Scan or Read is over
	kindRead                    // the store began a read
	kindCommit                  // the store committed
	kindDone                    // the round is over: outRec
	kindFull                    // the trace is as large as it may be
	kindPut                     // the store took rows ahead of a commit
	kindCount                   // a view's Count: uint64
)

// record is one entry. Asked is a hash of what the core asked for or handed out, which must be the same again.
type record struct {
	_     struct{} `cbor:",toarray"`
	Kind  kind
	Asked uint64
	Err   string // that the store returned
	Data  cbor.RawMessage

	keys []string // in memory, of masked rows: whose they are
}

var table = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends a record in its frame.
func appendRecord(dst []byte, r record) ([]byte, error) {
	if r.Data == nil {
		r.Data = cbor.RawMessage{0xf6}
	}
	body, err := cbor.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("trace: encode: %w", err)
	}
	dst = binary.AppendUvarint(dst, uint64(len(body)))
	dst = binary.BigEndian.AppendUint32(dst, crc32.Checksum(body, table))
	return append(dst, body...), nil
}

// DamageError says where a trace cannot be read. What comes before is whole.
type DamageError struct {
	Offset int64 // of the damaged record
	Err    error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("trace: damaged at byte %d: %v", e.Offset, e.Err)
}

func (e *DamageError) Unwrap() error { return e.Err }

// errCut says that a trace ends in the middle of a record, as that of a peer that was killed does.
var errCut = errors.New("it ends in the middle of a record")

// reader reads records.
type reader struct {
	in     *bufio.Reader
	offset int64 // of the next record
}

func newReader(in io.Reader) (*reader, error) {
	r := &reader{in: bufio.NewReader(in)}
	head := make([]byte, len(header))
	if _, err := io.ReadFull(r.in, head); err != nil || string(head) != header {
		return nil, &DamageError{0, errors.New("it does not begin with rowmesh-trace 1, so it is no trace of this version")}
	}
	r.offset = int64(len(header))
	return r, nil
}

// next returns the next record, io.EOF after the last.
func (r *reader) next() (rec record, err error) {
	damage := func(err error) (record, error) { return record{}, &DamageError{r.offset, err} }
	size, n, err := r.uvarint()
	switch {
	case err == io.EOF && n == 0:
		return record{}, io.EOF
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return damage(errCut)
	case err != nil:
		return damage(err)
	case size > maxRecord:
		return damage(fmt.Errorf("a record of %d bytes, %d are possible", size, maxRecord))
	}
	var sum [4]byte
	if _, err := io.ReadFull(r.in, sum[:]); err != nil {
		return damage(errCut)
	}
	var body bytes.Buffer
	body.Grow(int(min(size, firstRead)))
	if _, err := io.CopyN(&body, r.in, int64(size)); err != nil {
		return damage(errCut)
	}
	if crc32.Checksum(body.Bytes(), table) != binary.BigEndian.Uint32(sum[:]) {
		return damage(errors.New("the checksum does not fit"))
	}
	if err := decode(body.Bytes(), &rec); err != nil {
		return damage(err)
	}
	r.offset += int64(n+4) + int64(size)
	return rec, nil
}

// uvarint reads a length, and says how many bytes it took.
func (r *reader) uvarint() (v uint64, n int, err error) {
	for shift := 0; ; shift += 7 {
		b, err := r.in.ReadByte()
		if err != nil {
			return 0, n, err
		}
		n++
		if shift > 28 {
			return 0, n, errors.New("a length that is too long")
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, n, nil
		}
	}
}

var mode = func() cbor.DecMode {
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, MaxNestedLevels: 16}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func decode(b []byte, to any) error { return mode.Unmarshal(b, to) }
