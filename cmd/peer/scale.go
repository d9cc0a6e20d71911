package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/sim"
)

func simScaleCommand() *cobra.Command {
	s, p := sim.Scale{}, sim.Phase{}
	var topology string
	var detail bool
	c := &cobra.Command{
		Use: "scale", Short: "Measure how blocks spread in a large group", Args: cobra.NoArgs,
		Long: "Scale runs a thousand replicas in five regions (2 to 8 ms within one, 30 to 120 ms between two, uplinks of 100 Mbit/s) and\n" +
			"measures how long blocks take to all of them, how often each comes, and how many bytes that costs. Without --topology\n" +
			"it measures the rows of docs/BENCHMARKS.md: a mesh of 8 links each, and a star, without faults, with\n" +
			"lost frames and with replicas that stop; and the mesh when every block goes over every link. It takes some minutes.",
		RunE: func(c *cobra.Command, _ []string) error {
			if s.Nodes < 2 || s.Writers < 1 || s.Writers > s.Nodes || s.Messages < 1 || s.Warmup < 0 || s.PerS <= 0 {
				return simUse(errors.New("at least 2 nodes, 1 writer of them, 1 transaction and a rate above 0 are needed"))
			}
			runs, phases := []sim.Scale{s}, []sim.Phase{p}
			switch t := sim.Topology(topology); t {
			case sim.Mesh, sim.Star:
				runs[0].Topology = t
			case "":
				runs, phases = scaleTable(s), []sim.Phase{{}, {Loss: 0.02}, {Crashes: 0.1}}
			default:
				return simUse(fmt.Errorf("there is no topology %q here: write mesh or star", topology))
			}
			return scale(c.Context(), c.OutOrStdout(), runs, phases, detail)
		},
	}
	fl := c.Flags()
	fl.Uint64Var(&s.Seed, "seed", 1, "of links, delays and losses")
	fl.IntVar(&s.Nodes, "nodes", 1000, "replicas")
	fl.IntVar(&s.Writers, "writers", 20, "of them write")
	fl.IntVar(&s.Messages, "messages", 300, "transactions that are measured")
	fl.IntVar(&s.Warmup, "warmup", 3, "transactions of each writer before that")
	fl.Float64Var(&s.PerS, "rate", 20, "transactions a second, of all writers")
	fl.Float64Var(&p.Loss, "loss", 0, "share of frames that are lost")
	fl.Float64Var(&p.Crashes, "crashes", 0, "share of nodes that stop")
	fl.BoolVar(&s.Flood, "flood", false, "every block goes over every link")
	fl.StringVar(&topology, "topology", "", "mesh or star (default: all rows of the table)")
	fl.BoolVar(&detail, "detail", false, "bytes of each kind of frame, too")
	return c
}

// scaleTable returns the runs of docs/BENCHMARKS.md for so many writers.
func scaleTable(s sim.Scale) []sim.Scale {
	mesh, star, flood := s, s, s
	mesh.Topology, star.Topology, flood.Topology = sim.Mesh, sim.Star, sim.Mesh
	flood.Flood = true
	return []sim.Scale{mesh, star, flood}
}

func scale(ctx context.Context, out io.Writer, runs []sim.Scale, phases []sim.Phase, detail bool) error {
	fmt.Fprintf(out, "%d replicas, %d writers, %d transactions after %d of each writer, seed %d\n\n", runs[0].Nodes, runs[0].Writers, runs[0].Messages, runs[0].Warmup, runs[0].Seed)
	fmt.Fprintln(out, "| | p50 / p99 / max | copies | by a session | bytes a replica and transaction: all / blocks / heads / sessions |")
	fmt.Fprintln(out, "| --- | --- | --- | --- | --- |")
	for _, s := range runs {
		if s.Flood {
			phases = phases[:1] // for comparison
		}
		done := make(chan []sim.Spread, 1)
		go func() { done <- s.Run(phases...) }()
		var results []sim.Spread
		select {
		case results = <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
		for _, r := range results {
			if r.Err != nil {
				fmt.Fprintln(out, r, r.Err)
				return simError{simBroken}
			}
			printSpread(out, r)
			if detail {
				fmt.Fprintln(out, r)
			}
		}
	}
	return nil
}

func printSpread(out io.Writer, r sim.Spread) {
	name := string(r.Scale.Topology)
	if r.Scale.Flood {
		name += ", flooding"
	}
	if r.Phase.Loss > 0 {
		name += fmt.Sprintf(", %g %% of frames lost", 100*r.Phase.Loss)
	}
	if r.Phase.Crashes > 0 {
		name += fmt.Sprintf(", %g %% of replicas stop", 100*r.Phase.Crashes)
	}
	session := r.ByType[replica.FramePull] + r.ByType[replica.FrameChunk] + r.ByType[replica.FrameDone]
	fmt.Fprintf(out, "| %s | %s / %s / %s | %.3f | %.1f %% | %.0f / %.0f / %.0f / %.0f |\n", name,
		ms(r.P50), ms(r.P99), ms(r.Max), r.Copies, 100*float64(r.Pulled)/float64(r.Deliveries), r.Bytes, r.ByType[replica.FrameBlocks], r.ByType[replica.FrameHeads], session)
}

func ms(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}
