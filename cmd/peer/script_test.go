package main

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript: L-12, L-13, L-14. Each file in testdata/script is what a person types and sees: the sentence and the exit
// code of every mistake, and every command where all is well.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode": cmdExitCode, "sql": cmdSQL, "start": cmdStart, "interrupt": cmdStop, "peer": cmdPeer,
		},
	})
}

// peerOf makes a command in the script's directory. @name stands for the first line of a file.
func peerOf(ts *testscript.TestScript, args []string) *exec.Cmd {
	for i, a := range args {
		if name, ok := strings.CutPrefix(a, "@"); ok {
			args[i], _, _ = strings.Cut(ts.ReadFile(name), "\n")
		}
	}
	c := peerCommand(args...)
	c.Dir = ts.Getenv("WORK")
	return c
}

func runPeerOf(ts *testscript.TestScript, args []string) int {
	c := peerOf(ts, args)
	c.Stdout, c.Stderr = ts.Stdout(), ts.Stderr()
	ts.Check(c.Start())
	late := time.AfterFunc(testPatience, func() { _ = c.Process.Kill() })
	defer late.Stop()
	_ = c.Wait()
	return c.ProcessState.ExitCode()
}

// cmdPeer runs the peer: "peer ARGS" must end with 0, "! peer ARGS" with 1.
func cmdPeer(ts *testscript.TestScript, neg bool, args []string) {
	want := exitOK
	if neg {
		want = exitFailed
	}
	if code := runPeerOf(ts, args); code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// cmdExitCode runs the peer, which must end with a code: exitcode N peer ARGS.
func cmdExitCode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if code := runPeerOf(ts, args[2:]); code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// cmdSQL runs statements as another program would, and prints rows as the sqlite3 shell does: sql FILE STATEMENTS.
func cmdSQL(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", ts.MkAbs(args[0])+"?_pragma=busy_timeout(10000)")
	ts.Check(err)
	defer db.Close()
	for stmt := range strings.SplitSeq(args[1], "; ") {
		rows, err := db.Query(stmt)
		ts.Check(err)
		ts.Check(printRows(ts, rows))
	}
}

func printRows(ts *testscript.TestScript, rows *sql.Rows) error {
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		return err
	}
	texts := make([]string, len(cols))
	dest := make([]any, len(cols))
	for i := range dest {
		dest[i] = &texts[i]
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		fmt.Fprintln(ts.Stdout(), strings.Join(texts, "|"))
	}
	return rows.Err()
}

// scripted are the peers that scripts started, by process number.
var scripted sync.Map

// cmdStart starts a peer and waits until it is ready: start NAME run ARGS. Its address goes into a file of its name.
func cmdStart(ts *testscript.TestScript, _ bool, args []string) {
	p, err := startCommand(peerOf(ts, args[1:]))
	ts.Check(err)
	ts.Defer(p.kill)
	line, err := p.line("ready")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(addrIn(line)+"\n"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pid"), []byte(strconv.Itoa(p.cmd.Process.Pid)), 0o600))
	scripted.Store(p.cmd.Process.Pid, p)
}

// cmdStop is Ctrl-C, after which the peer must end with 0: interrupt NAME. (stop is a command of testscript itself, which ends the script.)
func cmdStop(ts *testscript.TestScript, _ bool, args []string) {
	pid, err := strconv.Atoi(ts.ReadFile(args[0] + ".pid"))
	ts.Check(err)
	p, ok := scripted.Load(pid)
	if !ok {
		ts.Fatalf("no peer %s was started", args[0])
	}
	code, err := p.(*process).end()
	ts.Check(err)
	if code != exitOK {
		ts.Fatalf("exit code %d:\n%s", code, p.(*process).text())
	}
}
