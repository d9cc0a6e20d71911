package sqlbridge

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// group starts n replicas of one group, each with the founder's tables and rows.
func group(t *testing.T, n int, schema string) (sides []*side) {
	t.Helper()
	now := int64(1000)
	for i := range n {
		if i > 0 {
			schema = ""
		}
		sides = append(sides, newSide(t, byte('a'+i), &now, schema, Options{}))
		if i > 0 {
			sync(t, sides[0], sides[i])
		}
	}
	return sides
}

// exchange lets all sides exchange everything, in a random order of pairs.
func exchange(t *testing.T, rng *rand.Rand, sides []*side) {
	t.Helper()
	for range 2 {
		for _, i := range rng.Perm(len(sides)) {
			for _, j := range rng.Perm(len(sides)) {
				if i < j {
					sync(t, sides[i], sides[j])
				}
			}
		}
	}
	for i := range sides[1:] {
		sync(t, sides[i], sides[i+1])
	}
}

const accounts = `CREATE TABLE account(id TEXT PRIMARY KEY, mail TEXT UNIQUE, nick TEXT UNIQUE COLLATE NOCASE, n INTEGER NOT NULL DEFAULT 0 CHECK(n >= 0), boss TEXT REFERENCES account(id));`

// TestUniqueClash: P14. Two sides give one unique value to two rows. The earlier claim holds it, on both; the other row waits
// and comes in when the holder leaves.
func TestUniqueClash(t *testing.T) {
	s := group(t, 2, accounts)
	a, b := s[0], s[1]
	a.exec(`INSERT INTO account(id, mail) VALUES('first', 'm')`)
	a.round()
	b.exec(`INSERT INTO account(id, mail) VALUES('second', 'm')`)
	sync(t, a, b)
	requireEqual(t, a, b, "account")
	if got := a.query(`SELECT id FROM account`); got != "first" {
		t.Errorf("the table shows %q", got)
	}
	if got := b.query(`SELECT "table" || ' ' || key || ' ' || reason || ' ' || blocked_by FROM rowmesh_parked`); got != "account second unique first" {
		t.Errorf("parked is %q", got)
	}
	b.exec(`UPDATE account SET n = 5 WHERE id = 'first'`)
	b.exec(`DELETE FROM account WHERE id = 'first'`)
	sync(t, a, b)
	requireEqual(t, a, b, "account")
	if got := a.query(`SELECT id FROM account`) + a.query(`SELECT count(*) FROM rowmesh_parked`); got != "second0" {
		t.Errorf("after the holder left: %q", got)
	}
}

// TestParkingIsIndependentOfOrder: P1, P14. Three sides edit unique columns at random, apart, and exchange in random orders:
// all show and park the same rows.
func TestParkingIsIndependentOfOrder(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 1))
		sides := group(t, 3, accounts)
		for range 3 {
			for _, s := range sides {
				for range 8 {
					disturbAccounts(rng, s)
				}
			}
			exchange(t, rng, sides)
			requireEqual(t, sides[0], sides[1], "account")
			requireEqual(t, sides[1], sides[2], "account")
		}
	}
}

// disturbAccounts makes a random statement; one that a constraint refuses does nothing.
func disturbAccounts(rng *rand.Rand, s *side) {
	pick := func(list string) string { w := strings.Fields(list); return w[rng.IntN(len(w))] }
	id := pick("p q r s t")
	var err error
	switch rng.IntN(7) {
	case 0, 1:
		_, err = s.db.Exec(`INSERT INTO account(id, mail, nick) VALUES(?, ?, ?)`, id, pick("m1 m2 m3"), pick("n1 N1 n2 N2"))
	case 2:
		_, err = s.db.Exec(`REPLACE INTO account(id, mail, nick, n) VALUES(?, ?, ?, 1)`, id, pick("m1 m2 m3"), pick("n1 N1 n2 N2"))
	case 3:
		_, err = s.db.Exec(`UPDATE account SET mail = ? WHERE id = ?`, pick("m1 m2 m3 m4"), id)
	case 4:
		_, err = s.db.Exec(`UPDATE OR REPLACE account SET nick = ? WHERE id = ?`, pick("n1 N1 n2 N3"), id)
	case 5:
		_, err = s.db.Exec(`UPDATE account SET mail = NULL, n = n + 1 WHERE id = ?`, id)
	default:
		_, err = s.db.Exec(`DELETE FROM account WHERE id = ?`, id)
	}
	if err != nil && !strings.Contains(err.Error(), "constraint failed") {
		s.t.Fatal(err)
	}
	if rng.IntN(3) == 0 {
		s.round()
	}
}

// TestMergeThatBreaksACheck: P14. Each side keeps a CHECK over two columns, their merge does not: the row is parked on both,
// and shown again when it fits.
func TestMergeThatBreaksACheck(t *testing.T) {
	s := group(t, 2, `CREATE TABLE span(id TEXT PRIMARY KEY, lo INTEGER, hi INTEGER, note TEXT NOT NULL, CHECK(lo <= hi)); INSERT INTO span VALUES('x', 1, 5, 'n');`)
	a, b := s[0], s[1]
	a.exec(`UPDATE span SET lo = 4`)
	b.exec(`UPDATE span SET hi = 2`)
	sync(t, a, b)
	requireEqual(t, a, b, "span")
	if got := b.query(`SELECT count(*) FROM span`) + b.query(`SELECT reason FROM rowmesh_parked`); got != "0check" {
		t.Errorf("it shows %q", got)
	}
	a.exec(`INSERT INTO span VALUES('y', 0, 0, 'other')`)
	sync(t, a, b)
	requireEqual(t, a, b, "span")
	a.exec(`INSERT OR REPLACE INTO span VALUES('x', 7, 8, 'again')`) // the program gives the row a life that fits
	sync(t, a, b)
	requireEqual(t, a, b, "span")
	if got := b.query(`SELECT note FROM span WHERE id = 'x'`) + b.query(`SELECT count(*) FROM rowmesh_parked`); got != "again0" {
		t.Errorf("it shows %q", got)
	}
}

// TestUpdateAgainstDelete: the table of outcomes in the README.
func TestUpdateAgainstDelete(t *testing.T) {
	s := group(t, 2, `CREATE TABLE t(id TEXT PRIMARY KEY, v, w); INSERT INTO t VALUES('cols', 0, 0), ('same', 0, 0), ('gone', 0, 0), ('back', 0, 0);`)
	a, b := s[0], s[1]
	a.exec(`UPDATE t SET v = 1 WHERE id = 'cols'; UPDATE t SET v = 1 WHERE id = 'same'; DELETE FROM t WHERE id = 'gone'; DELETE FROM t WHERE id = 'back'`)
	a.round()
	b.exec(`UPDATE t SET w = 2 WHERE id = 'cols'; UPDATE t SET v = 2 WHERE id = 'same'; UPDATE t SET v = 2 WHERE id = 'gone'; DELETE FROM t WHERE id = 'back'; INSERT INTO t VALUES('back', 3, 3)`)
	sync(t, a, b)
	requireEqual(t, a, b, "t")
	if got := a.query(`SELECT group_concat(id || v || w, ' ') FROM (SELECT * FROM t ORDER BY id)`); got != "back33 cols12 same20" {
		t.Errorf("the outcome is %q", got)
	}
}
