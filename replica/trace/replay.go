package trace

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// Summary is what a replay came to.
type Summary struct {
	Rounds, Inputs, Frames int
	Digest                 uint64 // of all that came out, equal for equal runs
	Cut                    bool   // the trace ends in the middle: its peer was killed
	Full                   bool   // the recording had reached its bound
}

// DivergedError says that the core does something else than it did when it was recorded.
type DivergedError struct {
	Round int // the first is 1
	What  string
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("trace: round %d differs from the recording: %s", e.Round, e.What)
}

// Replay runs the core again on a trace. each, where it is not nil, is called after every round with its inputs and the digest so
// far. The error is a *DivergedError, a *DamageError, or one of in.
func Replay(in io.Reader, each func(round int, now replica.Instant, inputs []replica.Input, digest uint64)) (Summary, error) {
	r, err := newReader(in)
	if err != nil {
		return Summary{}, err
	}
	p := &player{next: r.next, place: func() int64 { return r.offset }, out: newDigest(), each: each}
	err = p.run()
	p.sum.Frames, p.sum.Digest = p.out.frames, p.out.Sum64()
	if errors.Is(err, errCut) {
		p.sum.Cut, err = true, nil
	}
	return p.sum, err
}

// player gives a core what the trace holds.
type player struct {
	next  func() (record, error)
	place func() int64                             // of the next record
	keep  func(record)                             // takes each record with what this core asks for and hands out, which is then not compared; nil: it is compared
	rows  func([]replica.RowKey) ([]rowRec, error) // answers for rows; nil: from the trace
	core  *replica.Replica
	out   digest
	sum   Summary
	each  func(int, replica.Instant, []replica.Input, uint64)
	bad   error // what is wrong with the trace, or with what the core asked for
}

// errAsAgain is what a store returns where it failed when it was recorded.
var errAsAgain = errors.New("the store failed here when this was recorded")

func (p *player) run() error {
	for {
		rec, err := p.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch rec.Kind {
		case kindFull:
			p.sum.Full = true
			return nil
		case kindLoad:
			p.kept(rec)
			err = p.load(rec)
		case kindRound:
			p.kept(rec)
			err = p.round(rec)
		default:
			err = p.damage(fmt.Errorf("record %d where a round should begin", rec.Kind))
		}
		if err != nil {
			return err
		}
	}
}

func (p *player) kept(rec record) {
	if p.keep != nil {
		p.keep(rec)
	}
}

func (p *player) damage(err error) error { return &DamageError{p.place(), err} }

func (p *player) diverged(format string, args ...any) error {
	return &DivergedError{p.sum.Rounds, fmt.Sprintf(format, args...)}
}

// safely calls f. A trace that was made up may bring a core into states that a store never has.
func (p *player) safely(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = p.damage(fmt.Errorf("the core does not survive what it holds: %v", r))
		}
	}()
	return f()
}

func (p *player) load(rec record) error {
	p.sum.Rounds++
	var c configRec
	if err := decode(rec.Data, &c); err != nil {
		return p.damage(err)
	}
	cfg, err := c.config()
	if err != nil {
		return p.damage(err)
	}
	p.core = nil
	_ = p.safely(func() error {
		return (*playback)(p).Read(context.Background(), func(v replica.View) (err error) {
			p.core, err = replica.New(cfg, v)
			return err
		})
	})
	return p.done(replica.Instant{}, nil)
}

func (p *player) round(rec record) error {
	p.sum.Rounds++
	if p.core == nil {
		return p.damage(errors.New("a round before the core is loaded"))
	}
	var c roundRec
	if err := decode(rec.Data, &c); err != nil {
		return p.damage(err)
	}
	in := make([]replica.Input, len(c.Inputs))
	for i, r := range c.Inputs {
		var err error
		if in[i], err = r.input(); err != nil {
			return p.damage(err)
		}
	}
	p.sum.Inputs += len(in)
	now := replica.Instant{Wall: c.Wall, Mono: c.Mono}
	err := p.safely(func() error {
		return replica.Process(context.Background(), (*playback)(p), p.core, now, c.Capture, in, watched{nowhere{}, &p.out})
	})
	var damage *DamageError
	if errors.As(err, &damage) {
		return err
	}
	return p.done(now, in)
}

// done compares what came out.
func (p *player) done(now replica.Instant, in []replica.Input) error {
	if p.bad != nil {
		return p.bad
	}
	rec, err := p.take(kindDone)
	if err != nil {
		return err
	}
	var want outRec
	if err := decode(rec.Data, &want); err != nil {
		return p.damage(err)
	}
	got := p.out.Sum64()
	if p.keep != nil {
		want = outRec{Frames: p.out.frames, Digest: got}
		if rec.Data, err = cbor.Marshal(want); err != nil {
			return err
		}
		p.keep(rec)
	}
	if got != want.Digest {
		return p.diverged("%d frames with digest %016x came out, recorded are %d with %016x", p.out.frames, got, want.Frames, want.Digest)
	}
	if p.each != nil {
		p.each(p.sum.Rounds, now, in, want.Digest)
	}
	return nil
}

// take reads the next record, which must be of one of the kinds.
func (p *player) take(kinds ...kind) (record, error) {
	if p.bad != nil {
		return record{}, p.bad
	}
	rec, err := p.next()
	for p.rows != nil && err == nil && rec.Kind == kindRows {
		rec, err = p.next() // rows that this core does not ask for
	}
	if err == io.EOF {
		err = p.damage(errCut)
	}
	if err == nil {
		for _, k := range kinds {
			if rec.Kind == k {
				return rec, nil
			}
		}
		err = p.diverged("the core did %s where the recording has %d", kinds[0], rec.Kind)
	}
	p.bad = err
	return record{}, err
}

func (k kind) String() string {
	return [...]string{"nothing", "load", "a round", "begin a round", "capture", "load its state", "read rows", "read changes", "scan a table", "end a read", "read", "commit", "end a round", "end the recording", "put rows", "count rows", "nothing"}[min(int(k), 15)]
}

// answer reads the record of a call, checks what was asked for, and decodes what was answered.
func (p *player) answer(k kind, asked uint64, to any) error {
	rec, err := p.take(k)
	if err != nil {
		return err
	}
	return p.check(rec, asked, to)
}

func (p *player) check(rec record, asked uint64, to any) error {
	if p.keep != nil {
		rec.Asked = asked
		p.keep(rec)
	}
	if rec.Asked != asked {
		p.bad = p.diverged("the core did %s with other arguments", rec.Kind)
		return p.bad
	}
	if rec.Err != "" {
		return fmt.Errorf("%w: %s", errAsAgain, rec.Err)
	}
	if to != nil {
		if err := decode(rec.Data, to); err != nil {
			p.bad = p.damage(err)
			return p.bad
		}
	}
	return nil
}

// playback is a store that answers from the trace.
type playback player

func (s *playback) Close() error { return nil }

func (s *playback) Begin(context.Context) (replica.Round, error) {
	if err := (*player)(s).answer(kindBegin, 0, nil); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *playback) Abort() {}

func (s *playback) Read(_ context.Context, f func(replica.View) error) error {
	p := (*player)(s)
	if err := p.answer(kindRead, 0, nil); err != nil {
		return err
	}
	err := f(s)
	if p.bad != nil {
		return p.bad
	}
	return errors.Join(err, p.answer(kindEnd, 0, nil))
}

func (s *playback) Capture() (replica.Drain, error) {
	var d drainRec
	if err := (*player)(s).answer(kindCapture, 0, &d); err != nil {
		return replica.Drain{}, err
	}
	out, err := d.drain()
	return out, s.bytes(err)
}

// bytes notes that the trace holds something that is none.
func (s *playback) bytes(err error) error {
	if err != nil {
		s.bad = (*player)(s).damage(err)
		return s.bad
	}
	return nil
}

func (s *playback) Commit(b replica.Batch) error {
	return (*player)(s).answer(kindCommit, askedCommit(b), nil)
}

func (s *playback) Put(rows []replica.RowChange) error {
	return (*player)(s).answer(kindPut, askedPut(rows), nil)
}

func (s *playback) Count() (n uint64, err error) {
	err = (*player)(s).answer(kindCount, 0, &n)
	return n, err
}

func (s *playback) Tolerant() replica.View { return s }

func (s *playback) Load() (replica.State, error) {
	var st stateRec
	if err := (*player)(s).answer(kindState, 0, &st); err != nil {
		return replica.State{}, err
	}
	out, err := st.state()
	return out, s.bytes(err)
}

func (s *playback) Rows(keys []replica.RowKey) ([]crdt.Row, error) {
	var recs []rowRec
	var err error
	if s.rows != nil {
		recs, err = s.rows(keys)
	} else {
		err = (*player)(s).answer(kindRows, askedRows(keys), &recs)
	}
	if err != nil {
		return nil, err
	}
	if len(recs) != len(keys) {
		return nil, s.bytes(fmt.Errorf("%d rows for %d keys", len(recs), len(keys)))
	}
	rows := make([]crdt.Row, len(recs))
	for i, r := range recs {
		var err error
		if rows[i], err = r.row(); err != nil {
			return nil, s.bytes(err)
		}
	}
	return rows, nil
}

func (s *playback) Changed(in, notIn crdt.Coverage, after replica.Position, yield func(crdt.Stamp, []replica.RowState) bool) error {
	return s.stream(kindChanged, askedChanged(in, notIn, after), func(rec record) (bool, error) {
		var c changedRec
		if err := decode(rec.Data, &c); err != nil {
			return false, err
		}
		rows, err := rowStates(c.Rows)
		return err == nil && yield(c.At.stamp(), rows), err
	})
}

func (s *playback) Scan(table string, after crdt.Key, yield func([]replica.RowState) bool) error {
	return s.stream(kindScan, askedFor([]string{table, after.Encoded()}), func(rec record) (bool, error) {
		var recs []rowStateRec
		if err := decode(rec.Data, &recs); err != nil {
			return false, err
		}
		rows, err := rowStates(recs)
		return err == nil && yield(rows), err
	})
}

// stream hands on what a call yielded, until its end.
func (s *playback) stream(k kind, asked uint64, each func(record) (bool, error)) error {
	p := (*player)(s)
	for more := true; ; {
		rec, err := p.take(k, kindEnd)
		if err != nil {
			return err
		}
		if rec.Kind == kindEnd {
			return p.check(rec, asked, nil)
		}
		p.kept(rec)
		if !more {
			p.bad = p.diverged("the core stopped to %s before the recording does", k)
			return p.bad
		}
		if more, err = each(rec); err != nil {
			return s.bytes(err)
		}
	}
}

// nowhere is where frames go in a replay.
type nowhere struct{}

func (nowhere) Send(replica.LinkID, replica.Frame) {}
func (nowhere) CloseLink(replica.LinkID, error)    {}
func (nowhere) Show(replica.Batch)                 {}

var _ replica.Store = (*playback)(nil)
var _ replica.Round = (*playback)(nil)
