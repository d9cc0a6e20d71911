// Package uri holds the fuzz targets for what a person writes. They are apart from the others because they bring SQLite and
// libp2p with them: the search counts the branches of all code that it could run, and is four times slower then.
package uri

import (
	"testing"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/network"
)

func FuzzURI(f *testing.F) {
	f.Add("file:app.db?node=secondary&connect=tcp://10.0.0.1:7070&hub=0&mode=rw")
	f.Add("file:/a%20b?_pragma=x&tables=a,b")
	f.Fuzz(func(t *testing.T, s string) {
		c, rest, err := rowmesh.ParseURI(s)
		if err == nil && (c.Path == "" || rest == "") {
			t.Errorf("%q names no file: %+v, %q", s, c, rest)
		}
		if again, same, err2 := rowmesh.ParseURI(rest); err == nil && (err2 != nil || again.Path != c.Path || same != rest) {
			t.Errorf("%q leaves %q for SQLite, which names %q: %v", s, rest, again.Path, err2)
		}
	})
}

func FuzzAddr(f *testing.F) {
	f.Add("tcp://10.0.0.1:7070")
	f.Add("/ip4/127.0.0.1/tcp/1/p2p/12D3KooWQNV2UvRQVmA1rjVRcRdhLMzzYPCYkEC6KpM2BgzPLhyY")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := network.ParseAddr(s)
		if err != nil {
			return
		}
		if b, err := network.ParseAddr(a.String()); err != nil || b.String() != a.String() {
			t.Errorf("%q is read as %s, and that as %s, %v", s, a, b, err)
		}
	})
}
