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
// Beside the key, in the file of its name with .fence added, is noted what the datastore must hold, so that one that was
// copied, or set back to a backup, goes on as a new replica and catches up. Neither file belongs into a copy.
//
// What the datastore calls durable after a Sync must be: go-ds-pebble and go-ds-leveldb are. Give Pebble a logger whose
// Fatalf returns, as examples/datastore does; its own ends the process when the disk fails.
func OpenDatastore(ctx context.Context, d ds.Batching, opts ...Option) (*Peer, error) {
	var cfg Config
	for _, o := range opts {
		o(&cfg)
	}
	if cfg.Identity == "" {
		return nil, errors.New("rowmesh: a peer on a datastore needs Config.Identity, the file of its key")
	}
	p := newPeer(cfg)
	f, err := readFence(cfg.Identity + ".fence")
	if err != nil {
		return nil, err
	}
	p.reopen = func(ctx context.Context) (opened sqlbridge.Opened, err error) {
		s, err := dsstore.Open(ctx, d)
		if err != nil {
			return opened, err
		}
		p.store = fencedStore{s, f}
		opened.Message, err = f.enter(ctx, s)
		opened.NeedOrigin = opened.Message != ""
		return opened, err
	}
	opened, err := p.reopen(ctx)
	if err != nil {
		return nil, err
	}
	p.need, p.notice = opened.NeedOrigin, opened.Message
	if err := p.start(ctx, cfg.Identity+".stage", opened); err != nil {
		return nil, err
	}
	return p, nil
}
