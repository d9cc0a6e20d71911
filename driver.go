package rowmesh

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"sync"

	"modernc.org/sqlite"
)

// busyTimeout is how long a program's statement waits for another writer: with 5 s no statement fails
// because of the peer, whose rounds are short.
const busyTimeout = "_pragma=busy_timeout(5000)"

func withTimeout(uri string) string {
	if strings.Contains(uri, "busy_timeout") {
		return uri
	}
	if strings.Contains(uri, "?") {
		return uri + "&" + busyTimeout
	}
	return uri + "?" + busyTimeout
}

func openSQLite(uri string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", withTimeout(uri))
	if err != nil {
		return nil, err
	}
	return db, nil
}

// The driver "rowmesh" opens a peer with the first connection and closes it with the sql.DB:
//
//	db, err := sql.Open("rowmesh", "file:app.db?node=secondary&connect=tcp://host:7070")
//
// The first connection founds a group with the tables that are in the file by then. A program that makes tables later tracks them with
// Open and Track, or with peer track.
type sqlDriver struct{}

func init() { sql.Register("rowmesh", sqlDriver{}) }

// Open is there for the interface; sql.Open uses OpenConnector.
func (sqlDriver) Open(uri string) (driver.Conn, error) {
	c, err := sqlDriver{}.OpenConnector(uri)
	if err != nil {
		return nil, err
	}
	return c.Connect(context.Background())
}

// OpenConnector reads the URI. The peer starts with the first connection.
func (sqlDriver) OpenConnector(uri string) (driver.Connector, error) {
	cfg, rest, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	return &connector{cfg: cfg, uri: withTimeout(rest)}, nil
}

// connector makes connections to one database with one peer beside them.
type connector struct {
	cfg  Config
	uri  string
	mu   sync.Mutex
	peer *Peer
}

// Connect starts the peer if it does not run yet, and returns a plain SQLite connection.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peer == nil {
		p, err := openPath(ctx, c.cfg, c.uri)
		if err != nil {
			return nil, err
		}
		c.peer = p
	}
	return (&sqlite.Driver{}).Open(c.uri)
}

// Driver returns the driver.
func (c *connector) Driver() driver.Driver { return sqlDriver{} }

// Close stops the peer. sql.DB.Close calls it.
func (c *connector) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peer == nil {
		return nil
	}
	err := c.peer.Close()
	c.peer = nil
	return err
}
