package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/network"
)

// runFlags are the flags of peer run, as text.
type runFlags struct {
	bind, connect, hubs, allow, tables, relays []string
	hub, found, mine, join, logs               bool
	discover, relaying, punch, masked          bool
	key, record, acks                          string
}

func (f *runFlags) add(c *cobra.Command) {
	fl := c.Flags()
	fl.StringSliceVar(&f.bind, "bind", nil, "listen at these `ADDRESSES`, such as tcp://0.0.0.0:7070 or quic://0.0.0.0:7070")
	fl.StringSliceVar(&f.connect, "connect", nil, "keep links to the peers at these `ADDRESSES`, such as tcp://10.0.0.5:7070/p2p/ID")
	fl.StringSliceVar(&f.hubs, "hubs", nil, "talk to hubs only: to the first of these `ADDRESSES` that works (the id alone of one that connects to here)")
	fl.StringSliceVar(&f.allow, "allow", nil, "`IDS` of peers that may connect")
	fl.BoolVar(&f.discover, "discover", false, "find allowed peers on the local network by multicast DNS, and be found there")
	fl.StringSliceVar(&f.relays, "relays", nil, "be reachable through the relays at these `ADDRESSES`, each with its /p2p/ID")
	fl.BoolVar(&f.relaying, "relaying", false, "be a relay between the allowed peers")
	fl.BoolVar(&f.punch, "punch", false, "try for a direct connection where one leads through a relay")
	fl.StringSliceVar(&f.tables, "tables", nil, "track and show only these `TABLES`")
	fl.BoolVar(&f.hub, "hub", false, "serve many others; begins the group if there is none, unless there are other --hubs")
	fl.StringVar(&f.acks, "acks", "", "what is written here is in sync when so `MANY` others hold it durably: hub, or a number (default: hub with --hubs, else 1)")
	fl.BoolVar(&f.found, "new", false, "begin a new group with this database")
	fl.BoolVar(&f.join, "join", false, "never begin a group: wait for one")
	fl.BoolVar(&f.mine, "mine", false, "when joining with rows of its own: they count as written now")
	fl.StringVar(&f.key, "key", "", "`FILE` of the peer's identity (default: in the directory beside the database)")
	fl.StringVar(&f.record, "record", "", "record the replica to this `FILE`, for peer sim replay; it holds rows, as the database does")
	fl.BoolVar(&f.masked, "record-masked", false, "put other keys and values in the recording, so that it can be given away")
	fl.BoolVarP(&f.logs, "verbose", "v", false, "log connections too")
}

// database reads an argument that names a database: a path, or a URI with keys.
func database(arg string) (cfg rowmesh.Config, uri string, err error) {
	if !strings.HasPrefix(arg, "file:") {
		if path, keys, ok := strings.Cut(arg, "?"); ok && strings.Contains(keys, "=") {
			return cfg, arg, usageError{fmt.Errorf("%s: a database with keys is written file:%s?%s", arg, path, keys)}
		}
		arg = "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(arg)
	}
	if cfg, _, err = rowmesh.ParseURI(arg); err != nil {
		return cfg, arg, usageError{err}
	}
	return cfg, arg, nil
}

// config reads the argument that names a database, and lets flags add to it.
func (f *runFlags) config(arg string) (cfg rowmesh.Config, uri string, err error) {
	c, arg, err := database(arg)
	if err != nil {
		return c, arg, err
	}
	if err := mayBeDatabase(c.Path); err != nil {
		return c, arg, err
	}
	for _, to := range []struct {
		list  *[]network.Addr
		given []string
	}{{&c.Listen, f.bind}, {&c.Connect, f.connect}, {&c.Relays, f.relays}} {
		for _, s := range to.given {
			a, err := network.ParseAddr(s)
			if err != nil {
				return c, arg, usageError{err}
			}
			*to.list = append(*to.list, a)
		}
	}
	for _, s := range f.hubs {
		a, err := network.ParseHub(s)
		if err != nil {
			return c, arg, usageError{err}
		}
		c.Hubs = append(c.Hubs, a)
	}
	if f.acks != "" {
		if c.Acks, err = rowmesh.ParseAcks(f.acks); err != nil {
			return c, arg, usageError{err}
		}
	}
	for _, s := range f.allow {
		id, err := network.ParsePeerID(s)
		if err != nil {
			return c, arg, usageError{err}
		}
		c.Allow = append(c.Allow, id)
	}
	c.Tables = append(c.Tables, f.tables...)
	c.Hub, c.New, c.Mine, c.Join = c.Hub || f.hub, c.New || f.found, c.Mine || f.mine, c.Join || f.join
	c.Discover, c.Relaying, c.Punch = c.Discover || f.discover, c.Relaying || f.relaying, c.Punch || f.punch
	if f.record != "" {
		c.Record = f.record
	}
	if c.Masked = c.Masked || f.masked; c.Masked && c.Record == "" {
		return c, arg, usageError{errors.New("--record-masked says how to record: name the file with --record FILE")}
	}
	if f.key != "" {
		c.Identity = f.key
	}
	if err := c.Check(); err != nil {
		return c, arg, usageError{err}
	}
	level := slog.LevelWarn
	if f.logs {
		level = slog.LevelInfo
	}
	c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	return c, arg, nil
}

func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run DATABASE [flags]",
		Short: "Keep a database in sync for as long as this runs",
		Long: "Run keeps a database in sync until it is interrupted. With nobody to connect to (or with --hub or --new) it\n" +
			"begins a group and tracks every table that can be tracked; else it joins the group of the peer it connects to.",
		Args: oneDatabase,
		RunE: func(c *cobra.Command, args []string) error {
			cfg, uri, err := f.config(args[0])
			if err != nil {
				return err
			}
			cfg.Alone = true
			return runPeer(c.Context(), c.OutOrStdout(), cfg, uri)
		},
	}
	f.add(c)
	return c
}

func runPeer(ctx context.Context, out io.Writer, cfg rowmesh.Config, uri string) error {
	_, missing := os.Stat(cfg.Path)
	key := cmp.Or(cfg.Identity, rowmesh.IdentityFile(cfg.Path))
	_, noKey := os.Stat(key)
	p, err := rowmesh.Open(ctx, uri, rowmesh.WithConfig(cfg))
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // interrupted while it waited for the lock
	}
	if err != nil {
		return err
	}
	defer p.Close()
	if errors.Is(missing, os.ErrNotExist) {
		fmt.Fprintf(out, "new: there was no %s; it is made now\n", cfg.Path)
	}
	if errors.Is(noKey, os.ErrNotExist) {
		fmt.Fprintf(out, "new: this peer has a new id, with its key in %s\n", key)
	}
	printTracked(out, p)
	fmt.Fprintf(out, "listening id=%s addr=%s\n", p.ID(), strings.Join(p.Addrs(), ","))
	stop := showProgress(os.Stderr, "", p.Progress)
	err = p.WaitReady(ctx)
	stop()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return p.Close()
		}
		return err
	}
	st, err := p.Status(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range st.Facts.Tables {
		if t.State == "tracked" {
			names = append(names, t.Name)
		}
	}
	fmt.Fprintf(out, "ready id=%s addr=%s tables=%s\n", p.ID(), strings.Join(p.Addrs(), ","), strings.Join(names, ","))
	if len(names) == 0 {
		fmt.Fprintf(out, "no table is tracked: when there is one, peer track %s TABLE\n", cfg.Path)
	}
	<-ctx.Done()
	fmt.Fprintln(out, "stopping")
	return p.Close()
}

func printTracked(out io.Writer, p *rowmesh.Peer) {
	rep := p.TrackedAtStart()
	for _, r := range rep.Refused {
		fmt.Fprintf(out, "not tracked: %s: %s; %s\n", r.Table, r.Reason, r.Fix)
	}
	for _, w := range rep.Warnings {
		fmt.Fprintln(out, "warning:", w)
	}
}

func idCommand() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "id DATABASE",
		Short: "Print the id of the database's peer; make it if there is none",
		Args:  oneDatabase,
		RunE: func(c *cobra.Command, args []string) error {
			cfg, _, err := database(args[0])
			if err != nil {
				return err
			}
			if err := mayBeDatabase(cfg.Path); err != nil {
				return err
			}
			id, err := network.LoadIdentity(cmp.Or(key, cfg.Identity, rowmesh.IdentityFile(cfg.Path)))
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), id.PeerID())
			return nil
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "`FILE` of the identity, where peer run has the same flag")
	return cmd
}

// within bounds what a person waits for an answer from the running peer.
func within(c *cobra.Command, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.Context(), d)
}
