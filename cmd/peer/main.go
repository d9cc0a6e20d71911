// Peer keeps the tables of a SQLite database the same on many machines. Run one beside each copy of the
// database; programs go on writing plain SQL.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rowmesh/rowmesh"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // not equal, or failed
	exitUsage  = 2
	exitNoPeer = 3
	exitBusy   = 4 // busy or locked
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func run(ctx context.Context, args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(os.Stderr, "peer:", text)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var usage usageError
	var simulated simError
	switch {
	case errors.As(err, &simulated):
		return simulated.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, rowmesh.ErrNoPeer):
		return exitNoPeer
	case errors.Is(err, sqlbridge.ErrLocked), errors.Is(err, context.DeadlineExceeded):
		return exitBusy
	}
	return exitFailed
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "peer",
		Short:         "Keep SQLite tables the same on many machines",
		Long:          "Peer keeps the tables of a SQLite database the same on many machines, peer to peer, offline first.\nRun one beside each copy of the database; programs go on writing plain SQL.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; peer %s --help shows the flags", err, c.Name())}
	})
	root.AddCommand(runCommand(), idCommand(), trackCommand(), untrackCommand(), statusCommand(), syncCommand(), verifyCommand(), digestCommand(), demoCommand(), simCommand())
	for _, c := range root.Commands() {
		if check := c.Args; check != nil {
			c.Args = func(c *cobra.Command, args []string) error {
				if err := check(c, args); err != nil {
					return usageError{fmt.Errorf("%w; the form is: %s", err, c.UseLine())}
				}
				return nil
			}
		}
	}
	root.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("there is no command %q; peer --help lists them", args[0])}
		}
		return nil
	}
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return root
}
