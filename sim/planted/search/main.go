// Search N STORE traces prints how N seeds end. Search N STORE [shrink] runs N seeds, or those until one breaks a promise. It is built with a planted bug by the tests of the folder above.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/rowmesh/rowmesh/sim"
	"github.com/rowmesh/rowmesh/sim/sqlworld"
)

func main() {
	seeds, err := strconv.ParseUint(os.Args[1], 10, 64)
	if err != nil {
		panic(err)
	}
	lab, err := sqlworld.NewLab(sim.Schema)
	if err != nil {
		panic(err)
	}
	defer lab.Close()
	opt := sim.Options{SQL: lab.Medium}
	if len(os.Args) > 3 && os.Args[3] == "traces" {
		for seed := range seeds {
			fmt.Println(sim.Run(sim.Plan(sim.Config{Seed: seed, Steps: 1000, Store: sim.Store(os.Args[2])}), opt))
		}
		return
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		r := sim.Run(sim.Plan(sim.Config{Seed: seed, Store: sim.Store(os.Args[2])}), opt)
		if r.Err == nil {
			continue
		}
		fmt.Printf("caught seed=%d promise=%s\n", seed, r.Err.Promise)
		if len(os.Args) > 3 {
			began := time.Now()
			small := sim.Shrink(r.Case, opt, func() bool { return time.Since(began) < time.Minute })
			fmt.Printf("shrunk events=%d in %s\n%s%v\n", small.Events(), time.Since(began).Round(time.Millisecond), small, sim.Run(small, opt))
		}
		return
	}
	fmt.Println("missed")
}
