package storetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// model is the plainest store: what a store must be equal to.
type model struct {
	state replica.State
	rows  map[replica.RowKey]crdt.Row
}

func (m *model) commit(b replica.Batch) {
	m.state.Apply(b)
	for _, c := range b.Rows {
		m.rows[replica.RowKey{Table: c.Schema.Table, Key: c.Key}] = c.New
	}
}

// visit is one row that Changed shows.
type visit struct {
	replica.Position
	row crdt.Row
}

func (v visit) equal(w visit) bool { return v.Position == w.Position && v.row.Equal(w.row) }

// String is all of the visit.
func (v visit) String() string { return fmt.Sprintf("%s %s: %s", v.Stamp, v.RowKey, v.row) }

// changed says what Changed must show.
func (m *model) changed(in, notIn crdt.Coverage, after replica.Position) (out []visit) {
	for k, row := range m.rows {
		for _, s := range row.Stamps(nil) {
			v := visit{replica.Position{Stamp: s, RowKey: k}, row}
			if in.Covers(s) && !notIn.Covers(s) && comparePositions(v.Position, after) > 0 {
				out = append(out, v)
			}
		}
	}
	slices.SortFunc(out, func(a, b visit) int { return comparePositions(a.Position, b.Position) })
	return out
}

func comparePositions(a, b replica.Position) int {
	if c := a.Stamp.Origin.Compare(b.Stamp.Origin); c != 0 {
		return c
	}
	if c := a.Stamp.Compare(b.Stamp); c != 0 {
		return c
	}
	switch {
	case a.Key.IsZero() && b.Key.IsZero():
		return 0
	case b.Key.IsZero():
		return 1
	case a.Key.IsZero():
		return -1
	}
	return a.Compare(b.RowKey)
}

// generator makes random batches, as a replica would.
type generator struct {
	*rand.Rand
	m       *model
	origins []crdt.Origin
	schemas map[string]*crdt.Schema
}

func newGenerator(seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 7)), schemas: map[string]*crdt.Schema{}}
	g.m = &model{replica.State{Coverage: crdt.Coverage{}}, map[replica.RowKey]crdt.Row{}}
	for i := range 4 {
		g.origins = append(g.origins, crdt.Origin{byte(g.IntN(256)), byte(i + 1)})
	}
	return g
}

// Names and keys that trip over separators and encodings.
var (
	tableNames = []string{"t", "a/b", "..", ".", "two words", "über"}
	texts      = []string{"", "/", ".", "..", "a/b", "\x00", "x\x00y", "\xff\xfe", "plain", "2e", ".\x01"}
)

func (g *generator) key(table string) crdt.Key {
	n := crdt.Integer(g.Int64N(40) - 20)
	if table == "a/b" {
		return crdt.MustKey(n, crdt.Text(texts[g.IntN(len(texts))]))
	}
	switch g.IntN(5) {
	case 0:
		return crdt.MustKey(crdt.Real(float64(g.IntN(80))/2 - 20.25))
	case 1: // numbers that a comparison by float64 would mix up
		return crdt.MustKey([]crdt.Value{crdt.Integer(1<<53 + 1), crdt.Integer(1 << 53), crdt.Integer(math.MaxInt64), crdt.Integer(math.MinInt64), crdt.Real(1e300), crdt.Real(math.Inf(-1))}[g.IntN(6)])
	case 2:
		return crdt.MustKey(crdt.Text(texts[g.IntN(len(texts))]))
	case 3:
		return crdt.MustKey(crdt.Blob([]byte(texts[g.IntN(len(texts))])))
	}
	return crdt.MustKey(n)
}

// schema returns the schema of a table, now and then with one more column.
func (g *generator) schema(table string, b *replica.Batch) *crdt.Schema {
	s := g.schemas[table]
	if s != nil && g.IntN(8) > 0 {
		return s
	}
	key, cols := []string{"k"}, []string{"c0"}
	if table == "a/b" {
		key = []string{"k1", "k2"}
	}
	if s != nil {
		cols = append(slices.Clone(s.Columns), fmt.Sprintf("c%d", len(s.Columns)))
	}
	s, err := crdt.NewSchema(table, key, cols)
	if err != nil {
		panic(err)
	}
	g.schemas[table] = s
	b.Schemas = append(b.Schemas, s)
	return s
}

// batch is one transaction of one origin, merged.
func (g *generator) batch() replica.Batch {
	b := replica.Batch{Heads: crdt.Coverage{}}
	if g.m.state.Origin.IsZero() {
		b.Origin, b.Group, b.Ready = g.origins[0], replica.GroupID{5}, true
	}
	o := g.origins[g.IntN(len(g.origins))]
	at := crdt.Stamp{Time: g.m.state.Coverage.Max() + 1 + hlc.Timestamp(g.Uint64N(1<<40)), Origin: o}
	b.Heads[o] = at.Time
	table := map[string]*crdt.Schema{}
	done := map[replica.RowKey]bool{}
	for range 1 + g.IntN(8) {
		name := tableNames[g.IntN(len(tableNames))]
		if table[name] == nil {
			table[name] = g.schema(name, &b)
		}
		k := replica.RowKey{Table: name, Key: g.key(name)}
		if done[k] {
			continue
		}
		done[k] = true
		op := crdt.Op{Table: name, Key: k.Key, Kind: []crdt.OpKind{crdt.OpInsert, crdt.OpUpdate, crdt.OpDelete, crdt.OpReplace}[g.IntN(4)]}
		for _, c := range table[name].Columns {
			if g.IntN(3) > 0 {
				op.Sets = append(op.Sets, crdt.Set{Column: c, Value: crdt.Integer(g.Int64())})
			}
		}
		old := g.m.rows[k]
		if row := old.Merge(op.Delta(at, old.Birth)); !row.Equal(old) {
			b.Rows = append(b.Rows, replica.RowChange{Schema: table[name], Key: k.Key, Old: old, New: row})
		}
	}
	g.m.commit(b)
	for i := range b.Rows {
		if g.IntN(8) == 0 {
			b.Rows[i].Anew, b.Rows[i].Old = true, crdt.Row{}
		}
	}
	return b
}
