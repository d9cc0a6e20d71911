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
	ID  string
	RTT time.Duration // to it and back; zero: not known
}

// Neighbours chooses whom a peer dials in a mesh: everybody in a small group; in a large one a few, most of them near and the
// others anywhere, so that paths are short and no part of the group is on its own. Links are used in both directions,
// and every peer dials as many as dial it: about 8 links each, 5 of them near.
//
// The choice is the same at every call, differs from peer to peer, and changes little when the group does.
func Neighbours(self string, others []Candidate) (dial []string) {
	if len(others) < fullMesh {
		for _, c := range others {
			dial = append(dial, c.ID)
		}
		slices.Sort(dial)
		return dial
	}
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
	for _, c := range append(near[:min(len(near), few)], all...) {
		if len(dial) < dialAll && !slices.Contains(dial, c.ID) {
			dial = append(dial, c.ID)
		}
	}
	slices.Sort(dial)
	return dial
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
