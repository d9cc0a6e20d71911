package main

import (
	"fmt"
	"os"
	"os/exec"
	"time"
)

// settled is how long a peer is left alone before it counts as idle.
const settled = 10 * time.Second

var millions = []measurement{{"copy", millionCopied}, {"capture", millionCaptured}}

// millionCopied: a first copy of 1,000,000 rows beside cp of the SQLite file, and what the two peers then hold in memory. Once by
// itself, as it takes minutes; -rows and -runs choose otherwise.
func millionCopied(l *lab) {
	f := figures{}
	for range *runs {
		founder := l.filled(*rows)
		info := must(os.Stat(founder))
		f.add("cp", timed(func() { run("cp", founder, founder+".copy") }).Seconds())
		check(os.Remove(founder + ".copy"))
		f.add("cp sync", timed(func() {
			run("cp", founder, founder+".copy")
			run("sync", founder+".copy")
		}).Seconds())
		f.add("file", float64(info.Size()))
		began := time.Now()
		a, b, joiner, w, took := l.pair(founder)
		f.add("import", time.Since(began).Seconds()-took.Seconds())
		f.add("copy", took.Seconds())
		f.add("bytes", float64(w.bytes.Load()))
		db := open(joiner)
		until(db, `SELECT count(*) FROM item`, int64(*rows))
		f.add("copied file", float64(pages(db)))
		f.add("peak founder", float64(a.memory("VmHWM")))
		f.add("peak joiner", float64(b.memory("VmHWM")))
		check(db.Close())
		time.Sleep(settled)
		f.add("idle founder", float64(a.memory("VmRSS")))
		f.add("idle joiner", float64(b.memory("VmRSS")))
		a.stop()
		b.stop()
		// A peer that starts beside a database that is tracked already has nothing to do.
		a = startPeer(founder)
		a.waitReady()
		time.Sleep(settled)
		f.add("idle", float64(a.memory("VmRSS")))
		a.stop()
		l.clear()
	}
	f.print([]line{
		{key: "file", name: "the SQLite file", unit: megabytes},
		{key: "cp", name: "cp of it", unit: seconds},
		{key: "cp sync", name: "cp of it, and the copy synced to the disk", unit: seconds},
		{key: "import", name: "start of the first peer, which takes in every row", unit: seconds},
		{key: "copy", name: "first copy to a new peer over loopback, start of its process included", unit: seconds},
		{key: "bytes", name: "the same, bytes on the wire (encrypted TCP)", unit: megabytes},
		{key: "copied file", name: "the new peer's SQLite file, with our tables", unit: megabytes},
		{key: "peak founder", name: "largest resident memory of the first peer, import included", unit: mebibytes},
		{key: "peak joiner", name: "largest resident memory of the new peer", unit: mebibytes},
		{key: "idle founder", name: "resident memory of the first peer 10 s later", unit: mebibytes},
		{key: "idle joiner", name: "resident memory of the new peer 10 s later", unit: mebibytes},
		{key: "idle", name: "resident memory of an idle peer that was started again", unit: mebibytes},
	})
}

// millionCaptured: a program writes as many rows in one transaction, and its peer captures them.
func millionCaptured(l *lab) {
	f := figures{}
	all := makeRows(*rows)
	for range *runs {
		path := l.path()
		db := open(path)
		exec1(db, schema)
		p := startPeer(path)
		p.waitReady()
		time.Sleep(settled)
		before := p.memory("VmHWM")
		f.add("write", timed(func() { inTxns(db, insertItem, all, len(all)) }).Seconds())
		f.add("capture", timed(func() { until(db, `SELECT EXISTS(SELECT 1 FROM _rowmesh_outbox)`, 0) }).Seconds())
		f.add("before", float64(before))
		f.add("growth", float64(p.memory("VmHWM")-before))
		check(db.Close())
		p.stop()
		l.clear()
	}
	f.print([]line{
		{key: "write", name: "one transaction of as many rows by a program beside its peer", unit: seconds},
		{key: "capture", name: "from its commit until the peer has captured it", unit: seconds},
		{key: "before", name: "largest resident memory of that peer before", unit: mebibytes},
		{key: "growth", name: "growth of it by the capture", unit: mebibytes},
	})
}

func (f figures) print(lines []line) {
	for _, line := range lines {
		fmt.Printf("| %s | %s |\n", line.name, line.cell(f))
	}
}

func mebibytes(v float64) string { return fmt.Sprintf("%.0f MiB", v/(1<<20)) }

func run(name string, args ...string) {
	c := exec.Command(name, args...)
	c.Stderr = os.Stderr
	check(c.Run())
}
