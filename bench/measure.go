package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"slices"
	"time"

	ds "github.com/ipfs/go-datastore"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/dsstore"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// beside measures the same on a plain database and then on one that a peer keeps in sync, both new, and returns the medians of the
// ratios. Only one of them is open at a time: in modernc.org/sqlite the page caches of a process share one budget, so that a
// database that nobody uses any more takes pages from the other.
func (l *lab) beside(measure func(db *sql.DB, settle func()) []time.Duration) []float64 {
	var all [][]float64
	for range max(*runs, 1) {
		plain := open(l.path())
		exec1(plain, schema)
		base := measure(plain, func() {})
		check(plain.Close())
		path := l.path()
		tracked := open(path)
		exec1(tracked, schema)
		side := startPeer(path)
		side.waitReady()
		took := measure(tracked, func() { until(tracked, `SELECT count(*) FROM _rowmesh_outbox`, 0) })
		side.stop()
		check(tracked.Close())
		all = append(all, ratios(took, base))
	}
	out := make([]float64, len(all[0]))
	for i := range out {
		var column []float64
		for _, r := range all {
			column = append(column, r[i])
		}
		slices.Sort(column)
		out[i] = column[len(column)/2]
	}
	return out
}

func ratios(of, to []time.Duration) (out []float64) {
	for i := range of {
		out = append(out, float64(of[i])/float64(to[i]))
	}
	return out
}

// benchLocal: what a program's own transactions take with capture, and a peer at work beside, against without.
func benchLocal(l *lab) {
	all := makeRows(*rows)
	updates := make([][]any, len(all))
	for i, r := range all {
		updates[i] = []any{i + 1, r[0]}
	}
	r := l.beside(func(db *sql.DB, settle func()) []time.Duration {
		insert := timed(func() { inTxns(db, insertItem, all, perTxn) })
		settle()
		update := timed(func() { inTxns(db, `UPDATE item SET a = ? WHERE id = ?`, updates, perTxn) })
		settle()
		return []time.Duration{insert, update}
	})
	report("local insert, transactions of 1,000, time against plain", fmt.Sprintf("%.2fx", r[0]), r[0], 1.35, false, "<= 1.35x")
	report("local update of one column, time against plain", fmt.Sprintf("%.2fx", r[1]), r[1], 1.5, false, "<= 1.5x")
}

// benchOneRow: transactions of one row.
func benchOneRow(l *lab) {
	all := makeRows(min(*rows/10, 5000))
	r := l.beside(func(db *sql.DB, _ func()) []time.Duration {
		return []time.Duration{timed(func() { inTxns(db, insertItem, all, 1) })}
	})[0]
	report("transaction of one row, a peer at work beside, time against plain", fmt.Sprintf("%.2fx", r), r, 1.3, false, "<= 1.3x")
}

// author is a replica in memory that writes blocks and hands them to a receiver inside SQLite, without a network: what is measured
// is decode, merge, store and project.
type author struct {
	store replica.Store
	r     *replica.Replica
	out   []replica.Frame
	now   int64
}

func (a *author) Send(_ replica.LinkID, f replica.Frame) { a.out = append(a.out, f) }
func (a *author) CloseLink(_ replica.LinkID, err error)  { check(err) }
func (a *author) Show(replica.Batch)                     {}

func newAuthor(store replica.Store, cfg replica.Config) *author {
	a := &author{store: store, now: time.Now().UnixMilli()}
	check(store.Read(context.Background(), func(v replica.View) (err error) {
		a.r, err = replica.New(cfg, v)
		return err
	}))
	return a
}

func (a *author) step(in ...replica.Input) {
	a.now += 5
	check(replica.Process(context.Background(), a.store, a.r, replica.Instant{Wall: a.now, Mono: a.now}, false, in, a))
}

// meet exchanges frames until both are silent.
func meet(a, b *author) {
	for range 60 {
		for _, x := range [][2]*author{{a, b}, {b, a}} {
			frames := x[0].out
			x[0].out = nil
			for _, f := range frames {
				x[1].step(replica.Input{From: 1, Frame: &f})
			}
			x[0].step()
		}
	}
}

var itemSchema = must(crdt.NewSchema("item", []string{"id"}, []string{"a", "b", "c", "d"}))

const applyTxn = 500 // rows of a block that is pushed and not pulled

// benchApply: merged rows per second on the second replica against a plain upsert in equal SQL transactions.
func benchApply(l *lab) {
	all := makeRows(*rows / applyTxn * applyTxn)
	for _, kind := range []struct {
		name string
		bar  float64
		perm bool
		warm bool
	}{{"fresh rows", 0.42, false, false}, {"update of every row", 0.42, false, true}, {"update of every row in random order", 0.36, true, true}} {
		order := slices.Clone(all)
		if kind.perm {
			slices.SortFunc(order, func(x, y []any) int {
				return len(x[2].(string)) - len(y[2].(string)) + cmpText(x[2].(string), y[2].(string))
			})
		}
		r := median(func() float64 { return l.applyOnce(all, order, kind.warm) })
		report("apply on the second replica, "+kind.name+", rate against plain upsert", fmt.Sprintf("%.2fx", r), r, kind.bar, true, fmt.Sprintf(">= %.2fx", kind.bar))
	}
}

func cmpText(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

// applyOnce is the rate of the last of its rounds: the insert, or where the replica is warm the update that follows it.
func (l *lab) applyOnce(all, order [][]any, warm bool) float64 {
	rounds := [][][]any{order}
	if warm {
		rounds = [][][]any{all, order}
	}
	plain := l.plainApply(rounds)
	path := l.path()
	t := open(path)
	defer t.Close()
	exec1(t, schema)
	ctx := context.Background()
	bridge, _, err := sqlbridge.Open(ctx, t, sqlbridge.Options{Path: path})
	check(err)
	defer bridge.Close()
	group := replica.GroupID{1}
	_, err = bridge.Track(ctx, []string{"item"}, false)
	check(err)
	b := newAuthor(bridge, replica.Config{NewOrigin: crdt.Origin{2}, NewGroup: group})
	a := newAuthor(must(dsstore.Open(ctx, ds.NewMapDatastore())), replica.Config{NewOrigin: crdt.Origin{1}, NewGroup: group})
	for _, x := range []*author{a, b} {
		x.step(replica.Input{Up: &replica.LinkUp{Link: 1, Peer: "other"}})
	}
	meet(a, b)
	var took time.Duration
	for i, rows := range rounds {
		kind := crdt.OpInsert
		if i > 0 {
			kind = crdt.OpUpdate
		}
		frames := a.write(rows, kind, i)
		took = timed(func() {
			for _, f := range frames {
				b.step(replica.Input{From: 1, Frame: &f})
			}
		})
		b.out = nil
	}
	var n int
	check(t.QueryRow(`SELECT count(*) FROM item`).Scan(&n))
	if n != len(all) {
		check(fmt.Errorf("apply: %d rows arrived, %d were sent", n, len(all)))
	}
	return float64(plain) / float64(took)
}

// plainApply is how long the last of the rounds takes as upserts into a plain table, which is closed before the other is opened: see
// beside.
func (l *lab) plainApply(rounds [][][]any) (took time.Duration) {
	p := open(l.path())
	defer p.Close()
	exec1(p, "PRAGMA synchronous=FULL")
	exec1(p, schema)
	const upsert = `INSERT INTO item VALUES(?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET a = excluded.a, b = excluded.b, c = excluded.c, d = excluded.d`
	for _, rows := range rounds {
		took = timed(func() { inTxns(p, upsert, rows, applyTxn) })
	}
	return took
}

// write makes transactions and returns the frames that push them.
func (a *author) write(rows [][]any, kind crdt.OpKind, turn int) (frames []replica.Frame) {
	for part := range slices.Chunk(rows, applyTxn) {
		g := replica.Group{WallMillis: a.now}
		for _, r := range part {
			g.Ops = append(g.Ops, crdt.Op{Table: "item", Key: crdt.MustKey(crdt.Text(r[0].(string))), Kind: kind, Sets: []crdt.Set{
				{Column: "a", Value: crdt.Integer(int64(r[1].(int) + turn))}, {Column: "b", Value: crdt.Text(r[2].(string))},
				{Column: "c", Value: crdt.Real(r[3].(float64))}, {Column: "d", Value: crdt.Text(r[4].(string))}}})
		}
		a.out = nil
		a.step(replica.Input{Write: &replica.Drain{Schemas: []*crdt.Schema{itemSchema}, Groups: []replica.Group{g}}})
		for _, f := range a.out {
			if f.Type == replica.FrameBlocks || f.Type == replica.FrameSchema {
				frames = append(frames, f)
			}
		}
	}
	a.out = nil
	return frames
}

// filled makes a database with the workload's rows.
func (l *lab) filled(n int) string {
	path := l.path()
	db := open(path)
	defer db.Close()
	exec1(db, schema)
	inTxns(db, insertItem, makeRows(n), perTxn)
	return path
}

// benchCatchUp: a new replica fetches everything, its process and the founder's import not counted.
func benchCatchUp(l *lab) {
	all := makeRows(*rows)
	payload := 0
	for _, r := range all {
		payload += len(r[0].(string)) + 8 + len(r[2].(string)) + 8 + len(r[4].(string))
	}
	var bytes int64
	r := median(func() float64 {
		plain := open(l.path())
		defer plain.Close()
		exec1(plain, schema)
		x := timed(func() { inTxns(plain, insertItem, all, perTxn) })
		a, b, joiner, w, took := l.pair(l.filled(*rows))
		defer a.stop()
		defer b.stop()
		bytes = w.bytes.Load()
		db := open(joiner)
		defer db.Close()
		until(db, `SELECT count(*) FROM item`, int64(*rows))
		return float64(x) / float64(took)
	})
	report(fmt.Sprintf("first copy of %d rows over loopback, start of the process included, rate against plain insert", *rows), fmt.Sprintf("%.2fx", r), r, 0.5, true, ">= 0.5x")
	wire := float64(bytes) / float64(payload)
	report("the same, bytes on the wire (encrypted TCP), against the payload", fmt.Sprintf("%.2fx", wire), wire, 0.75, false, "<= 0.75x")
}

// benchSome: 100 rows changed in one transaction.
func benchSome(l *lab) {
	founder := l.filled(*rows)
	a, b, joiner, w, _ := l.pair(founder)
	defer a.stop()
	defer b.stop()
	db, other := open(founder), open(joiner)
	defer db.Close()
	defer other.Close()
	var updates [][]any
	for i := range 100 {
		updates = append(updates, []any{-1, key(i * (*rows / 100))})
	}
	turn := 0
	var bytes float64
	ms := median(func() float64 {
		turn--
		for i := range updates {
			updates[i][0] = turn
		}
		before := w.bytes.Load()
		took := timed(func() {
			inTxns(db, `UPDATE item SET a = ? WHERE id = ?`, updates, 100)
			until(other, fmt.Sprintf(`SELECT a FROM item WHERE id = '%s'`, key(99*(*rows/100))), int64(turn))
		})
		bytes = float64(w.bytes.Load() - before)
		return float64(took.Microseconds()) / 1000
	})
	report(fmt.Sprintf("100 rows of %d changed in one transaction, until seen on the other side", *rows), fmt.Sprintf("%.1f ms", ms), ms, 3, false, "<= 3 ms")
	report("the same, bytes on the wire", fmt.Sprintf("%.0f B", bytes), bytes, 3000, false, "<= 3,000 B")
}

// benchBothSides: 10,000 rows changed on each side, half of them the same.
func benchBothSides(l *lab) {
	n := *rows / 10
	founder := l.filled(*rows)
	a, b, joiner, _, _ := l.pair(founder)
	defer a.stop()
	defer b.stop()
	db, other := open(founder), open(joiner)
	defer db.Close()
	defer other.Close()
	change := func(db *sql.DB, from, value int) {
		var args [][]any
		for i := range n {
			args = append(args, []any{value, key(from + i)})
		}
		inTxns(db, `UPDATE item SET a = ? WHERE id = ?`, args, perTxn)
	}
	value := -1
	s := median(func() float64 {
		value -= 2
		took := timed(func() {
			change(db, 0, value)
			change(other, n/2, value-1)
			last := fmt.Sprintf(`SELECT a FROM item WHERE id = '%s'`, key(n/2+n-1)) // to count all rows all the time would take a processor
			until(db, last, int64(value-1))
			until(db, fmt.Sprintf(`SELECT count(*) FROM item WHERE a = %d`, value-1), int64(n))
			until(other, fmt.Sprintf(`SELECT count(*) FROM item WHERE a = %d`, value), int64(n/2))
		})
		return took.Seconds()
	})
	report(fmt.Sprintf("%d rows changed on each side, half the same, until both agree (writing included)", n), fmt.Sprintf("%.2f s", s), s, 0.5, false, "<= 0.5 s")
}

// benchWire: bytes of the blocks themselves.
func benchWire(*lab) {
	size := func(ops int, kind crdt.OpKind) float64 {
		schema := must(crdt.NewSchema("customers", []string{"id"}, []string{"amount", "email", "name", "status"}))
		b := &crdt.Block{Stamp: crdt.Stamp{Time: 1 << 60, Origin: crdt.Origin{0xab, 1}}, Prev: 1<<60 - 1500<<16}
		for i := range ops {
			op := crdt.Op{Kind: kind, Sets: []crdt.Set{{Column: "status", Value: crdt.Text("paused")}}}
			if kind == crdt.OpInsert {
				op.Sets = []crdt.Set{{Column: "amount", Value: crdt.Real(149.5)}, {Column: "email", Value: crdt.Text("ada@example.org")}, {Column: "name", Value: crdt.Text("Ada Lovelace King")}, {Column: "status", Value: crdt.Text("paused")}}
			}
			k := crdt.MustKey(crdt.Blob([]byte(key(i))))
			b.Rows = append(b.Rows, crdt.RowDelta{Schema: schema, Key: k, Row: op.Delta(b.Stamp, crdt.Stamp{})})
		}
		raw := crdt.AppendBlock(nil, b, (*crdt.Schema).Ref)
		frame := replica.AppendFrame(nil, replica.Frame{Type: replica.FrameBlocks, Body: append([]byte{0, 0}, raw...)})
		return float64(len(frame)) / float64(ops)
	}
	one := size(1, crdt.OpUpdate)
	report("frame of a one-cell update (16-byte key)", fmt.Sprintf("%.0f B", one), one, 70, false, "<= 70 B")
	many := size(1000, crdt.OpInsert)
	report("block of 1,000 inserts, 5 columns, per row", fmt.Sprintf("%.1f B", many), many, 70, false, "<= 70 B")
}

// benchLatency: from a commit on one side to the moment a reader of the other sees it.
func benchLatency(l *lab) {
	founder, joiner := l.filled(1000), l.path()
	a := startFounder(founder, joiner)
	defer a.stop()
	b := startJoiner(joiner, hostPort(a.addr), founder)
	defer b.stop()
	db, other := open(founder), open(joiner)
	defer db.Close()
	defer other.Close()
	s := must(other.Prepare(`SELECT a FROM item WHERE id = ?`))
	var all []float64
	k := key(7)
	for i := range 300 {
		exec1(db, `UPDATE item SET a = ? WHERE id = ?`, -i-1, k)
		began := time.Now()
		for {
			var got int
			check(s.QueryRow(k).Scan(&got))
			if got == -i-1 {
				break
			}
			nap() // the peers need the processors
		}
		all = append(all, float64(time.Since(began).Microseconds())/1000)
		time.Sleep(20 * time.Millisecond)
	}
	slices.Sort(all)
	p50, p99 := all[len(all)/2], all[len(all)*99/100]
	report("commit to visible on the other side, p50", fmt.Sprintf("%.1f ms", p50), p50, 2, false, "<= 2 ms")
	report("commit to visible on the other side, p99", fmt.Sprintf("%.1f ms", p99), p99, 8, false, "<= 8 ms")
}

// benchIdle: what a connected pair uses when nothing happens.
func benchIdle(l *lab) {
	founder := l.filled(*rows)
	a, b, _, w, _ := l.pair(founder)
	defer a.stop()
	defer b.stop()
	time.Sleep(3 * time.Second)
	const watch = 20 * time.Second
	cpu, bytes := a.cpu()+b.cpu(), w.bytes.Load()
	time.Sleep(watch)
	share := float64(a.cpu()+b.cpu()-cpu) / float64(2*watch) * 100
	rate := float64(w.bytes.Load()-bytes) / watch.Seconds()
	report("idle pair, share of a core for each peer", fmt.Sprintf("%.2f %%", share), share, 0.5, false, "< 0.5 %")
	report("idle pair, bytes a second on the link (encrypted, both ways)", fmt.Sprintf("%.0f B", rate), rate, 50, false, "< 50 B")
	mib := float64(a.memory("VmRSS")) / (1 << 20)
	report(fmt.Sprintf("idle peer with %d rows, resident memory", *rows), fmt.Sprintf("%.0f MiB", mib), mib, 120, false, "<= 120 MiB (at 1,000,000)")
}

// benchSize: the file with our tables in it against the file without.
func benchSize(l *lab) {
	for _, c := range []struct {
		what  string
		bytes int
		n     int
		bar   float64
	}{{"108-byte rows", 60, *rows, 2.2}, {"10 kB rows", 9950, *rows / 100, 1.1}} {
		sizes := [2]int64{}
		for i := range sizes {
			path := l.path()
			db := open(path)
			exec1(db, schema)
			all := makeRows(c.n)
			for j := range all {
				if c.bytes > 60 {
					all[j][4] = fmt.Sprintf("%0*d", c.bytes, j)
				}
			}
			inTxns(db, insertItem, all, perTxn)
			if i == 1 {
				p := startPeer(path)
				p.waitReady()
				until(db, `SELECT count(*) FROM _rowmesh_outbox`, 0)
				p.stop()
			}
			exec1(db, `PRAGMA wal_checkpoint(TRUNCATE)`)
			check(db.Close())
			sizes[i] = must(os.Stat(path)).Size()
		}
		r := float64(sizes[1]) / float64(sizes[0])
		report("database file against plain, "+c.what, fmt.Sprintf("%.2fx", r), r, c.bar, false, fmt.Sprintf("<= %.1fx", c.bar))
	}
}
