// Package sqlbridge captures local edits from ordinary SQL tables and projects merged rows into them.
//
// A Bridge is the store of one replica inside the user's own SQLite file: rows, coverage, capture and
// projection change in one SQL transaction, so that there is nothing to get out of step. It implements
// replica.Store; replica.Process drives it.
//
//   - Track installs plain-SQL triggers that any SQLite since 3.24 runs in any process. They log hints; the
//     drain reads the rows again and compares them with what was shown.
//   - Merged rows are shown in the tables by ordinary statements. A row that a constraint refuses is parked:
//     kept, listed in rowmesh_parked, and shown when the cause is gone.
//   - Beside the file lies a directory with what must not travel with a copied file: identity, lock, fence.
//
// The caller's duties: keep the *sql.DB open, use the Bridge from one goroutine, never open and close the
// database file by other means than SQLite in this process (POSIX drops all locks of a process on close),
// and use one SQLite library per process and file.
//
// It never rewrites a user's schema, never uses REPLACE, never executes DDL that did not first make exactly
// the named object in an empty database in memory.
package sqlbridge
