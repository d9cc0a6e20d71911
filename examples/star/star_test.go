// Package star shows the layouts of a star, each as a test: a hub in the middle keeps the databases of many programs in sync,
// which write their own copy with or without it. Either end of a link may listen and the other connect, so that either
// may stand behind a firewall.
//
// Every peer is configured by one string, which the Go driver and peer run take too. Here all live in one process and talk over
// 127.0.0.1.
package star

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/network"
)

// patience bounds the wait for what must happen.
const patience = 60 * time.Second

// node is a database on a machine of its own, with the peer beside it.
type node struct {
	*rowmesh.Peer
	t    *testing.T
	path string
	id   string
	seen map[string]int // how often each of its rows was changed by others or itself
	told <-chan rowmesh.Change
}

// newNode makes the key of a machine, so that others can allow it before it runs.
func newNode(t *testing.T, name string) *node {
	path := filepath.Join(t.TempDir(), name+".db")
	id, err := network.LoadIdentity(path + ".key")
	if err != nil {
		t.Fatal(err)
	}
	return &node{t: t, path: path, id: id.PeerID().String(), seen: map[string]int{}}
}

// start runs the peer with settings as in a URI.
func (n *node) start(settings ...string) *node {
	n.t.Helper()
	p, err := rowmesh.Open(n.t.Context(), "file:"+n.path+"?key="+n.path+".key&"+strings.Join(settings, "&"))
	if err != nil {
		n.t.Fatal(err)
	}
	n.Peer = p
	n.t.Cleanup(func() { p.Close() })
	if n.told, err = p.Watch(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	return n
}

func (n *node) addr() string { return n.Addrs()[0] }

// stop ends the peer, as when its machine is turned off.
func (n *node) stop() {
	if err := n.Close(); err != nil {
		n.t.Fatal(err)
	}
}

// ready waits for the first copy.
func (n *node) ready() *node {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	if err := n.WaitReady(ctx); err != nil {
		n.t.Fatal(err)
	}
	return n
}

// exec writes the database as any program does, in plain SQL.
func (n *node) exec(stmt string, args ...any) {
	n.t.Helper()
	err := n.Write(n.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(stmt, args...)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) add(item string) {
	n.t.Helper()
	n.exec(`INSERT INTO stock(item, amount) VALUES(?, 1)`, item)
}

// holds waits until the database has exactly these items.
func (n *node) holds(items ...string) {
	n.t.Helper()
	want := strings.Join(items, " ")
	late := time.After(patience)
	for {
		var have string
		if err := n.DB().QueryRow(`SELECT coalesce(group_concat(item, ' '), '') FROM (SELECT item FROM stock ORDER BY item)`).Scan(&have); err != nil {
			n.t.Fatal(err)
		}
		if have == want {
			return
		}
		select {
		case c := <-n.told:
			n.count(c)
		case <-late:
			st, err := n.Status(context.Background())
			n.t.Fatalf("%s has %q, want %q; %+v, %v", filepath.Base(n.path), have, want, st, err)
		}
	}
}

func (n *node) count(c rowmesh.Change) {
	if c.Schema.Table == "stock" {
		n.seen[c.Key.String()]++
	}
}

// inSync waits until the peer's hubs hold all that was written here, and the peer all that they hold.
func (n *node) inSync() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	if err := n.Sync(ctx); err != nil {
		n.t.Fatal(err)
	}
	st, err := n.Status(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	if head := st.Replica.Coverage[st.Replica.Origin]; st.Replica.Acked != head {
		n.t.Fatalf("a hub holds all, and says so up to %s of %s", st.Replica.Acked, head)
	}
}

// acked reports whether a hub is known to hold all that was written here.
func (n *node) acked() bool {
	n.t.Helper()
	st, err := n.Status(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return st.Replica.Acked == st.Replica.Coverage[st.Replica.Origin]
}

// awaitHubs waits until a spoke's list of hubs is in these states.
func (n *node) awaitHubs(states ...string) {
	n.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		st, err := n.Status(n.t.Context())
		if err != nil {
			n.t.Fatal(err)
		}
		have := []string{}
		for _, h := range st.Hubs {
			have = append(have, h.State)
		}
		if fmt.Sprint(have) == fmt.Sprint(states) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			n.t.Fatalf("its hubs are %q, want %q", have, states)
		}
	}
}

// equal demands that all hold the same rows with the same stamps.
func equal(t *testing.T, nodes ...*node) {
	t.Helper()
	var first [32]byte
	for i, n := range nodes {
		sum, err := n.Digest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = sum
		} else if sum != first {
			t.Errorf("%s and %s differ", filepath.Base(nodes[0].path), filepath.Base(n.path))
		}
	}
}

// founded makes the table on a hub whose database is new, before its peer runs.
func founded(t *testing.T, name string) *node {
	n := newNode(t, name)
	db, err := sql.Open("sqlite", "file:"+n.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE stock(item TEXT PRIMARY KEY, amount INTEGER)`); err != nil {
		t.Fatal(err)
	}
	return n
}

// work is a day at three shops: what one writes comes to all, each goes on while the hub is down, and all catch up.
func work(t *testing.T, hub, a, b *node, restart func()) {
	a.ready()
	b.ready()
	a.add("apple")
	b.holds("apple")
	b.add("bread")
	a.holds("apple", "bread")
	hub.holds("apple", "bread")
	a.inSync()
	b.inSync()

	hub.stop()
	a.add("cheese")
	b.add("dates")
	b.exec(`DELETE FROM stock WHERE item = 'apple'`)
	a.holds("apple", "bread", "cheese") // it goes on alone
	b.holds("bread", "dates")
	if a.acked() || b.acked() {
		t.Fatal("what nobody else holds counts as in sync")
	}

	restart()
	for _, n := range []*node{a, b, hub} {
		n.holds("bread", "cheese", "dates")
	}
	a.inSync()
	b.inSync()
	equal(t, hub, a, b)
}

// TestL10HubBinds: L-7, L-8, L-10, L-11. The hub listens, and the spokes connect to it: for programs behind firewalls.
func TestL10HubBinds(t *testing.T) {
	t.Parallel()
	hub, a, b := founded(t, "hub"), newNode(t, "a"), newNode(t, "b")
	hub.start("node=primary", "bind=tcp://127.0.0.1:0", "allow="+a.id+","+b.id)
	at := hub.addr()
	a.start("node=secondary", "hubs="+at)
	place, _, _ := strings.Cut(at, "/p2p/") // without the id, the spoke asks who is there, and whether that is allowed
	b.start("node=secondary", "hubs="+place, "allow="+hub.id)
	work(t, hub, a, b, func() { hub.start("node=primary", "bind="+at, "allow="+a.id+","+b.id) })
}

// TestL10HubDials: L-8, L-9, L-10, L-11. The spokes listen, and the hub connects to all of them: for a hub behind a firewall.
func TestL10HubDials(t *testing.T) {
	t.Parallel()
	hub, a, b := founded(t, "hub"), newNode(t, "a"), newNode(t, "b")
	a.start("node=secondary", "bind=tcp://127.0.0.1:0", "hubs="+hub.id)
	b.start("node=secondary", "bind=tcp://127.0.0.1:0", "hubs="+hub.id)
	settings := []string{"node=primary", "connect=" + a.addr() + "," + b.addr()}
	hub.start(settings...)
	work(t, hub, a, b, func() { hub.start(settings...) })
}

// TestL10Mixed: L-8, L-9, L-10, L-11. The hub listens for one spoke, and connects to the other.
func TestL10Mixed(t *testing.T) {
	t.Parallel()
	hub, a, b := founded(t, "hub"), newNode(t, "a"), newNode(t, "b")
	a.start("node=secondary", "bind=tcp://127.0.0.1:0", "hubs="+hub.id)
	hub.start("node=primary", "bind=tcp://127.0.0.1:0", "connect="+a.addr(), "allow="+b.id)
	at := hub.addr()
	b.start("node=secondary", "hubs="+at)
	work(t, hub, a, b, func() { hub.start("node=primary", "bind="+at, "connect="+a.addr(), "allow="+b.id) })
}

// TestL9FailOver: L-9, L-11. Two hubs keep each other in sync. A spoke uses the first of its list that works, goes on with the
// other when that one is gone, and returns some time after it is back. Nothing is lost, and nothing comes twice.
func TestL9FailOver(t *testing.T) {
	t.Parallel()
	one, two, a, b := founded(t, "one"), newNode(t, "two"), newNode(t, "a"), newNode(t, "b")
	spokes := "allow=" + a.id + "," + b.id
	one.start("node=primary", "bind=tcp://127.0.0.1:0", spokes+","+two.id)
	first := one.addr()
	two.start("node=primary", "bind=tcp://127.0.0.1:0", "hubs="+first, spokes).ready() // it joins the group of the other hub
	list := "hubs=" + first + "," + two.addr()
	a.start("node=secondary", list).ready()
	b.start("node=secondary", list).ready()
	a.add("apple")
	for _, n := range []*node{one, two, b} {
		n.holds("apple")
	}
	a.awaitHubs("in use", "standby")
	b.awaitHubs("in use", "standby")

	one.stop()
	a.add("bread")
	b.holds("apple", "bread") // by way of the second hub
	a.awaitHubs("tried", "in use")
	b.add("cheese")
	a.holds("apple", "bread", "cheese")
	a.inSync()

	one.start("node=primary", "bind="+first, list, spokes) // all may have the same list, also a hub that is in it
	one.holds("apple", "bread", "cheese")
	a.awaitHubs("in use", "standby")
	b.awaitHubs("in use", "standby")
	b.add("dates")
	for _, n := range []*node{one, two, a} {
		n.holds("apple", "bread", "cheese", "dates")
	}
	b.inSync()
	equal(t, one, two, a, b)
	for _, n := range []*node{a, b} {
		for item, times := range n.seen {
			if times != 1 {
				t.Errorf("%s took in %s %d times", filepath.Base(n.path), item, times)
			}
		}
	}
}

// TestL11HubReplaced: L-11, SS-4. The hub loses its database. The new one has the key of the old one and an empty database; it
// joins, and gets everything from the spokes, also what each had not handed on yet. What the lost hub held no longer
// counts as in sync.
func TestL11HubReplaced(t *testing.T) {
	t.Parallel()
	hub, a, b := founded(t, "hub"), newNode(t, "a"), newNode(t, "b")
	settings := []string{"hub=1", "allow=" + a.id + "," + b.id}
	hub.start(append(settings, "bind=tcp://127.0.0.1:0")...)
	at := hub.addr()
	a.start("node=secondary", "hubs="+at).ready()
	b.start("node=secondary", "hubs="+at).ready()
	a.add("apple")
	b.holds("apple")
	a.inSync()

	hub.stop()
	a.add("bread")
	b.add("cheese")
	files, err := filepath.Glob(hub.path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f != hub.path+".key" {
			if err := os.RemoveAll(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	hub.start(append(settings, "bind="+at, "join=1")...).ready()
	for _, n := range []*node{hub, a, b} {
		n.holds("apple", "bread", "cheese")
	}
	a.inSync()
	b.inSync()
	equal(t, hub, a, b)
}

// TestL10SpokesTalkToHubsOnly: L-10. A spoke has no link to another spoke, though each allows the other.
func TestL10SpokesTalkToHubsOnly(t *testing.T) {
	t.Parallel()
	hub, a, b := founded(t, "hub"), newNode(t, "a"), newNode(t, "b")
	hub.start("node=primary", "bind=tcp://127.0.0.1:0", "allow="+a.id+","+b.id)
	a.start("node=secondary", "bind=tcp://127.0.0.1:0", "hubs="+hub.addr(), "allow="+b.id).ready()
	if _, err := rowmesh.Open(t.Context(), "file:"+b.path+"?key="+b.path+".key&hubs="+hub.addr()+"&connect="+a.addr()); err == nil || !strings.Contains(err.Error(), "talks to hubs only") {
		t.Fatal(err)
	}
	b.start("node=secondary", "hubs="+hub.addr()).ready()
	to, err := network.ParseAddr(a.addr())
	if err != nil {
		t.Fatal(err)
	}
	b.Connect(to)
	a.add("apple")
	b.holds("apple")
	b.inSync()
	for _, n := range []*node{a, b} {
		st, err := n.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range st.Replica.Links {
			if l.Greeted && l.Peer != hub.id {
				t.Errorf("%s has a link to %s", filepath.Base(n.path), l.Peer)
			}
		}
	}
}
