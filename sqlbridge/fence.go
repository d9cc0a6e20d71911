package sqlbridge

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rowmesh/rowmesh/hlc"
)

// A database file can be copied, restored from a backup, or replaced while a peer runs. Two copies that
// both wrote under one origin would destroy each other's claims, so the file alone is not trusted: beside
// it, in its own directory, lies a fence that does not travel with it. The fence holds the token that the
// database must show, the file's device and inode, and the lease: no own stamp above it was ever given
// out. The token is written to the fence first and to the database next. A crash in between leaves the
// database with the token it had, however often that happens.
type fence struct {
	dir  string
	lock *os.File
	fenceState
}

type fenceState struct {
	Token  int64         `json:"token"`
	Before int64         `json:"before"` // the token in the database when Token was made: it stays valid if a crash comes between the two writes
	Lease  hlc.Timestamp `json:"lease"`
	Device uint64        `json:"device"`
	Inode  uint64        `json:"inode"`
	Clean  bool          `json:"clean"` // closed in order: no stamp above the head was given out

	// Commits is how many rounds the database has seen at least; after a close in order, exactly.
	Commits int64 `json:"commits"`
}

// Dir returns the directory beside a database that holds what must not travel with a copied file. It is beside the file itself where the
// path is a symbolic link, as the -wal is, so that a database has one, and one peer, by whatever name it is opened.
func Dir(path string) string { return realPath(path) + "-rowmesh" }

// realPath follows symbolic links. A file that is not there has no other path.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// lockFence takes the lock of a database, so that only one peer runs on it, and reads its fence.
func lockFence(path string) (*fence, error) {
	f := &fence{dir: Dir(path)}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("sqlbridge: make the directory beside the database: %w", err)
	}
	name := filepath.Join(f.dir, "lock")
	lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlbridge: %w", err)
	}
	if err := lockFile(lock); err != nil {
		holder := make([]byte, 32)
		n, _ := lock.ReadAt(holder, 0)
		lock.Close()
		return nil, fmt.Errorf("sqlbridge: %s: %w (process %s): stop that one first", path, ErrLocked, holder[:n])
	}
	_ = lock.Truncate(0)
	_, _ = lock.WriteAt(fmt.Append(nil, os.Getpid()), 0)
	f.lock = lock
	raw, err := os.ReadFile(filepath.Join(f.dir, "fence"))
	if errors.Is(err, os.ErrNotExist) {
		return f, nil
	}
	if err == nil && json.Unmarshal(raw, &f.fenceState) != nil {
		f.fenceState = fenceState{} // damaged: as if there were none, which is always safe
		err = nil
	}
	if err != nil {
		f.release()
		return nil, fmt.Errorf("sqlbridge: read the fence: %w", err)
	}
	return f, nil
}

// save writes the fence so that it is either the old one or the new one after a crash.
func (f *fence) save() error {
	raw, err := json.Marshal(f.fenceState)
	if err != nil {
		return err
	}
	if err := WriteFile(filepath.Join(f.dir, "fence"), raw); err != nil {
		return fmt.Errorf("sqlbridge: write the fence: %w", err)
	}
	return nil
}

// WriteFile writes a small file that only this user may read, so that it is either the old one or the new one after a crash.
func WriteFile(path string, raw []byte) error {
	tmp, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = tmp.Write(raw)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (f *fence) release() error {
	if f == nil || f.lock == nil {
		return nil
	}
	err := f.lock.Close()
	f.lock = nil
	return err
}

func randomInt() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand.Read
	return int64(binary.BigEndian.Uint64(b[:]) >> 1)
}

// enter compares the database with its fence and marks it as ours.
func (b *Bridge) enter(ctx context.Context) (Opened, error) {
	var token int64
	var origin []byte
	if err := errors.Join(b.meta(ctx, "token", &token), b.meta(ctx, "origin", &origin)); err != nil {
		return Opened{}, fmt.Errorf("sqlbridge: %s: %w", b.opt.Path, err)
	}
	dev, ino, err := fileID(b.opt.Path)
	if err != nil {
		return Opened{}, fmt.Errorf("sqlbridge: %w", err)
	}
	f := b.fence
	var o Opened
	switch {
	case len(origin) == 0: // never written by a replica
	case f.Token == 0:
		o.NeedOrigin, o.Message = true, "this database was copied or moved without the directory beside it, or restored: it goes on as a new replica, and what it holds is kept"
	case token != f.Token && token != f.Before, b.commits < f.Commits, f.Clean && b.commits != f.Commits, b.setBack:
		o.NeedOrigin, o.Message = true, "this database is not the one that ran here last (an older copy was put in its place): it goes on as a new replica and catches up; what it holds is kept"
	case dev != f.Device || ino != f.Inode:
		o.NeedOrigin, o.Message = true, "this database and the directory beside it are a copy: it goes on as a new replica. If the original still runs elsewhere, stop this peer and remove "+
			filepath.Join(f.dir, "identity.key")+", so that the two have different ids"
	case !f.Clean:
		o.Lease = f.Lease
	}
	b.setBack = false
	f.Device, f.Inode, f.Clean = dev, ino, false
	f.Lease = max(f.Lease, o.Lease)
	b.nonce = randomInt()
	return o, b.renew(ctx, max(f.Lease, b.leaseFromNow()), o.NeedOrigin)
}

// leaseFromNow is how far stamps may go before the fence is written again.
func (b *Bridge) leaseFromNow() hlc.Timestamp {
	return hlc.FromMillis(b.opt.Now() + leaseAhead.Milliseconds())
}

// renew extends the lease and gives the database a new token: first the fence, then the file. With forget the
// former origin goes in the same transaction: after it the token fits, and says no more that a new one is needed.
func (b *Bridge) renew(ctx context.Context, lease hlc.Timestamp, forget bool) error {
	if err := b.newToken(ctx, lease); err != nil {
		return err
	}
	return b.write(ctx, func() error {
		if forget {
			if _, err := b.conn.ExecContext(ctx, `DELETE FROM _rowmesh_meta WHERE name = 'origin'`); err != nil {
				return err
			}
		}
		return errors.Join(b.setMeta(ctx, "token", b.fence.Token), b.setMeta(ctx, "nonce", b.nonce))
	})
}

// newToken writes a lease and a new token to the fence.
func (b *Bridge) newToken(ctx context.Context, lease hlc.Timestamp) error {
	f := b.fence
	if err := b.meta(ctx, "token", &f.Before); err != nil {
		return fmt.Errorf("sqlbridge: %s: %w", b.opt.Path, err)
	}
	f.Token, f.Lease, f.Commits = randomInt(), lease, b.commits
	return explain(b.opt.Path, f.save())
}

// extendLease makes sure that the stamp may be given out. It is called inside a round: the new token goes
// into the same transaction. A stamp may be ahead of the clock, after a crash by as much as the lease was: the
// next lease is not another leaseAhead beyond it, or crash after crash would carry the stamps into the future.
func (b *Bridge) extendLease(ctx context.Context, upTo hlc.Timestamp) error {
	if upTo <= b.fence.Lease {
		return nil
	}
	lease := max(b.leaseFromNow(), upTo+hlc.FromMillis(leaseStep.Milliseconds()))
	if err := b.newToken(ctx, lease); err != nil {
		return err
	}
	return b.setMeta(ctx, "token", b.fence.Token)
}

// Leave marks a close in order: every stamp given out is in the database.
func (b *Bridge) Leave() error {
	if b.fence == nil || b.fence.lock == nil {
		return nil
	}
	b.fence.Clean, b.fence.Commits = true, b.commits
	return b.fence.save()
}

// stillOurs refuses a file that is not the one of the last round.
func (b *Bridge) stillOurs(ctx context.Context) error {
	var nonce, commits int64
	err := b.one(ctx, `SELECT coalesce((SELECT value FROM _rowmesh_meta WHERE name = 'nonce'), 0),
		coalesce((SELECT value FROM _rowmesh_meta WHERE name = 'commits'), 0)`, nil, &nonce, &commits)
	if saysAny(err, "no such table") {
		return fmt.Errorf("sqlbridge: %s: %w: our tables are gone from it", b.opt.Path, ErrNotOurs)
	}
	if err != nil {
		return err
	}
	if nonce != b.nonce || commits != b.commits {
		b.setBack = true
		return fmt.Errorf("sqlbridge: %s: %w", b.opt.Path, ErrNotOurs)
	}
	return b.SameFile()
}

var errGone = errors.New("it is gone: put it back and the peer goes on with it, or start the peer anew to fetch the rows from others")

// SameFile returns an error where another file, or none, is in the place of the database.
func (b *Bridge) SameFile() error {
	dev, ino, err := fileID(b.opt.Path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("sqlbridge: %s: %w: %w", b.opt.Path, ErrNotOurs, errGone)
	}
	if err != nil || dev != b.fence.Device || ino != b.fence.Inode {
		return fmt.Errorf("sqlbridge: %s: %w: another file is in its place", b.opt.Path, ErrNotOurs)
	}
	return nil
}
