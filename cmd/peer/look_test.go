package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rowmesh/rowmesh"
)

// TestMeshIsExplained: peer status says that only some of the peers are dialled, and why that is enough.
func TestMeshIsExplained(t *testing.T) {
	for _, c := range []struct {
		m    *rowmesh.LiveMesh
		want string
	}{
		{nil, ""},
		{&rowmesh.LiveMesh{Members: 3}, "mesh    no allowed peer is found on the local network\n"},
		{&rowmesh.LiveMesh{Members: 3, Found: 1, Dialed: 1}, "mesh    1 allowed peer is found on the local network, all are dialled\n"},
		{&rowmesh.LiveMesh{Members: 200, Found: 150, Dialed: 5}, "mesh    150 allowed peers are found on the local network, 5 are dialled: in a group of 200 that is enough, for changes are forwarded\n"},
	} {
		var out bytes.Buffer
		printLive(&out, &rowmesh.Live{Mesh: c.m})
		if got := out.String(); !strings.Contains(got, c.want) || c.m == nil && strings.Contains(got, "mesh") {
			t.Errorf("%+v: %s", c.m, got)
		}
	}
}
