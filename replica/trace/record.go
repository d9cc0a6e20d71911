package trace

import (
	"context"
	"fmt"
	"hash"
	"io"

	"github.com/cespare/xxhash/v2"
	"github.com/fxamacker/cbor/v2"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// Recorder writes a trace. A nil Recorder records nothing and costs nothing. It is not safe for concurrent use. An error of the
// writer ends the recording, not the replica: Err returns it.
type Recorder struct {
	w     io.Writer
	left  int64    // bytes
	round []record // of the present round
	out   digest
	mask  *mask // nil: keys and values are written as they are
	err   error
	full  bool
}

// New returns a Recorder that writes at most limit bytes; 0: DefaultBytes. What it writes at once is whole records, so that a crash
// leaves what can be replayed. With a key, which must be secret and random, keys and values are masked; see the package comment.
func New(w io.Writer, limit int64, key *[32]byte) (*Recorder, error) {
	if limit == 0 {
		limit = DefaultBytes
	}
	if _, err := io.WriteString(w, header); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	r := &Recorder{w: w, left: limit - int64(len(header)), out: newDigest()}
	if key != nil {
		r.mask = newMask(*key)
	}
	return r, nil
}

// Err says why the recording has ended: nil while it goes on.
func (r *Recorder) Err() error {
	switch {
	case r == nil:
		return nil
	case r.err != nil:
		return fmt.Errorf("trace: the recording has ended: %w", r.err)
	case r.full:
		return fmt.Errorf("trace: the recording has ended: it is as large as it may be; what is recorded can be replayed")
	}
	return nil
}

// Load makes a core from its store, as replica.New does.
func (r *Recorder) Load(ctx context.Context, cfg replica.Config, s replica.Store) (core *replica.Replica, err error) {
	r.put(kindLoad, 0, configOf(cfg), nil)
	err = r.store(s).Read(ctx, func(v replica.View) (err error) {
		core, err = replica.New(cfg, v)
		return err
	})
	r.done()
	return core, err
}

// Process is replica.Process.
func (r *Recorder) Process(ctx context.Context, s replica.Store, core *replica.Replica, now replica.Instant, capture bool, in []replica.Input, out replica.Output) error {
	if r == nil || r.Err() != nil {
		return replica.Process(ctx, s, core, now, capture, in, out)
	}
	rec := roundRec{Wall: now.Wall, Mono: now.Mono, Capture: capture}
	for _, i := range r.mask.inputs(in) {
		rec.Inputs = append(rec.Inputs, inputOf(i))
	}
	r.put(kindRound, 0, rec, nil)
	err := replica.Process(ctx, r.store(s), core, now, capture, in, watched{out, &r.out})
	r.done()
	return err
}

func (r *Recorder) store(s replica.Store) replica.Store {
	if r == nil {
		return s
	}
	return &recording{s, r}
}

// put appends a record to those of this round.
func (r *Recorder) put(k kind, asked uint64, data any, failed error) {
	if r == nil || r.Err() != nil {
		return
	}
	rec := record{Kind: k, Asked: asked}
	if failed != nil {
		rec.Err = r.mask.text(failed)
	}
	if data != nil {
		r.mask.data(data)
		if rec.Data, r.err = cbor.Marshal(data); r.err != nil {
			return
		}
	}
	r.round = append(r.round, rec)
}

// done writes the records of this round.
func (r *Recorder) done() {
	r.put(kindDone, 0, outRec{Frames: r.frames(), Digest: r.sum()}, nil)
	if r == nil || r.Err() != nil {
		return
	}
	if r.round, r.err = r.mask.rerun(r.round); r.err != nil {
		return
	}
	buf := r.encoded()
	if r.full = int64(len(buf)) > r.left; r.full {
		r.round = []record{{Kind: kindFull}}
		buf = r.encoded()
	}
	if r.err == nil {
		_, r.err = r.w.Write(buf)
	}
	r.left -= int64(len(buf))
}

// encoded returns the records of this round as bytes, and forgets them.
func (r *Recorder) encoded() (buf []byte) {
	for _, rec := range r.round {
		if r.err == nil {
			buf, r.err = appendRecord(buf, rec)
		}
	}
	clear(r.round)
	r.round = r.round[:0]
	return buf
}

func (r *Recorder) frames() int {
	if r == nil {
		return 0
	}
	return r.out.frames
}

func (r *Recorder) sum() uint64 {
	if r == nil {
		return 0
	}
	return r.out.Sum64()
}

// digest is a running hash of what comes out of a core.
type digest struct {
	hash.Hash64
	frames int
}

func newDigest() digest { return digest{Hash64: xxhash.New()} }

func (d *digest) add(v any) {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic(err) // only values of this package come here
	}
	_, _ = d.Write(b)
}

// watched hashes what goes out.
type watched struct {
	replica.Output
	d *digest
}

func (w watched) Send(l replica.LinkID, f replica.Frame) {
	w.d.frames++
	w.d.add([]any{uint64(l), replica.AppendFrame(nil, f)})
	w.Output.Send(l, f)
}

func (w watched) CloseLink(l replica.LinkID, err error) {
	w.d.add([]any{uint64(l), err.Error()})
	w.Output.CloseLink(l, err)
}

// askedFor hashes the arguments of a call.
func askedFor(v any) uint64 {
	d := newDigest()
	d.add(v)
	return d.Sum64()
}

func askedRows(keys []replica.RowKey) uint64 {
	d := newDigest()
	for _, k := range keys {
		d.add([]string{k.Table, k.Key.Encoded()})
	}
	return d.Sum64()
}

func askedChanged(in, notIn crdt.Coverage, after replica.Position) uint64 {
	return askedFor([]any{headsOf(in), headsOf(notIn), stampOf(after.Stamp), after.Table, after.Key.Encoded()})
}

func askedCommit(b replica.Batch) uint64 {
	d := newDigest()
	d.add([]any{b.Origin[:], b.Group[:], b.Ready, schemasOf(b.Schemas), headsOf(b.Heads), b.Copy, b.Restart, b.Put})
	d.addRows(b.Rows)
	return d.Sum64()
}

func askedPut(rows []replica.RowChange) uint64 {
	d := newDigest()
	d.addRows(rows)
	return d.Sum64()
}

func (d *digest) addRows(rows []replica.RowChange) {
	for _, c := range rows {
		d.add([]any{c.Schema.Table, c.Key.Encoded(), rowOf(c.New), c.Local})
	}
}

// recording is a store that writes down its answers.
type recording struct {
	replica.Store
	r *Recorder
}

func (s *recording) Begin(ctx context.Context) (replica.Round, error) {
	round, err := s.Store.Begin(ctx)
	s.r.put(kindBegin, 0, nil, err)
	if err != nil {
		return nil, err
	}
	return &recordedRound{recordedView{round, s.r}, round}, nil
}

func (s *recording) Read(ctx context.Context, f func(replica.View) error) error {
	s.r.put(kindRead, 0, nil, nil)
	ran := error(nil)
	err := s.Store.Read(ctx, func(v replica.View) error {
		ran = f(recordedView{v, s.r})
		return ran
	})
	failed := err
	if ran != nil {
		failed = nil // the core's own
	}
	s.r.put(kindEnd, 0, nil, failed)
	return err
}

type recordedView struct {
	replica.View
	r *Recorder
}

func (v recordedView) Tolerant() replica.View { return recordedView{v.View.Tolerant(), v.r} }

func (v recordedView) Load() (replica.State, error) {
	st, err := v.View.Load()
	rec := stateOf(st)
	v.r.put(kindState, 0, &rec, err)
	return st, err
}

func (v recordedView) Rows(keys []replica.RowKey) ([]crdt.Row, error) {
	rows, err := v.View.Rows(keys)
	recs := make([]rowRec, len(rows))
	for i, r := range rows {
		recs[i] = rowOf(r)
	}
	v.r.put(kindRows, askedRows(keys), recs, err)
	v.r.mask.asks(v.r.round, keys)
	return rows, err
}

func (v recordedView) Changed(in, notIn crdt.Coverage, after replica.Position, yield func(crdt.Stamp, []replica.RowState) bool) error {
	err := v.View.Changed(in, notIn, after, func(at crdt.Stamp, rows []replica.RowState) bool {
		v.r.put(kindChanged, 0, changedRec{At: stampOf(at), Rows: rowsOf(rows)}, nil)
		return yield(at, rows)
	})
	v.r.put(kindEnd, askedChanged(in, notIn, after), nil, err)
	return err
}

func (v recordedView) Scan(table string, after crdt.Key, yield func([]replica.RowState) bool) error {
	err := v.View.Scan(table, after, func(rows []replica.RowState) bool {
		v.r.put(kindScan, 0, rowsOf(rows), nil)
		return yield(rows)
	})
	v.r.put(kindEnd, askedFor([]string{table, after.Encoded()}), nil, err)
	return err
}

func (v recordedView) Count() (uint64, error) {
	n, err := v.View.Count()
	v.r.put(kindCount, 0, n, err)
	return n, err
}

type recordedRound struct {
	recordedView
	round replica.Round
}

func (r *recordedRound) Capture() (replica.Drain, error) {
	d, err := r.round.Capture()
	for i, g := range d.Groups { // a recording holds all of it anyway
		whole := replica.Group{WallMillis: g.WallMillis}
		if err == nil {
			err = g.Each(func(part []crdt.Op) error { whole.Ops = append(whole.Ops, part...); return nil })
		}
		d.Groups[i] = whole
	}
	r.r.put(kindCapture, 0, drainOf(d), err)
	return d, err
}

func (r *recordedRound) Commit(b replica.Batch) error {
	asked := askedCommit(b)
	err := r.round.Commit(b)
	r.r.put(kindCommit, asked, nil, err)
	return err
}

func (r *recordedRound) Put(rows []replica.RowChange) error {
	asked := askedPut(rows)
	err := r.round.Put(rows)
	r.r.put(kindPut, asked, nil, err)
	return err
}

func (r *recordedRound) Abort() { r.round.Abort() }
