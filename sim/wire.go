package sim

import (
	"bufio"
	"bytes"

	"github.com/rowmesh/rowmesh/replica"
)

// edge is a possible connection between two machines. It is up or down; each time it comes up both ends get
// new link numbers.
type edge struct {
	ends  [2]*machine
	up    bool
	links [2]replica.LinkID // of the ends, while it is up
	sides [2]side           // side i carries what ends[i] sends

	cutUntil int64
	dialled  bool // an attempt to connect is due
}

// side is one direction of an edge.
type side struct {
	sent      uint64 // messages ever
	deafUntil int64  // until then what is sent vanishes without a sign
	clogUntil int64  // until then what is sent waits
	waiting   [][]byte
	record    [][]byte // what was sent since the edge came up, to be replayed
}

func (e *edge) index(m *machine) int {
	if e.ends[0] == m {
		return 0
	}
	return 1
}

// dial brings the edge up as soon as it can be.
func (w *World) dial(e *edge) {
	if e.up || e.dialled {
		return
	}
	e.dialled = true
	w.after(reconnectAfter.Milliseconds(), func() {
		e.dialled = false
		switch {
		case e.up || !e.ends[0].up() || !e.ends[1].up() || !w.wanted(e):
		case w.now < e.cutUntil:
			w.at(e.cutUntil, func() { w.dial(e) })
		default:
			w.connect(e)
		}
	})
}

func (w *World) connect(e *edge) {
	e.up = true
	for i, m := range e.ends {
		w.lastLink++
		e.links[i] = w.lastLink
		e.sides[i].record, e.sides[i].waiting = nil, nil
		m.edges[e.links[i]] = e
		m.input(replica.Input{Up: &replica.LinkUp{Link: e.links[i], Peer: e.ends[1-i].name()}})
	}
	w.trace("connect", e.ends[0], e.ends[1].name())
}

// disconnect takes the edge down at both ends.
func (w *World) disconnect(e *edge) {
	if !e.up {
		return
	}
	e.up = false
	for i, m := range e.ends {
		delete(m.edges, e.links[i])
		if m.up() {
			m.input(replica.Input{Down: e.links[i]})
		}
	}
	w.trace("disconnect", e.ends[0], e.ends[1].name())
	w.dial(e)
}

// send puts a frame on the edge, to meet its fate.
func (w *World) send(e *edge, from int, f replica.Frame) {
	s := &e.sides[from]
	f = w.falsify(e.ends[from], e.ends[1-from], f)
	bytes := replica.AppendFrame(nil, f)
	m := Message{e.ends[from].id, e.ends[1-from].id, s.sent}
	s.sent++
	w.stats.Frames++
	if len(s.record) < recordFrames {
		s.record = append(s.record, bytes)
	}
	fate := w.fate(m)
	switch {
	case w.now < s.deafUntil:
		return
	case w.now < s.clogUntil:
		w.clogged(e, from, bytes)
		return
	case fate.Drop:
		w.mark("message lost")
		return
	case fate.Cut:
		bytes = bytes[:1+len(bytes)/2]
	}
	w.fly(e, from, bytes, 1+fate.Delay)
	for i := 1; i < fate.Copies; i++ {
		w.mark("message doubled")
		w.fly(e, from, bytes, 1+fate.Delay+int64(i)*7)
	}
}

// clogged keeps a frame until the link moves again. What finds no room is lost, and its sender is told.
func (w *World) clogged(e *edge, from int, bytes []byte) {
	s := &e.sides[from]
	if len(s.waiting) < clogRoom {
		s.waiting = append(s.waiting, bytes)
		return
	}
	w.mark("queue overflow")
	s.waiting = nil
	e.ends[from].input(replica.Input{Lag: e.links[from]})
}

// unclog lets what waited go on.
func (w *World) unclog(e *edge, from int) {
	s := &e.sides[from]
	for i, b := range s.waiting {
		w.fly(e, from, b, 1+int64(i))
	}
	s.waiting = nil
}

// fly delivers a frame later, if the link is still the same then.
func (w *World) fly(e *edge, from int, bytes []byte, delay int64) {
	link := e.links[1-from]
	w.after(delay+e.ends[from].lag(), func() {
		if e.up && e.links[1-from] == link {
			w.deliver(e, from, bytes)
		}
	})
}

// deliver hands a frame to its receiver, through the codec. What is no frame ends the link, as it does in the
// network package.
func (w *World) deliver(e *edge, from int, b []byte) {
	f, err := replica.ReadFrame(bufio.NewReaderSize(bytes.NewReader(b), 16), nil)
	if err != nil {
		w.mark("damaged frame refused")
		w.disconnect(e)
		return
	}
	w.hash(b)
	e.ends[1-from].input(replica.Input{From: e.links[1-from], Frame: &f})
}

// replay delivers again what a machine sent since the link came up.
func (w *World) replay(e *edge, from int) {
	for i, b := range e.sides[from].record {
		w.mark("stream replayed")
		w.fly(e, from, b, 1+int64(i))
	}
}
