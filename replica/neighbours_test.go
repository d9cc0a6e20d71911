package replica

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// distance is the round trip between two peers of five regions.
func distance(a, b int) time.Duration {
	d := time.Duration(uint64(min(a, b)*1000+max(a, b))*0x9e3779b97f4a7c15>>32%1000) * time.Millisecond
	if a%5 == b%5 {
		return 4*time.Millisecond + d/80
	}
	return 60*time.Millisecond + d/6
}

func meshOf(n int, gone func(int) bool) (links []map[int]bool, near int) {
	links = make([]map[int]bool, n)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	for i := range links {
		links[i] = map[int]bool{}
	}
	for i := range n {
		others := make([]Candidate, 0, n)
		for j := range n {
			if j != i && !gone(i) && !gone(j) {
				others = append(others, Candidate{ID: names[j], RTT: distance(i, j)})
			}
		}
		for _, id := range Neighbours(names[i], others) {
			j := slices.Index(names, id)
			links[i][j], links[j][i] = true, true
		}
	}
	for i, l := range links {
		for j := range l {
			if i%5 == j%5 {
				near++
			}
		}
	}
	return links, near
}

func reached(links []map[int]bool, from int, gone func(int) bool) int {
	seen := map[int]bool{from: true}
	for next := []int{from}; len(next) > 0; next = next[1:] {
		for j := range links[next[0]] {
			if !seen[j] && !gone(j) {
				seen[j] = true
				next = append(next, j)
			}
		}
	}
	return len(seen)
}

// TestNeighbours: a small group is linked fully, a large one with about eight links a peer, most of them near, and stays in
// one piece when a tenth of it is gone.
func TestNeighbours(t *testing.T) {
	nobody := func(int) bool { return false }
	for _, n := range []int{1, 2, 64, 65, 200, 1000} {
		links, near := meshOf(n, nobody)
		sum, least, most := 0, n, 0
		for i, l := range links {
			if l[i] {
				t.Errorf("of %d, %d dials itself", n, i)
			}
			sum, least, most = sum+len(l), min(least, len(l)), max(most, len(l))
		}
		t.Logf("%d peers: %.2f links each, %d to %d, %.2f of them near", n, float64(sum)/float64(n), least, most, float64(near)/float64(n))
		if n <= FullMesh {
			if sum != n*(n-1) {
				t.Errorf("%d peers are not linked fully", n)
			}
			continue
		}
		if mean := float64(sum) / float64(n); mean < 7 || mean > 8.5 || most > 24 || least < dialAll {
			t.Errorf("%d peers: %.1f links each, %d to %d", n, mean, least, most)
		}
		if part := float64(near) / float64(sum); part < 0.5 || part > 0.75 {
			t.Errorf("%d peers: %.2f of the links are near", n, part)
		}
		tenth := func(i int) bool { return i%10 == 3 }
		alive := n - (n+6)/10
		if got := reached(links, 0, tenth); got != alive {
			t.Errorf("of %d, a tenth is gone, and one reaches %d of %d", n, got, alive)
		}
	}
}

// TestNeighboursStay: one peer more or less changes few links.
func TestNeighboursStay(t *testing.T) {
	before, _ := meshOf(300, func(int) bool { return false })
	after, _ := meshOf(300, func(i int) bool { return i == 7 })
	changed, all := 0, 0
	for i := range before {
		for j := range before[i] {
			if all++; i != 7 && j != 7 && !after[i][j] {
				changed++
			}
		}
	}
	if changed*20 > all {
		t.Errorf("%d of %d links changed", changed, all)
	}
}

// TestNeighboursUnmeasured: without round-trip times the choice is random.
func TestNeighboursUnmeasured(t *testing.T) {
	var others []Candidate
	for i := range 100 {
		others = append(others, Candidate{ID: fmt.Sprint(i)})
	}
	got := Neighbours("x", others)
	slices.Reverse(others)
	if again := Neighbours("x", others); len(got) != dialAll || !slices.Equal(got, again) {
		t.Errorf("%v, and then %v", got, again)
	}
}
