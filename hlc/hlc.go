package hlc

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	counterBits = 16
	// Max is the greatest timestamp a clock hands out and a peer accepts. Bit 63 stays free, so that a
	// timestamp fits a signed 64-bit column; it is the year 6429.
	Max Timestamp = 1<<63 - 1
	// maxMillis is the wall time beyond which a reading would pass Max.
	maxMillis = int64(Max >> counterBits)
)

// Timestamp is one reading: milliseconds since the Unix epoch in the upper 48 bits, a counter in the
// lower 16. The zero value is before every reading and means "none".
type Timestamp uint64

// FromMillis returns the first timestamp of a wall-clock millisecond. Times before 1970 give 0 and times
// past the last representable one give the last, so that a broken clock is never an error.
func FromMillis(ms int64) Timestamp {
	return Timestamp(min(max(ms, 0), maxMillis)) << counterBits
}

// FromTime is FromMillis for a time.Time.
func FromTime(t time.Time) Timestamp { return FromMillis(t.UnixMilli()) }

// Millis returns the wall part, in milliseconds since the Unix epoch.
func (t Timestamp) Millis() int64 { return int64(t >> counterBits) }

// Counter returns the logical part.
func (t Timestamp) Counter() uint16 { return uint16(t) }

// Time returns the wall part as a UTC time.
func (t Timestamp) Time() time.Time { return time.UnixMilli(t.Millis()).UTC() }

const textLayout = "2006-01-02T15:04:05.000Z"

// String is the text form, such as 2026-11-23T02:22:40.123Z+0001. Text forms of equal length sort as the
// timestamps do; all years from 1970 to 6429 have four digits.
func (t Timestamp) String() string {
	return t.Time().Format(textLayout) + fmt.Sprintf("+%04x", t.Counter())
}

// Parse reads the form that String writes.
func Parse(s string) (Timestamp, error) {
	wall, counter, ok := strings.Cut(s, "+")
	if !ok || len(counter) != 4 {
		return 0, fmt.Errorf("hlc: %q is not a timestamp: want the form %s+0000", s, textLayout)
	}
	at, err := time.Parse(textLayout, wall)
	if err != nil {
		return 0, fmt.Errorf("hlc: %q is not a timestamp: want the form %s+0000", s, textLayout)
	}
	n, err := strconv.ParseUint(counter, 16, 16)
	if err != nil {
		return 0, fmt.Errorf("hlc: %q is not a timestamp: the part after + is four hexadecimal digits", s)
	}
	ms := at.UnixMilli()
	if ms < 0 || ms > maxMillis {
		return 0, fmt.Errorf("hlc: %q is outside the years 1970 to 6429", s)
	}
	t := FromMillis(ms) + Timestamp(n)
	if t.String() != s { // time.Parse takes 0: for 00: and a comma for a point
		return 0, fmt.Errorf("hlc: %q is not a timestamp: the form of that moment is %s", s, t)
	}
	return t, nil
}

// Clock hands out timestamps. The zero Clock has observed nothing.
type Clock struct {
	last Timestamp // every reading given out and every timestamp observed is <= last
}

// Now returns the next reading for the wall time in milliseconds: greater than every earlier reading and
// every observed timestamp, and the wall time itself where that is greater still.
func (c *Clock) Now(wallMillis int64) Timestamp {
	c.last = max(FromMillis(wallMillis), c.last+1)
	return c.last
}

// Update observes a timestamp from elsewhere: later readings are greater. The caller checks beforehand
// that t is not absurdly far ahead; the clock believes what it is shown.
func (c *Clock) Update(t Timestamp) { c.last = max(c.last, t) }

// Last returns the greatest timestamp given out or observed.
func (c *Clock) Last() Timestamp { return c.last }
