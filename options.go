package rowmesh

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rowmesh/rowmesh/network"
	"github.com/rowmesh/rowmesh/sqlbridge"
)

// Config says how a peer runs. The zero Config is a peer that talks to nobody.
type Config struct {
	Path     string           // the database file
	Listen   []network.Addr   // where other peers may connect
	Connect  []network.Addr   // peers to keep a link to; an id in an address is thereby allowed
	Hubs     []network.Addr   // hubs in order of preference: a peer keeps a link to the first that works and talks to hubs only; a hub keeps links to all
	Allow    []network.PeerID // who else may connect
	Hub      bool             // serves many others; founds the group where there is none, unless it is told of other hubs
	Acks     int              // how many others must hold durably what is written here, for it to count as in sync; AckHub: a hub; 0: a hub where Hubs is set, else one
	New      bool             // found a group even though there is somebody to connect to
	Join     bool             // never found a group: wait for one, also with nothing to connect to
	Mine     bool             // when joining with rows of its own: they count as written now and win
	Discover bool             // look for allowed peers on the local network, and be found there
	Relays   []network.Addr   // relays through which others may reach this peer, each with its id
	Relaying bool             // be a relay between allowed peers
	Punch    bool             // try for a direct connection where one leads through a relay
	Tables   []string         // the only tables to track and show; empty: all that can be
	Record   string           // file to which the replica is recorded, to be replayed by peer sim replay; empty: none
	Masked   bool             // the recording is to be given away: keys and values in it are replaced by others
	Identity string           // file of the peer's key; empty: beside the database
	Alone    bool             // the process does nothing else: its memory goes back to the system after much work
	Logger   *slog.Logger     // nil: silent
}

// Option changes a Config.
type Option func(*Config)

// WithConfig takes over a whole Config, except for its Path where that is empty.
func WithConfig(c Config) Option {
	return func(to *Config) {
		if c.Path == "" {
			c.Path = to.Path
		}
		*to = c
	}
}

// WithLogger sets where the peer logs.
func WithLogger(l *slog.Logger) Option { return func(c *Config) { c.Logger = l } }

// AckHub is the value of Config.Acks that asks for a hub, whatever else.
const AckHub = -1

// founds reports whether this peer begins a group where its database belongs to none. One that knows of others that may have
// a group waits for them: a hub that lost its database must not begin another.
func (c *Config) founds(self network.PeerID) bool {
	others := len(c.otherHubs(self)) > 0
	return c.New || !c.Join && !others && (c.Hub || len(c.Connect) == 0 && !c.Discover)
}

// IdentityFile is where the identity of a database's peer is kept, unless Config.Identity names another file.
func IdentityFile(database string) string {
	return filepath.Join(sqlbridge.Dir(database), "identity.key")
}

// ParseURI reads file:PATH?key=value&.... The keys are node (primary, secondary), bind, connect, hubs, allow, hub,
// acks (hub or a number), discover, relays, relaying, punch, new, join, mine, tables, key (the identity's file), record and record-masked; lists are separated by commas. Keys that SQLite or its
// driver knows (those beginning with _, mode, cache, vfs, immutable) are left for it: rest is the URI to
// open the database with.
func ParseURI(uri string) (c Config, rest string, err error) {
	u, err := url.Parse(uri)
	if err == nil && u.Scheme != "file" && u.Scheme != "" {
		err = fmt.Errorf("it begins with %s", u.Scheme)
	}
	if err != nil {
		return c, "", fmt.Errorf("rowmesh: %q is not a database URI; write file:app.db?connect=tcp://host:7070: %w", uri, err)
	}
	if u.Host != "" && u.Host != "localhost" {
		return c, "", fmt.Errorf("rowmesh: %q names the file %s on the machine %q: write file:%s for a path from here, file:///... for a whole one", uri, u.Path, u.Host, u.Host+u.Path)
	}
	c.Path = u.Path
	if u.Opaque != "" {
		if c.Path, err = url.PathUnescape(u.Opaque); err != nil {
			return c, "", fmt.Errorf("rowmesh: %q: %w", uri, err)
		}
	}
	if rest, err = fileURI(c.Path); err != nil {
		return c, "", fmt.Errorf("rowmesh: %q %w", uri, err)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return c, "", fmt.Errorf("rowmesh: the keys of %q: %w: write them as key=value, with & between them", uri, err)
	}
	left := url.Values{}
	for key, values := range query {
		if strings.HasPrefix(key, "_") || key == "mode" || key == "cache" || key == "vfs" || key == "immutable" {
			left[key] = values
			continue
		}
		for _, v := range values {
			if err := c.set(key, v); err != nil {
				return c, "", fmt.Errorf("rowmesh: %s=%s in %q: %w", key, v, uri, err)
			}
		}
	}
	if len(left) > 0 {
		rest += "?" + left.Encode()
	}
	return c, rest, nil
}

// fileURI is what SQLite opens a file with, whatever signs its path has.
func fileURI(path string) (string, error) {
	if path == "" || path == ":memory:" {
		return "", errors.New("names no file: an in-memory database cannot be kept in sync")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath(), nil
}

func (c *Config) set(key, value string) (err error) {
	switches := map[string]*bool{
		"hub": &c.Hub, "new": &c.New, "discover": &c.Discover, "relaying": &c.Relaying, "punch": &c.Punch, "join": &c.Join, "mine": &c.Mine,
		"record-masked": &c.Masked,
	}
	if to := switches[key]; to != nil {
		return parseSwitch(to, value)
	}
	list := strings.FieldsFunc(value, func(r rune) bool { return r == ',' })
	switch key {
	case "node":
		switch value {
		case "primary":
			c.Hub = true
		case "secondary":
			c.Join = true
		default:
			return errors.New("write primary or secondary")
		}
	case "bind":
		err = parseList(&c.Listen, list, network.ParseAddr)
	case "connect":
		err = parseList(&c.Connect, list, network.ParseAddr)
	case "relays":
		err = parseList(&c.Relays, list, network.ParseAddr)
	case "hubs":
		err = parseList(&c.Hubs, list, network.ParseHub)
	case "allow":
		err = parseList(&c.Allow, list, network.ParsePeerID)
	case "acks":
		c.Acks, err = ParseAcks(value)
	case "tables":
		c.Tables = append(c.Tables, list...)
	case "key":
		c.Identity = value
	case "record":
		c.Record = value
	default:
		return errors.New("unknown key; known are node, bind, connect, hubs, allow, hub, acks, discover, relays, relaying, punch, new, join, mine, tables, key, record, record-masked")
	}
	return err
}

func parseSwitch(to *bool, value string) error {
	switch value {
	case "", "1", "true", "yes", "on":
		*to = true
	case "0", "false", "no", "off":
		*to = false
	default:
		return errors.New("write 1 or 0")
	}
	return nil
}

// parseList adds what a list of words says.
func parseList[T any](to *[]T, list []string, parse func(string) (T, error)) error {
	for _, s := range list {
		v, err := parse(s)
		if err != nil {
			return err
		}
		*to = append(*to, v)
	}
	return nil
}

// ParseAcks reads a value of Config.Acks: hub, or a number of peers.
func ParseAcks(s string) (int, error) {
	if s == "hub" {
		return AckHub, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is not hub and not a number of peers", s)
	}
	return n, nil
}
