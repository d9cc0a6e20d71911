package sqlbridge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// walFile is the -wal of the database. The bridge syncs it itself, after COMMIT: with synchronous=FULL SQLite syncs it within COMMIT, while
// nobody else can write and nobody can see what was committed. Either way it is on disk before Commit returns, and so before
// anything of it is sent. SQLite holds its locks on other files, so that this one may be opened and closed.
type walFile struct {
	path string
	f    *os.File
	is   os.FileInfo
	sync func(*os.File) error
}

// Sync waits until what was committed is on disk.
func (w *walFile) Sync() error {
	is, err := os.Stat(w.path)
	if err != nil {
		return err
	}
	if w.f == nil || !os.SameFile(w.is, is) { // the last connection to close removes the file
		if err := errors.Join(w.Close(), w.open()); err != nil {
			return err
		}
	}
	return w.sync(w.f)
}

func (w *walFile) open() error {
	f, err := os.OpenFile(w.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if w.is, err = f.Stat(); err == nil {
		err = syncDir(filepath.Dir(w.path))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	w.f = f
	return nil
}

// Close closes the file. A later Sync opens it again.
func (w *walFile) Close() error {
	if w.f == nil {
		return nil
	}
	f := w.f
	w.f = nil
	return f.Close()
}

// syncError says that a commit can be seen and may not be on disk.
type syncError struct {
	path string
	err  error
}

func (e *syncError) Error() string {
	return fmt.Sprintf("sqlbridge: %s: what was committed could not be synced to the disk: see whether it is failing; nothing of it was sent, and nothing will be before it is on disk (%v)", e.path, e.err)
}

func (e *syncError) Unwrap() error { return e.err }
