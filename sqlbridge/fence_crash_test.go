package sqlbridge

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// crash ends a side without closing it in order: what a kill leaves behind.
func (s *side) crash() {
	s.b.Close() // without Leave
	s.peerDB.Close()
}

// origin is the replica that a database writes as.
func (s *side) origin() string {
	return s.query(`SELECT hex(value) FROM _rowmesh_meta WHERE name = 'origin'`)
}

// TestCrashBetweenFenceAndFile: P3, P22. A start writes the fence first and the database next. However often it
// ends in between, as by Ctrl-C while another program holds the lock, the database is still known as the one
// that ran here last.
func TestCrashBetweenFenceAndFile(t *testing.T) {
	now := int64(1000)
	s := newSide(t, 'a', &now, `CREATE TABLE t(id TEXT PRIMARY KEY); INSERT INTO t VALUES('x')`, Options{})
	want := s.origin()
	s.crash()
	ctx := context.Background()
	locker, err := s.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer locker.Close()
	if _, err := locker.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		_, _, err := Open(short, openDB(t, s.path), s.opt)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a locked database opens: %v", err)
		}
	}
	if _, err := locker.ExecContext(ctx, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	s.start(true)
	if got := s.origin(); got != want {
		t.Errorf("the database goes on as %s, it was %s", got, want)
	}
}

// TestCrashesDoNotCarryTheClockAway: P9, P10. Own stamps after a crash are later than the lease, which is ahead of the
// clock. Crash after crash must not add up, or peers would refuse what comes.
func TestCrashesDoNotCarryTheClockAway(t *testing.T) {
	now := int64(1000)
	s := newSide(t, 'a', &now, `CREATE TABLE t(id INTEGER PRIMARY KEY)`, Options{})
	const crashes = 30
	for i := range crashes {
		s.exec(`INSERT INTO t VALUES(?)`, i)
		s.round()
		s.crash()
		s.start(true)
	}
	if lead, most := s.r.Last().Millis()-time.Now().UnixMilli(), (leaseAhead + crashes*2*leaseStep).Milliseconds(); lead > most {
		t.Errorf("after %d crashes stamps are %d ms ahead of the clock; at most %d ms are needed", crashes, lead, most)
	}
}

// TestCrashAfterCopyWasSeen: P22. A copied database needs a new origin. A crash after its token was renewed and
// before it has the new origin does not let it go on under the former one.
func TestCrashAfterCopyWasSeen(t *testing.T) {
	now := int64(1000)
	s := newSide(t, 'a', &now, `CREATE TABLE t(id TEXT PRIMARY KEY); INSERT INTO t VALUES('x')`, Options{})
	former := s.origin()
	s.crash()
	if err := os.RemoveAll(Dir(s.path)); err != nil { // as if copied without the directory beside it
		t.Fatal(err)
	}
	b, opened, err := Open(context.Background(), openDB(t, s.path), s.opt)
	if err != nil || !opened.NeedOrigin {
		t.Fatalf("a copied database is not noticed: %v", err)
	}
	b.Close() // the crash
	s.start(true)
	if got := s.origin(); got == former || got == "" {
		t.Errorf("the copy goes on under the origin %s of the original", got)
	}
}
