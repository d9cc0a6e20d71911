package fuzz

import (
	"context"
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
	store replica.Store
	r     *replica.Replica
	now   int64
	in    []replica.Input // for the next step
	sent  []replica.Frame
	open  bool
}

func (k *talker) Send(_ replica.LinkID, f replica.Frame) { k.sent = append(k.sent, f) }
func (k *talker) CloseLink(replica.LinkID, error)        { k.open = false }
func (k *talker) Show(replica.Batch)                     {}

func newTalker(t testing.TB, group replica.GroupID) *talker {
	k := &talker{t: t, store: must(dsstore.Open(context.Background(), ds.NewMapDatastore())), now: 1 << 40}
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

// FuzzPeer is a hostile peer: it sends frames of any type with any body, in any state. The replica never panics and its
// store never fails; the peer may lose its link, and nothing that it sent is half applied.
func FuzzPeer(f *testing.F) {
	honest := newTalker(&testing.T{}, replica.GroupID{7})
	honest.connect()
	schemas := []*crdt.Schema{customers}
	op := crdt.Op{Table: "customers", Key: crdt.MustKey(crdt.Text("k")), Kind: crdt.OpInsert, Sets: []crdt.Set{{Column: "name", Value: crdt.Text("Ada")}}}
	honest.step(replica.Input{Write: &replica.Drain{Schemas: schemas, Groups: []replica.Group{{Ops: []crdt.Op{op}}}}})
	var session []byte
	for _, frame := range honest.sent {
		session = append(session, byte(frame.Type), byte(len(frame.Body)))
		session = append(session, frame.Body...)
	}
	f.Add(session)
	hello := honest.sent[0]
	f.Add(append([]byte{byte(replica.FrameHello), byte(len(hello.Body))}, hello.Body...))
	for t := replica.FrameHello; t <= replica.FrameCredit; t++ {
		f.Add(append(append([]byte{byte(replica.FrameHello), byte(len(hello.Body))}, hello.Body...), byte(t), 1, 0xa0))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k := newTalker(t, replica.GroupID{7})
		k.connect()
		for len(b) >= 2 && k.open {
			n := min(int(b[1]), len(b)-2)
			frame := replica.Frame{Type: replica.FrameType(b[0] & 0x1f), Critical: b[0]&0x20 != 0, More: b[0]&0x40 != 0, Zstd: b[0]&0x80 != 0, Body: b[2 : 2+n]}
			b = b[2+n:]
			k.step(replica.Input{From: 1, Frame: &frame})
		}
		st := k.r.Status()
		if !k.open && len(st.Links) > 0 {
			t.Error("a link that was closed is still there")
		}
		if err := k.store.Read(context.Background(), func(v replica.View) error {
			state, err := v.Load()
			if err == nil && state.Coverage.String() != st.Coverage.String() {
				t.Errorf("it claims %s, and its store %s", st.Coverage, state.Coverage)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	})
}
