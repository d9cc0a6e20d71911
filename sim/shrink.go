package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Events is the size of a case to a reader: its actions and the messages whose fate is out of the ordinary.
func (c *Case) Events() int { return len(c.Actions) + len(c.Fates) }

// Shrink cuts a failing case down to a small one that breaks the same promise. It works on the list of decisions: every
// message's fate is listed first, so that to take one thing out does not change all others. more is asked before
// each attempt and ends the search by false; nil: it goes on until nothing more can be left out. The result is the
// case itself where it breaks no promise.
func Shrink(c *Case, opt Options, more func() bool) *Case {
	opt.Record, opt.Log = true, nil
	r := Run(c, opt)
	opt.Record = false
	if r.Err == nil {
		return c
	}
	s := &shrinker{opt: opt, promise: r.Err.Promise, liveness: isLiveness(r.Err), best: c, more: more}
	s.opt.most = 2 * r.Stats.Events
	s.opt.unjudged = r.Err.At < c.End
	if !s.try(upTo(r)) {
		return c
	}
	s.boldly(r.Err)
	for before := -1; before != s.size(); {
		before = s.size()
		s.kinds()
		s.tables()
		s.machines()
		s.actions()
		s.joins()
		s.fates()
		s.operations()
		s.plain()
	}
	return s.best
}

// isLiveness reports whether no agreement came about, which is another thing than noise after it.
func isLiveness(v *Violation) bool { return strings.HasPrefix(v.Text, "no liveness") }

type shrinker struct {
	opt      Options
	promise  string
	liveness bool
	best     *Case
	more     func() bool
}

// upTo returns the case of a run without what came after the broken promise.
func upTo(r Result) *Case {
	c := *r.Case
	if r.Err.At < c.End {
		c.End = r.Err.At + 1
		c.Actions = slices.DeleteFunc(slices.Clone(c.Actions), func(a Action) bool { return a.At > r.Err.At })
	}
	return &c
}

// elsewhere looks for a small world of the same kind in which the same thing goes wrong: that takes less time than to cut down a large one,
// of which each run takes long, with databases seconds.
func (s *shrinker) elsewhere(v *Violation) bool {
	opt := s.opt
	opt.Record = true
	for i := range uint64(smallWorlds) {
		if s.more != nil && !s.more() {
			return false
		}
		faults := FaultsNone
		if i%2 == 1 {
			faults = FaultsSwarm
		}
		r := Run(Plan(Config{Seed: mix(s.best.Seed) + i, Steps: 150, Replicas: 2 + int(i/2%2), Faults: faults, Store: s.best.Store()}), opt)
		if r.Err != nil && r.Err.Promise == v.Promise && gist(r.Err.Text) == gist(v.Text) {
			return s.try(upTo(r))
		}
	}
	return false
}

// gist is what a text says, whatever the machines, rows and times in it.
func gist(text string) string {
	var words []string
	for w := range strings.FieldsSeq(text) {
		if strings.Trim(w, "abcdefghijklmnopqrstuvwxyz,:.") == "" && len(w) > 2 {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

// boldly tries what leaves out most at once. A run of a large case is long, above all with databases, and a small one short.
func (s *shrinker) boldly(v *Violation) {
	s.try(s.changed(func(c *Case) { c.Disk, c.SQL = false, false }))
	same := func(*Case) {}
	if s.best.SQL && !s.lasts(fold) && !s.lasts(same) && !s.elsewhere(v) && !s.windows(fold) {
		s.windows(same)
	}
	var where int
	if _, err := fmt.Sscanf(v.Text, "m%d", &where); err != nil || where >= s.best.Replicas {
		where = 0
	}
	pair := func(c *Case) {
		for n := c.Replicas - 1; n > 0; n-- {
			if n != where {
				c.remove(n)
			}
		}
		if c.Replicas == 2 {
			c.Links = [][2]int{{0, 1}}
		}
	}
	plain := func(c *Case) { c.Fates = nil }
	calm := func(c *Case) {
		c.Actions = slices.DeleteFunc(slices.Clone(c.Actions), func(a Action) bool { return a.Do != "write" })
	}
	for _, some := range [][]func(*Case){{pair, plain, calm}, {pair, plain}, {plain, calm}, {pair}, {plain}, {calm}} {
		if s.try(s.changed(func(c *Case) {
			for _, f := range some {
				f(c)
			}
		})) && len(some) > 1 {
			break
		}
	}
	if !s.best.SQL && s.best.Events() > largeCase {
		s.elsewhere(v)
	}
}

// windows tries a few actions that follow each other, without any other and without fates: first short parts, the last of them first.
// What breaks a promise is often close together, and all parts of one length take about as long as one run of the whole.
func (s *shrinker) windows(and func(*Case)) bool {
	all := s.best.Actions
	for size := max(len(all)/16, 8); size < 2*len(all); size *= 2 {
		for end := len(all); end > size/2; end -= size / 2 {
			if s.try(s.changed(func(c *Case) {
				c.Actions, c.Fates = slices.Clone(all[max(end-size, 0):end]), nil
				and(c)
			})) {
				return true
			}
		}
	}
	return false
}

// lasts tries the last few actions, and then more and more, without fates.
func (s *shrinker) lasts(and func(*Case)) bool {
	all := s.best.Actions
	for size := 8; size < len(all); size *= 2 {
		if s.try(s.changed(func(c *Case) {
			c.Actions, c.Fates = slices.Clone(all[len(all)-size:]), nil
			and(c)
		})) {
			return true
		}
	}
	return false
}

// fold lets two machines do what all did.
func fold(c *Case) {
	c.Replicas, c.Links, c.Late, c.Hubs, c.Liar, c.Fates = 2, [][2]int{{0, 1}}, nil, 0, 0, nil
	for i := range c.Actions {
		c.Actions[i].A %= 2
		c.Actions[i].B = 1 - c.Actions[i].A
	}
}

// tables leaves out all operations on a table.
func (s *shrinker) tables() {
	for _, t := range tableNames {
		s.try(s.changed(func(c *Case) {
			c.Actions = slices.Clone(c.Actions)
			for i := range c.Actions {
				var groups [][]Op
				for _, g := range c.Actions[i].Write {
					if g = slices.DeleteFunc(slices.Clone(g), func(op Op) bool { return op.Table == t }); len(g) > 0 {
						groups = append(groups, g)
					}
				}
				c.Actions[i].Write = groups
			}
			c.Actions = slices.DeleteFunc(c.Actions, func(a Action) bool { return a.Do == "write" && len(a.Write) == 0 })
		}))
	}
}

// kinds leaves out all actions of a kind.
func (s *shrinker) kinds() {
	kinds := map[string]bool{}
	for _, a := range s.best.Actions {
		kinds[a.Do] = true
	}
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		s.try(s.changed(func(c *Case) {
			c.Actions = slices.DeleteFunc(slices.Clone(c.Actions), func(a Action) bool { return a.Do == k })
		}))
	}
}

func (s *shrinker) size() int {
	n := s.best.Events()*100 + s.best.Replicas*10
	for _, a := range s.best.Actions {
		for _, g := range a.Write {
			n += len(g)
		}
	}
	return n
}

// try takes a case where it still breaks the promise.
func (s *shrinker) try(c *Case) bool {
	if s.more != nil && !s.more() {
		return false
	}
	r := Run(c, s.opt)
	if r.Err == nil || r.Err.Promise != s.promise || isLiveness(r.Err) != s.liveness {
		return false
	}
	s.best = c
	return true
}

// changed returns a copy of the best case with a change.
func (s *shrinker) changed(f func(*Case)) *Case {
	c := *s.best
	f(&c)
	return &c
}

// reduce leaves out parts of a list of n items: halves first, then smaller parts down to single items. without makes the
// case without items i to j of the best case so far.
func (s *shrinker) reduce(n func() int, without func(i, j int) *Case) {
	for size := n(); size > 0; size /= 2 {
		for i := 0; i < n(); {
			if !s.try(without(i, min(i+size, n()))) {
				i += size
			}
		}
	}
}

func (s *shrinker) actions() {
	s.reduce(func() int { return len(s.best.Actions) }, func(i, j int) *Case {
		return s.changed(func(c *Case) { c.Actions = slices.Delete(slices.Clone(c.Actions), i, j) })
	})
}

// joins makes one transaction of two of the same machine.
func (s *shrinker) joins() {
	for i := 0; i < len(s.best.Actions); {
		a := s.best.Actions[i]
		j := slices.IndexFunc(s.best.Actions[i+1:], func(b Action) bool { return b.Do == "write" && b.A == a.A })
		if a.Do != "write" || j < 0 || !s.try(s.changed(func(c *Case) {
			c.Actions = slices.Clone(c.Actions)
			c.Actions[i].Write = [][]Op{slices.Concat(slices.Concat(a.Write...), slices.Concat(c.Actions[i+1+j].Write...))}
			c.Actions = slices.Delete(c.Actions, i+1+j, i+2+j)
		})) {
			i++
		}
	}
}

func (s *shrinker) fates() {
	list := slices.SortedFunc(maps.Keys(s.best.Fates), compareMessages)
	for size := len(list); size > 0; size /= 2 {
		for i := 0; i < len(list); {
			part := list[i:min(i+size, len(list))]
			ok := s.try(s.changed(func(c *Case) {
				c.Fates = maps.Clone(c.Fates)
				for _, m := range part {
					delete(c.Fates, m)
				}
			}))
			if ok {
				list = slices.Delete(list, i, i+len(part))
			} else {
				i += size
			}
		}
	}
}

// machines leaves out machines that nobody misses, the last first.
func (s *shrinker) machines() {
	for n := s.best.Replicas - 1; n > 0; n-- {
		if c := s.changed(func(c *Case) { c.remove(n) }); c.connected() {
			s.try(c)
		}
	}
}

// connected reports whether a chain of links leads from each machine to each other.
func (c *Case) connected() bool {
	seen := map[int]bool{0: true}
	for more := true; more; {
		more = false
		for _, l := range c.Links {
			if seen[l[0]] != seen[l[1]] {
				seen[l[0]], seen[l[1]], more = true, true, true
			}
		}
	}
	return len(seen) == c.Replicas
}

// remove takes a machine out and numbers those after it anew.
func (c *Case) remove(n int) {
	number := func(i int) int {
		if i > n {
			return i - 1
		}
		return i
	}
	c.Replicas--
	if c.Liar == n {
		c.Liar = 0
	}
	c.Liar = number(c.Liar)
	if n < c.Hubs {
		c.Hubs--
	}
	c.Late = slices.DeleteFunc(slices.Clone(c.Late), func(i int) bool { return i == n })
	for i := range c.Late {
		c.Late[i] = number(c.Late[i])
	}
	c.Links = slices.DeleteFunc(slices.Clone(c.Links), func(l [2]int) bool { return l[0] == n || l[1] == n })
	for i, l := range c.Links {
		c.Links[i] = [2]int{number(l[0]), number(l[1])}
	}
	c.Actions = slices.DeleteFunc(slices.Clone(c.Actions), func(a Action) bool { return a.A == n || a.B == n })
	for i := range c.Actions {
		c.Actions[i].A, c.Actions[i].B = number(c.Actions[i].A), number(c.Actions[i].B)
	}
	fates := map[Message]Fate{}
	for m, f := range c.Fates {
		if m.From != n && m.To != n {
			fates[Message{number(m.From), number(m.To), m.N}] = f
		}
	}
	c.Fates = fates
}

// operations leaves out single operations of writes.
func (s *shrinker) operations() {
	for i := 0; i < len(s.best.Actions); i++ {
		for g := len(s.best.Actions[i].Write) - 1; g >= 0; g-- {
			for o := len(s.best.Actions[i].Write[g]) - 1; o >= 0; o-- {
				s.try(s.changed(func(c *Case) {
					c.Actions = slices.Clone(c.Actions)
					w := slices.Clone(c.Actions[i].Write)
					if w[g] = slices.Delete(slices.Clone(w[g]), o, o+1); len(w[g]) == 0 {
						w = slices.Delete(w, g, g+1)
					}
					c.Actions[i].Write = w
				}))
			}
		}
	}
}

// plain tries the ordinary settings.
func (s *shrinker) plain() {
	for _, f := range []func(*Case){
		func(c *Case) { c.Disk, c.SQL = false, false }, func(c *Case) { c.Chunk = 0 }, func(c *Case) { c.Cache = 0 }, func(c *Case) { c.Hubs = 0 }, func(c *Case) { c.Late = nil },
		func(c *Case) {
			c.Actions = slices.DeleteFunc(slices.Clone(c.Actions), func(a Action) bool { return a.Do == "write" && len(a.Write) == 0 })
		},
		func(c *Case) {
			c.Actions = slices.Clone(c.Actions)
			for i := range c.Actions {
				c.Actions[i].Write = nopad(c.Actions[i].Write)
			}
		},
	} {
		s.try(s.changed(f))
	}
}

func nopad(groups [][]Op) (out [][]Op) {
	for _, g := range groups {
		g = slices.Clone(g)
		for i := range g {
			g[i].Pad = 0
		}
		out = append(out, g)
	}
	return out
}
