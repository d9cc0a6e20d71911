package sim

import "math/rand/v2"

// rng returns a generator that depends on the given numbers alone, so that a decision about one message or
// machine does not depend on how many decisions came before it.
func rng(seed uint64, about ...uint64) *rand.Rand {
	h := seed ^ 0x9e3779b97f4a7c15
	for _, a := range about {
		h = mix(h + a)
	}
	return rand.New(rand.NewPCG(mix(h), h))
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
