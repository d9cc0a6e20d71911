package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/network"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// patience is how long a command waits for other programs' transactions.
const patience = 10 * time.Second

// withBridge opens the database beside a running peer, or without one, for one look or one change.
func withBridge(c *cobra.Command, path string, opt sqlbridge.Options, f func(context.Context, *sqlbridge.Bridge) error) error {
	if info, err := os.Stat(path); err != nil {
		return fmt.Errorf("there is no database %s: check the path", path)
	} else if info.IsDir() {
		return fmt.Errorf("%s is a directory, not a database", path)
	}
	db, err := sql.Open("sqlite", "file:"+strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := within(c, patience)
	defer cancel()
	opt.Path = path
	b, _, err := sqlbridge.Open(ctx, db, opt)
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, b), b.Close())
}

func trackCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "track DATABASE --all | TABLE...",
		Short: "Begin to track tables; a running peer notices",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 1) {
				return usageError{errors.New("name the tables, or say --all")}
			}
			return withBridge(c, args[0], sqlbridge.Options{Beside: true}, func(ctx context.Context, b *sqlbridge.Bridge) error {
				rep, err := b.Track(ctx, args[1:])
				if err != nil {
					return err
				}
				for _, t := range rep.Tracked {
					fmt.Fprintln(c.OutOrStdout(), "tracked:", t)
				}
				for _, r := range rep.Refused {
					fmt.Fprintf(c.OutOrStdout(), "not tracked: %s: %s; %s\n", r.Table, r.Reason, r.Fix)
				}
				for _, w := range rep.Warnings {
					fmt.Fprintln(c.OutOrStdout(), "warning:", w)
				}
				if len(rep.Refused) > 0 && !all {
					return errors.New("not every table could be tracked")
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every table that can be tracked")
	return c
}

func untrackCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "untrack DATABASE --all | TABLE...",
		Short: "End the tracking of tables; --all leaves nothing of ours in the file",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 1) {
				return usageError{errors.New("name the tables, or say --all")}
			}
			return withBridge(c, args[0], sqlbridge.Options{Beside: !all}, func(ctx context.Context, b *sqlbridge.Bridge) error {
				if all {
					return b.Remove(ctx)
				}
				return b.Untrack(ctx, args[1:])
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every table; the peer must not run")
	return c
}

func verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify DATABASE",
		Short: "Check that the tables are what the merged state says",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withBridge(c, args[0], sqlbridge.Options{Inspect: true}, func(ctx context.Context, b *sqlbridge.Bridge) error {
				diffs, err := b.Verify(ctx)
				if err != nil {
					return err
				}
				for _, d := range diffs {
					fmt.Fprintf(c.OutOrStdout(), "%s %s: %s\n", d.Table, d.Key, d.What)
				}
				if len(diffs) > 0 {
					return fmt.Errorf("%d rows are not as the merged state says; a peer takes differences in as edits when it next looks at the whole table", len(diffs))
				}
				fmt.Fprintf(c.OutOrStdout(), "ok: %d tables equal the merged state\n", len(b.Tracked()))
				return nil
			})
		},
	}
}

func digestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "digest DATABASE",
		Short: "Print a SHA-256 that is equal on databases that hold the same rows",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withBridge(c, args[0], sqlbridge.Options{Inspect: true}, func(ctx context.Context, b *sqlbridge.Bridge) error {
				sum, err := b.Digest(ctx)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "%x\n", sum)
				return nil
			})
		},
	}
}

// statusDoc is what peer status --json prints.
type statusDoc struct {
	Database string          `json:"database"`
	Peer     string          `json:"peer"`
	Running  bool            `json:"running"`
	Ready    bool            `json:"db_is_ready"`
	Group    string          `json:"group,omitempty"`
	Origin   string          `json:"origin,omitempty"`
	Rows     int64           `json:"rows"`
	Outbox   int64           `json:"outbox"`
	Parked   int64           `json:"parked"`
	Unshown  int64           `json:"unshown"`
	Heads    map[string]head `json:"heads,omitempty"`
	Tables   []tableDoc      `json:"tables,omitempty"`
}

type head struct {
	Stamp string `json:"stamp"`
	Own   bool   `json:"own,omitempty"`
}

type tableDoc struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	Rows   int64  `json:"rows"`
}

func statusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status DATABASE",
		Short: "Show what a database holds and what waits",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withBridge(c, args[0], sqlbridge.Options{Inspect: true}, func(ctx context.Context, b *sqlbridge.Bridge) error {
				doc, err := readStatus(ctx, b, args[0])
				if err != nil {
					return err
				}
				if asJSON {
					enc := json.NewEncoder(c.OutOrStdout())
					enc.SetIndent("", "  ")
					return enc.Encode(doc)
				}
				printStatus(c, doc)
				return nil
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func readStatus(ctx context.Context, b *sqlbridge.Bridge, path string) (statusDoc, error) {
	f, err := b.Facts(ctx)
	if err != nil {
		return statusDoc{}, err
	}
	doc := statusDoc{Database: path, Ready: f.Ready, Rows: f.Rows, Outbox: f.Outbox, Parked: f.Parked, Unshown: f.Unshown, Heads: map[string]head{}}
	if _, err := os.Stat(sqlbridge.Dir(path)); err == nil {
		_, doc.Running = sqlbridge.Running(path)
		if id, err := network.LoadIdentity(sqlbridge.Dir(path) + "/identity.key"); err == nil {
			doc.Peer = id.PeerID().String()
		}
	}
	if !f.Origin.IsZero() {
		doc.Origin, doc.Group = f.Origin.String(), fmt.Sprintf("%x", f.Group)
	}
	for o, h := range f.Heads {
		doc.Heads[o.String()] = head{h.String(), o == f.Origin}
	}
	for _, t := range f.Tables {
		doc.Tables = append(doc.Tables, t2doc(t))
	}
	return doc, nil
}

func t2doc(t sqlbridge.TableFacts) tableDoc { return tableDoc{t.Name, t.State, t.Reason, t.Rows} }

func printStatus(c *cobra.Command, d statusDoc) {
	out := c.OutOrStdout()
	state := "not running"
	if d.Running {
		state = "running"
	}
	ready := "not ready: it has joined no group yet"
	if d.Ready {
		ready = "ready"
	}
	fmt.Fprintf(out, "%s  %s, %s\n", d.Database, state, ready)
	if d.Peer != "" {
		fmt.Fprintf(out, "peer    %s\n", d.Peer)
	}
	if d.Group != "" {
		fmt.Fprintf(out, "group   %s\norigin  %s\n", d.Group, d.Origin)
	}
	fmt.Fprintf(out, "rows    %d merged, %d edits to take in, %d parked, %d not shown\n", d.Rows, d.Outbox, d.Parked, d.Unshown)
	for _, t := range d.Tables {
		fmt.Fprintf(out, "  %-24s %-10s %8d rows", t.Name, t.State, t.Rows)
		if t.Reason != "" {
			fmt.Fprintf(out, "  (%s)", t.Reason)
		}
		fmt.Fprintln(out)
	}
}

func syncCommand() *cobra.Command {
	var f runFlags
	var limit time.Duration
	c := &cobra.Command{
		Use:   "sync DATABASE",
		Short: "Make one round with every connected peer and wait until it is done",
		Long:  "Sync asks the running peer for a round. Where none runs, it connects by itself, with the flags of peer run.",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := within(c, limit)
			defer cancel()
			if _, err := os.Stat(sqlbridge.Dir(args[0])); err == nil {
				if _, running := sqlbridge.Running(args[0]); running {
					return askForSync(ctx, c, args[0])
				}
			}
			cfg, err := f.config(args[0])
			if err != nil {
				return err
			}
			p, err := rowmesh.OpenConfig(ctx, cfg)
			if err != nil {
				return err
			}
			defer p.Close()
			stop := showProgress(c)
			err = p.Sync(ctx)
			stop()
			if err == nil {
				fmt.Fprintln(c.OutOrStdout(), "in sync")
			}
			return errors.Join(err, p.Close())
		},
	}
	f.add(c)
	c.Flags().DurationVar(&limit, "timeout", 30*time.Second, "how long to wait")
	return c
}

// askForSync asks the running peer through the database.
func askForSync(ctx context.Context, c *cobra.Command, path string) error {
	stop := showProgress(c)
	defer stop()
	return withBridge(c, path, sqlbridge.Options{Beside: true}, func(_ context.Context, b *sqlbridge.Bridge) error {
		n, err := b.Ask(ctx, "sync")
		if err != nil {
			return err
		}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			state, detail, err := b.Answered(ctx, n)
			switch {
			case err != nil:
				return err
			case state == "done":
				stop()
				fmt.Fprintln(c.OutOrStdout(), "in sync")
				return nil
			case state == "failed":
				return fmt.Errorf("%w: %s", rowmesh.ErrNoPeer, detail)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("%w in time: peer status and the running peer's log say why", rowmesh.ErrNoPeer)
			}
		}
	})
}

// showProgress turns a wheel on a terminal until it is stopped.
func showProgress(c *cobra.Command) (stop func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func() {}
	}
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(c.ErrOrStderr()), progressbar.OptionSetDescription("syncing"),
		progressbar.OptionSpinnerType(14), progressbar.OptionClearOnFinish())
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = bar.Add(1)
			case <-done:
				_ = bar.Finish()
				return
			}
		}
	}()
	once := false
	return func() {
		if !once {
			once = true
			close(done)
			<-gone
		}
	}
}
