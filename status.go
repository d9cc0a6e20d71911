package rowmesh

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rowmesh/rowmesh/network"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// Status is a snapshot of a peer, for people and programs.
type Status struct {
	Peer      string          // its id
	Addrs     []string        // where it listens
	Problem   string          // why the replica does not run at the moment, "" where it does
	Notice    string          // what people should know of the database as it was found
	Replica   replica.Status  //
	Hubs      []LiveHub       // of a spoke, in order of preference
	Mesh      *LiveMesh       // where peers are looked for on the local network, else nil
	Progress  Progress        // of a copy on its way in
	Facts     sqlbridge.Facts // without SQL: zero
	Strangers []string        // ids of peers that were refused
	Failed    []string        // addresses that are not reached, and why
}

// Status returns a snapshot.
func (p *Peer) Status(ctx context.Context) (s Status, err error) {
	s.Peer, s.Addrs, s.Notice = p.ID().String(), p.Addrs(), p.Notice()
	ran := p.do(ctx, func() {
		s.Hubs, s.Mesh, s.Progress = p.liveHubs(), p.liveMesh(), p.progress()
		if p.core != nil {
			s.Replica = p.core.Status()
		} else if p.problem != nil {
			s.Problem = p.problem.Error()
		}
		if p.bridge != nil && p.core != nil { // else the database may not be open
			s.Facts, err = p.bridge.Facts(ctx)
		}
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.strangers {
		s.Strangers = append(s.Strangers, r.Peer.String())
	}
	for _, why := range p.failed {
		s.Failed = append(s.Failed, why)
	}
	slices.Sort(s.Failed)
	return s, errors.Join(ran, err)
}

// Connect adds a peer to keep a link to.
func (p *Peer) Connect(a network.Addr) { p.net.Connect(a) }

// Allow lets a peer connect.
func (p *Peer) Allow(id network.PeerID) { p.net.Allow(id) }

// Revoke ends a peer's link at once and refuses it from now on.
func (p *Peer) Revoke(id network.PeerID) { p.net.Revoke(id) }

// ErrNoPeer says that no other peer could be reached.
var ErrNoPeer = errors.New("rowmesh: no other peer is reached")

// syncWait is a round that somebody waits for.
type syncWait struct {
	from int64 // on the clock of Instant.Mono
	done chan error
	then func(error)
}

// Sync makes one round with every peer that is connected, and returns when each holds what this one held at
// the start and this one holds what they held. Without any peer it waits for one, as long as ctx allows, and
// then fails with ErrNoPeer.
func (p *Peer) Sync(ctx context.Context) error {
	var w *syncWait
	if err := p.do(ctx, func() {
		p.capture, p.manners.urgent = true, true
		w = p.beginSync(nil)
	}); err != nil {
		return err
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		err := error(nil)
		_ = p.do(context.Background(), func() {
			p.waits = slices.DeleteFunc(p.waits, func(x *syncWait) bool { return x == w })
			if len(p.links) == 0 {
				err = ErrNoPeer
			}
		})
		return errors.Join(err, ctx.Err())
	}
}

func (p *Peer) beginSync(then func(error)) *syncWait {
	w := &syncWait{from: p.instant().Mono, done: make(chan error, 1), then: then}
	p.waits = append(p.waits, w)
	p.in = append(p.in, replica.Input{Probe: true})
	return w
}

// settle ends the rounds that are finished.
func (p *Peer) settle() {
	if len(p.waits) == 0 || p.core == nil {
		return
	}
	st := p.core.Status()
	p.waits = slices.DeleteFunc(p.waits, func(w *syncWait) bool {
		over := len(st.Links) > 0 && !st.Pulling && st.Ready
		for _, l := range st.Links {
			over = over && l.Greeted && l.HeardAt >= w.from && !l.Behind && l.Level
		}
		if !over && w.then != nil && p.instant().Mono-w.from > syncLimit.Milliseconds() {
			w.then(ErrNoPeer)
			return true
		}
		if over {
			w.done <- nil
			if w.then != nil {
				w.then(nil)
			}
		}
		return over
	})
}

// watcher is somebody who wants to be told of changes.
type watcher struct {
	changes chan Change
	missed  bool
}

// Change is one merged row that changed, by a local or a remote transaction.
type Change struct {
	replica.RowChange      // zero (Schema is nil) where there is nothing to say but Missed
	Missed            bool // changes before this one were not told: they were not received fast enough, or a session brought too many
}

// Watch returns a channel on which every committed change of a row is told, until ctx ends.
func (p *Peer) Watch(ctx context.Context) (<-chan Change, error) {
	w := &watcher{changes: make(chan Change, watchBuffer)}
	if err := p.do(ctx, func() { p.watchers[w] = struct{}{} }); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() {
		_ = p.do(context.Background(), func() {
			if _, ok := p.watchers[w]; ok {
				delete(p.watchers, w)
				close(w.changes)
			}
		})
	})
	return w.changes, nil
}

func (w *watcher) tell(b replica.Batch) {
	w.missed = w.missed || b.Put || b.Restart
	for _, c := range b.Rows {
		w.send(c)
	}
	if b.Put && w.missed {
		w.send(replica.RowChange{})
	}
}

func (w *watcher) send(c replica.RowChange) {
	select {
	case w.changes <- Change{c, w.missed}:
		w.missed = false
	default:
		w.missed = true
	}
}

// Uptime is how long the peer has run.
func (p *Peer) Uptime() time.Duration { return time.Since(p.began) }
