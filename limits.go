package rowmesh

import "time"

// Every bound of this package, with its reason.
const (
	// gatherInputs is how many events go into one round at most: large rounds commit faster, but each holds
	// the write lock.
	gatherInputs = 512
	// slowPoll is how often the database is looked at without any sign of a change, for file systems
	// whose signs are lost.
	slowPoll = time.Second
	// pollFirst and pollLast bound the looks after a sign: with synchronous=FULL the file changes before
	// the commit can be seen.
	pollFirst = 500 * time.Microsecond
	pollLast  = 64 * time.Millisecond
	// commitTime is about how long after the first sign of a small commit it can be seen.
	commitTime = 100 * time.Microsecond
	// restFactor is how long programs are left alone after a capture, in multiples of the time for which it locked the
	// database, and longestRest the most of that: the one capture of all that was written meanwhile must stay well below the
	// seconds for which a program waits for a lock.
	restFactor  = 2
	longestRest = 100 * time.Millisecond
	// floodFactor is the same while programs write without a pause: they lose a tenth of the time to captures. A capture that
	// held the lock for longer than mostHeld could take in no part, and would hold it even longer after such a rest.
	// mostWaiting is how many entries may wait before programs are left no more rest, so that the peer's memory stays bounded:
	// some 30 MB.
	floodFactor = 9
	mostHeld    = 50 * time.Millisecond
	mostWaiting = 200_000
	// maxParts is how many parts of a flood are captured before inputs that change rows are taken in with all the rest.
	maxParts = 100
	// restLooks is how often the database is looked at while programs are left alone: each look finds the end of a
	// transaction, where a capture may stop.
	restLooks = 5 * time.Millisecond
	// retryFirst and retryMost bound the pause before a replica is loaded again after its store failed.
	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second
	// trimRows is after how many rows, and trimAfter for how long after the last of them, a process that does nothing else gives
	// its memory back. Left to itself the Go runtime keeps what it once needed for minutes.
	trimRows  = 20_000
	trimAfter = 2 * time.Second
	// keptStrangers is how many refused peers are kept for Status: ids cost a stranger nothing.
	keptStrangers = 64
	// watchBuffer is how many changes wait for a watcher before it misses some.
	watchBuffer = 4096
	// syncLimit is how long a round that another process asked for may take before it is told so.
	syncLimit = 10 * time.Minute
	// auditProgress is how often an audit tells how far it is.
	auditProgress = time.Second
	// livePause is the least time between two looks at how things stand with the other peers, each of which may be a commit.
	livePause = 2 * time.Second
	// liveAcks is how many peers are named of those that hold what was written here: enough for any number that is asked for,
	// and not all the spokes of a hub.
	liveAcks = 64
	// fenceEvery is how long the commits of a datastore go on before their number is noted beside it. A copy of it made
	// since then, and put in its place after a crash, is not recognised; each note costs a sync of a small file.
	fenceEvery = 5 * time.Second
	// closeWait is how long Close waits for a last round, so that a stuck disk or another program's lock does not
	// hold up the program: what is not taken in now is at the next start.
	closeWait = time.Second
)
