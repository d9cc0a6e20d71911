package sim

import "testing"

func BenchmarkScale(b *testing.B) {
	for b.Loop() {
		b.Log(Scale{Seed: 1, Nodes: 1000, Writers: 20, Messages: 20, Warmup: 2, PerS: 20, Topology: Mesh}.Run())
	}
}
