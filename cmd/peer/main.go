// Peer keeps the tables of a SQLite database the same on many machines. Run one beside each copy of the
// database; programs go on writing plain SQL.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
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
	code := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}

// usageError is a mistake in the command line.
type usageError struct{ error }

// simUsageError is one in the command line of peer sim, which has exit codes of its own.
type simUsageError struct{ error }

func usageOf(c *cobra.Command, err error) error {
	if p := c.Parent(); c.Name() == "sim" || p != nil && p.Name() == "sim" {
		return simUsageError{err}
	}
	return usageError{err}
}

// run is the program; what went wrong it says on stderr.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	text := forPeople(err)
	if ctx.Err() != nil {
		text = strings.ReplaceAll(text, context.Canceled.Error(), "interrupted")
	}
	if text != "" {
		fmt.Fprintln(stderr, "peer:", text)
	}
	return exitCode(err)
}

// packageNames begin the parts of an error, for programmers.
var packageNames = regexp.MustCompile(`(^|: |; |\()((rowmesh|sqlbridge|network|replica|crdt): )+`)

// forPeople is an error in one line, without the names of packages.
func forPeople(err error) string {
	return packageNames.ReplaceAllString(strings.ReplaceAll(err.Error(), "\n", "; "), "$1")
}

func exitCode(err error) int {
	var usage usageError
	var simulated simError
	switch {
	case errors.As(err, &simulated):
		return simulated.code
	case errors.As(err, new(simUsageError)):
		return simUsage
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, rowmesh.ErrNoPeer):
		return exitNoPeer
	case errors.Is(err, sqlbridge.ErrLocked), errors.Is(err, sqlbridge.ErrBusy), errors.Is(err, context.DeadlineExceeded):
		return exitBusy
	}
	return exitFailed
}

// version is that of the module, which names the commit where it has no tag, and of Go. A recording replays with the version that made it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version + " " + info.GoVersion
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "peer",
		Short:         "Keep SQLite tables the same on many machines",
		Long:          "Peer keeps the tables of a SQLite database the same on many machines, peer to peer, offline first.\nRun one beside each copy of the database; programs go on writing plain SQL.",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageOf(c, fmt.Errorf("%w; %s --help shows the flags", err, c.CommandPath()))
	})
	root.AddCommand(runCommand(), idCommand(), trackCommand(), untrackCommand(), statusCommand(), syncCommand(), verifyCommand(), auditCommand(), digestCommand(), demoCommand(), simCommand())
	root.DisableFlagsInUseLine = true
	sayForm(root.Commands())
	root.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("there is no command %q; peer --help lists them", args[0])}
		}
		return nil
	}
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	root.SetHelpCommand(helpCommand(root))
	return root
}

// sayForm has the commands answer arguments that they do not take with the form that they have.
func sayForm(all []*cobra.Command) {
	for _, c := range all {
		sayForm(c.Commands())
		c.DisableFlagsInUseLine = true // it stands in Use where it helps
		if check := c.Args; check != nil {
			c.Args = func(c *cobra.Command, args []string) error {
				if err := check(c, args); err != nil {
					return usageOf(c, fmt.Errorf("%w; the form is: %s", err, c.UseLine()))
				}
				return nil
			}
		}
	}
}

func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Say what a command does",
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usageError{fmt.Errorf("there is no command %q; peer --help lists them", strings.Join(args, " "))}
			}
			return c.Help()
		},
	}
}

// oneDatabase checks that a command was given one database.
func oneDatabase(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return errors.New("name the database")
	case 1:
		return nil
	}
	return fmt.Errorf("one database at a time, not %d", len(args))
}

// tablesOrAll checks that a command was given a database, and either tables or --all.
func tablesOrAll(all *bool) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return errors.New("name the database and its tables")
		case *all && len(args) > 1:
			return errors.New("name the tables or say --all, not both")
		case !*all && len(args) == 1:
			return errors.New("name the tables, or say --all")
		}
		return nil
	}
}

// sqliteHeader is how a database file begins (https://www.sqlite.org/fileformat.html, section 1.3).
const sqliteHeader = "SQLite format 3\x00"

// beginsAsDatabase reports whether a file is a database as far as its header tells. An empty one is, and one that cannot be read may be.
func beginsAsDatabase(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close()
	head := make([]byte, len(sqliteHeader))
	n, err := io.ReadFull(f, head)
	return n == 0 || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || string(head[:n]) == sqliteHeader
}

// mayBeDatabase refuses a path at which there can be no database, before anything is made beside it, and before SQLite has the file open: to
// close it takes away the locks that this process has on it.
func mayBeDatabase(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory, not a database: name the file", path)
	} else if err == nil && info.Mode().IsRegular() && !beginsAsDatabase(path) {
		return fmt.Errorf("%s is not a SQLite database, or its beginning is damaged: check the path, or restore it from a backup", path)
	}
	if dir := filepath.Dir(path); !isDirectory(dir) {
		return fmt.Errorf("there is no directory %s: check the path, or make the directory", dir)
	}
	return nil
}

// isDatabase refuses a path at which there is no database.
func isDatabase(path string) error {
	if err := mayBeDatabase(path); err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no database %s: check the path", path)
	} else if err != nil {
		return fmt.Errorf("%w: check the path and its permissions", err)
	}
	return nil
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
