// Search runs seeds until one breaks a promise. It is built with a planted bug by the tests of the folder above.
package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/rowmesh/rowmesh/sim"
)

func main() {
	seeds, err := strconv.ParseUint(os.Args[1], 10, 64)
	if err != nil {
		panic(err)
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		r := sim.RunSeed(sim.Config{Seed: seed})
		if r.Err == nil {
			continue
		}
		fmt.Printf("caught seed=%d promise=%s\n", seed, r.Err.Promise)
		if len(os.Args) > 2 {
			small := sim.Shrink(r.Case, sim.Options{}, nil)
			fmt.Printf("shrunk events=%d\n%s%v\n", small.Events(), small, sim.Run(small, sim.Options{}))
		}
		return
	}
	fmt.Println("missed")
}
