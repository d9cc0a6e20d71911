package sqlbridge

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// prepared is what was read ahead of rounds, while programs could go on writing: the outbox, the rows that the next capture takes
// in, and what is stored of them. It holds because every write of a program to a tracked row leaves an entry behind those that
// were read, the stored rows change in rounds alone, and a change of the schema drops it.
type prepared struct {
	schemaVersion int64
	commits       int64
	hints         []hint                      // the first entries of the outbox, as many as are held
	held          int64                       // the last of them
	behind        int                         // how many were read and are not held
	upTo          int64                       // the last entry read
	seen          int64                       // the last entry that there was when the round was prepared
	cut           int64                       // the last entry that the next capture takes in: upTo, or the end of a transaction before
	named         map[replica.RowKey]int64    // the rows of hints, with the last entry that names each
	rows          map[replica.RowKey]tableRow // as the tables held them; nil: not there
	n             map[replica.RowKey]int64
	memo          map[replica.RowKey]crdt.Row
}

// Prepare reads what programs wrote, without the write lock, so that the next round has less to do while it holds it. What they
// write meanwhile is read by the round. After an error nothing is prepared, and the round reads all.
//
// It reports whether the round will take in a part and there is more.
func (b *Bridge) Prepare(ctx context.Context, take Take) (more bool, err error) {
	b.busy, b.take = false, take
	version, err := b.pragma(ctx, "data_version")
	if err != nil {
		return false, explain(b.opt.Path, err)
	}
	switch n := len(b.ends); {
	case version == b.capturedAt:
		return false, nil
	case b.ahead == nil && n > 0 && b.ends[n-1] <= int64(min(fewEntries, b.captureRows)):
		b.ahead = newPrepared(b) // read by the round, or while it waits for its lock
		b.ahead.seen = b.ends[n-1]
		return false, nil
	}
	more, err = b.prepare(ctx, take != TakeAll)
	if b.ahead != nil {
		b.ahead.seen = b.ahead.upTo
	}
	return more, err
}

// unwritten reports, within a round, that nobody has written since the outbox was left empty.
func (b *Bridge) unwritten() bool { return b.dataVersion == b.capturedAt }

// Take is what a round may take in of what programs wrote: all, or a part, which is whole transactions of programs, so that it
// does not hold the lock for long. A round that takes in a part must change no row but by its capture: it would show rows over
// edits that nobody has taken in yet.
type Take int

// What a round may take in.
const (
	TakeAll  Take = iota
	TakePart      // a part, if Prepare reports so
	TakeLess      // the same, and a part too if there is much only by the time when the round has the lock: see Waiting
)

// prepareMore reads what programs wrote since Prepare, while the round waits for their lock: the less is left to read under it,
// and the more ends of transactions are known.
func (b *Bridge) prepareMore(ctx context.Context) {
	p := b.ahead
	if p == nil {
		return
	}
	part := p.cut < p.upTo || b.take == TakeLess
	_, _ = b.prepare(ctx, part) // what fails here the round meets again
	b.busy = b.busy || p.upTo > p.seen
}

func (b *Bridge) prepare(ctx context.Context, part bool) (more bool, err error) {
	p := b.ahead
	b.ahead = nil
	err = b.Read(ctx, func(rv replica.View) error {
		v := rv.(*view)
		version, err := b.pragma(ctx, "schema_version")
		if err != nil || version != b.schemaVersion {
			return err
		}
		if p == nil || p.schemaVersion != version || p.commits != b.commits {
			p = newPrepared(b)
		}
		err = p.readOutbox(v, part)
		if errors.Is(err, errMany) {
			return nil // the round reads them page by page
		}
		if err != nil || len(p.hints) == 0 {
			return err
		}
		b.noteEnd(p.upTo)
		p.cut = p.upTo
		if part && (len(p.hints) > b.captureRows || p.behind > 0) {
			if err := p.chooseCut(v); err != nil {
				return err
			}
		}
		if p.behind > 0 && p.cut == p.upTo {
			return nil
		}
		v.n, v.memo = p.n, p.memo
		if err := p.readRows(v); err != nil {
			return err
		}
		b.ahead = p
		return nil
	})
	return b.ahead != nil && b.ahead.cut < b.ahead.upTo, err
}

// next makes ready for the round after the one that has just been committed.
func (p *prepared) next(b *Bridge) {
	p.commits, p.cut = b.commits, p.upTo
	p.rows, p.n, p.memo = map[replica.RowKey]tableRow{}, map[replica.RowKey]int64{}, map[replica.RowKey]crdt.Row{}
}

func newPrepared(b *Bridge) *prepared {
	p := &prepared{schemaVersion: b.schemaVersion, named: map[replica.RowKey]int64{}}
	p.next(b)
	return p
}

// entries is how many were read.
func (p *prepared) entries() int { return len(p.hints) + p.behind }

// errMany says that there are more entries than are held, and that the next capture takes in all of them.
var errMany = errors.New("sqlbridge: more entries than are held in memory")

// readOutbox reads the entries that are new. Of those that find no room it notes what they say of the rows that others name; when
// there is room again, they are read again. That is of use where a part can be taken in, which ends among those that are held.
func (p *prepared) readOutbox(v *view, part bool) error {
	if p.behind > 0 && len(p.hints) <= v.b.heldEntries/2 {
		p.upTo, p.behind = p.held, 0
	}
	return v.entries(outboxTable, &p.upTo, math.MaxInt64, -1, func(h hint) error {
		k := h.row()
		_, known := p.named[k]
		if p.behind == 0 && len(p.hints) < v.b.heldEntries {
			p.hints, p.held, known = append(p.hints, h), h.seq, true
		} else if p.behind++; !part || len(v.b.ends) == 0 || v.b.ends[0] > p.held {
			return errMany
		}
		if known {
			p.named[k] = h.seq
			delete(p.rows, k) // written again
		}
		return nil
	})
}

// chooseCut finds the end of a transaction so that the next capture is of the right size. Everything is taken in at once where
// showing rows depends on other rows.
func (p *prepared) chooseCut(v *view) error {
	b := v.b
	if parked, err := v.anyParked(); err != nil || parked || b.driftDue || len(b.reshow) > 0 {
		return err
	}
	cut := p.upTo
	for i, end := range b.ends {
		if i > 0 && end > p.hints[min(b.captureRows, len(p.hints))-1].seq {
			break
		}
		cut = end
	}
	n := searchSeq(p.hints, cut+1)
	if slices.ContainsFunc(p.hints[:n], func(h hint) bool { return len(h.table.unique) > 0 }) {
		return nil
	}
	if n < len(p.hints) || p.behind > 0 && cut <= p.held {
		p.cut = cut
	}
	return nil
}

// taken are the entries that the next capture takes in.
func (p *prepared) taken() []hint {
	return p.hints[:searchSeq(p.hints, p.cut+1)]
}

// searchSeq finds the first of some entries that is not before one.
func searchSeq(hints []hint, seq int64) int {
	n, _ := slices.BinarySearchFunc(hints, seq, func(h hint, seq int64) int { return cmp.Compare(h.seq, seq) })
	return n
}

// later reports whether an entry names the row that the next capture leaves.
func (p *prepared) later(k replica.RowKey) bool { return p != nil && p.named[k] > p.cut }

func (p *prepared) readRows(v *view) error {
	byTable := map[*table][]crdt.Key{}
	taken := p.taken()
	for _, h := range taken[:min(len(taken), memoRows)] {
		k := h.row()
		if _, ok := p.rows[k]; !ok && !p.later(k) {
			p.rows[k] = nil
			byTable[h.table] = append(byTable[h.table], h.key)
		}
	}
	for t, keys := range byTable {
		for part := range slices.Chunk(keys, readKeys) {
			if err := p.readPart(v, t, part); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *prepared) readPart(v *view, t *table, keys []crdt.Key) error {
	rows, err := v.current(t, keys)
	if err != nil {
		return err
	}
	stored := make([]replica.RowKey, len(keys))
	for i, k := range keys {
		stored[i] = replica.RowKey{Table: t.name, Key: k}
		p.rows[stored[i]] = rows[k]
	}
	_, err = v.Rows(stored) // into the memo
	return err
}

// noteEnd notes an entry that was the last of the outbox at some moment: with it a transaction of a program ended.
func (b *Bridge) noteEnd(seq int64) {
	if n := len(b.ends); seq > 0 && (n == 0 || b.ends[n-1] < seq) {
		b.ends = append(b.ends, seq)
	}
}

// noteLast notes the entry that is the last of the outbox now. Where it cannot be read, a part may only be larger.
func (b *Bridge) noteLast(ctx context.Context) {
	var last int64
	if b.one(ctx, `SELECT coalesce(max(seq), 0) FROM _rowmesh_outbox`, nil, &last) == nil {
		b.noteEnd(last)
	}
}

// Waiting returns how many entries of the outbox the last round left for later, and whether programs wrote while it was
// prepared.
func (b *Bridge) Waiting() (entries int, busy bool) {
	if b.ahead == nil {
		return 0, b.busy
	}
	return b.ahead.entries(), b.busy
}

// takeAhead gives the round what was prepared for it, where it still holds.
func (r *round) takeAhead() {
	p := r.b.ahead
	if p == nil || p.schemaVersion != r.b.schemaVersion || p.commits != r.b.commits {
		r.b.ahead = nil
		return
	}
	r.ahead, r.n, r.memo = p, p.n, p.memo
}

// present reads rows of a table by key, those that were prepared from memory.
func (r *round) present(t *table, keys []crdt.Key) (map[crdt.Key]tableRow, error) {
	if r.ahead == nil {
		return r.current(t, keys)
	}
	out := make(map[crdt.Key]tableRow, len(keys))
	var rest []crdt.Key
	for _, k := range keys {
		row, ok := r.ahead.rows[replica.RowKey{Table: t.name, Key: k}]
		if !ok {
			rest = append(rest, k)
		} else if row != nil {
			out[k] = row
		}
	}
	if len(rest) == 0 {
		return out, nil
	}
	more, err := r.current(t, rest)
	for k, row := range more {
		out[k] = row
	}
	return out, err
}

// leaveRest makes ready for the next capture what this one leaves. Of a row that it leaves, because a later entry names it, the
// outbox goes on saying that it may have lived and died in between.
func (r *round) leaveRest() error {
	p := r.ahead
	taken := p.taken()
	keep := map[replica.RowKey]bool{}
	var kept []hint
	for _, h := range slices.Backward(taken) {
		k := h.row()
		switch {
		case !p.later(k):
			delete(p.named, k)
		case h.reborn() && !keep[k]:
			keep[k] = true
			kept = append(kept, h)
		}
	}
	slices.Reverse(kept)
	for _, h := range kept {
		parts := keyArgs(h.key)
		query := `INSERT INTO _rowmesh_outbox(seq, tbl, op, ms` + keyNames(len(parts)) + `) VALUES(` + marks(4+len(parts)) + `)`
		if err := r.b.exec(r.ctx, query, append([]any{h.seq, h.table.tbl, h.op, h.ms}, parts...)...); err != nil {
			return err
		}
	}
	p.hints = append(kept, p.hints[len(taken):]...)
	n, _ := slices.BinarySearch(r.b.ends, p.cut+1)
	r.b.ends = r.b.ends[n:]
	return nil
}
