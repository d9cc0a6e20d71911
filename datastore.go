package rowmesh

import (
	"context"
	"errors"

	ds "github.com/ipfs/go-datastore"

	"github.com/rowmesh/rowmesh/replica/dsstore"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// OpenDatastore starts a peer without SQL, whose rows live in a go-datastore: WriteRows writes typed rows, Rows and
// Scan read them, and Watch tells what changes. It speaks with peers that have SQL as with any other. The datastore
// stays the caller's and must outlive the peer; nobody else may write it. Config.Identity names the file of the peer's
// key, which is made where there is none.
//
// Unlike a database file, a datastore that was copied or set back is not recognised when it is opened, but when a
// peer that knows more of it is met. Until then the copy must not be written.
func OpenDatastore(ctx context.Context, d ds.Batching, opts ...Option) (*Peer, error) {
	var cfg Config
	for _, o := range opts {
		o(&cfg)
	}
	if cfg.Identity == "" {
		return nil, errors.New("rowmesh: a peer on a datastore needs Config.Identity, the file of its key")
	}
	p := newPeer(cfg)
	p.reopen = func(ctx context.Context) (_ sqlbridge.Opened, err error) {
		p.store, err = dsstore.Open(ctx, d)
		return sqlbridge.Opened{}, err
	}
	opened, err := p.reopen(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.start(ctx, "", opened); err != nil {
		return nil, err
	}
	return p, nil
}
