// Package sim is a seeded, virtual-time world that runs many real replicas through every fault.
//
// A World holds machines with clocks and disks, and links between them. One seed decides everything: who
// writes what and when, which messages are lost, doubled, late or damaged, which machines stop, lose their
// disk or get an old one back, whose clock jumps. The replicas, the store and the frame codec are the
// ones that users run; only time, disk and network are simulated. Checkers look at every commit and every
// frame; at the end all faults are healed and the replicas must agree with an oracle that knows nothing of
// merging, within a bounded time, and then fall silent.
//
//	r := sim.RunSeed(sim.Config{Seed: 42})      // r.Err says what was violated, and when
//	c := sim.Plan(sim.Config{Seed: 42})         // the same as a list of decisions, to be replayed or cut down
//
// docs/SIMULATION.md says how to run, read, replay and shrink, and how to write a scenario.
package sim
