// Package planted proves that the simulator finds bugs: each of a list of one-line mistakes is built into the product by
// go build -overlay, and must be caught within 200 seeds. The product itself has no switch for any of them.
package planted

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// bug is a mistake: one text in one file in the place of another. Bugs that are often made when this code is changed
// run by default, the others with ROWMESH_SOAK=1.
type bug struct {
	name      string
	file      string
	was, is   string
	byDefault bool
}

// mostEvents is to how many events a failing case must be cut down within a minute, so that a person can read it.
const mostEvents = 30

var bugs = []bug{
	{"no tie-break by origin", "crdt/stamp.go", "return s.Origin.Compare(t.Origin)", "return 0", false},
	{"a delete leaves older cells", "crdt/row.go", "floor := out.Floor()", "floor := out.Birth", false},
	{"an update brings a row back", "crdt/row.go", "return !r.Birth.IsZero() && !r.Birth.Less(r.Tomb)", "return !r.Birth.IsZero() && !r.Birth.Less(r.Tomb) || !r.Tomb.IsZero() && len(r.Cells) > 0", false},
	{"the older cell wins", "crdt/row.go", "if c := a.Stamp.Compare(b.Stamp); c < 0 ||", "if c := a.Stamp.Compare(b.Stamp); c > 0 ||", false},
	{"a tomb is dropped with its birth", "crdt/row.go", "		out.Birth = Stamp{}\n	}\n	out.Cells = mergeCells", "		out.Birth, out.Tomb, out.Seen = Stamp{}, Stamp{}, Stamp{}\n	}\n	out.Cells = mergeCells", false},
	{"the clock does not follow others", "hlc/hlc.go", "{ c.last = max(c.last, t) }", "{ _ = t }", false},
	{"the clock goes back with the wall", "hlc/hlc.go", "c.last = max(FromMillis(wallMillis), c.last+1)", "c.last = FromMillis(wallMillis)", false},
	{"gaps are accepted", "replica/push.go", "case b.prev > head || ", "case ", true},
	{"a broken session claims its cut", "replica/pull.go", "	r.pull.active = false\n", "	r.pull.active = false\n	for o, h := range r.pull.cut {\n		r.raise(o, h)\n	}\n", true},
	{"a session makes one pass", "replica/serve.go", "for err == nil && done && !s.cut.Includes(r.coverage) {", "for s.cut = r.coverage.Clone(); false; {", false},
	{"only the named transaction's cells are sent", "replica/serve.go", "		if !f.add(here, row.Row) {\n", "		but := crdt.Coverage{}\n		for _, s := range row.Row.Stamps(nil) {\n			if s.Origin != at.Origin {\n				but[s.Origin] = max(but[s.Origin], s.Time)\n			}\n		}\n		if !f.add(here, row.Row.Without(but)) {\n", false},
	{"a first copy that is begun anew keeps its rows", "replica/pull.go", "r.batch.Restart, r.batch.Copy = true, []byte{}", "r.batch.Copy = []byte{}", false},
	{"a first copy goes on a row too late", "replica/serve.go", "			after = s.after.Key\n", "			after = s.after.Key\n			if s.seq == 0 {\n				if err := v.Scan(t, after, func(rows []RowState) bool { after = rows[0].Key; return false }); err != nil {\n					return err\n				}\n			}\n", false},
	{"rows that were put ahead are read from the cache", "replica/rows.go", "		s.cache.Remove(k)\n", "		s.cache.Add(k, s.changed[k].old)\n", false},
	{"a session goes on with another cut", "replica/serve.go", "	s.first = cut\n", "	_ = cut\n", false},
	{"a resumed session begins a row too late", "replica/serve.go", "s.after = f.after(s.after)", "s.after = f.after(s.after)\n	if f.full && len(f.body.Schemas) > 1 {\n		s.after.Key = crdt.Key{}\n		s.after.Stamp.Time++\n	}", false},
	{"a duplicate is taken for a fork", "replica/push.go", "case b.stamp.Time <= head:", "case b.stamp.Time == head+1:", false},
	{"the clock's limit is not kept", "replica/replica.go", "return hlc.FromMillis(r.now.Wall+skew.Milliseconds()) | 0xffff", "return hlc.Max", false},
	{"frames leave before the commit", "replica/process.go", "	if err := round.Commit(rd.Batch); err != nil {", "	for _, o := range rd.Frames {\n		out.Send(o.Link, o.Frame)\n	}\n	if err := round.Commit(rd.Batch); err != nil {", true},
	{"heads are told before the commit", "replica/process.go", "	if err := round.Commit(rd.Batch); err != nil {", "	for _, o := range rd.Frames {\n		if o.Frame.Type != FrameBlocks {\n			out.Send(o.Link, o.Frame)\n		}\n	}\n	if err := round.Commit(rd.Batch); err != nil {", false},
	{"a commit is not synced", "replica/dsstore/commit.go", "	if err := r.ds.Sync(r.ctx, ds.RawKey(\"/\")); err != nil {\n		return err\n	}\n", "", false},
	{"checksums are not looked at", "replica/dsstore/codec.go", "if len(sealed) < 4 || binary.BigEndian.Uint32(sealed) != checksum(key, sealed[4:]) {", "if len(sealed) < 4 {", false},
	{"heads are stored before their rows", "replica/dsstore/commit.go", "	key := recordKey(r.number + 1)\n", "	for _, c := range r.changes {\n		if c.key.String()[1] == 'v' {\n			_ = r.ds.Put(r.ctx, c.key, c.value)\n			_ = r.ds.Sync(r.ctx, c.key)\n		}\n	}\n	key := recordKey(r.number + 1)\n", false},
	{"sessions that were given up stay", "replica/serve.go", "	r.dropServed(l) // a client", "	if n := len(r.served); n > 2 {\n		r.rejectSession(s, RejectBusy, crdt.Stamp{})\n		return nil\n	}\n	// a client", false},
	{"a wiped machine keeps its origin", "sim/machine.go", "^ m.lives)", ")", false},
	{"every change makes the row anew", "sqlbridge/compare.go", "	case reborn:\n", "	case reborn || !reborn:\n", false},
	{"a row that came and went leaves no trace", "sqlbridge/compare.go", "		return op, reborn\n", "		return op, false\n", false},
	{"the latest claim holds a unique value", "sqlbridge/unique.go", "first := slices.MinFunc(", "first := slices.MaxFunc(", false},
	{"a parked row never comes back", "sqlbridge/project.go", "		case p.parked[k]:\n			p.unpark = append(p.unpark, k)\n			p.show = append(p.show, shownRow{k, row, false})\n", "", false},
	{"unique values are not swapped by way of nothing", "sqlbridge/project.go", "				p.clear = append(p.clear, k)\n", "", false},
	{"rows that REPLACE removes are not noticed", "sqlbridge/triggers.go", "	looks := t.looks()\n", "	looks := t.looks()[:0]\n", true},
	{"a key that moves is not logged", "sqlbridge/triggers.go", "log(hintMove, newKey) + \" \" + log(hintMove, oldKey)", "log(hintMove, newKey)", false},
	{"a database that lacks its fence is trusted", "sqlbridge/fence.go", "	case len(origin) == 0:", "	case len(origin) == 0 || f.Token == 0:", false},
	{"a new column is not shown", "sqlbridge/catalog.go", "away || !same || need > driftEdits", "away || need > driftEdits", false},
	{"what was read ahead is trusted though it was written since", "sqlbridge/prepare.go", "		delete(p.rows, k) // written again\n", "", false},
	{"a table is shown anew before all of it is captured", "sqlbridge/round.go", "		return r.unsettle(rows)\n", "		return r.b.project(r, rows)\n", false},
	{"a part of the outbox cuts all of it", "sqlbridge/capture.go", "r.captured, r.part, r.emptied = p.cut,", "r.captured, r.part, r.emptied = p.upTo,", false},
	{"the outbox stays empty once it was", "sqlbridge/prepare.go", "return b.dataVersion == b.capturedAt", "return b.capturedAt >= 0", false},
	{"two transactions get one time", "hlc/hlc.go", "c.last = max(FromMillis(wallMillis), c.last+1)", "c.last = max(FromMillis(wallMillis), c.last)", false},
	{"a lost chunk is not missed", "replica/pull.go", "	if c.Seq != p.chunks || c.Run != p.run {", "	if c.Seq < p.chunks || c.Run != p.run {", false},
	{"DONE may overtake its chunks", "replica/pull.go", "d.Seq != p.chunks || p.chunks > 0", "p.chunks > 0", false},
	{"blocks are taken before the first copy", "replica/push.go", "	case !r.ready:\n		// The first copy comes whole, by a session; nothing is shown or claimed before.\n", "", false},
	{"the cache keeps rows as they were", "replica/rows.go", "s.cache.Add(k, s.changed[k].new)", "s.cache.Add(k, s.changed[k].old)", false},
	{"the clock begins anew at every start", "replica/replica.go", "r.clock.Update(max(r.coverage.Max(), cfg.After))", "r.clock.Update(cfg.After)", false},
	{"drains are pushed block by block", "replica/write.go", "		all = all.then(p)\n", "		if all = all.then(p); p.blocks > 0 {\n			r.pushes = append(r.pushes, p)\n		}\n", false},
	{"a fork is not noticed", "replica/fork.go", "return t > w.from && !found", "return false && !found", false},
	{"what a fork forgot is not fetched", "replica/fork.go", "	delete(r.coverage, old)\n", "", false},
	{"blocks of any number of origins are held back", "replica/push.go", "if len(r.held) >= maxHeldOrigins {", "if len(r.held) < 0 {", false},
	{"a vector is read against any base", "replica/vectors.go", "if k != nil && k.hash == hash {", "if k != nil {", false},
	{"what was sent counts as acknowledged", "replica/acks.go", "r.origin, l.known[r.origin]}", "r.origin, r.coverage[r.origin]}", false},
	{"a spoke keeps to its first hub", "replica/hubs.go", "now-h.since >= millis(hubPatience)", "now-h.since >= never", false},
	{"an audit takes what is on its way for lost", "replica/auditask.go", "own.Merge(theirs.Within(r.coverage))", "own.Merge(theirs)", false},
	{"an audit joins rows into what was not claimed", "replica/auditserve.go", "own[i].Merge(d.Row.Within(r.coverage))", "own[i].Merge(d.Row)", false},
	{"an audit does not mend the index", "replica/auditask.go", "p.anew = two || p.unseen", "p.anew = two", false},
	{"an audit ends a row too early", "replica/auditserve.go", "if here.compare(q.upper) > 0 {", "if here.compare(q.upper) >= 0 {", false},
	{"a lost last frame is never noticed", "replica/step.go", "h.Want || differs &&", "h.Want || false && differs &&", false},
}

// TestPlantedBugsAreCaught: P25. See bug.
func TestPlantedBugsAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the simulator several times")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bugs {
		t.Run(b.name, func(t *testing.T) {
			code, err := os.ReadFile(filepath.Join(root, b.file))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(code), b.was); n == 0 {
				t.Fatalf("%s has changed: the place to plant it is not there:\n%s", b.file, b.was)
			}
			if !b.byDefault && os.Getenv("ROWMESH_SOAK") == "" {
				t.Skip("runs with ROWMESH_SOAK=1 (make selftest)")
			}
			args := []string{"200", ""}
			if strings.HasPrefix(b.file, "sqlbridge/") {
				args[1] = "sql"
			}
			shrink := os.Getenv("ROWMESH_SHRINK") != ""
			if shrink {
				args = append(args, "shrink")
			}
			out := run(t, root, b.file, strings.Replace(string(code), b.was, b.is, 1), args...)
			t.Log(out)
			if !strings.HasPrefix(out, "caught ") {
				t.Error("not caught within 200 seeds")
			}
			var events int
			_, small, _ := strings.Cut(out, "shrunk events=")
			if _, err := fmt.Sscan(small, &events); shrink && (err != nil || events > mostEvents) {
				t.Errorf("not cut down to %d events in a minute", mostEvents)
			}
		})
	}
}

// testBugs are mistakes that a test of their own must notice, and with which words.
var testBugs = []struct {
	bug
	test, says string
}{
	{bug{name: "a broken session claims its cut", file: "replica/pull.go", was: "	r.pull.active = false\n", is: "	r.pull.active = false\n	for o, h := range r.pull.cut {\n		r.raise(o, h)\n	}\n"}, "TestServerVanishesAtEveryChunk", "claims "},
	{bug{name: "a pruned link is told no heads", file: "replica/push.go", was: "} else if lazy || o == l.origin {", is: "} else if lazy {\n			continue\n		} else if o == l.origin {"}, "TestTrees", "with crashes"},
}

// TestTestsFail: the tests of what no single commit shows fail where it is broken.
func TestTestsFail(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the simulator")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range testBugs {
		code, err := os.ReadFile(filepath.Join(root, b.file))
		if err != nil {
			t.Fatal(err)
		}
		_, overlay := overlayOf(t, root, b.file, strings.Replace(string(code), b.was, b.is, 1))
		test := exec.Command("go", "test", "-overlay", overlay, "-run", "^"+b.test+"$", "./sim")
		test.Dir = root
		if out, err := test.CombinedOutput(); err == nil || !strings.Contains(string(out), b.says) {
			t.Errorf("%s: %s passes, or fails for another reason: %v\n%s", b.name, b.test, err, out)
		}
	}
}

// TestOneSeedOneTrace: P25. A seed has the same trace with one processor and with two, in every build, and with the race detector.
func TestOneSeedOneTrace(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the simulator several times")
	}
	builds := [][]string{nil}
	if os.Getenv("ROWMESH_SOAK") != "" {
		builds = append(builds, []string{"-gcflags=all=-N -l"}, []string{"-race"})
	}
	want := map[string]string{}
	for _, flags := range builds {
		binary := filepath.Join(t.TempDir(), "search")
		build := exec.Command("go", append(append([]string{"build", "-o", binary}, flags...), "./search")...)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %q: %v\n%s", flags, err, out)
		}
		for _, procs := range []string{"1", "2"} {
			for store, n := range map[string]string{"": "60", "sql": "10"} {
				cmd := exec.Command(binary, n, store, "traces")
				cmd.Env = append(os.Environ(), "GOMAXPROCS="+procs)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				if want[store] == "" {
					want[store] = string(out)
				}
				if string(out) != want[store] {
					t.Errorf("build %q, %s processors, store %q:\n%s\nelsewhere:\n%s", flags, procs, store, out, want[store])
				}
			}
		}
	}
}

// run builds the search with one file in the place of another, and runs it.
func run(t *testing.T, root, file, code string, args ...string) string {
	t.Helper()
	dir, overlay := overlayOf(t, root, file, code)
	binary := filepath.Join(dir, "search")
	build := exec.Command("go", "build", "-overlay", overlay, "-o", binary, "./sim/planted/search")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	out, err := exec.Command(binary, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// overlayOf writes an overlay for the go command with one file in the place of another.
func overlayOf(t *testing.T, root, file, code string) (dir, overlay string) {
	t.Helper()
	dir = t.TempDir()
	patched := filepath.Join(dir, "patched.go")
	if err := os.WriteFile(patched, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, file): patched}})
	if err != nil {
		t.Fatal(err)
	}
	overlay = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, overlay
}
