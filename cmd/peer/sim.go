package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rowmesh/rowmesh/sim"
	"github.com/rowmesh/rowmesh/sim/sqlworld"
)

// simError ends peer sim with an exit code of its own: 1 a broken promise, 2 no liveness, 3 not deterministic.
type simError struct{ code int }

func (simError) Error() string { return "" } // the last line of the run has said it

const (
	simBroken        = 1
	simNoLiveness    = 2
	simUndetermined  = 3
	simUsage         = 4
	soakGCPercent    = 400 // a world is small and soon over: memory for a fifth more seeds a second
	reexecutedOneIn  = 20  // of the seeds of a soak are run twice and compared
	sqlOneIn         = 50  // of the seeds have their replicas in databases
	progressSeeds    = 100 // after so many seeds the progress is noted
	shrinkFor        = time.Minute
	progressInterval = 2 * time.Second
)

func judge(r sim.Result) error {
	switch {
	case r.Err == nil:
		return nil
	case r.Err.Promise == "harness":
		return simError{simUsage}
	case strings.HasPrefix(r.Err.Text, "no liveness"):
		return simError{simNoLiveness}
	}
	return simError{simBroken}
}

// simFlags choose the cases of a run.
type simFlags struct {
	cfg                     sim.Config
	topology, faults, store string
}

func (f *simFlags) add(c *cobra.Command) {
	fl := c.Flags()
	fl.IntVar(&f.cfg.Steps, "steps", 3000, "about how many events the faulty phase has")
	fl.IntVar(&f.cfg.Replicas, "replicas", 0, "machines (0: 3 to 7, by the seed)")
	fl.StringVar(&f.topology, "topology", "", "mesh, star, ring or random (default: by the seed)")
	fl.StringVar(&f.faults, "faults", "swarm", "swarm, none, net, disk, clock or lies")
	fl.StringVar(&f.store, "store", "", "memory, disk or sql (default: memory or disk by the seed, sql for one in 50)")
}

func (f *simFlags) config() (sim.Config, error) {
	f.cfg.Topology, f.cfg.Faults, f.cfg.Store = sim.Topology(f.topology), sim.Faults(f.faults), sim.Store(f.store)
	if n := f.cfg.Replicas; n != 0 && (n < 2 || n > sim.MaxReplicas) {
		return f.cfg, fmt.Errorf("--replicas %d: between 2 and %d are possible, 0 leaves it to the seed", n, sim.MaxReplicas)
	}
	if f.cfg.Steps < 1 {
		return f.cfg, fmt.Errorf("--steps %d: at least 1", f.cfg.Steps)
	}
	switch f.cfg.Store {
	case "", sim.StoreMemory, sim.StoreDisk, sim.StoreSQL:
	default:
		return f.cfg, fmt.Errorf("there is no store %q: write memory, disk or sql", f.store)
	}
	switch f.cfg.Topology {
	case "", sim.Mesh, sim.Star, sim.Ring, sim.Random:
	default:
		return f.cfg, fmt.Errorf("there is no topology %q: write mesh, star, ring or random", f.topology)
	}
	switch f.cfg.Faults {
	case sim.FaultsSwarm, sim.FaultsNone, sim.FaultsNet, sim.FaultsDisk, sim.FaultsClock, sim.FaultsLies:
	default:
		return f.cfg, fmt.Errorf("there are no faults %q: write swarm, none, net, disk, clock or lies", f.faults)
	}
	return f.cfg, nil
}

// plan draws the case of a seed.
func plan(cfg sim.Config) *sim.Case {
	if cfg.Store == "" && cfg.Seed%sqlOneIn == 0 {
		cfg.Store = sim.StoreSQL
	}
	return sim.Plan(cfg)
}

// withSQL calls f with the options for a case, and databases where it wants some.
func withSQL(c *sim.Case, opt sim.Options, f func(sim.Options)) error {
	if !c.SQL {
		f(opt)
		return nil
	}
	lab, err := sqlworld.NewLab(sim.Schema)
	if err != nil {
		return simUse(err)
	}
	defer lab.Close()
	opt.SQL = lab.Medium
	f(opt)
	return nil
}

// runCase runs a case.
func runCase(c *sim.Case, opt sim.Options) (r sim.Result, err error) {
	err = withSQL(c, opt, func(opt sim.Options) { r = sim.Run(c, opt) })
	return r, err
}

// parseSeed reads a number, or a commit hash, of which it takes the first 16 digits.
func parseSeed(s string) (uint64, error) {
	if b, err := hex.DecodeString(s); err == nil && len(b) == 20 {
		return strconv.ParseUint(s[:16], 16, 64)
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no seed: write a number, or a commit hash of all its 40 digits", s)
	}
	return n, nil
}

func simCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run simulated groups through every fault, and replay any of them",
		Long: "Sim runs real replicas in a world of virtual time: one seed decides what they write, and what goes wrong.\n" +
			"Exit codes: 0 every promise was kept, 1 one was broken, 2 no agreement in time, 3 two runs of one seed differ, 4 wrong use.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(simRunCommand(), simSoakCommand(), simReplayCommand(), simShrinkCommand(), simScaleCommand())
	return c
}

func simRunCommand() *cobra.Command {
	var f simFlags
	var seed string
	c := &cobra.Command{
		Use: "run --seed N", Short: "Run one seed", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			cfg, err := f.config()
			if err == nil {
				cfg.Seed, err = parseSeed(seed)
			}
			if err != nil {
				return simUse(err)
			}
			plan := plan(cfg)
			out := c.OutOrStdout()
			fmt.Fprintf(out, "seed=%d replicas=%d links=%d actions=%d store=%s rates: %s\n", cfg.Seed, plan.Replicas, len(plan.Links), len(plan.Actions), plan.Store(), plan.Rates)
			r, err := runCase(plan, sim.Options{})
			if err != nil {
				return err
			}
			fmt.Fprint(out, r.Marks)
			printResult(out, r)
			return judge(r)
		},
	}
	f.add(c)
	c.Flags().StringVar(&seed, "seed", "1", "a number, or a whole commit hash")
	return c
}

func simUse(err error) error {
	fmt.Fprintln(os.Stderr, "peer:", err)
	return simError{simUsage}
}

func printResult(out io.Writer, r sim.Result) {
	fmt.Fprintln(out, r)
	if r.Err != nil {
		fmt.Fprintf(out, "replay: peer sim replay %d    shrink: peer sim shrink %d -o case.txt\n", r.Case.Seed, r.Case.Seed)
	}
}

func simSoakCommand() *cobra.Command {
	var f simFlags
	var s soak
	c := &cobra.Command{
		Use: "soak", Short: "Run many seeds", Args: cobra.NoArgs,
		Long: "Soak runs many seeds, runs one in 20 of them twice and compares, and at the end demands that every interesting state\n" +
			"was come by (for 1,000 seeds of the whole swarm or more). Failing cases are written to --out. With --out it goes on where it\n" +
			"was ended the last time.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return simUse(err)
			}
			if s.count < 1 || s.jobs < 1 {
				return simUse(fmt.Errorf("--count %d --jobs %d: at least 1 of each", s.count, s.jobs))
			}
			s.cfg, s.cmd = cfg, c
			return s.run(c.Context())
		},
	}
	f.add(c)
	fl := c.Flags()
	fl.Uint64Var(&s.from, "from", 1, "the first seed")
	fl.Uint64Var(&s.count, "count", 1000, "how many")
	fl.IntVar(&s.jobs, "jobs", runtime.GOMAXPROCS(0), "seeds at a time")
	fl.DurationVar(&s.budget, "budget", 0, "end after this long (0: never)")
	fl.StringVar(&s.out, "out", "", "directory for failing cases and progress")
	return c
}

// soak runs many seeds.
type soak struct {
	cfg         sim.Config
	cmd         *cobra.Command
	from, count uint64
	jobs        int
	budget      time.Duration
	out         string

	mu      sync.Mutex
	next    uint64
	running map[uint64]bool
	done    uint64
	events  int
	failed  int
	worst   error
	marks   sim.Marks
}

func (s *soak) run(ctx context.Context) error {
	if s.budget > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.budget)
		defer cancel()
	}
	s.marks, s.running = sim.Marks{}, map[uint64]bool{}
	end := s.from + s.count
	first, err := s.resume()
	if err != nil {
		return err
	}
	if first >= end {
		return simUse(fmt.Errorf("nothing to run: %s says that the seeds before %d are done; begin with --from %d, or remove it", s.progressFile(), first, first))
	}
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(soakGCPercent))
	}
	s.next = first
	began := time.Now()
	stop := s.progress(began)
	var wg sync.WaitGroup
	for range max(s.jobs, 1) {
		wg.Go(func() {
			for ctx.Err() == nil {
				seed, ok := s.take(end)
				if !ok {
					return
				}
				s.one(seed)
			}
		})
	}
	wg.Wait()
	stop()
	return s.finish(s.next, first, time.Since(began))
}

// take returns the next seed.
func (s *soak) take(end uint64) (seed uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next >= end {
		return 0, false
	}
	seed = s.next
	s.next++
	s.running[seed] = true
	return seed, true
}

// one runs a seed, and now and then again.
func (s *soak) one(seed uint64) {
	cfg := s.cfg
	cfg.Seed = seed
	c := plan(cfg)
	r, err := runCase(c, sim.Options{})
	if err == nil {
		err = judge(r)
	}
	if err == nil && seed%reexecutedOneIn == 0 {
		again, failed := runCase(c, sim.Options{})
		if err = failed; err == nil && again.Trace != r.Trace {
			err = simError{simUndetermined}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done++
	s.events += r.Stats.Events
	s.marks.Add(r.Marks)
	if delete(s.running, seed); s.done%progressSeeds == 0 {
		if err := s.save(); err != nil {
			fmt.Fprintln(s.cmd.ErrOrStderr(), "peer:", err)
		}
	}
	if err == nil {
		return
	}
	s.failed++
	s.worst = err
	out := s.cmd.OutOrStdout()
	if errors.As(err, new(simError)) && err.(simError).code == simUndetermined {
		fmt.Fprintf(out, "FAIL seed=%d two runs of it differ\n", seed)
	} else {
		printResult(out, r)
	}
	if s.out != "" {
		if err := os.WriteFile(filepath.Join(s.out, fmt.Sprintf("%d.case", seed)), []byte(r.Case.String()), 0o644); err != nil {
			fmt.Fprintln(s.cmd.ErrOrStderr(), "peer:", err)
		}
	}
}

// resume returns the first seed that is not done yet.
func (s *soak) resume() (uint64, error) {
	if s.out == "" {
		return s.from, nil
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return 0, err
	}
	b, err := os.ReadFile(s.progressFile())
	if errors.Is(err, os.ErrNotExist) {
		return s.from, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is damaged: remove it to begin anew: %w", s.progressFile(), err)
	}
	return max(n, s.from), nil
}

// save notes the first seed that is not done, for a soak that is killed.
func (s *soak) save() error {
	if s.out == "" {
		return nil
	}
	next := s.next
	for seed := range s.running {
		next = min(next, seed)
	}
	return os.WriteFile(s.progressFile(), fmt.Appendln(nil, next), 0o644)
}

func (s *soak) progressFile() string { return filepath.Join(s.out, "next-seed") }

func (s *soak) progress(began time.Time) (stop func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.mu.Lock()
				fmt.Fprintf(s.cmd.ErrOrStderr(), "\r%d of %d seeds, %d failed, %s", s.done, s.count, s.failed, s.speed(time.Since(began)))
				s.mu.Unlock()
			case <-done:
				fmt.Fprintln(s.cmd.ErrOrStderr())
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

func (s *soak) speed(d time.Duration) string {
	return fmt.Sprintf("%.0f seeds/s, %.0f events/s", float64(s.done)/d.Seconds(), float64(s.events)/d.Seconds())
}

func (s *soak) finish(next, first uint64, took time.Duration) error {
	out := s.cmd.OutOrStdout()
	if err := s.save(); err != nil {
		return err
	}
	fmt.Fprint(out, s.marks)
	missing := s.marks.Missing()
	whole := s.cfg.Faults == sim.FaultsSwarm && s.done >= 1000
	if s.worst == nil && whole && len(missing) > 0 {
		fmt.Fprintf(out, "FAIL seeds=%d-%d never came by: %s\n", first, next-1, strings.Join(missing, ", "))
		return simError{simBroken}
	}
	verdict := "PASS"
	if s.worst != nil {
		verdict = "FAIL"
	}
	fmt.Fprintf(out, "%s seeds=%d from=%d failed=%d events=%d wall=%s %s\n", verdict, s.done, first, s.failed, s.events, took.Round(time.Millisecond), s.speed(took))
	return s.worst
}

// readCase reads a case file, or plans a seed.
func readCase(f *simFlags, arg string) (*sim.Case, error) {
	if b, err := os.ReadFile(arg); err == nil {
		return sim.ParseCase(string(b))
	}
	cfg, err := f.config()
	if err != nil {
		return nil, err
	}
	if cfg.Seed, err = parseSeed(arg); err != nil {
		return nil, fmt.Errorf("%q is neither a case file nor a seed", arg)
	}
	return plan(cfg), nil
}

func simReplayCommand() *cobra.Command {
	var f simFlags
	var trace bool
	c := &cobra.Command{
		Use: "replay SEED|CASE|RECORDING", Short: "Run a seed, a case file, or what peer run --record wrote, and say what happens", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if recorded(args[0]) {
				return replayRecording(c.OutOrStdout(), args[0], trace)
			}
			plan, err := readCase(&f, args[0])
			if err != nil {
				return simUse(err)
			}
			opt := sim.Options{}
			if trace {
				opt.Log = c.OutOrStdout()
			}
			r, err := runCase(plan, opt)
			if err != nil {
				return err
			}
			printResult(c.OutOrStdout(), r)
			return judge(r)
		},
	}
	f.add(c)
	c.Flags().BoolVar(&trace, "trace", true, "one line for each thing that happens")
	return c
}

func simShrinkCommand() *cobra.Command {
	var f simFlags
	var file string
	c := &cobra.Command{
		Use: "shrink SEED|CASE", Short: "Cut a failing case down to a small one", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			plan, err := readCase(&f, args[0])
			if err != nil {
				return simUse(err)
			}
			late := time.Now().Add(shrinkFor)
			var small *sim.Case
			var r sim.Result
			err = withSQL(plan, sim.Options{}, func(opt sim.Options) {
				small = sim.Shrink(plan, opt, func() bool { return c.Context().Err() == nil && time.Now().Before(late) })
				r = sim.Run(small, opt)
			})
			if err != nil {
				return err
			}
			if r.Err == nil {
				fmt.Fprintln(c.OutOrStdout(), "it breaks no promise; nothing to shrink")
				return nil
			}
			fmt.Fprintf(c.OutOrStdout(), "%d events of %d are left\n", small.Events(), plan.Events())
			if file == "" {
				fmt.Fprint(c.OutOrStdout(), small)
			} else if err := os.WriteFile(file, []byte(small.String()), 0o644); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), r)
			return nil
		},
	}
	f.add(c)
	c.Flags().StringVarP(&file, "output", "o", "", "write the small case here")
	return c
}
