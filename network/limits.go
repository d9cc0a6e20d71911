package network

import (
	"time"

	"github.com/rowmesh/rowmesh/replica"
)

// Every bound of this package, with its reason.
const (
	// maxControlQueue bounds what waits for a slow peer. Live blocks beyond it are cheaper to pull.
	maxControlQueue = 1 << 20
	// maxSessionQueue holds what a session of large rows has on the way, 82 MiB with its last pass, and a question of an audit beside it.
	maxSessionQueue = replica.MaxMessageBytes + 32<<20
	// gatherBytes is how much of the queue goes out in one write.
	gatherBytes = 64 << 10
	// eventBuffer lets readers run ahead of the runner by a few rounds.
	eventBuffer = 256

	// idleTimeout ends a link on which nothing came, not even the digest that every replica sends in 5 s.
	idleTimeout = 60 * time.Second
	// frameTimeout is for how long nothing of the rest of a frame may come once its header came, and the time for one write of gatherBytes:
	// a link that carries 7 kB/s is slow and not dead.
	frameTimeout = 10 * time.Second
	// openTimeout is the time to open the streams of a link.
	openTimeout = 10 * time.Second
	// dialTimeout is the time for one attempt to connect.
	dialTimeout = 10 * time.Second
	// dialFirst and dialMost bound the pause between attempts, which doubles until a link lasts for lastingLink: one that
	// was lost is used again within a second, a peer that is away for days costs nothing.
	dialFirst = 250 * time.Millisecond
	dialMost  = 30 * time.Second
	// lastingLink tells a link that was lost from one that the other side refuses each time, which it does at once. A pause
	// longer than that after each link of a network that comes and goes would be time lost for nothing.
	lastingLink = 2 * time.Second

	// maxStrangers bounds the ids whose refusal is remembered, so that each is reported once.
	maxStrangers = 1024
	// peersPerAddress is how many peers behind one address are served: an office, or a test machine. libp2p's
	// own default is 8.
	peersPerAddress = 4096
	// connsPerSecond and connsBurst bound new connections from one address; libp2p's defaults are 0.2 and 12.
	connsPerSecond = 200
	connsBurst     = 1000
)
