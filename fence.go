package rowmesh

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rowmesh/rowmesh/replica"
	"github.com/rowmesh/rowmesh/replica/dsstore"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// A datastore can be copied, or set back to a backup. To write on under its origin would claim transactions that it does
// not hold any more, and make others that have their names. So a file beside the peer's key, which does not travel with
// the datastore, holds the token that the datastore must show and the number of commits that it must have seen. The
// token is new at every open: first in the file, then in the datastore. A crash in between leaves the datastore with the
// token before, which stays valid.
type fence struct {
	path string
	at   time.Time // of the last save
	fenceState
}

type fenceState struct {
	Token   string `json:"token"`
	Before  string `json:"before"`
	Commits uint64 `json:"commits"` // at least
	Need    bool   `json:"need"`    // a new origin is due, and not known to be written
}

// readFence reads the fence; one that is missing or damaged is as none, which is always safe.
func readFence(path string) (*fence, error) {
	f := &fence{path: path}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("rowmesh: make the directory of the peer's key: %w", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("rowmesh: read the fence: %w; the peer needs to read and write it", err)
	}
	if json.Unmarshal(raw, &f.fenceState) != nil {
		f.fenceState = fenceState{}
	}
	return f, nil
}

// enter compares a datastore with the fence, gives it a new token, and says what people should know, "" for nothing. Where
// it says something the replica must write under a new origin.
func (f *fence) enter(ctx context.Context, s *dsstore.Store) (message string, err error) {
	token, err := s.Token(ctx)
	if err != nil {
		return "", err
	}
	switch {
	case s.Commits() == 0: // nothing was ever written
	case f.Token == "":
		message = "this datastore was copied or moved without the files beside the peer's key: it goes on as a new replica, and what it holds is kept"
	case f.Need, token != f.Token && token != f.Before, s.Commits() < f.Commits:
		message = "this datastore is not the one that ran here last (an older copy was put in its place): it goes on as a new replica and catches up; what it holds is kept"
	}
	f.fenceState = fenceState{Token: rand.Text(), Before: token, Commits: s.Commits(), Need: message != ""}
	if err := f.save(); err != nil {
		return "", err
	}
	return message, s.SetToken(ctx, f.Token)
}

// save writes the fence so that after a crash it is either the old one or the new one.
func (f *fence) save() error {
	f.at = time.Now()
	raw, err := json.Marshal(f.fenceState)
	if err != nil {
		return fmt.Errorf("rowmesh: write the fence: %w", err)
	}
	if err := sqlbridge.WriteFile(f.path, raw); err != nil {
		return fmt.Errorf("rowmesh: write the fence: %w", err)
	}
	return nil
}

// note saves the number of commits, where it has grown. The first commit after a load has the new origin where one is due.
func (f *fence) note(commits uint64) error {
	if commits == f.Commits {
		return nil
	}
	f.Commits, f.Need = commits, false
	return f.save()
}

// fencedStore notes now and then how many commits the datastore has seen.
type fencedStore struct {
	*dsstore.Store
	fence *fence
}

// Begin opens a round.
func (s fencedStore) Begin(ctx context.Context) (replica.Round, error) {
	if time.Since(s.fence.at) > fenceEvery {
		if err := s.fence.note(s.Commits()); err != nil {
			return nil, err
		}
	}
	return s.Store.Begin(ctx)
}

// Close notes the number of commits and closes the store.
func (s fencedStore) Close() error { return errors.Join(s.fence.note(s.Commits()), s.Store.Close()) }
