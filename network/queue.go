package network

import "sync"

// queue is what waits to be written on one stream: encoded frames, bounded in bytes. A frame that goes to
// an idle writer is written at once; behind a write in flight frames gather.
type queue struct {
	mu       sync.Mutex
	frames   [][]byte
	bytes    int
	bound    int
	overflow bool
	last     bool
	reason   error
	wake     chan struct{} // holds a token when there is something to take
}

func newQueue(bound int) *queue { return &queue{bound: bound, wake: make(chan struct{}, 1)} }

// put adds a frame. A queue that would pass its bound is cleared instead: the peer will pull.
func (q *queue) put(frame []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.last {
		return false
	}
	defer q.signal()
	if q.bytes+len(frame) > q.bound {
		q.frames, q.bytes, q.overflow = nil, 0, true
		return false
	}
	q.frames = append(q.frames, frame)
	q.bytes += len(frame)
	return true
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// finish makes what is queued now the last.
func (q *queue) finish(reason error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last, q.reason = true, reason
	q.signal()
}

func (q *queue) close() { q.finish(nil) }

// take waits for frames and returns about gatherBytes of them. overflow says that frames were thrown away
// since the last call; last, that nothing more will come.
func (q *queue) take(closing <-chan struct{}) (buf []byte, overflow, last bool, reason error) {
	select {
	case <-q.wake:
	case <-closing:
		return nil, false, true, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for n < len(q.frames) && (n == 0 || size+len(q.frames[n]) <= gatherBytes) {
		size += len(q.frames[n])
		n++
	}
	if n == 1 {
		buf = q.frames[0]
	} else {
		buf = make([]byte, 0, size)
		for _, f := range q.frames[:n] {
			buf = append(buf, f...)
		}
	}
	q.frames, q.bytes = q.frames[n:], q.bytes-size
	overflow, q.overflow = q.overflow, false
	if len(q.frames) > 0 || q.last {
		q.signal()
	}
	return buf, overflow, q.last && len(q.frames) == 0, q.reason
}
