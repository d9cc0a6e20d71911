package fuzz

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"testing"

	ds "github.com/ipfs/go-datastore"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/dsstore"
)

// talker drives one replica with frames, and keeps what it answers.
type talker struct {
	t     testing.TB
	name  string
	disk  ds.Datastore // below the store
	store replica.Store
	r     *replica.Replica
	now   int64
	in    []replica.Input // for the next step
	sent  []replica.Frame
	via   []replica.LinkID // of the last ones in sent
	open  bool
}

func (k *talker) Send(l replica.LinkID, f replica.Frame) {
	k.sent, k.via = append(k.sent, f), append(k.via, l)
}
func (k *talker) CloseLink(replica.LinkID, error) { k.open = false }
func (k *talker) Show(replica.Batch)              {}

func newTalker(t testing.TB, group replica.GroupID) *talker {
	disk := ds.NewMapDatastore()
	k := &talker{t: t, disk: disk, store: must(dsstore.Open(context.Background(), disk)), now: 1 << 40}
	k.load(replica.Config{NewOrigin: crdt.Origin{1, group[0]}, NewGroup: group})
	return k
}

func (k *talker) load(cfg replica.Config) {
	if err := k.store.Read(context.Background(), func(v replica.View) (err error) {
		k.r, err = replica.New(cfg, v)
		return err
	}); err != nil {
		k.t.Fatal(err)
	}
}

func (k *talker) step(in ...replica.Input) {
	k.now += 20
	if err := replica.Process(context.Background(), k.store, k.r, replica.Instant{Wall: k.now, Mono: k.now}, false, in, k); err != nil {
		k.t.Fatalf("the store fails on what a peer sent: %v", err)
	}
}

func (k *talker) connect() {
	k.open = true
	k.step(replica.Input{Up: &replica.LinkUp{Link: 1, Peer: "fuzz"}})
}

// hear plays the part of a connection: it gives a replica the frames of a stream until one ends the link.
func (k *talker) hear(stream []byte) {
	r := bufio.NewReader(bytes.NewReader(stream))
	for k.open {
		f, err := replica.ReadFrame(r, func(n int) error {
			if n > len(stream) {
				return io.ErrUnexpectedEOF
			}
			return nil
		})
		if err != nil {
			return
		}
		k.take(f)
	}
}

// sound checks what must hold whatever a peer did: a closed link is forgotten, and the store claims what the replica does.
func (k *talker) sound() {
	st := k.r.Status()
	if !k.open && len(st.Links) > 0 {
		k.t.Error("a link that was closed is still there")
	}
	if err := k.store.Read(context.Background(), func(v replica.View) error {
		state, err := v.Load()
		if err == nil && state.Coverage.String() != st.Coverage.String() {
			k.t.Errorf("it claims %s, and its store %s", st.Coverage, state.Coverage)
		}
		return err
	}); err != nil {
		k.t.Error(err)
	}
}

// flush takes in what has gathered, as one step, and connects again where that ended the link.
func (k *talker) flush() {
	k.step(k.in...)
	k.in = nil
	if !k.open {
		k.connect()
	}
}

// listener is a replica that a fuzz target talks to: the founder of a group, or one that asks to join.
func listener(t testing.TB, joins bool) *talker {
	group := replica.GroupID{7}
	if joins {
		group = replica.GroupID{}
	}
	k := newTalker(t, group)
	k.now = 1_760_000_000_000
	k.connect()
	return k
}

// FuzzPeer is a hostile peer: it sends a stream of frames of any type with any body, in any state. The replica never
// panics and its store never fails; the peer may lose its link, and nothing that it sent is half applied.
func FuzzPeer(f *testing.F) {
	streams := map[string][]byte{}
	for _, s := range conversation(f) {
		streams[s.from] = replica.AppendFrame(streams[s.from], s.frame)
		f.Add(s.from == "A", streams[s.from])
	}
	hello := streams["A"][:bytes.IndexByte(streams["A"], byte(replica.FrameChunk))]
	for t := replica.FrameHello; t <= replica.FrameMend; t++ {
		f.Add(true, append(bytes.Clone(hello), byte(t), 1, 0xa0))
	}
	f.Fuzz(func(t *testing.T, joins bool, stream []byte) {
		k := listener(t, joins)
		k.hear(stream)
		k.sound()
	})
}

// FuzzBody gives a replica in the middle of a session one frame of any type with any body. What it allocates is bounded
// (P17); what a compressed body may become is the matter of TestBombs.
func FuzzBody(f *testing.F) {
	var before []replica.Frame
	for _, s := range conversation(f) {
		f.Add(byte(s.frame.Type), s.frame.Body)
		if s.from == "A" && len(before) < 3 {
			before = append(before, s.frame)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		k := listener(t, true)
		for _, frame := range before {
			k.take(frame)
		}
		if !k.r.Status().Pulling {
			t.Fatal("it is not in a session")
		}
		frame := replica.Frame{Type: replica.FrameType(kind & 0x1f), Critical: kind&0x20 != 0, Cont: kind&0x20 != 0, More: kind&0x40 != 0, Body: body}
		bounded(t, len(body), 2*perRowByte, func() { k.take(frame) })
		k.sound()
	})
}

// FuzzAudit gives a replica that compares its rows with a peer's any answer to any of its questions, one after the other.
func FuzzAudit(f *testing.F) {
	var audit []said
	for _, s := range conversation(f) {
		if t := s.frame.Type; t == replica.FrameAudit || t == replica.FrameAudited || t == replica.FrameMend {
			audit = append(audit, s)
		}
	}
	for i := range len(audit) - 1 {
		f.Add(byte(audit[i].frame.Type), audit[i].frame.Body, byte(audit[i+1].frame.Type), audit[i+1].frame.Body)
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte, kind2 byte, body2 []byte) {
		a, b := speaker(t, "A", 0x0a, 7), speaker(t, "B", 0x0b, 0)
		a.step(replica.Input{Write: customer(1, 2, 3)})
		a.connect()
		b.connect()
		talk(a, b, nil)
		b.lose()
		a.step(replica.Input{Audit: &replica.Audit{}})
		talk(a, b, func(k *talker, frame replica.Frame) replica.Frame {
			switch {
			case k != b || frame.Type != replica.FrameAudited && frame.Type != replica.FrameMend:
				return frame
			case kind != 0:
				frame = replica.Frame{Type: replica.FrameType(kind & 0x1f), Cont: kind&0x20 != 0, More: kind&0x40 != 0, Body: body}
				kind = 0
			case kind2 != 0:
				frame = replica.Frame{Type: replica.FrameType(kind2 & 0x1f), Cont: kind2&0x20 != 0, More: kind2&0x40 != 0, Body: body2}
				kind2 = 0
			}
			return frame
		})
		a.sound()
		b.sound()
	})
}

// FuzzStates sends valid frames in the wrong state: those of an honest conversation, of either side and in any order, any
// number of times, with the link lost in between. The greatest bit of a byte says that what follows comes with it.
func FuzzStates(f *testing.F) {
	said := conversation(f)
	all := make([]byte, len(said))
	for i := range all {
		all[i] = byte(i)
	}
	f.Add(true, all)
	f.Add(false, all)
	f.Add(true, []byte{0, 3, 5, 6, 5, 127, 0, 7, 8, 0x80 | 11, 14, 15, 15})
	f.Fuzz(func(t *testing.T, joins bool, order []byte) {
		k := listener(t, joins)
		for _, b := range order {
			if i := int(b & 0x7f); i < len(said) {
				k.in = append(k.in, replica.Input{From: 1, Frame: &said[i].frame})
			} else {
				k.in = append(k.in, replica.Input{Down: 1}, replica.Input{Up: &replica.LinkUp{Link: 1, Peer: "fuzz"}})
			}
			if b&0x80 == 0 {
				k.flush()
			}
		}
		k.flush()
		k.sound()
	})
}
