package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
)

// TestScripts runs the scripts in testdata: a command, its full result, the next. To accept new results, run
// it with -rewrite and read the diff. The commands are the methods of stage, below.
//
// Times are shown in milliseconds since the script began, origins by the names of their replicas.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if !strings.HasSuffix(path, ".txt") {
			return
		}
		s := &theatre{actors: map[string]*actor{}, names: map[string]string{}, now: scriptBegins}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.d = t, d
			s.out.Reset()
			s.command()
			if s.out.Len() == 0 {
				return "ok\n"
			}
			return s.tell(s.out.String())
		})
	})
}

const scriptBegins = 1_700_000_000_000

// theatre is what a script plays on.
type theatre struct {
	t      *testing.T
	d      *datadriven.TestData
	out    strings.Builder
	now    int64
	actors map[string]*actor
	names  map[string]string // of origins, by their short ids
	nextID LinkID
	saved  map[string]actor
}

// actor is one replica of a script.
type actor struct {
	s       *theatre
	name    string
	number  byte
	lives   byte  // how often it was loaded
	origins int   // it has had
	offset  int64 // of its wall clock
	hub     bool
	spoke   bool
	acks    int
	known   []Ack // when it was last put back
	chunk   int
	store   *memStore
	r       *Replica
	in      []Input
	ends    map[LinkID]*end
}

// end is one end of a link, with the frames on their way to it.
type end struct {
	at    *actor
	id    LinkID
	other *end
	queue []Frame
}

func (s *theatre) printf(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *theatre) command() {
	commands := map[string]func(){
		"add-replica": s.addReplica, "link": s.link, "unlink": s.unlink, "write": s.write, "deliver": s.deliver, "drop": s.drop,
		"double": s.double, "tick": s.tick, "run": s.run, "status": s.status, "rows": s.rows, "clock": s.clock, "save": s.save,
		"put-back": s.putBack, "copy": s.copy, "ask": s.ask, "acked": s.acked, "damage": s.damage, "audit": s.audit, "leave-audit": s.leaveAudit, "audited": s.audited,
	}
	f := commands[s.d.Cmd]
	if f == nil {
		s.d.Fatalf(s.t, "no such command; there are %v", slices.Sorted(maps.Keys(commands)))
	}
	f()
}

func (s *theatre) int(key string, otherwise int) int {
	s.d.MaybeScanArgs(s.t, key, &otherwise)
	return otherwise
}

// actor returns the replica named by the n-th argument.
func (s *theatre) actor(n int) *actor {
	if n < len(s.d.CmdArgs) {
		if a := s.actors[s.d.CmdArgs[n].Key]; a != nil {
			return a
		}
	}
	s.d.Fatalf(s.t, "argument %d is no replica", n)
	return nil
}

// add-replica NAME [founder] [hub] [spoke] [acks=N] [group=N] [chunk=BYTES] [clock=MILLISECONDS]
func (s *theatre) addReplica() {
	name := s.d.CmdArgs[0].Key
	a := &actor{
		s: s, name: name, number: byte(len(s.actors) + 1), offset: int64(s.int("clock", 0)), chunk: s.int("chunk", 0),
		hub: s.d.HasArg("hub"), spoke: s.d.HasArg("spoke"), acks: s.int("acks", 0), store: newMemStore(), ends: map[LinkID]*end{},
	}
	s.actors[name] = a
	cfg := Config{}
	if s.d.HasArg("founder") {
		cfg.NewGroup = GroupID{0x90, 0, 0, byte(s.int("group", 1))}
	}
	a.load(cfg)
}

func (a *actor) load(cfg Config) {
	a.lives++
	cfg.NewOrigin = crdt.Origin{a.number, 0, 0, a.lives, 0xff}
	cfg.ChunkBytes, cfg.SessionSeed = a.chunk, 100*uint64(a.lives)
	cfg.Hub, cfg.Spoke, cfg.Acks, cfg.Acked = a.hub, a.spoke, a.acks, a.known
	r, err := New(cfg, a.store)
	if err != nil {
		a.s.t.Fatal(err)
	}
	a.r, a.in = r, nil
	if short := r.Origin().Short(); a.s.names[short] == "" {
		a.s.names[short] = a.name + strings.Repeat("'", a.origins)
		a.origins++
	}
	for _, id := range slices.Sorted(maps.Keys(a.ends)) {
		a.in = append(a.in, Input{Up: &LinkUp{id, a.ends[id].other.at.name}})
	}
	a.process()
}

func (a *actor) process() {
	in := a.in
	a.in = nil
	now := Instant{Wall: a.s.now + a.offset, Mono: a.s.now - scriptBegins}
	err := Process(context.Background(), a.store, a.r, now, len(a.store.drain.Groups) > 0, in, a)
	var fork *ForkError
	if errors.As(err, &fork) {
		a.s.printf("%s: %v", a.name, err)
		a.load(Config{Forked: true})
		a.s.printf("%s: goes on as %s", a.name, a.r.Origin().Short())
	} else if err != nil {
		a.s.t.Fatal(err)
	}
}

func (a *actor) Send(id LinkID, f Frame) {
	if e := a.ends[id]; e != nil {
		a.s.printf("%s>%s %s", a.name, e.other.at.name, f)
		e.other.queue = append(e.other.queue, f)
	}
}

func (a *actor) CloseLink(id LinkID, reason error) {
	if e := a.ends[id]; e != nil {
		a.s.printf("%s: closes the link to %v", a.name, reason)
		e.cut()
	}
}

// Show tells what was committed.
func (a *actor) Show(b Batch) {
	a.s.printf("%s: %d rows, heads %s%s", a.name, len(b.Rows), b.Heads, iff(b.Ready, ", ready"))
}

// cut cuts a link. What is on its way already still arrives.
func (e *end) cut() {
	for _, e := range []*end{e, e.other} {
		delete(e.at.ends, e.id)
		for _, f := range e.queue {
			e.at.in = append(e.at.in, Input{From: e.id, Frame: &f})
		}
		e.at.in = append(e.at.in, Input{Down: e.id})
	}
}

// link A B
func (s *theatre) link() {
	s.nextID += 2
	a, b := &end{at: s.actor(0), id: s.nextID}, &end{at: s.actor(1), id: s.nextID + 1}
	a.other, b.other = b, a
	for _, e := range []*end{a, b} {
		e.at.ends[e.id] = e
		e.at.in = append(e.at.in, Input{Up: &LinkUp{e.id, e.other.at.name}})
	}
	a.at.process()
	b.at.process()
}

// end returns the end at `at` of its link to `from`.
func (s *theatre) end(from, at *actor) *end {
	for _, e := range at.ends {
		if e.other.at == from {
			return e
		}
	}
	s.d.Fatalf(s.t, "%s and %s are not linked", from.name, at.name)
	return nil
}

// ask FROM TO: a PULL that FROM would not send of itself.
func (s *theatre) ask() {
	e := s.end(s.actor(0), s.actor(1))
	body := encodeBody(pullBody{Session: 1, Claims: packed{}, CapOwn: hlc.Max, Cap: hlc.Max, Credit: 1})
	e.queue = append(e.queue, Frame{Type: FramePull, Body: body})
	e.deliver(0)
}

// unlink A B
func (s *theatre) unlink() {
	s.end(s.actor(0), s.actor(1)).cut()
	s.actor(0).process()
	s.actor(1).process()
}

// write NAME, then a line for each operation: insert KEY a=1 b=2, update KEY a=3, delete KEY, replace KEY a=1
func (s *theatre) write() {
	a := s.actor(0)
	kinds := map[string]crdt.OpKind{"insert": crdt.OpInsert, "update": crdt.OpUpdate, "delete": crdt.OpDelete, "replace": crdt.OpReplace}
	g := Group{WallMillis: s.now + a.offset}
	for _, text := range strings.Split(strings.TrimSpace(s.d.Input), "\n") {
		words := strings.Fields(text)
		op := crdt.Op{Table: "t", Kind: kinds[words[0]], Key: crdt.MustKey(crdt.Integer(int64(must(strconv.Atoi(words[1])))))}
		for _, set := range words[2:] {
			column, value, _ := strings.Cut(set, "=")
			op.Sets = append(op.Sets, crdt.Set{Column: column, Value: crdt.Integer(int64(must(strconv.Atoi(value))))})
		}
		g.Ops = append(g.Ops, op)
	}
	a.store.drain = Drain{Schemas: []*crdt.Schema{testSchema}, Groups: []Group{g}}
	a.process()
}

// deliver FROM TO [n=N]: the next frames on that way; n=0: all that are there now. deliver alone: everywhere.
func (s *theatre) deliver() {
	if len(s.d.CmdArgs) > 0 {
		s.end(s.actor(0), s.actor(1)).deliver(s.int("n", 0))
		return
	}
	for _, e := range s.ends() {
		e.deliver(0)
	}
}

func (e *end) deliver(n int) {
	if n == 0 || n > len(e.queue) {
		n = len(e.queue)
	}
	for _, f := range e.queue[:n] {
		e.at.in = append(e.at.in, Input{From: e.id, Frame: &f})
	}
	if e.queue = e.queue[n:]; n > 0 {
		e.at.process()
	}
}

// ends returns all ends of links, in order.
func (s *theatre) ends() (all []*end) {
	for _, name := range slices.Sorted(maps.Keys(s.actors)) {
		for _, id := range slices.Sorted(maps.Keys(s.actors[name].ends)) {
			all = append(all, s.actors[name].ends[id])
		}
	}
	return all
}

// drop FROM TO [n=N]: the next frames on that way are lost; n=0: all that are there now.
func (s *theatre) drop() {
	e := s.end(s.actor(0), s.actor(1))
	n := min(len(e.queue), s.int("n", len(e.queue)))
	for _, f := range e.queue[:n] {
		s.printf("lost %s>%s %s", e.other.at.name, e.at.name, f)
	}
	e.queue = e.queue[n:]
}

// double FROM TO: what is on that way will arrive twice.
func (s *theatre) double() {
	e := s.end(s.actor(0), s.actor(1))
	e.queue = append(slices.Clone(e.queue), e.queue...)
}

// tick [ms=N]: time passes, and nothing arrives.
func (s *theatre) tick() {
	s.now += int64(s.int("ms", 10))
	for _, name := range slices.Sorted(maps.Keys(s.actors)) {
		s.actors[name].process()
	}
}

// run [ms=N] [quiet]: time passes in steps of 10 ms, and everything arrives in the next one.
func (s *theatre) run() {
	for range s.int("ms", 1000) / 10 {
		s.now += 10
		for _, e := range s.ends() {
			e.deliver(0)
		}
		for _, name := range slices.Sorted(maps.Keys(s.actors)) {
			s.actors[name].process()
		}
	}
	if s.d.HasArg("quiet") {
		s.out.Reset()
	}
}

// clock NAME MILLISECONDS: a replica's wall clock is set, ahead of the others by so much.
func (s *theatre) clock() { s.actor(0).offset = int64(must(strconv.Atoi(s.d.CmdArgs[1].Key))) }

// save NAME: a copy of the database is made.
func (s *theatre) save() {
	a := *s.actor(0)
	state := must(a.store.Load())
	a.store = &memStore{state: state, rows: maps.Clone(a.store.rows)}
	if s.saved == nil {
		s.saved = map[string]actor{}
	}
	s.saved[a.name] = a
}

// put-back NAME [fence]: the copy takes the place of the database. With fence, that is noticed at the start.
func (s *theatre) putBack() {
	a := s.actor(0)
	for _, id := range slices.Sorted(maps.Keys(a.ends)) {
		a.ends[id].other.queue = nil
		a.ends[id].cut()
	}
	a.store, a.known = s.saved[a.name].store, a.r.Acks()
	a.load(Config{NeedOrigin: s.d.HasArg("fence")})
}

// copy NAME AS: a copy of the database is run beside it.
func (s *theatre) copy() {
	from := s.actor(0)
	a := &actor{s: s, name: s.d.CmdArgs[1].Key, number: byte(len(s.actors) + 1), store: newMemStore(), ends: map[LinkID]*end{}}
	s.actors[a.name] = a
	a.store.state, a.store.rows = must(from.store.Load()), maps.Clone(from.store.rows)
	a.load(Config{})
}

// damage NAME KEY lose | forge | COLUMN=VALUE: something that is no transaction changes the store: it takes a row away, gives it
// a birth that nobody wrote, or changes a value and leaves its stamp.
func (s *theatre) damage() {
	a := s.actor(0)
	k := RowKey{"t", crdt.MustKey(crdt.Integer(int64(must(strconv.Atoi(s.d.CmdArgs[1].Key)))))}
	row := a.store.rows[k]
	switch how := s.d.CmdArgs[2]; how.Key {
	case "lose":
		delete(a.store.rows, k)
		return
	case "forge":
		row.Birth.Time += 1 << 40
		row.Cells = slices.Clone(row.Cells)
		for i := range row.Cells {
			row.Cells[i].Stamp = row.Birth
		}
	default:
		row.Cells = slices.Clone(row.Cells)
		for i := range row.Cells {
			if row.Cells[i].Column == how.Key {
				row.Cells[i].Value = crdt.Integer(int64(must(strconv.Atoi(how.Vals[0]))))
			}
		}
	}
	a.store.rows[k] = row
}

// audit NAME [dry]: it compares its rows with the first peer.
func (s *theatre) audit() {
	a := s.actor(0)
	a.in = append(a.in, Input{Audit: &Audit{Dry: s.d.HasArg("dry")}})
	a.process()
}

// leave-audit NAME: nobody waits for its audit any more.
func (s *theatre) leaveAudit() {
	a := s.actor(0)
	a.in = append(a.in, Input{Leave: true})
	a.process()
}

// audited NAME: what the audit has come to.
func (s *theatre) audited() {
	rep := s.actor(0).r.AuditReport()
	s.printf("with %s: %d segments%s%s", rep.Peer, rep.Segments, iff(!rep.Over, ", goes on"), iff(rep.Err != nil, ", ended early: %v", rep.Err))
	for _, t := range rep.Tables {
		s.printf("%s: %d rows, %d differ, %d of them still", t.Name, t.Rows, t.Differ, t.Unmended)
	}
	for _, row := range rep.Rows {
		s.printf("%s %s", row.RowKey, row.What())
	}
}

// status NAME
func (s *theatre) status() {
	st := s.actor(0).r.Status()
	s.printf("origin %s%s heads %s%s", st.Origin.Short(), iff(st.Ready, " ready"), st.Coverage, iff(st.Staged > 0, " staged %d bytes", st.Staged))
	for _, l := range st.Links {
		s.printf("link to %s:%s%s%s%s", l.Peer, iff(!l.Greeted, " not greeted"), iff(l.Level, " level"), iff(l.Behind, " it holds more"),
			iff(l.OffsetMS != 0, " clock %+d ms", l.OffsetMS))
	}
	for _, h := range st.Held {
		s.printf("held of %s: %d from %s%s", h.Origin.Short(), h.Blocks, h.First, iff(h.Ahead, ", ahead of the clock"))
	}
	c := st.Counters
	s.printf("blocks %d written %d merged %d double %d held, sessions %d pulled %d served %d broken",
		c.BlocksWritten, c.BlocksMerged, c.BlocksDuplicate, c.BlocksHeld, c.SessionsPulled, c.SessionsServed, c.SessionsBroken)
}

// acked NAME: up to where what a replica wrote is durable elsewhere, and who holds how much of it.
func (s *theatre) acked() {
	st := s.actor(0).r.Status()
	upTo := func(h hlc.Timestamp) string { return iff(h == 0, "nothing") + iff(h > 0, "%s", h) }
	s.printf("acked %s of %s", upTo(st.Acked), upTo(st.Coverage[st.Origin]))
	for _, a := range st.Acks {
		s.printf("%s%s holds %s", iff(a.Hub, "hub "), a.Peer, upTo(a.Head))
	}
}

// rows NAME...: the rows of one replica, or of several, which then must be equal.
func (s *theatre) rows() {
	var all []string
	for i := range s.d.CmdArgs {
		var b strings.Builder
		_ = s.actor(i).store.Scan("t", crdt.Key{}, func(rows []RowState) bool {
			for _, r := range rows {
				fmt.Fprintf(&b, "%s: %s\n", r.Key, r.Row)
			}
			return true
		})
		all = append(all, b.String())
	}
	if len(slices.Compact(slices.Clone(all))) == 1 {
		s.out.WriteString(all[0])
		return
	}
	for i, text := range all {
		s.printf("-- %s", s.actor(i).name)
		s.out.WriteString(text)
	}
}

var timestamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z\+[0-9a-f]{4}`)

// tell makes times and origins short.
func (s *theatre) tell(text string) string {
	text = timestamp.ReplaceAllStringFunc(text, func(m string) string {
		t := must(hlc.Parse(m))
		if t == 0 {
			return "gone"
		}
		return strconv.FormatInt(t.Millis()-scriptBegins, 10) + iff(t.Counter() > 0, "+%d", t.Counter())
	})
	for short, name := range s.names {
		text = strings.ReplaceAll(text, short, name)
	}
	return text
}
