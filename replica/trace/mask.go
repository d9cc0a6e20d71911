package trace

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"math/rand/v2"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// mask puts other keys and values in the place of those that a replica is given, so that a recording can be given away. Each is replaced
// by another of the same kind whose encoding has the same length, by a permutation that depends on a secret key: equal
// ones stay equal, different ones different, and everything fits into a message or a chunk as it did. What comes out of the replica
// is then that of a second core, which is given the masked inputs while the recording is made.
//
// A nil mask changes nothing.
type mask struct {
	key     [32]byte
	rewrite replica.Rewriter
	err     error // the first value that cannot be masked

	second player
	queue  []record // for the second core
	out    []record // as the second core met them
}

func newMask(key [32]byte) *mask {
	m := &mask{key: key}
	m.rewrite.Rewrite = crdt.Rewrite{Key: m.rowKey, Value: m.value}
	m.second = player{out: newDigest(), place: func() int64 { return 0 }, keep: func(r record) { m.out = append(m.out, r) }, next: func() (r record, err error) {
		if len(m.queue) == 0 {
			return r, io.EOF
		}
		r, m.queue = m.queue[0], m.queue[1:]
		return r, nil
	}}
	m.second.rows = m.rows
	return m
}

// rerun gives a masked round to the second core, and returns the records with what that core asks for and hands out.
func (m *mask) rerun(round []record) ([]record, error) {
	if m == nil {
		return round, nil
	}
	m.queue, m.out = round, nil
	if m.err == nil {
		m.err = m.second.run()
	}
	if m.err != nil {
		return nil, fmt.Errorf("it cannot be masked any further: %w", m.err)
	}
	return m.out, nil
}

// asks notes for the last record of a round, which holds rows, whose they are.
func (m *mask) asks(round []record, keys []replica.RowKey) {
	if m == nil || len(round) == 0 {
		return
	}
	for _, k := range keys {
		masked, err := m.rowKey(k.Key)
		m.note(err)
		last := &round[len(round)-1]
		last.keys = append(last.keys, k.Table+"\x00"+masked.Encoded())
	}
}

// rows answers the second core, which may ask for rows that the first did not: masked keys have another order, by which a first copy
// sees that rows cannot be there yet. Those that the first did not ask for are not there.
func (m *mask) rows(keys []replica.RowKey) (recs []rowRec, err error) {
	known := map[string]rowRec{}
	if len(m.queue) > 0 && m.queue[0].Kind == kindRows {
		rec := m.queue[0]
		m.queue = m.queue[1:]
		if rec.Err != "" {
			err = fmt.Errorf("%w: %s", errAsAgain, rec.Err)
		} else if err = decode(rec.Data, &recs); err == nil && len(recs) == len(rec.keys) {
			for i, k := range rec.keys {
				known[k] = recs[i]
			}
		}
	}
	recs = make([]rowRec, len(keys))
	for i, k := range keys {
		recs[i] = known[k.Table+"\x00"+k.Key.Encoded()]
	}
	out := record{Kind: kindRows, Asked: askedRows(keys)}
	if err != nil {
		out.Err = "masked"
	} else if out.Data, err = cbor.Marshal(recs); err != nil {
		return nil, err
	}
	m.out = append(m.out, out)
	return recs, err
}

// text is an error of the store, which may quote a value.
func (m *mask) text(err error) string {
	if m == nil {
		return err.Error()
	}
	return "masked"
}

// inputs masks the frames among inputs.
func (m *mask) inputs(in []replica.Input) (out []replica.Input) {
	if m == nil {
		return in
	}
	for _, i := range in {
		m.rewrite.Down(i.Down)
		if i.Audit != nil {
			m.note(replica.ErrAudit)
		}
		if i.Frame == nil {
			out = append(out, i)
			continue
		}
		frames, err := m.rewrite.Frames(i.From, *i.Frame)
		m.note(err)
		for _, f := range frames {
			out = append(out, replica.Input{From: i.From, Frame: &f})
		}
	}
	return out
}

func (m *mask) note(err error) {
	if m.err == nil {
		m.err = err
	}
}

// data masks the keys and values of what is about to be recorded, in place.
func (m *mask) data(v any) {
	if m == nil {
		return
	}
	var err error
	switch v := v.(type) {
	case roundRec:
		for _, i := range v.Inputs {
			if i.Drain != nil {
				m.data(i.Drain)
			}
		}
	case *drainRec:
		for _, g := range v.Groups {
			for i := range g.Ops {
				m.keyBytes(&g.Ops[i].Key)
				for j := range g.Ops[i].Sets {
					m.valueBytes(&g.Ops[i].Sets[j].Value)
				}
			}
		}
	case []rowRec:
		for i := range v {
			m.cells(v[i].Cells)
		}
	case changedRec:
		m.data(v.Rows)
	case []rowStateRec:
		for i := range v {
			m.keyBytes(&v[i].Key)
			m.cells(v[i].Row.Cells)
		}
	case *stateRec:
		v.Copy, err = m.rewrite.Copy(v.Copy)
		m.note(err)
	case configRec, outRec, uint64:
	default:
		m.note(fmt.Errorf("a %T", v))
	}
}

func (m *mask) cells(cells []cellRec) {
	for i := range cells {
		m.valueBytes(&cells[i].Value)
	}
}

func (m *mask) keyBytes(b *[]byte) {
	k, err := crdt.ParseKey(string(*b))
	if err == nil {
		k, err = m.rowKey(k)
	}
	m.note(err)
	*b = []byte(k.Encoded())
}

func (m *mask) valueBytes(b *[]byte) {
	v, err := crdt.ParseValue(string(*b))
	if err == nil {
		v, err = m.value(v)
	}
	m.note(err)
	*b = []byte(v.Encoded())
}

func (m *mask) rowKey(k crdt.Key) (crdt.Key, error) {
	parts := k.Values()
	for i, p := range parts {
		var err error
		if parts[i], err = m.value(p); err != nil {
			return crdt.Key{}, err
		}
	}
	return crdt.KeyOf(parts...)
}

var errRef = errors.New("a row has a reference, which this version does not read")

// value masks a value. The same value has the same mask wherever it stands, in a key or not.
func (m *mask) value(v crdt.Value) (crdt.Value, error) {
	switch v.Kind() {
	case crdt.KindInteger:
		return crdt.Integer(m.integer(v.Integer())), nil
	case crdt.KindReal:
		return m.real(v), nil
	case crdt.KindText:
		return crdt.Text(m.text8(v.Bytes())), nil
	case crdt.KindBlob:
		return crdt.Blob([]byte(m.bytes(v.Bytes()))), nil
	case crdt.KindRawText:
		s := m.bytes(v.Bytes())
		for utf8.ValidString(s) {
			s = m.bytes(s)
		}
		return crdt.Text(s), nil
	case crdt.KindRef:
		return v, errRef
	}
	return v, nil
}

// integer permutes the numbers, positive and negative, whose encodings are as long.
func (m *mask) integer(i int64) int64 {
	n := uint64(max(i, ^i)) // as it is encoded
	low, high := uint64(0), uint64(24)
	for _, next := range []uint64{1 << 8, 1 << 16, 1 << 32, 1 << 63} {
		if n >= high {
			low, high = high, next
		}
	}
	x := (n - low) << 1
	if i < 0 {
		x++
	}
	x = m.number(x, 2*(high-low)-1)
	n = x>>1 + low
	if x&1 == 1 {
		return ^int64(n)
	}
	return int64(n)
}

// real permutes the numbers whose encodings are as long, and that are whole numbers too or are none either: in a key these differ.
func (m *mask) real(v crdt.Value) crdt.Value {
	whole := func(v crdt.Value) bool {
		f := v.Real()
		return f == math.Trunc(f) && f >= -1<<63 && f < 1<<63
	}
	enc := []byte(v.Encoded())
	x := uint64(0)
	for _, b := range enc[1:] {
		x = x<<8 | uint64(b)
	}
	most := uint64(math.MaxUint64) >> (72 - 8*len(enc))
	for {
		x = m.number(x, most)
		for i := range enc[1:] {
			enc[len(enc)-1-i] = byte(x >> (8 * i))
		}
		if out, err := crdt.ParseValue(string(enc)); err == nil && whole(out) == whole(v) {
			return out
		}
	}
}

// text8 permutes the texts whose characters have as many bytes each.
func (m *mask) text8(s string) string {
	digits := make([]uint32, 0, len(s))
	sizes := make([]uint32, 0, len(s))
	for _, c := range s {
		d, size := digit(uint32(c))
		digits, sizes = append(digits, d), append(sizes, size)
	}
	m.permute(digits, sizes)
	out := make([]byte, 0, len(s))
	for i, d := range digits {
		out = utf8.AppendRune(out, character(d, sizes[i]))
	}
	return string(out)
}

// How many characters have one, two, three and four bytes in UTF-8; those that only UTF-16 has are none.
const (
	surrogates = 0xe000 - 0xd800
	ones       = 0x80
	twos       = 0x800 - 0x80
	threes     = 0x10000 - 0x800 - surrogates
	fours      = 0x110000 - 0x10000
)

// digit numbers a character among those of its length, and says how many there are.
func digit(c uint32) (d, size uint32) {
	switch {
	case c < 0x80:
		return c, ones
	case c < 0x800:
		return c - 0x80, twos
	case c < 0xd800:
		return c - 0x800, threes
	case c < 0x10000:
		return c - 0x800 - surrogates, threes
	}
	return c - 0x10000, fours
}

// character is the reverse of digit.
func character(d, size uint32) rune {
	switch {
	case size == ones:
		return rune(d)
	case size == twos:
		return rune(d + 0x80)
	case size == threes && d+0x800 < 0xd800:
		return rune(d + 0x800)
	case size == threes:
		return rune(d + 0x800 + surrogates)
	}
	return rune(d + 0x10000)
}

// bytes permutes the strings of as many bytes.
func (m *mask) bytes(s string) string {
	digits := make([]uint32, len(s))
	sizes := make([]uint32, len(s))
	for i := range len(s) {
		digits[i], sizes[i] = uint32(s[i]), 256
	}
	m.permute(digits, sizes)
	out := make([]byte, len(s))
	for i, d := range digits {
		out[i] = byte(d)
	}
	return string(out)
}

// maskRounds is how often the two halves of a Feistel network are mixed. Four make it as good as a random permutation where halves are
// long (Luby and Rackoff 1988); ours may be of a few bits.
const maskRounds = 8

// permute exchanges a row of digits, digit i of sizes[i], for another. The halves are mixed in turn, which can be undone, so that no
// two rows become one.
func (m *mask) permute(digits, sizes []uint32) {
	n := len(digits)
	if n < 2 {
		for i, d := range digits {
			digits[i] = uint32(m.number(uint64(d), uint64(sizes[i])-1))
		}
		return
	}
	buf := make([]byte, 0, 4*n)
	for round := range maskRounds {
		to, from := [2]int{0, n / 2}, [2]int{n / 2, n}
		if round%2 == 1 {
			to, from = from, to
		}
		buf = buf[:0]
		for _, d := range digits[from[0]:from[1]] {
			buf = binary.BigEndian.AppendUint32(buf, d)
		}
		stream := rand.NewChaCha8(m.hash(round, uint64(n), buf))
		for i := to[0]; i < to[1]; i++ {
			digits[i] = uint32((uint64(digits[i]) + stream.Uint64()>>1) % uint64(sizes[i]))
		}
	}
}

// number exchanges a number up to most for another: it is permuted among those of as many bits, until it is one of them.
func (m *mask) number(x, most uint64) uint64 {
	half := (bits.Len64(most) + 1) / 2
	low := uint64(1)<<half - 1
	var buf [8]byte
	for first := true; first || x > most; first = false {
		a, b := x>>half, x&low
		for round := range maskRounds {
			binary.BigEndian.PutUint64(buf[:], b)
			h := m.hash(round, most, buf[:])
			a, b = b, a^binary.BigEndian.Uint64(h[:])&low
		}
		x = a<<half | b
	}
	return x
}

// hash is the function by which a half is mixed: keyed, and different for each round and for each number of values there are.
func (m *mask) hash(round int, of uint64, half []byte) [sha256.Size]byte {
	buf := make([]byte, 0, len(m.key)+9+len(half))
	buf = append(buf, m.key[:]...)
	buf = append(buf, byte(round))
	buf = binary.BigEndian.AppendUint64(buf, of)
	return sha256.Sum256(append(buf, half...))
}
