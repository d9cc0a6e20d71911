package sqlbridge

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// Errors that callers tell apart. Each is wrapped with what failed, on what and what to do.
var (
	ErrLocked  = errors.New("the database is in use by another peer")
	ErrBusy    = errors.New("another program holds a lock on the database")
	ErrNotOurs = errors.New("the database file was replaced or set back under the running peer")
	ErrCorrupt = errors.New("the database is damaged")
	ErrFull    = errors.New("the disk is full")
)

// SQLite drivers wrap errors in types of their own; the message is SQLite's in all of them, so that is what
// is looked at, in this one place.

func saysAny(err error, parts ...string) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

func isBusy(err error) bool {
	return saysAny(err, "database is locked", "database table is locked", "SQLITE_BUSY")
}

// refusedRow names the constraint that a row broke, "" where the error is another.
func refusedRow(err error) string {
	switch {
	case saysAny(err, "UNIQUE constraint failed", "PRIMARY KEY constraint failed"):
		return "unique"
	case saysAny(err, "CHECK constraint failed"):
		return "check"
	case saysAny(err, "NOT NULL constraint failed"):
		return "notnull"
	case saysAny(err, "cannot store", "datatype mismatch"):
		return "datatype"
	case saysAny(err, "constraint failed"):
		return "constraint"
	}
	return ""
}

const fixCorrupt = "restore it from a backup, or remove it and run the peer again to fetch a new copy"

// explain adds a sentinel and advice to the errors that people can do something about.
func explain(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case isBusy(err) && !errors.Is(err, ErrBusy):
		return fmt.Errorf("sqlbridge: %s: %w: wait for it to end, or end it (%w)", path, ErrBusy, err)
	case !errors.Is(err, ErrFull) && (saysAny(err, "database or disk is full") || errors.Is(err, syscall.ENOSPC)):
		return fmt.Errorf("sqlbridge: %s: %w: make room; nothing was lost (%w)", path, ErrFull, err)
	case saysAny(err, "disk I/O error"):
		return fmt.Errorf("sqlbridge: %s: the disk cannot be read or written: see whether it is full or failing; nothing was lost (%w)", path, err)
	case saysAny(err, "file is not a database"):
		return fmt.Errorf("sqlbridge: %s is not a SQLite database, or its beginning is damaged: check the path, or restore it from a backup (%w)", path, ErrCorrupt)
	case saysAny(err, "unable to open database file"):
		return fmt.Errorf("sqlbridge: %s cannot be opened: check the path, and that the peer may read and write the file and its directory", path)
	case saysAny(err, "disk image is malformed"):
		return fmt.Errorf("sqlbridge: %s: %w: %s (%w)", path, ErrCorrupt, fixCorrupt, err)
	case errors.Is(err, ErrCorrupt) && !saysAny(err, fixCorrupt, "is not a SQLite database"):
		return fmt.Errorf("sqlbridge: %s: %w; %s", path, err, fixCorrupt)
	case saysAny(err, "readonly", "read-only"):
		return fmt.Errorf("sqlbridge: %s is not writable: give the peer write permission on the file and its directory, and leave out mode=ro", path)
	}
	return err
}

// RefusedError says why a table cannot be tracked and what would help.
type RefusedError struct{ Table, Reason, Fix string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("table %s cannot be tracked: %s; %s", e.Table, e.Reason, e.Fix)
}

// isStoreError reports whether an error on writing a user's table is about the database, and not about the
// row: the first ends the round, the second parks the row.
func isStoreError(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, driver.ErrBadConn) {
		return true
	}
	if refusedRow(err) != "" { // names of columns stand in the message, and may say anything
		return false
	}
	// SQLite's own messages, as they begin: what a trigger of the user says with RAISE may have any of their words. That something is
	// missing is said of what such a trigger names, too: the table itself was looked at before.
	return isMalformed(err) || begins(err,
		"database is locked", "database table is locked", "database or disk is full", "attempt to write a readonly database", "disk I/O error",
		"out of memory", "interrupted", "file is not a database", "malformed database schema", "unable to open database file", "database schema has changed", "sql: ")
}

// begins reports whether what SQLite said, or database/sql, begins with one of some messages. Around it may stand what was being done.
func begins(err error, messages ...string) bool {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return slices.ContainsFunc(messages, func(m string) bool { return strings.HasPrefix(err.Error(), m) })
}

// isMalformed reports whether SQLite found damage: in the database, or in a virtual table that a trigger of the user feeds.
func isMalformed(err error) bool {
	return begins(err, "database disk image is malformed")
}
