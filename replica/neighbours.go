package replica

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"
)

// Candidate is a peer that could be dialled.
type Candidate struct {
	ID     string
	RTT    time.Duration // to it and back; zero: not known
	Linked bool          // there is a link to it
}

// Neighbours chooses whom a peer dials in a mesh: everybody in a small group; in a large one a few, most of them near and the
// others anywhere, so that paths are short and no part of the group is on its own. Links are used in both directions,
// and every peer dials as many as dial it: about 8 links each, 5 of them near.
//
// The choice is the same at every call, differs from peer to peer, and changes little when the group does. Mesh follows it while
// peers come and go.
func Neighbours(self string, others []Candidate) (dial []string) {
	return NewMesh(self, FullMesh).Choose(0, 0, others)
}

// preferred returns all in the order in which this peer would have them as neighbours in a large group.
func preferred(self string, others []Candidate) (out []Candidate) {
	all := make([]ranked, len(others))
	for i, c := range others {
		all[i] = ranked{c, weight(self, c.ID)}
	}
	slices.SortFunc(all, compareRanks)
	near := slices.DeleteFunc(slices.Clone(all), func(c ranked) bool { return c.RTT == 0 })
	slices.SortStableFunc(near, func(a, b ranked) int { return cmp.Compare(a.RTT, b.RTT) })
	near = near[:min(len(near), len(others)/nearPart)]
	slices.SortFunc(near, compareRanks)
	few := dialNear + int(weight(self, "")%2) // half of all peers dial one more that is near, and one less that is not
	near = near[:min(len(near), few)]
	for i, c := range slices.Concat(near, all) {
		if i < len(near) || !slices.Contains(near, c) {
			out = append(out, c.Candidate)
		}
	}
	return out
}

// ranked is a candidate with its place in the order in which this peer prefers all.
type ranked struct {
	Candidate
	rank uint64
}

func compareRanks(a, b ranked) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.ID, b.ID))
}

// weight is a number for two names that looks random.
func weight(a, b string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(a))))
	_, _ = h.Write([]byte(a + b))
	x := h.Sum64()
	x = (x ^ x>>32) * 0xd6e8feb86659fd93
	x = (x ^ x>>32) * 0xd6e8feb86659fd93
	return x ^ x>>32
}
