package replica

import (
	"fmt"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// A first copy is the session by which a replica joins a group. Until it is whole the replica is not ready: it claims,
// serves and shows nothing, takes no blocks and no local writes, and its rows are those of the copy alone. So they are
// committed as they come, with the place they have come to, and a copy of any size needs no stage and goes on after a
// restart. Where it cannot be gone on with, its rows are forgotten: they may hold parts of transactions that are
// nowhere else any more.

// copyState is what is committed beside the rows of a first copy. Stores keep it as they are given it.
type copyState struct {
	Cut   vector        `cbor:"1,keyasint"`
	After *placeBody    `cbor:"2,keyasint"`
	Seen  vector        `cbor:"3,keyasint"`
	Cap   hlc.Timestamp `cbor:"4,keyasint"`
	Ahead hlc.Timestamp `cbor:"5,keyasint"`
	Rows  uint64        `cbor:"6,keyasint,omitempty"`
	Total uint64        `cbor:"7,keyasint,omitempty"`
	Bytes uint64        `cbor:"8,keyasint,omitempty"`
	Split bool          `cbor:"9,keyasint,omitempty"`
}

// copyable reports whether a chunk of a first copy may be merged.
func (r *Replica) copyable(l *link, got *piece) bool {
	if r.checkOwn(got.seen[r.origin]); r.forked != nil {
		r.dropPull()
		return false
	}
	return r.inTime(l, got.ahead)
}

// mergeCopy merges a chunk of a first copy. The group is taken with the first of them: the next server must not be one
// of another group.
func (r *Replica) mergeCopy(v Round, l *link, p *pull, got *piece) error {
	if err := r.learn(got.schemas); err != nil {
		return err
	}
	if !p.split && !got.split() && beyond(p.after, got.after, got.rows) {
		r.rows.add(got.rows)
		r.stats.RowsMerged += uint64(len(got.rows))
	} else {
		n, err := r.rows.merge(v, got.rows, false)
		if err != nil {
			return err
		}
		r.stats.RowsMerged += uint64(n)
	}
	p.split = p.split || got.split()
	r.joinGroup(l)
	return r.putRows(v)
}

// split reports whether the last row of a piece, in order of keys, is beyond the place that was reached with it: more of it is to come.
func (p *piece) split() bool {
	pos, err := p.after.position()
	if err != nil || !pos.Stamp.IsZero() || len(p.rows) == 0 {
		return false
	}
	last := p.rows[len(p.rows)-1]
	return RowKey{last.Schema.Table, last.Key}.Compare(pos.RowKey) > 0
}

// copyState is how far a first copy has come, to be committed with its rows.
func (p *pull) copyState() []byte {
	return encodeBody(copyState{
		Cut: vectorOf(p.cut), After: p.after, Seen: vectorOf(p.seen), Cap: p.cap, Ahead: p.ahead,
		Rows: p.progress.Rows, Total: p.progress.Total, Bytes: p.progress.Bytes, Split: p.split,
	})
}

// beyond reports whether rows of the pass in order of keys are all after the place that was reached before them, each after
// the one before. Then the store has none of them, and need not be asked.
func beyond(before, after *placeBody, rows []crdt.RowDelta) bool {
	var last RowKey
	for _, place := range []*placeBody{before, after} {
		if place == nil {
			continue
		}
		pos, err := place.position()
		if err != nil || !pos.Stamp.IsZero() {
			return false
		}
		if place == before {
			last = pos.RowKey
		}
	}
	for _, d := range rows {
		k := RowKey{d.Schema.Table, d.Key}
		if k.Compare(last) <= 0 {
			return false
		}
		last = k
	}
	return true
}

// resumeCopy goes on with the first copy that the store holds a part of.
func (r *Replica) resumeCopy(state []byte) error {
	var c copyState
	if err := decMode.Unmarshal(state, &c); err != nil {
		return fmt.Errorf("the state of an unfinished first copy: %w", err)
	}
	p := r.newPull()
	var err error
	if p.cut, err = c.Cut.coverage(); err != nil {
		return err
	}
	if p.seen, err = c.Seen.coverage(); err != nil {
		return err
	}
	if c.After == nil || c.Ahead > hlc.Max {
		return fmt.Errorf("%w: the state of an unfinished first copy", ErrFrame)
	}
	if _, err := c.After.position(); err != nil {
		return err
	}
	p.after, p.cap, p.ahead, p.split = c.After, c.Cap, c.Ahead, c.Split
	p.progress = Progress{Rows: c.Rows, Total: c.Total, Bytes: c.Bytes}
	r.pull = p
	return nil
}

// joinGroup takes the server's group, and refuses the peers of another one that were met before.
func (r *Replica) joinGroup(l *link) {
	if r.group != (GroupID{}) {
		return
	}
	r.group, r.batch.Group = l.group, l.group
	for _, other := range r.links {
		if r.otherGroup(other.group) {
			r.refuse(other, rejectBody{Reason: RejectGroup}, ErrOtherGroup)
		}
	}
}

// otherGroup reports whether a group, which may be none, cannot be that of this replica.
func (r *Replica) otherGroup(g GroupID) bool {
	return g != (GroupID{}) && r.group != (GroupID{}) && g != r.group
}
