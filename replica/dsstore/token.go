package dsstore

import (
	"context"
	"fmt"

	ds "github.com/ipfs/go-datastore"
)

var tokenKey = ds.RawKey("/f")

// Commits is the number of the last commit. With the token it tells whether a datastore is the one that was left here, or
// a copy, or one that was set back: the caller keeps both where a copy of the datastore does not take them along.
func (s *Store) Commits() uint64 { return s.number }

// Token returns what SetToken wrote last, "" for nothing.
func (s *Store) Token(ctx context.Context) (string, error) {
	b, err := s.get(ctx, tokenKey)
	if err != nil {
		return "", fmt.Errorf("dsstore: read the token: %w", err)
	}
	return string(b), nil
}

// SetToken writes a token and makes it durable.
func (s *Store) SetToken(ctx context.Context, token string) error {
	err := s.ds.Put(ctx, tokenKey, seal(tokenKey, []byte(token)))
	if err == nil {
		err = s.ds.Sync(ctx, ds.RawKey("/"))
	}
	if err != nil {
		return fmt.Errorf("dsstore: write the token: %w", err)
	}
	return nil
}
