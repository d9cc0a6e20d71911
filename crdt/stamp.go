package crdt

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rowmesh/rowmesh/hlc"
)

// Origin names one incarnation of one replica's database: 16 random bytes, new after every restore, copy
// or wipe. The zero Origin means "none".
type Origin [16]byte

// String is the id as 32 hexadecimal digits.
func (o Origin) String() string { return hex.EncodeToString(o[:]) }

// Short is the first 8 digits, for people.
func (o Origin) Short() string { return hex.EncodeToString(o[:4]) }

// IsZero reports whether o names nobody.
func (o Origin) IsZero() bool { return o == Origin{} }

// Compare orders origins by their bytes.
func (o Origin) Compare(p Origin) int { return bytes.Compare(o[:], p[:]) }

// ParseOrigin reads the 32 digits that String writes.
func ParseOrigin(s string) (Origin, error) {
	var o Origin
	if n, err := hex.Decode(o[:], []byte(s)); err != nil || n != len(o) || len(s) != 2*len(o) {
		return Origin{}, fmt.Errorf("crdt: %q is not an origin id: want 32 hexadecimal digits", s)
	}
	return o, nil
}

// Stamp names one transaction: its time and its origin. Stamps are totally ordered, by time and then by
// origin id; no two transactions share one. The zero Stamp is before every other and means "never".
type Stamp struct {
	Time   hlc.Timestamp
	Origin Origin
}

// IsZero reports whether s is the stamp of no transaction.
func (s Stamp) IsZero() bool { return s.Time == 0 }

// Compare orders stamps by time, then by origin id.
func (s Stamp) Compare(t Stamp) int {
	if c := cmp.Compare(s.Time, t.Time); c != 0 {
		return c
	}
	return s.Origin.Compare(t.Origin)
}

// Less reports whether s is before t.
func (s Stamp) Less(t Stamp) bool { return s.Compare(t) < 0 }

// String is the stamp on one line, with the origin shortened.
func (s Stamp) String() string {
	if s.IsZero() {
		return "-"
	}
	return s.Time.String() + "@" + s.Origin.Short()
}

func maxStamp(a, b Stamp) Stamp {
	if a.Less(b) {
		return b
	}
	return a
}

// Coverage says which transactions a replica holds: for each origin its head, the time of the last
// transaction in an unbroken row from the origin's first. An origin that is not listed is not covered.
type Coverage map[Origin]hlc.Timestamp

// Covers reports whether the transaction s is within the coverage. The zero stamp always is.
func (c Coverage) Covers(s Stamp) bool { return s.Time <= c[s.Origin] }

// Includes reports whether everything in d is in c too.
func (c Coverage) Includes(d Coverage) bool {
	for o, h := range d {
		if c[o] < h {
			return false
		}
	}
	return true
}

// Add raises c to include everything in d.
func (c Coverage) Add(d Coverage) {
	for o, h := range d {
		if c[o] < h {
			c[o] = h
		}
	}
}

// Clone returns a copy.
func (c Coverage) Clone() Coverage {
	if c == nil {
		return Coverage{}
	}
	return maps.Clone(c)
}

// Origins returns the covered origins in order of their ids.
func (c Coverage) Origins() []Origin {
	return slices.SortedFunc(maps.Keys(c), Origin.Compare)
}

// Max returns the greatest head.
func (c Coverage) Max() hlc.Timestamp {
	var m hlc.Timestamp
	for _, h := range c {
		m = max(m, h)
	}
	return m
}

// Hash is the first 16 bytes of the SHA-256 over the (origin, head) pairs in order of origin ids, heads as
// eight big-endian bytes. Equal coverages, and only they, have equal hashes.
func (c Coverage) Hash() [16]byte {
	buf := make([]byte, 0, 24*len(c))
	for _, o := range c.Origins() {
		if c[o] == 0 {
			continue
		}
		buf = append(buf, o[:]...)
		buf = binary.BigEndian.AppendUint64(buf, uint64(c[o]))
	}
	sum := sha256.Sum256(buf)
	return [16]byte(sum[:16])
}

// String lists the heads in order of origin ids.
func (c Coverage) String() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, o := range c.Origins() {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s:%s", o.Short(), c[o])
	}
	b.WriteByte('}')
	return b.String()
}
