package sim

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Case is everything that decides a run: the machines, what happens to them and when, and the fate of each
// message. It prints as lines of text that a person can read and change, and is parsed from them.
type Case struct {
	Seed     uint64
	Replicas int
	Late     []int    // machines that are started by an action, not at the beginning
	Hubs     int      // so many machines, from the first, are hubs, and the others talk to hubs only; 0: a mesh
	Liar     int      // this machine lies; 0: none does
	Disk     bool     // machines keep their replicas on simulated disks, not in memory
	SQL      bool     // machines keep their replicas in databases, whose tables programs write
	Links    [][2]int // who is connected with whom
	Chunk    int      // bytes to which chunks of a session are filled; 0: the product's own
	Cache    int      // rows in the cache; 0: the product's own
	End      int64    // when faults end, in milliseconds after the start
	Rates    Rates    // by which the fates of messages are drawn; zero: only those listed
	Actions  []Action // in order of time
	Fates    map[Message]Fate
}

// Store is what machines keep their replicas on.
func (c *Case) Store() Store {
	switch {
	case c.SQL:
		return StoreSQL
	case c.Disk:
		return StoreDisk
	}
	return StoreMemory
}

// Action is one thing that happens at a moment.
type Action struct {
	At    int64 // milliseconds after the start
	Do    string
	A, B  int    // machines
	N     int64  // as Do says
	Write [][]Op // for write: groups of operations
}

// Op is one write to one row, as a program would make it: what it becomes depends on whether the row is there.
type Op struct {
	Verb  string // put (insert, or update of all columns), set (update), del, rep (delete and insert)
	Table string
	Key   int
	Cols  string // letters of the columns
	Value int64  // of the first; the next is one more
	Pad   int    // bytes of text added to the values
}

// Message names the n-th message from one machine to another.
type Message struct {
	From, To int
	N        uint64
}

// Fate is what becomes of a message. The zero Fate is delivery after a millisecond.
type Fate struct {
	Drop   bool
	Cut    bool  // it arrives damaged, as no link of ours would deliver it
	Copies int   // more than one
	Delay  int64 // milliseconds more than one
}

func (op Op) String() string {
	s := fmt.Sprintf("%s %s:%d", op.Verb, op.Table, op.Key)
	if op.Cols != "" {
		s += fmt.Sprintf(" %s=%d", op.Cols, op.Value)
	}
	if op.Pad > 0 {
		s += fmt.Sprintf(" pad=%d", op.Pad)
	}
	return s
}

func (a Action) String() string {
	s := fmt.Sprintf("@%d %s %d", a.At, a.Do, a.A)
	switch actionForms[a.Do] {
	case formPair:
		s += fmt.Sprintf(" %d", a.B)
	case formNumber:
		s += fmt.Sprintf(" %d", a.N)
	case formPairNumber:
		s += fmt.Sprintf(" %d %d", a.B, a.N)
	case formWrite:
		groups := make([]string, len(a.Write))
		for i, g := range a.Write {
			ops := make([]string, len(g))
			for j, op := range g {
				ops[j] = op.String()
			}
			groups[i] = strings.Join(ops, "; ")
		}
		s += " " + strings.Join(groups, " | ")
	}
	return s
}

func (m Message) String() string { return fmt.Sprintf("%d>%d #%d", m.From, m.To, m.N) }

func (f Fate) String() string {
	switch {
	case f.Drop:
		return "drop"
	case f.Cut:
		return "cut"
	}
	s := ""
	if f.Copies > 1 {
		s = fmt.Sprintf("copies %d ", f.Copies)
	}
	return s + fmt.Sprintf("delay %d", f.Delay)
}

// String is the case as text.
func (c *Case) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rowmesh-sim 1\nseed %d\nreplicas %d\n", c.Seed, c.Replicas)
	for _, n := range c.Late {
		fmt.Fprintf(&b, "late %d\n", n)
	}
	if c.Hubs > 0 {
		fmt.Fprintf(&b, "hubs %d\n", c.Hubs)
	}
	if c.Disk {
		b.WriteString("disk\n")
	}
	if c.SQL {
		b.WriteString("sql\n")
	}
	if c.Liar > 0 {
		fmt.Fprintf(&b, "liar %d\n", c.Liar)
	}
	for _, l := range c.Links {
		fmt.Fprintf(&b, "link %d %d\n", l[0], l[1])
	}
	fmt.Fprintf(&b, "chunk %d\ncache %d\nend %d\n", c.Chunk, c.Cache, c.End)
	if c.Rates != (Rates{}) {
		fmt.Fprintf(&b, "rates %s\n", c.Rates)
	}
	for _, a := range c.Actions {
		fmt.Fprintln(&b, a)
	}
	for _, m := range slices.SortedFunc(maps.Keys(c.Fates), compareMessages) {
		fmt.Fprintf(&b, "msg %s %s\n", m, c.Fates[m])
	}
	return b.String()
}

func compareMessages(a, b Message) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.N, b.N))
}

// form is what follows the first machine of an action.
type form int

const (
	formNone form = iota
	formPair
	formNumber
	formPairNumber
	formWrite
)

// ErrCase wraps every refusal of a text that is not a case.
var ErrCase = errors.New("sim: not a case")

// ParseCase reads what Case.String wrote, or what a person wrote in its form.
func ParseCase(text string) (*Case, error) {
	c := &Case{Fates: map[Message]Fate{}}
	sc := bufio.NewScanner(strings.NewReader(text))
	sc.Buffer(nil, maxCaseLine)
	for line := 1; sc.Scan(); line++ {
		t, _, _ := strings.Cut(sc.Text(), "# ") // a comment; the number of a message stands close to its #
		if t = strings.TrimSpace(t); t == "" || t == "#" {
			continue
		}
		if line == 1 && t != "rowmesh-sim 1" {
			return nil, fmt.Errorf("%w: it does not begin with rowmesh-sim 1", ErrCase)
		}
		if err := c.parseLine(t); err != nil {
			return nil, fmt.Errorf("%w: line %d: %q: %w", ErrCase, line, clip(t), err)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCase, err)
	}
	return c, c.check()
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

// check refuses machines that are not there.
func (c *Case) check() error {
	if c.Replicas < 1 || c.Replicas > MaxReplicas {
		return fmt.Errorf("%w: %d replicas, between 1 and %d are possible", ErrCase, c.Replicas, MaxReplicas)
	}
	bad := func(n int) bool { return n < 0 || n >= c.Replicas }
	if bad(c.Liar) {
		return fmt.Errorf("%w: there is no machine %d to lie", ErrCase, c.Liar)
	}
	for _, l := range c.Links {
		if bad(l[0]) || bad(l[1]) || l[0] == l[1] {
			return fmt.Errorf("%w: there is no link %d %d", ErrCase, l[0], l[1])
		}
	}
	for _, a := range c.Actions {
		if bad(a.A) || bad(a.B) || a.At < 0 {
			return fmt.Errorf("%w: %s: there is no such machine or time", ErrCase, clip(a.String()))
		}
	}
	slices.SortStableFunc(c.Actions, func(a, b Action) int { return cmp.Compare(a.At, b.At) })
	return nil
}

func (c *Case) parseLine(t string) error {
	word, rest, _ := strings.Cut(t, " ")
	n, _ := strconv.ParseInt(rest, 10, 64)
	switch {
	case strings.HasPrefix(word, "@"):
		return c.parseAction(word[1:], rest)
	case word == "rowmesh-sim":
	case word == "seed":
		var err error
		c.Seed, err = strconv.ParseUint(rest, 10, 64)
		return err
	case word == "replicas":
		c.Replicas = int(n)
	case word == "late":
		c.Late = append(c.Late, int(n))
	case word == "liar":
		c.Liar = int(n)
	case word == "hubs":
		c.Hubs = int(n)
	case word == "disk":
		c.Disk = true
	case word == "sql":
		c.SQL = true
	case word == "link":
		var l [2]int
		if _, err := fmt.Sscanf(rest, "%d %d", &l[0], &l[1]); err != nil {
			return err
		}
		c.Links = append(c.Links, l)
	case word == "chunk":
		c.Chunk = int(n)
	case word == "cache":
		c.Cache = int(n)
	case word == "end":
		c.End = n
	case word == "rates":
		return c.Rates.parse(rest)
	case word == "msg":
		return c.parseFate(rest)
	default:
		return errors.New("an unknown word")
	}
	return nil
}

func (c *Case) parseFate(s string) error {
	var m Message
	var f Fate
	head, fate, ok := strings.Cut(s, " ")
	num, fate, ok2 := strings.Cut(fate, " ")
	if !ok || !ok2 {
		return errors.New("write: msg 0>1 #12 drop")
	}
	if _, err := fmt.Sscanf(head+" "+num, "%d>%d #%d", &m.From, &m.To, &m.N); err != nil {
		return err
	}
	words := strings.Fields(fate)
	for i := 0; i < len(words); i++ {
		switch words[i] {
		case "drop":
			f.Drop = true
			continue
		case "cut":
			f.Cut = true
			continue
		}
		if i+1 == len(words) {
			return fmt.Errorf("%s what?", words[i])
		}
		n, err := strconv.ParseInt(words[i+1], 10, 32)
		switch {
		case err != nil:
			return err
		case words[i] == "copies":
			f.Copies = int(n)
		case words[i] == "delay":
			f.Delay = n
		default:
			return fmt.Errorf("an unknown fate %s", words[i])
		}
		i++
	}
	c.Fates[m] = f
	return nil
}

func (c *Case) parseAction(at, s string) (err error) {
	var a Action
	if a.At, err = strconv.ParseInt(at, 10, 64); err != nil {
		return err
	}
	var rest string
	a.Do, rest, _ = strings.Cut(s, " ")
	f, ok := actionForms[a.Do]
	if !ok {
		return fmt.Errorf("an unknown action %s", a.Do)
	}
	first, rest, _ := strings.Cut(rest, " ")
	if a.A, err = strconv.Atoi(first); err != nil {
		return err
	}
	switch f {
	case formPair:
		a.B, err = strconv.Atoi(rest)
	case formNumber:
		a.N, err = strconv.ParseInt(rest, 10, 64)
	case formPairNumber:
		_, err = fmt.Sscanf(rest, "%d %d", &a.B, &a.N)
	case formWrite:
		for group := range strings.SplitSeq(rest, " | ") {
			var ops []Op
			for text := range strings.SplitSeq(group, "; ") {
				op, err := parseOp(text)
				if err != nil {
					return err
				}
				ops = append(ops, op)
			}
			a.Write = append(a.Write, ops)
		}
	}
	c.Actions = append(c.Actions, a)
	return err
}

func parseOp(s string) (op Op, err error) {
	words := strings.Fields(s)
	if len(words) < 2 || !slices.Contains([]string{"put", "set", "del", "rep"}, words[0]) {
		return op, fmt.Errorf("%q: write put t:3 ab=7", s)
	}
	op.Verb = words[0]
	var key string
	op.Table, key, _ = strings.Cut(words[1], ":")
	if op.Key, err = strconv.Atoi(key); err != nil {
		return op, err
	}
	if tables[op.Table] == nil {
		return op, fmt.Errorf("there is no table %q", op.Table)
	}
	for _, w := range words[2:] {
		name, value, _ := strings.Cut(w, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil:
			return op, err
		case name == "pad":
			op.Pad = int(min(max(n, 0), maxPad))
		default:
			op.Cols, op.Value = name, n
		}
	}
	if strings.Trim(op.Cols, allColumns) != "" {
		return op, fmt.Errorf("columns are of %s", allColumns)
	}
	return op, nil
}
