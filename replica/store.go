package replica

import (
	"context"

	"github.com/rowmesh/rowmesh/crdt"
)

// RowKey names one row of one table.
type RowKey struct {
	Table string
	Key   crdt.Key
}

// Compare orders row keys by table, then by encoded key. The order is the same on every replica.
func (k RowKey) Compare(l RowKey) int {
	switch {
	case k.Table < l.Table:
		return -1
	case k.Table > l.Table:
		return 1
	}
	return k.Key.Compare(l.Key)
}

// String is the key for people.
func (k RowKey) String() string { return k.Table + " " + k.Key.String() }

// GroupID names a group of replicas that share their data. The zero GroupID means that the replica has
// neither founded nor joined one.
type GroupID [16]byte

// State is what a replica remembers beside its rows.
type State struct {
	Origin   crdt.Origin // under which this replica writes; zero: none was chosen yet
	Group    GroupID
	Ready    bool           // the replica has founded its group or holds its first copy
	Coverage crdt.Coverage  // claimed: for every transaction in it, the rows hold its writes or newer ones
	Schemas  []*crdt.Schema // every schema ever learnt, in the order they were learnt
	Copy     []byte         // the state of an unfinished first copy, as a batch gave it; empty: there is none
}

// Apply takes in what a batch says beside its rows.
func (s *State) Apply(b Batch) {
	if !b.Origin.IsZero() {
		s.Origin = b.Origin
	}
	if b.Group != (GroupID{}) {
		s.Group = b.Group
	}
	s.Ready = s.Ready || b.Ready
	s.Schemas = append(s.Schemas, b.Schemas...)
	for o, h := range b.Heads {
		if s.Coverage[o] = h; h == 0 {
			delete(s.Coverage, o)
		}
	}
	if b.Copy != nil {
		s.Copy = b.Copy
	}
}

// RowState is a row with its key.
type RowState struct {
	RowKey
	Row crdt.Row
}

// Position is a place in the order in which a session visits rows: by transaction (origin id, then time)
// and within one by row key. The zero Position is before the first; a Position with a zero Key is before
// the first row of its transaction. One with a key and a zero Stamp is a place among all rows, in the order of their keys.
type Position struct {
	Stamp crdt.Stamp
	RowKey
}

// View reads one consistent, committed state of a store. A View is used by one goroutine at a time. Every
// error is one of the store's own: the replica that meets one is thrown away and loaded again.
type View interface {
	// Load reads the replica's state. The caller owns it.
	Load() (State, error)

	// Rows reads rows by key, the zero Row for each that nobody wrote. The caller owns the slice.
	Rows(keys []RowKey) ([]crdt.Row, error)

	// Changed calls yield for the rows written by each transaction that is in `in` but not in notIn, in
	// the order of Position and beginning after `after`, until yield returns false. A transaction that was
	// overwritten altogether is passed over. rows all belong to the transaction at, still name it, are in
	// order of their keys, and may be spread over several calls; they are valid until yield returns.
	Changed(in, notIn crdt.Coverage, after Position, yield func(at crdt.Stamp, rows []RowState) bool) error

	// Scan calls yield for every row of a table, alive or not, whose key is after the given one, in the order of the keys,
	// until yield returns false. The zero Key is before all others. rows is not empty, and valid until yield returns.
	Scan(table string, after crdt.Key, yield func(rows []RowState) bool) error

	// Tolerant returns a view of the same state that passes over rows that are damaged beyond reading, as if nobody had
	// written them, where others fail with an error. An audit brings such rows back.
	Tolerant() View

	// Count returns about how many rows there are in all tables, alive or not.
	Count() (uint64, error)
}

// RowChange is a row that a batch writes.
type RowChange struct {
	Schema   *crdt.Schema // the newest known schema of the table; it has all columns of New
	Key      crdt.Key
	Old, New crdt.Row // committed state and new state; Old is zero where nobody had written the row
	Anew     bool     // Old, or what the index or the table has of it, may be damaged: the row is stored, indexed and shown as if it were new
	Local    bool     // all of the change came from this round's Capture, so the table shows it already
}

// Batch is what one Ready asks to be made durable, as one unit. Slices and maps belong to the replica and
// are valid until the next input.
type Batch struct {
	Origin  crdt.Origin    // the replica's own origin, where it changed; else zero
	Group   GroupID        // the group, where it changed; else zero
	Ready   bool           // the replica has become ready
	Schemas []*crdt.Schema // newly learnt
	Rows    []RowChange    // each row once
	Heads   crdt.Coverage  // the heads that changed; 0: the origin is no longer claimed
	Copy    []byte         // the state of the unfinished first copy, where it changed; empty and not nil: it is over
	Restart bool           // before anything else: forget all rows, those that this round put too, and the index of transactions
	Put     bool           // more rows were put ahead, which Rows does not have
}

// IsZero reports whether there is nothing to commit.
func (b Batch) IsZero() bool {
	return b.Origin.IsZero() && b.Group == GroupID{} && !b.Ready && len(b.Schemas) == 0 && len(b.Rows) == 0 && len(b.Heads) == 0 &&
		b.Copy == nil && !b.Restart && !b.Put
}

// Drain is what a store found written by others since the last round: local transactions that the replica
// has not seen yet. A drain is one atomic unit: its groups become a chain of blocks in one step.
type Drain struct {
	Schemas []*crdt.Schema // of every table that the groups write, as the store sees it now
	Groups  []Group
}

// Group is a run of local operations that share one stamp.
type Group struct {
	WallMillis int64 // when they were made, by the clock of this machine; 0: now
	Ops        []crdt.Op

	// Parts, where it is not nil, yields the operations in place of Ops: they may be more than memory should hold. No two of a
	// drain are of one row, for the store may be handed a part before the next is asked for. It is called once, after those
	// of the groups before and before the round ends.
	Parts func(yield func(part []crdt.Op) error) error
}

// Each calls yield for every part of the group, which may be empty.
func (g Group) Each(yield func(part []crdt.Op) error) error {
	if g.Parts != nil {
		return g.Parts(yield)
	}
	return yield(g.Ops)
}

// Store keeps one replica's state. Its two kinds are the go-datastore one of package dsstore and the SQL one
// of package sqlbridge; storetest is the suite that both pass.
type Store interface {
	// Begin opens the store for one round of writing and waits, as long as ctx allows, for others who
	// write it. Rounds do not overlap.
	Begin(ctx context.Context) (Round, error)

	// Read calls f with a view of the committed state. It takes no lock that would hold up a writer.
	Read(ctx context.Context, f func(View) error) error

	// Close releases the store. No round is open.
	Close() error
}

// Round is one exclusive visit to a store: read, then commit or abort.
type Round interface {
	View // the state at Begin

	// Capture returns what others wrote to the SQL tables since the last round, in the order it was
	// written; a store without SQL has nothing to say. It is called at most once, before anything else
	// changes the replica, and what it returns is forgotten only by the Commit of this round.
	Capture() (Drain, error)

	// Put writes a part of the batch's rows ahead of Commit, which makes them durable. Reads of this round see them.
	Put([]RowChange) error

	// Commit makes the batch durable as one unit: all of it or nothing. With SQL this includes what Capture
	// returned being cut from the outbox and the changed rows being shown in their tables. After an
	// error the outcome is unknown: the replica is thrown away and loaded again. The round is over.
	Commit(Batch) error

	// Abort ends the round without a change. After Commit it does nothing.
	Abort()
}
