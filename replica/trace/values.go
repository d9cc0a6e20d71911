package trace

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// The forms in which values lie in a trace. Keys and values keep the encoding of package crdt.

type stampRec struct {
	_      struct{} `cbor:",toarray"`
	Time   uint64
	Origin [16]byte
}

type cellRec struct {
	_      struct{} `cbor:",toarray"`
	Column string
	Stamp  stampRec
	Value  []byte
}

type rowRec struct {
	_                 struct{} `cbor:",toarray"`
	Birth, Tomb, Seen stampRec
	Cells             []cellRec
}

type rowStateRec struct {
	_     struct{} `cbor:",toarray"`
	Table string
	Key   []byte
	Row   rowRec
}

type changedRec struct {
	_    struct{} `cbor:",toarray"`
	At   stampRec
	Rows []rowStateRec
}

type headRec struct {
	_      struct{} `cbor:",toarray"`
	Origin [16]byte
	Head   uint64
}

type stateRec struct {
	_             struct{} `cbor:",toarray"`
	Origin, Group [16]byte
	Ready         bool
	Coverage      []headRec
	Schemas       [][]byte
	Copy          []byte
}

type setRec struct {
	_      struct{} `cbor:",toarray"`
	Column string
	Value  []byte
}

type opRec struct {
	_     struct{} `cbor:",toarray"`
	Table string
	Key   []byte
	Kind  uint8
	Sets  []setRec
}

type groupRec struct {
	_    struct{} `cbor:",toarray"`
	Wall int64
	Ops  []opRec
}

type drainRec struct {
	_       struct{} `cbor:",toarray"`
	Schemas [][]byte
	Groups  []groupRec
}

// inputRec is one input, told apart by What.
type inputRec struct {
	_     struct{} `cbor:",toarray"`
	What  uint8
	Link  uint64
	Peer  string
	Frame []byte // as on the wire; of an audit, what to compare: auditRec
	Drain *drainRec
}

const (
	inUp = 1 + iota
	inDown
	inLag
	inFrame
	inWrite
	inProbe
	inAudit
	inLeave
)

type auditRec struct {
	_      struct{} `cbor:",toarray"`
	Tables []string
	Dry    bool
}

type roundRec struct {
	_          struct{} `cbor:",toarray"`
	Wall, Mono int64
	Capture    bool
	Inputs     []inputRec
}

type configRec struct {
	_                    struct{} `cbor:",toarray"`
	NewOrigin, NewGroup  [16]byte
	NeedOrigin, Forked   bool
	Hub, Spoke           bool
	After                uint64
	CacheRows, ChunkSize int
	PackSize             int
	StageSize, PutRows   int
	SessionSeed          uint64
}

// outRec is what came out of a round.
type outRec struct {
	_      struct{} `cbor:",toarray"`
	Frames int
	Digest uint64 // of all that ever came out
}

func stampOf(s crdt.Stamp) stampRec { return stampRec{Time: uint64(s.Time), Origin: s.Origin} }

func (s stampRec) stamp() crdt.Stamp {
	return crdt.Stamp{Time: hlc.Timestamp(s.Time), Origin: s.Origin}
}

func rowOf(r crdt.Row) rowRec {
	out := rowRec{Birth: stampOf(r.Birth), Tomb: stampOf(r.Tomb), Seen: stampOf(r.Seen)}
	for _, c := range r.Cells {
		out.Cells = append(out.Cells, cellRec{Column: c.Column, Stamp: stampOf(c.Stamp), Value: []byte(c.Value.Encoded())})
	}
	return out
}

func (r rowRec) row() (crdt.Row, error) {
	out := crdt.Row{Birth: r.Birth.stamp(), Tomb: r.Tomb.stamp(), Seen: r.Seen.stamp()}
	for i, c := range r.Cells {
		v, err := crdt.ParseValue(string(c.Value))
		if err != nil {
			return crdt.Row{}, err
		}
		if i > 0 && out.Cells[i-1].Column >= c.Column {
			return crdt.Row{}, errors.New("columns out of order")
		}
		out.Cells = append(out.Cells, crdt.Cell{Column: c.Column, Stamp: c.Stamp.stamp(), Value: v})
	}
	return out, nil
}

func rowsOf(rows []replica.RowState) []rowStateRec {
	out := make([]rowStateRec, len(rows))
	for i, r := range rows {
		out[i] = rowStateRec{Table: r.Table, Key: []byte(r.Key.Encoded()), Row: rowOf(r.Row)}
	}
	return out
}

func rowStates(recs []rowStateRec) ([]replica.RowState, error) {
	out := make([]replica.RowState, len(recs))
	for i, r := range recs {
		k, err := crdt.ParseKey(string(r.Key))
		if err != nil {
			return nil, err
		}
		row, err := r.Row.row()
		if err != nil {
			return nil, err
		}
		out[i] = replica.RowState{RowKey: replica.RowKey{Table: r.Table, Key: k}, Row: row}
	}
	return out, nil
}

func headsOf(c crdt.Coverage) (out []headRec) {
	for _, o := range c.Origins() {
		out = append(out, headRec{Origin: o, Head: uint64(c[o])})
	}
	return out
}

func schemasOf(list []*crdt.Schema) (out [][]byte) {
	for _, s := range list {
		out = append(out, crdt.AppendSchema(nil, s))
	}
	return out
}

func schemas(recs [][]byte) (out []*crdt.Schema, err error) {
	for _, r := range recs {
		s, err := crdt.ParseSchema(r)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func stateOf(s replica.State) stateRec {
	return stateRec{Origin: s.Origin, Group: s.Group, Ready: s.Ready, Coverage: headsOf(s.Coverage), Schemas: schemasOf(s.Schemas), Copy: s.Copy}
}

func (r stateRec) state() (s replica.State, err error) {
	s = replica.State{Origin: r.Origin, Group: r.Group, Ready: r.Ready, Coverage: crdt.Coverage{}, Copy: r.Copy}
	for _, h := range r.Coverage {
		s.Coverage[h.Origin] = hlc.Timestamp(h.Head)
	}
	s.Schemas, err = schemas(r.Schemas)
	return s, err
}

func drainOf(d replica.Drain) *drainRec {
	out := &drainRec{Schemas: schemasOf(d.Schemas)}
	for _, g := range d.Groups {
		rec := groupRec{Wall: g.WallMillis}
		for _, op := range g.Ops {
			o := opRec{Table: op.Table, Key: []byte(op.Key.Encoded()), Kind: uint8(op.Kind)}
			for _, s := range op.Sets {
				o.Sets = append(o.Sets, setRec{Column: s.Column, Value: []byte(s.Value.Encoded())})
			}
			rec.Ops = append(rec.Ops, o)
		}
		out.Groups = append(out.Groups, rec)
	}
	return out
}

func (r *drainRec) drain() (d replica.Drain, err error) {
	if r == nil {
		return d, errors.New("a write without its rows")
	}
	if d.Schemas, err = schemas(r.Schemas); err != nil {
		return d, err
	}
	for _, g := range r.Groups {
		group := replica.Group{WallMillis: g.Wall}
		for _, o := range g.Ops {
			op := crdt.Op{Table: o.Table, Kind: crdt.OpKind(o.Kind)}
			if op.Key, err = crdt.ParseKey(string(o.Key)); err != nil {
				return d, err
			}
			for _, s := range o.Sets {
				v, err := crdt.ParseValue(string(s.Value))
				if err != nil {
					return d, err
				}
				op.Sets = append(op.Sets, crdt.Set{Column: s.Column, Value: v})
			}
			group.Ops = append(group.Ops, op)
		}
		d.Groups = append(d.Groups, group)
	}
	return d, nil
}

func inputOf(i replica.Input) inputRec {
	switch {
	case i.Up != nil:
		return inputRec{What: inUp, Link: uint64(i.Up.Link), Peer: i.Up.Peer}
	case i.Down != 0:
		return inputRec{What: inDown, Link: uint64(i.Down)}
	case i.Lag != 0:
		return inputRec{What: inLag, Link: uint64(i.Lag)}
	case i.Frame != nil:
		return inputRec{What: inFrame, Link: uint64(i.From), Frame: replica.AppendFrame(nil, *i.Frame)}
	case i.Write != nil:
		return inputRec{What: inWrite, Drain: drainOf(*i.Write)}
	case i.Audit != nil:
		what, _ := cbor.Marshal(auditRec{Tables: i.Audit.Tables, Dry: i.Audit.Dry}) // of such a type it cannot fail
		return inputRec{What: inAudit, Link: uint64(i.Audit.Link), Frame: what}
	case i.Leave:
		return inputRec{What: inLeave}
	}
	return inputRec{What: inProbe}
}

func (r inputRec) input() (i replica.Input, err error) {
	link := replica.LinkID(r.Link)
	switch r.What {
	case inUp:
		i.Up = &replica.LinkUp{Link: link, Peer: r.Peer}
	case inDown:
		i.Down = link
	case inLag:
		i.Lag = link
	case inFrame:
		f, err := replica.ReadFrame(bufio.NewReader(bytes.NewReader(r.Frame)), nil)
		if err != nil {
			return i, err
		}
		i.From, i.Frame = link, &f
	case inWrite:
		d, err := r.Drain.drain()
		if err != nil {
			return i, err
		}
		i.Write = &d
	case inProbe:
		i.Probe = true
	case inAudit:
		var what auditRec
		if err := decode(r.Frame, &what); err != nil {
			return i, err
		}
		i.Audit = &replica.Audit{Link: link, Tables: what.Tables, Dry: what.Dry}
	case inLeave:
		i.Leave = true
	default:
		return i, fmt.Errorf("an unknown input %d", r.What)
	}
	return i, nil
}

func configOf(c replica.Config) configRec {
	return configRec{
		NewOrigin: c.NewOrigin, NewGroup: c.NewGroup, NeedOrigin: c.NeedOrigin, Forked: c.Forked, Hub: c.Hub, Spoke: c.Spoke, After: uint64(c.After),
		CacheRows: c.CacheRows, ChunkSize: c.ChunkBytes, PackSize: c.PackBytes, StageSize: c.StageBytes, PutRows: c.PutRows, SessionSeed: c.SessionSeed,
	}
}

func (r configRec) config() (replica.Config, error) {
	if r.CacheRows < 0 || r.CacheRows > maxCacheRows || r.ChunkSize < 0 || r.ChunkSize > maxRecord || r.PackSize < 0 || r.StageSize < 0 || r.PutRows < 0 {
		return replica.Config{}, fmt.Errorf("a cache of %d rows, chunks of %d bytes", r.CacheRows, r.ChunkSize)
	}
	return replica.Config{
		NewOrigin: r.NewOrigin, NewGroup: r.NewGroup, NeedOrigin: r.NeedOrigin, Forked: r.Forked, Hub: r.Hub, Spoke: r.Spoke, After: hlc.Timestamp(r.After),
		CacheRows: r.CacheRows, ChunkBytes: r.ChunkSize, PackBytes: r.PackSize, StageBytes: r.StageSize, PutRows: r.PutRows, SessionSeed: r.SessionSeed,
	}, nil
}
