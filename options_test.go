package rowmesh

import (
	"reflect"
	"strings"
	"testing"

	"github.com/rowmesh/rowmesh/network"
)

// TestParseURI: L-7. One string says all: keys of ours set the Config, those of SQLite are left to it, and what is wrong is
// named.
func TestParseURI(t *testing.T) {
	const id = "12D3KooWDbzx4yyU6SR7Ke9J9bEroz6v6AUwotZu84qGjhMdyfVg"
	at, who := mustAddr(t, "tcp://127.0.0.1:7070"), network.Addr{Peer: mustPeer(t, id)}
	for uri, want := range map[string]Config{
		"file:app.db": {},
		"file:app.db?node=primary&bind=tcp://127.0.0.1:7070&allow=" + id: {Hub: true, Listen: []network.Addr{at}, Allow: []network.PeerID{who.Peer}},
		"file:app.db?node=secondary&connect=tcp://127.0.0.1:7070,tcp://127.0.0.1:7070&relays=tcp://127.0.0.1:7070": {
			Join: true, Connect: []network.Addr{at, at}, Relays: []network.Addr{at}},
		"file:app.db?hubs=" + id + "&acks=2&tables=a,b&tables=c&key=k&record=r": {
			Hubs: []network.Addr{who}, Acks: 2, Tables: []string{"a", "b", "c"}, Identity: "k", Record: "r"},
		"file:app.db?hub&new=1&discover=yes&relaying=on&punch=true&join=&mine=0&record-masked=off": {
			Hub: true, New: true, Discover: true, Relaying: true, Punch: true, Join: true},
	} {
		want.Path = "app.db"
		if got, rest, err := ParseURI(uri); err != nil || rest != "file:app.db" || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %s, %v", uri, got, rest, err)
		}
	}
	if _, rest, err := ParseURI("file:app.db?mode=ro&_pragma=x&hub"); err != nil || rest != "file:app.db?_pragma=x&mode=ro" {
		t.Error(rest, err)
	}
	for uri, says := range map[string]string{
		"file:app.db?node=third": "primary or secondary", "file:app.db?hub=maybe": "1 or 0", "file:app.db?bind=here": "is not an address",
		"file:app.db?allow=me": "", "file:app.db?acks=0": "not a number of peers", "file:app.db?speed=9": "unknown key", "file::memory:": "in-memory", "http:x": "database URI",
		"file:app.db?hub=1;new=1": "with & between them", "file:app.db?tables=%zz": "with & between them", "file://app.db": "on the machine", "file://a/app.db": "file:a/app.db",
	} {
		if _, _, err := ParseURI(uri); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

func mustPeer(t *testing.T, s string) network.PeerID {
	t.Helper()
	id, err := network.ParsePeerID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
