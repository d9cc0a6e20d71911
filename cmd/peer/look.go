package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/network"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// patience is how long a command waits for other programs' transactions.
const patience = 10 * time.Second

// withBridge opens a database beside a running peer, or without one, for one look or one change.
func withBridge(c *cobra.Command, arg string, opt sqlbridge.Options, f func(context.Context, *sqlbridge.Bridge) error) error {
	cfg, _, err := database(arg)
	if err != nil {
		return err
	}
	opt.Path = cfg.Path
	if err := isDatabase(opt.Path); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(opt.Path))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := within(c, patience)
	defer cancel()
	b, _, err := sqlbridge.Open(ctx, db, opt)
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, b), b.Close())
}

// runsOn reports whether a peer runs on a database. It makes nothing beside a file where none ever did.
func runsOn(path string) bool {
	if _, err := os.Stat(sqlbridge.Dir(path)); err != nil {
		return false
	}
	_, running := sqlbridge.Running(path)
	return running
}

func trackCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "track DATABASE --all | TABLE...",
		Short: "Begin to track tables; a running peer notices",
		Long: "Track begins to track tables. A table that is tracked already and is named is compared as a whole: what was written to it\n" +
			"without its triggers is taken in as edits. A running peer notices; else the next start does it.",
		Args: tablesOrAll(&all),
		RunE: func(c *cobra.Command, args []string) error {
			return withBridge(c, args[0], sqlbridge.Options{Beside: true}, func(ctx context.Context, b *sqlbridge.Bridge) error {
				rep, err := b.Track(ctx, args[1:], !all)
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
				if all && len(rep.Tracked)+len(rep.Refused) == 0 {
					fmt.Fprintln(c.OutOrStdout(), "there is no table that is not tracked yet")
				}
				if len(rep.Refused) > 0 && !all {
					return fmt.Errorf("%d of %d tables cannot be tracked, for the reasons above", len(rep.Refused), len(args)-1)
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
		Args:  tablesOrAll(&all),
		RunE: func(c *cobra.Command, args []string) error {
			return withBridge(c, args[0], sqlbridge.Options{Beside: !all}, func(ctx context.Context, b *sqlbridge.Bridge) error {
				if !all {
					if err := b.Untrack(ctx, args[1:]); err != nil {
						return err
					}
					for _, t := range args[1:] {
						fmt.Fprintln(c.OutOrStdout(), "untracked:", t)
					}
					return nil
				}
				if err := b.Remove(ctx); err != nil {
					return err
				}
				fmt.Fprintln(c.OutOrStdout(), "untracked: all; nothing of rowmesh is left in", args[0])
				return nil
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
		Args:  oneDatabase,
		RunE: func(c *cobra.Command, args []string) error {
			return withBridge(c, args[0], sqlbridge.Options{Inspect: true}, func(ctx context.Context, b *sqlbridge.Bridge) error {
				if err := mustBeReady(ctx, b, args[0]); err != nil {
					return err
				}
				diffs, err := b.Verify(ctx)
				if err != nil {
					return err
				}
				for _, d := range diffs {
					fmt.Fprintf(c.OutOrStdout(), "%s %s: %s\n", d.Table, d.Key, d.What)
				}
				if len(diffs) > 0 {
					return fmt.Errorf("%s not as the merged state says, written without the triggers or not yet taken in; with peer track %s %s the peer compares the table and takes differences in as edits; where it is not the table that is wrong, peer audit compares with another peer", counted(len(diffs), "row is", "rows are"), args[0], diffs[0].Table)
				}
				fmt.Fprintf(c.OutOrStdout(), "ok: %s the merged state\n", counted(len(b.Tracked()), "table equals", "tables equal"))
				return nil
			})
		},
	}
}

// counted puts a number before what it counts.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// mustBeReady refuses a database that holds no copy of a group yet: there is nothing to say about it.
func mustBeReady(ctx context.Context, b *sqlbridge.Bridge, path string) error {
	f, err := b.Facts(ctx)
	if err == nil && !f.Ready {
		err = fmt.Errorf("%s is not ready yet: %s; peer run keeps it in sync", path, whyNotReady(f.Group != [16]byte{}))
	}
	return err
}

// whyNotReady says what a database without a whole copy of a group is about.
func whyNotReady(hasGroup bool) string {
	if hasGroup {
		return "a part of its first copy has come"
	}
	return "it has joined no group"
}

func digestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "digest DATABASE",
		Short: "Print a SHA-256 that is equal on databases that hold the same rows",
		Args:  oneDatabase,
		RunE: func(c *cobra.Command, args []string) error {
			return withBridge(c, args[0], sqlbridge.Options{Inspect: true}, func(ctx context.Context, b *sqlbridge.Bridge) error {
				if err := mustBeReady(ctx, b, args[0]); err != nil {
					return err
				}
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
	Schema   int64           `json:"schema_version"`
	Rows     int64           `json:"rows"`
	Outbox   int64           `json:"outbox"`
	Parked   int64           `json:"parked"`
	Unshown  int64           `json:"unshown"`
	Heads    map[string]head `json:"heads,omitempty"`
	Tables   []tableDoc      `json:"tables,omitempty"`
	Others   []string        `json:"not_tracked,omitempty"` // tables that nobody began to track
	Problem  string          `json:"problem,omitempty"`     // why the running peer did not answer; then live is what it said last
	Live     *rowmesh.Live   `json:"live"`                  // null where no peer runs
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
		Use:   "status DATABASE [--json]",
		Short: "Show what a database holds, what waits, and how things stand with other peers",
		Args:  oneDatabase,
		RunE: func(c *cobra.Command, args []string) error {
			silent := refreshLive(c, args[0])
			return withBridge(c, args[0], sqlbridge.Options{Inspect: true}, func(ctx context.Context, b *sqlbridge.Bridge) error {
				doc, err := readStatus(ctx, b, args[0])
				if err != nil {
					return err
				}
				if silent != nil {
					doc.Problem = silent.Error()
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

func readStatus(ctx context.Context, b *sqlbridge.Bridge, database string) (statusDoc, error) {
	path := b.Path()
	f, err := b.Facts(ctx)
	if err != nil {
		return statusDoc{}, err
	}
	doc := statusDoc{Database: database, Ready: f.Ready, Schema: f.SchemaVersion, Outbox: f.Outbox, Parked: f.Parked, Unshown: f.Unshown, Heads: map[string]head{}}
	doc.Running, doc.Others = runsOn(path), f.Others
	key := rowmesh.IdentityFile(path)
	if _, err := os.Stat(key); err == nil { // else it is elsewhere, or none was made yet
		if id, err := network.LoadIdentity(key); err == nil {
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
		doc.Tables = append(doc.Tables, tableDoc{t.Name, t.State, t.Reason, t.Rows})
		doc.Rows += t.Rows
	}
	if !doc.Running {
		return doc, nil
	}
	live, err := b.Live(ctx)
	if err == nil && live != "" {
		err = json.Unmarshal([]byte(live), &doc.Live)
		if doc.Live != nil && doc.Live.Peer != "" {
			doc.Peer = doc.Live.Peer
		}
	}
	return doc, err
}

// refreshLive asks the running peer to write how things stand. Where it does not, what it wrote last is shown, with the error.
func refreshLive(c *cobra.Command, arg string) error {
	if cfg, _, err := database(arg); err != nil || !runsOn(cfg.Path) {
		return nil
	}
	return withBridge(c, arg, sqlbridge.Options{Beside: true}, func(ctx context.Context, b *sqlbridge.Bridge) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := ask(ctx, b, "status")
		if errors.Is(err, context.DeadlineExceeded) {
			return errors.New("no answer within a second")
		}
		return err
	})
}

// ask leaves a request for the running peer and waits for its answer. One that is not waited for any more is withdrawn.
func ask(ctx context.Context, b *sqlbridge.Bridge, what string) (answer string, err error) {
	n, err := b.Ask(ctx, what)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for err == nil {
		var state, detail string
		state, detail, err = b.Answered(ctx, n)
		switch {
		case err != nil:
			continue
		case state == sqlbridge.RequestDone:
			return detail, nil
		case state == sqlbridge.RequestNoPeer:
			return "", fmt.Errorf("%w%s", rowmesh.ErrNoPeer, strings.TrimPrefix(detail, rowmesh.ErrNoPeer.Error()))
		case state == sqlbridge.RequestFailed:
			return "", errors.New(detail)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if n == 0 {
		return "", err // it was not left
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return "", errors.Join(err, b.Withdraw(last, n))
}

func printStatus(c *cobra.Command, d statusDoc) {
	out := c.OutOrStdout()
	state := "not running"
	if d.Running {
		state = "running"
	}
	ready := "not ready: " + whyNotReady(d.Group != "" && strings.Trim(d.Group, "0") != "")
	if d.Ready {
		ready = "ready"
	}
	fmt.Fprintf(out, "%s  %s, %s\n", d.Database, state, ready)
	if d.Problem != "" {
		fmt.Fprintf(out, "problem the running peer does not answer (%s): what is said of other peers may be old; its log says why\n", d.Problem)
	}
	if d.Peer != "" {
		fmt.Fprintf(out, "id      %s\n", d.Peer)
	}
	if d.Group != "" {
		fmt.Fprintf(out, "group   %s\norigin  %s\n", d.Group, d.Origin)
	}
	fmt.Fprintf(out, "rows    %d merged, %d edits to take in, %d parked, %d not shown\n", d.Rows, d.Outbox, d.Parked, d.Unshown)
	if d.Live != nil {
		printLive(out, d.Live)
	}
	for _, t := range d.Tables {
		fmt.Fprintf(out, "table   %-24s %-10s %8d rows", t.Name, t.State, t.Rows)
		if t.Reason != "" {
			fmt.Fprintf(out, "  (%s)", t.Reason)
		}
		fmt.Fprintln(out)
	}
	for _, name := range d.Others {
		fmt.Fprintf(out, "table   %-24s not tracked (peer track %s %s)\n", name, d.Database, name)
	}
}

func printLive(out io.Writer, live *rowmesh.Live) {
	fmt.Fprintf(out, "role    %s", live.Role)
	if len(live.Addrs) > 0 {
		fmt.Fprintf(out, ", listens at %s", strings.Join(live.Addrs, ", "))
	}
	fmt.Fprintln(out)
	fmt.Fprintf(out, "own     %s\n", describeSync(live.Sync))
	for i, h := range live.Hubs {
		fmt.Fprintf(out, "hub %-3d %s  %s\n", i+1, h.Address, h.State)
	}
	if live.Mesh != nil {
		fmt.Fprintf(out, "mesh    %s\n", describeMesh(*live.Mesh))
	}
	if live.Progress != nil {
		fmt.Fprintf(out, "copy    %s\n", describeProgress(*live.Progress))
	}
	if len(live.Peers) == 0 {
		fmt.Fprintln(out, "peers   none is connected")
	}
	now := time.Now()
	for _, p := range live.Peers {
		fmt.Fprintf(out, "peer    %s  %s\n", p.Peer, describe(p, now))
	}
}

// describeSync says how much of what was written here others hold durably.
func describeSync(s rowmesh.LiveSync) string {
	by := s.Target
	if by == "hub" {
		by = "a hub"
	}
	switch {
	case s.Head == 0:
		return "nothing was written here under this origin"
	case s.InSync:
		return "all that was written here is held by " + by
	case s.Acked == 0: // the definitions of tables count too
		return "nothing that was written here is known to be held by " + by
	}
	return fmt.Sprintf("what was written here is held by %s up to %s, but not the last %s", by, s.Acked.Time().Format("2006-01-02 15:04:05.000 MST"),
		short(time.Duration(s.LagMS)*time.Millisecond))
}

// describeMesh says how many of the peers that were found are dialled, and why not all of them.
func describeMesh(m rowmesh.LiveMesh) string {
	if m.Found == 0 {
		return "no allowed peer is found on the local network"
	}
	text := counted(m.Found, "allowed peer is found", "allowed peers are found") + " on the local network, "
	if m.Dialed >= m.Found {
		return text + "all are dialled"
	}
	return text + fmt.Sprintf("%d are dialled: in a group of %d that is enough, for changes are forwarded", m.Dialed, m.Members)
}

// describe says how things stand with a peer.
func describe(p rowmesh.LivePeer, now time.Time) string {
	var text string
	switch p.State {
	case "level":
		text = "level"
	case "behind":
		text = "behind " + short(time.Duration(p.BehindMS)*time.Millisecond)
	case "ahead":
		text = "level here, sending"
	case "greeting":
		return "connected, not yet heard"
	default:
		return p.State + ": " + forPeople(errors.New(p.Reason))
	}
	if p.Hub {
		text = "hub, " + text
	}
	if p.LagMS > 0 {
		text += fmt.Sprintf(", lacks the last %s of what was written here", short(time.Duration(p.LagMS)*time.Millisecond))
	}
	text += fmt.Sprintf(", heard %s ago", short(now.Sub(time.UnixMilli(p.HeardMS))))
	if off := time.Duration(p.OffsetMS) * time.Millisecond; off.Abs() >= time.Second {
		text += fmt.Sprintf(", its clock is off by %+.0f s", off.Seconds())
	}
	return text
}

// short is a duration as people say it.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return "less than 1 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return d.Round(time.Minute).String()
}

func syncCommand() *cobra.Command {
	var f runFlags
	var limit time.Duration
	c := &cobra.Command{
		Use:   "sync DATABASE [flags]",
		Short: "Make one round with every connected peer and wait until it is done",
		Long:  "Sync asks the running peer for a round. Where none runs, it connects by itself, with the flags of peer run.",
		Args:  oneDatabase,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := within(c, limit)
			defer cancel()
			cfg, uri, err := f.config(args[0])
			if err != nil {
				return err
			}
			if runsOn(cfg.Path) {
				return askForSync(ctx, c, args[0])
			}
			p, err := openToSync(ctx, cfg, uri)
			if err != nil {
				return err
			}
			defer p.Close()
			stop := showProgress(c.ErrOrStderr(), "syncing", p.Progress)
			err = p.Sync(ctx)
			stop()
			if errors.Is(err, context.DeadlineExceeded) {
				err = notInTime(p, limit)
			}
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

// openToSync starts a peer where none runs.
func openToSync(ctx context.Context, cfg rowmesh.Config, uri string) (*rowmesh.Peer, error) {
	if len(cfg.Connect)+len(cfg.Hubs)+len(cfg.Listen) == 0 {
		return nil, fmt.Errorf("%w: no peer runs on %s, and there is none to connect to; name one with --connect", rowmesh.ErrNoPeer, cfg.Path)
	}
	return rowmesh.Open(ctx, uri, rowmesh.WithConfig(cfg))
}

// notInTime says why a round was not finished.
func notInTime(p *rowmesh.Peer, limit time.Duration) error {
	st, err := p.Status(context.Background())
	switch {
	case err != nil:
		return err
	case len(st.Replica.Links) > 0:
		return fmt.Errorf("%w: a peer is connected, but the round was not finished in %s; give it more --timeout", context.DeadlineExceeded, limit)
	case len(st.Failed) > 0:
		return fmt.Errorf("%w in %s: %s", rowmesh.ErrNoPeer, limit, strings.Join(st.Failed, "; "))
	}
	return fmt.Errorf("%w in %s: see that one runs and that the two allow each other", rowmesh.ErrNoPeer, limit)
}

// askForSync asks the running peer through the database.
func askForSync(ctx context.Context, c *cobra.Command, arg string) error {
	stop := showProgress(c.ErrOrStderr(), "syncing", nil)
	defer stop()
	return withBridge(c, arg, sqlbridge.Options{Beside: true}, func(_ context.Context, b *sqlbridge.Bridge) error {
		_, err := ask(ctx, b, "sync")
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%w, or the round was not finished in time, or the replica is stopped: peer status %s and the log of the peer say which", rowmesh.ErrNoPeer, arg)
		case err != nil:
			return err
		}
		stop()
		fmt.Fprintln(c.OutOrStdout(), "in sync")
		return nil
	})
}
