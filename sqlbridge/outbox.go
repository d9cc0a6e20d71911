package sqlbridge

import (
	"fmt"
	"math"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// hint is one entry of the outbox, or what all entries of a row come to.
type hint struct {
	seq   int64
	table *table
	key   crdt.Key
	op    string
	ms    int64
}

// reborn reports whether the row may have lived and died in between.
func (h hint) reborn() bool { return h.op == hintInsert || h.op == hintDelete || h.op == hintMove }

func (h hint) row() replica.RowKey { return replica.RowKey{Table: h.table.name, Key: h.key} }

// The tables that entries are read from.
const (
	outboxTable = "main._rowmesh_outbox"
	namedTable  = "temp._rowmesh_named" // of gathered
)

// keyNames lists the key columns of the outbox, each after a comma.
func keyNames(n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, ", k%d", i+1)
	}
	return s.String()
}

// keyWidth is the most key columns that an entry uses.
func (b *Bridge) keyWidth() int {
	width := 1
	for _, t := range b.catalog {
		width = max(width, len(t.key))
	}
	return width
}

// entries calls f for the entries of tracked rows after *last and up to another, so many at most where limit is not negative, and
// notes in *last how far it has come.
func (v *view) entries(from string, last *int64, to int64, limit int, f func(hint) error) error {
	width := v.b.keyWidth()
	rows, err := v.b.query(v.ctx, `SELECT seq, tbl, op, ms`+keyNames(width)+` FROM `+from+` WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?`, *last, to, limit)
	if err != nil {
		return err
	}
	defer rows.Close()
	keys := make([]any, width)
	var tbl int64
	var at any
	var op string
	dest := []any{last, &tbl, &op, &at}
	for i := range keys {
		dest = append(dest, &keys[i])
	}
	for rows.Next() {
		if err := v.caller.Err(); err != nil {
			return err
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		s := v.b.byTbl[tbl]
		if s == nil || v.b.catalog[s.name] == nil {
			continue // suspended or no longer tracked: a drift scan looks at it when it is again
		}
		t := v.b.catalog[s.name]
		key, err := keyOf(keys[:len(t.key)])
		if err != nil {
			v.b.keepLocal(t, from, *last) // a row with a NULL in its key
			continue
		}
		if err := f(hint{*last, t, key, op, wallMillis(at)}); err != nil {
			return err
		}
	}
	return rows.Err()
}

// keepLocal counts an entry of a row that stays local, once: entries are read again.
func (b *Bridge) keepLocal(t *table, from string, seq int64) {
	if from == outboxTable && seq > b.counted {
		b.keptLocal[t.name]++
		b.counted = seq
	}
}

// wallMillis reads the time of an entry: milliseconds since 1970, or a Julian day as defaultClock gives it.
func wallMillis(at any) int64 {
	switch at := at.(type) {
	case int64:
		return at
	case float64:
		const epoch, day = 2440587.5, 86_400_000
		return int64(math.Round((at - epoch) * day))
	}
	return 0 // now
}

// keyOf makes the key of a row from its scanned key columns.
func keyOf(cols []any) (crdt.Key, error) {
	parts := make([]crdt.Value, len(cols))
	for i, c := range cols {
		v, err := valueOf(c)
		if err != nil {
			return crdt.Key{}, err
		}
		parts[i] = v
	}
	return crdt.KeyOf(parts...)
}

// timeline cuts entries into runs: edits that were made with a pause in between keep their own times.
type timeline struct {
	runs   []run
	joined int // how many runs each of them stands for, 1 unless there were more than maxRuns
	last   int // how many the last of them stands for so far
}

// run is entries without a pause of more than groupGap between neighbours: up to seq, at ms.
type run struct{ seq, ms int64 }

// add takes in the next entry. Where there are too many runs two neighbours become one each, and so do those that follow.
func (l *timeline) add(h hint) {
	at, n := run{h.seq, h.ms}, len(l.runs)
	switch {
	case n > 0 && h.ms-l.runs[n-1].ms <= groupGap.Milliseconds():
		l.runs[n-1] = at
		return
	case n > 0 && l.last < l.joined:
		l.runs[n-1] = at
		l.last++
		return
	case n == maxRuns:
		for i := range n / 2 {
			l.runs[i] = l.runs[2*i+1]
		}
		l.runs, l.joined = l.runs[:n/2], 2*l.joined
	}
	l.runs, l.joined, l.last = append(l.runs, at), max(l.joined, 1), 1
}
