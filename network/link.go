package network

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	libp2pnet "github.com/libp2p/go-libp2p/core/network"

	"github.com/rowmesh/rowmesh/replica"
)

// A link is two streams, both opened by the peer with the smaller id so that two peers that dial each other
// at once make one link. Each stream begins with the same eight random bytes, which the other side sends
// back when it has both.
type nonce [8]byte

// half is a link of which one stream has come.
type half struct {
	nonce  nonce
	stream libp2pnet.Stream
}

// connected is told of every new connection.
func (n *Network) connected(id PeerID) {
	if n.host.ID() > id || !n.isAllowed(id) {
		return
	}
	n.mu.Lock()
	busy := n.opening[id] || n.byPeer[id] != nil || n.ctx.Err() != nil
	if !busy {
		n.opening[id] = true
		n.done.Add(1)
	}
	n.mu.Unlock()
	if busy {
		return
	}
	go func() {
		defer n.done.Done()
		err := n.open(id)
		n.mu.Lock()
		delete(n.opening, id)
		n.mu.Unlock()
		if err != nil {
			n.log.Debug("link not opened", "peer", id, "reason", err)
			_ = n.host.Network().ClosePeer(id)
			n.ended(id)
		}
	}()
}

// open opens the two streams of a link.
func (n *Network) open(id PeerID) error {
	ctx, cancel := context.WithTimeout(n.ctx, openTimeout)
	defer cancel()
	var mark nonce
	_, _ = rand.Read(mark[:])
	control, err := n.host.NewStream(ctx, id, controlProtocol)
	if err != nil {
		return fmt.Errorf("network: the peer does not speak %s: %w", controlProtocol, err)
	}
	session, err := n.host.NewStream(ctx, id, sessionProtocol)
	if err != nil {
		_ = control.Reset()
		return fmt.Errorf("network: the peer does not speak %s: %w", sessionProtocol, err)
	}
	for _, s := range []libp2pnet.Stream{control, session} {
		_ = s.SetDeadline(time.Now().Add(openTimeout))
		if _, err := s.Write(mark[:]); err != nil {
			_ = control.Reset()
			_ = session.Reset()
			return fmt.Errorf("network: open a link: %w", err)
		}
	}
	var echo nonce
	if _, err := io.ReadFull(control, echo[:]); err != nil || echo != mark {
		_ = control.Reset()
		_ = session.Reset()
		return fmt.Errorf("network: the peer did not take the link: %w", err)
	}
	n.start(control, session)
	return nil
}

// accept takes in a stream that the other side opened.
func (n *Network) accept(s libp2pnet.Stream) {
	id := s.Conn().RemotePeer()
	if !n.isAllowed(id) || n.host.ID() < id {
		_ = s.ResetWithError(libp2pnet.StreamProtocolViolation)
		return
	}
	_ = s.SetDeadline(time.Now().Add(openTimeout))
	var mark nonce
	if _, err := io.ReadFull(s, mark[:]); err != nil {
		_ = s.Reset()
		return
	}
	n.mu.Lock()
	other := n.halves[id]
	if other == nil || other.nonce != mark || other.stream.Protocol() == s.Protocol() {
		n.halves[id] = &half{mark, s}
		n.mu.Unlock()
		if other != nil {
			_ = other.stream.Reset()
		}
		return
	}
	delete(n.halves, id)
	n.mu.Unlock()
	control, session := s, other.stream
	if s.Protocol() == sessionProtocol {
		control, session = session, control
	}
	if _, err := control.Write(mark[:]); err != nil {
		_ = control.Reset()
		_ = session.Reset()
		return
	}
	n.start(control, session)
}

// link is one link in use.
type link struct {
	n       *Network
	id      replica.LinkID
	peer    PeerID
	streams [2]libp2pnet.Stream
	queues  [2]*queue
	once    sync.Once
	closing chan struct{}
	reason  error
}

// start makes a link of two streams and takes the place of an older one to the same peer.
func (n *Network) start(control, session libp2pnet.Stream) {
	l := &link{
		n: n, id: replica.LinkID(n.lastID.Add(1)), peer: control.Conn().RemotePeer(), streams: [2]libp2pnet.Stream{control, session},
		queues: [2]*queue{newQueue(maxControlQueue), newQueue(maxSessionQueue)}, closing: make(chan struct{}),
	}
	n.mu.Lock()
	older := n.byPeer[l.peer]
	n.byPeer[l.peer], n.links[l.id] = l, l
	n.endLocked(l.peer).linked = true
	if n.ctx.Err() != nil {
		n.mu.Unlock()
		l.reset()
		return
	}
	n.done.Add(1)
	n.mu.Unlock()
	if older != nil {
		older.end(errors.New("network: the peer connected anew"))
	}
	for _, s := range l.streams {
		_ = s.SetDeadline(time.Time{})
	}
	go l.run()
	n.choose()
}

// run lives as long as the link.
func (l *link) run() {
	defer l.n.done.Done()
	l.n.emit(LinkUp{l.id, l.peer, l.streams[0].Conn().RemoteMultiaddr().String()})
	var work sync.WaitGroup
	for i := range l.streams {
		work.Add(2)
		go func() { defer work.Done(); l.end(l.read(i)) }()
		go func() { defer work.Done(); l.end(l.write(i)) }()
	}
	work.Wait()
	n := l.n
	n.mu.Lock()
	delete(n.links, l.id)
	if n.byPeer[l.peer] == l {
		delete(n.byPeer, l.peer)
	}
	n.mu.Unlock()
	n.emit(LinkDown{l.id, l.peer, l.reason})
	n.ended(l.peer)
	n.choose()
}

// ended wakes the dialler of a peer and, while a connection stands, opens a new link over it.
func (n *Network) ended(id PeerID) {
	n.mu.Lock()
	if end := n.waiting[id]; end != nil && n.byPeer[id] == nil {
		close(end.over)
		delete(n.waiting, id)
	}
	n.mu.Unlock()
	if n.host.Network().Connectedness(id) == libp2pnet.Connected {
		n.connected(id) // two had dialled each other
	}
}

// end ends the link at once, and the connection it ran on: the next link begins with fresh streams on a
// fresh connection, on both sides.
func (l *link) end(reason error) {
	l.once.Do(func() {
		l.reason = reason
		close(l.closing)
		l.reset()
		for _, s := range l.streams {
			_ = s.Conn().Close()
		}
	})
}

func (l *link) reset() {
	for i := range l.streams {
		_ = l.streams[i].Reset()
		l.queues[i].close()
	}
}

// finish ends the link when its control queue is written.
func (l *link) finish(reason error) { l.queues[0].finish(reason) }

func (l *link) send(f replica.Frame) bool {
	i := 0
	if f.Type.Bulk() {
		i = 1
	}
	return l.queues[i].put(replica.AppendFrame(nil, f))
}

// read hands frames to the consumer until the stream ends.
func (l *link) read(i int) error {
	s := l.streams[i]
	pace := &paced{Stream: s}
	r := bufio.NewReaderSize(pace, gatherBytes)
	for {
		pace.inFrame = false
		if i == 0 {
			_ = s.SetReadDeadline(time.Now().Add(idleTimeout))
		} else {
			_ = s.SetReadDeadline(time.Time{}) // sessions may rest for as long as they like
		}
		if _, err := r.Peek(1); err != nil {
			return readError(err)
		}
		_ = s.SetReadDeadline(time.Now().Add(frameTimeout))
		pace.inFrame = true
		reserved := 0
		f, err := replica.ReadFrame(r, func(size int) error {
			reserved = size
			return s.Scope().ReserveMemory(size, libp2pnet.ReservationPriorityMedium)
		})
		if err != nil {
			return readError(err)
		}
		if !l.n.isAllowed(l.peer) {
			return errors.New("network: the peer is no longer allowed")
		}
		select {
		case l.n.events <- FrameIn{l.id, f}:
		case <-l.closing:
			return nil
		case <-l.n.ctx.Done():
			return nil
		}
		s.Scope().ReleaseMemory(reserved)
	}
}

// paced is a stream on which the rest of a frame may take as long as it likes, as long as some of it comes.
type paced struct {
	libp2pnet.Stream
	inFrame bool
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.Stream.Read(b)
	if n > 0 && p.inFrame {
		_ = p.SetReadDeadline(time.Now().Add(frameTimeout))
	}
	return n, err
}

func readError(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, libp2pnet.ErrReset):
		return errors.New("network: the connection was closed")
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("network: the peer fell silent")
	}
	return fmt.Errorf("network: read: %w", err)
}

// write sends what is queued until the link ends.
func (l *link) write(i int) error {
	s, q := l.streams[i], l.queues[i]
	for {
		buf, overflow, last, err := q.take(l.closing)
		if overflow {
			l.n.emit(Lagging{l.id})
		}
		for part := range slices.Chunk(buf, gatherBytes) {
			_ = s.SetWriteDeadline(time.Now().Add(frameTimeout))
			if _, err := s.Write(part); err != nil {
				return fmt.Errorf("network: the peer takes nothing: %w", err)
			}
		}
		if last {
			return err
		}
	}
}
