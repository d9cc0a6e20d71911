package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

func auditCommand() *cobra.Command {
	var f runFlags
	var opt rowmesh.AuditOptions
	var repair, asJSON bool
	var limit time.Duration
	c := &cobra.Command{
		Use:   "audit DATABASE [--table TABLE] [--repair=false] [flags]",
		Short: "Compare every row with a connected peer's, and mend what is damaged",
		Long: "Audit compares what the database holds with what a connected peer holds, and mends on both sides what was lost or\n" +
			"changed by something that is no write. It asks the running peer. Where none runs, it connects by itself, with the flags\n" +
			"of peer run.",
		Args: oneDatabase,
		RunE: func(c *cobra.Command, args []string) error {
			opt.Dry = !repair
			ctx, cancel := within(c, limit)
			defer cancel()
			rep, err := audit(ctx, c, f, args[0], opt)
			if errors.Is(err, context.DeadlineExceeded) {
				err = fmt.Errorf("the audit was not finished in %s and is given up; give it more --timeout: %w", limit, err)
			}
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(c.OutOrStdout())
				enc.SetIndent("", "  ")
				err = enc.Encode(rep)
			} else {
				printAudit(c, rep)
			}
			if n := rep.Unmended(); err == nil && n > 0 {
				err = fmt.Errorf("%s not the same on both sides", counted(n, "row is", "rows are"))
			}
			return err
		},
	}
	f.add(c)
	fl := c.Flags()
	fl.StringSliceVar(&opt.Tables, "table", nil, "compare only these `TABLES`")
	fl.StringVar(&opt.Peer, "peer", "", "compare with the peer of this `ID` (default: a hub, else the one connected longest)")
	fl.BoolVar(&repair, "repair", true, "mend what differs; --repair=false only names it")
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	fl.DurationVar(&limit, "timeout", time.Hour, "how long to wait")
	return c
}

func audit(ctx context.Context, c *cobra.Command, f runFlags, arg string, opt rowmesh.AuditOptions) (rep rowmesh.AuditReport, err error) {
	cfg, uri, err := f.config(arg)
	if err != nil {
		return rep, err
	}
	stop := showProgress(c.ErrOrStderr(), "auditing", nil)
	defer stop()
	if runsOn(cfg.Path) {
		return askForAudit(ctx, c, arg, opt)
	}
	p, err := openToSync(ctx, cfg, uri)
	if err != nil {
		return rep, err
	}
	if err = p.Sync(ctx); err == nil {
		rep, err = p.Audit(ctx, opt)
	}
	return rep, errors.Join(err, p.Close())
}

// askForAudit asks the running peer through the database.
func askForAudit(ctx context.Context, c *cobra.Command, arg string, opt rowmesh.AuditOptions) (rep rowmesh.AuditReport, err error) {
	err = withBridge(c, arg, sqlbridge.Options{Beside: true}, func(_ context.Context, b *sqlbridge.Bridge) error {
		answer, err := ask(ctx, b, rowmesh.AuditRequest(opt))
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(answer), &rep)
	})
	return rep, err
}

func printAudit(c *cobra.Command, rep rowmesh.AuditReport) {
	out := c.OutOrStdout()
	for _, r := range rep.Rows {
		then := "mended"
		if !r.Mended {
			then = "not mended"
		}
		fmt.Fprintf(out, "%s %s: %s, %s\n", r.Table, r.Key, r.What, then)
	}
	if more := rep.Differ() - len(rep.Rows); more > 0 {
		fmt.Fprintf(out, "and %s\n", counted(more, "row more", "rows more"))
	}
	for _, t := range rep.Tables {
		if t.Differ == 0 && strings.HasPrefix(t.Table, "_rowmesh_") {
			continue // our own, such as the list of tables
		}
		fmt.Fprintf(out, "table   %-24s %8d rows compared, %d differ, %d mended\n", t.Table, t.Rows, t.Differ, t.Differ-t.Unmended)
	}
	if rep.Differ() == 0 {
		fmt.Fprintf(out, "ok: no row differs from those of %s; %s compared\n", rep.Peer, counted(rep.Segments, "segment was", "segments were"))
	}
}
