package rowmesh

import "time"

// Every bound of this package, with its reason.
const (
	// gatherInputs is how many events go into one round at most: large rounds commit faster, but each holds
	// the write lock.
	gatherInputs = 512
	// slowPoll is how often the database is looked at without any sign of a change, for file systems
	// whose signs are lost.
	slowPoll = 500 * time.Millisecond
	// pollFirst and pollLast bound the looks after a sign: with synchronous=FULL the file changes before
	// the commit can be seen.
	pollFirst = 500 * time.Microsecond
	pollLast  = 64 * time.Millisecond
	// retryFirst and retryMost bound the pause before a replica is loaded again after its store failed.
	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second
	// watchBuffer is how many changes wait for a watcher before it misses some.
	watchBuffer = 4096
	// syncLimit is how long a round that another process asked for may take before it is told so.
	syncLimit = 10 * time.Minute
	// livePause is the least time between two writings of how things stand with the other peers.
	livePause = 2 * time.Second
	// closeWait is how long Close waits for a last round, so that a stuck disk or another program's lock does not
	// hold up the program: what is not taken in now is at the next start.
	closeWait = time.Second
)
