package sqlbridge

import (
	"context"
	"fmt"
)

// Request is what another process asks of the running peer, through _rowmesh_control.
type Request struct {
	N    int64
	What string
}

// Ask leaves a request for the running peer. With an error, n is 0 where it was certainly not left; a call that is
// cancelled while it commits does not know.
func (b *Bridge) Ask(ctx context.Context, what string) (n int64, err error) {
	err = b.write(ctx, func() error {
		res, err := b.conn.ExecContext(ctx, `INSERT INTO _rowmesh_control(request, ms) VALUES(?, ?)`, what, b.opt.Now())
		if err != nil {
			return err
		}
		n, err = res.LastInsertId()
		return err
	})
	return n, explain(b.opt.Path, err)
}

// The states of a request.
const (
	RequestNew       = "new"
	RequestRunning   = "running"
	RequestDone      = "done"      // with the answer
	RequestFailed    = "failed"    // with the error in words
	RequestNoPeer    = "no peer"   // the same, because no other peer was reached
	RequestWithdrawn = "withdrawn" // nobody waits for it any more
)

// Withdraw takes a request back, unless it is answered.
func (b *Bridge) Withdraw(ctx context.Context, n int64) error {
	err := b.write(ctx, func() error {
		_, err := b.conn.ExecContext(ctx, `UPDATE _rowmesh_control SET state = ? WHERE n = ? AND state IN (?, ?)`, RequestWithdrawn, n, RequestNew, RequestRunning)
		return err
	})
	return explain(b.opt.Path, err)
}

// Answered returns the state of a request, with words.
func (b *Bridge) Answered(ctx context.Context, n int64) (state, detail string, err error) {
	err = b.conn.QueryRowContext(ctx, `SELECT state, detail FROM _rowmesh_control WHERE n = ?`, n).Scan(&state, &detail)
	return state, detail, explain(b.opt.Path, err)
}

// Requests returns what is newly asked.
func (b *Bridge) Requests(ctx context.Context) (out []Request, err error) {
	rows, err := b.query(ctx, `SELECT n, request FROM _rowmesh_control WHERE state = ? ORDER BY n`, RequestNew)
	if err != nil {
		return nil, explain(b.opt.Path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var r Request
		if err := rows.Scan(&r.N, &r.What); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// Answer puts a request into a state, with words. Old answers are dropped.
func (b *Bridge) Answer(ctx context.Context, n int64, state, detail string) error {
	err := b.write(ctx, func() error {
		if _, err := b.conn.ExecContext(ctx, `UPDATE _rowmesh_control SET state = ?, detail = ? WHERE n = ?`, state, detail, n); err != nil {
			return err
		}
		_, err := b.conn.ExecContext(ctx, `DELETE FROM _rowmesh_control WHERE n < ?`, n-100)
		return err
	})
	if err != nil {
		return fmt.Errorf("sqlbridge: answer request %d: %w", n, explain(b.opt.Path, err))
	}
	return nil
}

// Running reports whether a peer has the database open, and which process it is.
func Running(path string) (holder string, running bool) {
	f, err := lockFence(path)
	if err == nil {
		_ = f.release()
		return "", false
	}
	return err.Error(), true
}

// SetLive keeps what the running peer says of itself, as JSON, for others to read. It does not wait for a lock:
// held says that another program had it.
func (b *Bridge) SetLive(ctx context.Context, doc string) (held bool, err error) {
	if _, err := b.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return isBusy(err), explain(b.opt.Path, err)
	}
	if err := b.stillOurs(ctx); err != nil {
		b.rollback()
		return false, err
	}
	if err := b.setMeta(ctx, "live", doc); err != nil {
		b.rollback()
		return false, explain(b.opt.Path, err)
	}
	return false, explain(b.opt.Path, b.commitUnsynced(ctx)) // it says nothing that others count on
}

// Live returns what SetLive kept, "" where there is nothing.
func (b *Bridge) Live(ctx context.Context) (doc string, err error) {
	if have, err := b.tracked(ctx); err != nil || !have {
		return "", err
	}
	return doc, explain(b.opt.Path, b.meta(ctx, "live", &doc))
}
