package main

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed crsqlite.mjs
var crsqliteScript string

// node is cr-sqlite's WebAssembly build, or the same build of SQLite without its tables, in a process of Node.js.
type node struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	bytes int64 // shipped so far
}

const crsqlitePackage = "@vlcn.io/crsqlite-wasm" // its engine is in @vlcn.io/wa-sqlite, which comes along

func crsqliteMissing() string {
	if _, err := exec.LookPath("node"); err != nil {
		return "Node.js is not installed"
	}
	return packageMissing(crsqlitePackage)
}

func openNode(l *lab, all [][]any, plain bool) *node {
	c := exec.Command("node", "--input-type=module", "-e", crsqliteScript, must(filepath.Abs(filepath.Join(*peers, "node_modules"))))
	c.Stderr = os.Stderr
	n := &node{cmd: c, stdin: must(c.StdinPipe()), out: bufio.NewReader(must(c.StdoutPipe()))}
	check(c.Start())
	n.do("open", map[string]any{"dir": filepath.Dir(l.path()), "plain": plain, "rows": all})
	return n
}

// do runs a command and returns how long it took, as the process itself measured, and what it gave.
func (n *node) do(cmd string, args map[string]any) (time.Duration, any) {
	line := map[string]any{"cmd": cmd}
	for k, v := range args {
		line[k] = v
	}
	check(json.NewEncoder(n.stdin).Encode(line))
	var answer struct {
		MS    float64
		Value any
		Error string
	}
	check(json.Unmarshal(must(n.out.ReadBytes('\n')), &answer))
	if answer.Error != "" {
		check(fmt.Errorf("cr-sqlite: %s: %s", cmd, answer.Error))
	}
	return time.Duration(answer.MS * float64(time.Millisecond)), answer.Value
}

func (n *node) write(w write) time.Duration {
	took, _ := n.do("write", map[string]any{"side": w.side, "op": w.op, "which": w.rows, "per": w.per, "value": w.value})
	return took
}

func (n *node) settle() time.Duration { return 0 }

func (n *node) join() time.Duration {
	took, bytes := n.do("join", nil)
	n.bytes += int64(bytes.(float64))
	return took
}

func (n *node) ship(ws ...write) time.Duration {
	took, bytes := n.do("ship", map[string]any{"sides": sidesOf(ws)})
	n.bytes += int64(bytes.(float64))
	return took
}

func (n *node) moved() int64 { return n.bytes }

func (n *node) size() int64 {
	_, v := n.do("size", nil)
	return int64(v.(float64))
}

func (n *node) digest(side int) string {
	_, v := n.do("digest", map[string]any{"side": side})
	return v.(string)
}

func (n *node) cpu() time.Duration {
	_, v := n.do("cpu", nil)
	return time.Duration(v.(float64) * float64(time.Microsecond))
}

func (n *node) close() {
	n.do("close", nil)
	n.stdin.Close()
	check(n.cmd.Wait())
}
