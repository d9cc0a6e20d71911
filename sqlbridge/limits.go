package sqlbridge

import "time"

// Every bound of this package, with its reason.
const (
	// lockRetry is how long one attempt to begin a round waits for other writers. Between two of them what these wrote is read,
	// and where one of their transactions ended is noted.
	lockRetry = 5 * time.Millisecond
	// readKeys is how many rows are read by key in one statement. Measured: beyond 50 nothing is gained.
	readKeys = 64
	// memoRows bounds the rows that a round keeps after it has read them: some tens of megabytes.
	memoRows = 50_000
	// listBytes bounds the list of row numbers of a transaction whose order is kept in memory while it is served: some 200,000
	// rows, which take 25 MB. The rows of a larger one are found by scanning its tables, which costs little more where
	// it wrote most of them.
	listBytes = 600_000
	// captureHold is for how long a capture of a part of the outbox should hold the write lock. How many entries it takes in
	// follows from the last one that took in at least paceRows; the first takes in firstRows.
	captureHold = 25 * time.Millisecond
	paceRows    = 200
	firstRows   = 1000
	// partRows and partBytes bound the operations of a capture that are handed on at once: some megabytes.
	partRows  = 4096
	partBytes = 4 << 20
	// heldEntries is how many entries of the outbox are held in memory: with the rows that are read ahead of a capture, and what
	// the runtime takes beyond what is in use, some 50 MB. What is written in one transaction and is more is read page by page
	// from a temporary table that SQLite keeps on disk.
	heldEntries = 20_000
	// fewEntries is how many entries of the outbox a round reads while it holds the lock, which takes some hundred microseconds. To read
	// them ahead takes as long, and a transaction of one row is then seen that much later elsewhere.
	fewEntries = 8
	// maxRuns bounds the groups of one capture, some megabytes. Of two weeks of edits with pauses each then stands for two minutes.
	maxRuns = 10_000
	// readPage is how many rows are decoded before they are handed on.
	readPage = 512
	// groupGap is the pause between two captured edits after which a new group with its own stamp begins:
	// edits made offline keep their own time, a burst stays one transaction.
	groupGap = time.Second
	// sweepBytes bounds the list of row numbers of a transaction that is rewritten when one of its rows
	// moves on. Longer lists keep numbers that no longer matter, which readers pass over: rewriting
	// them for every row would cost the square of their length.
	sweepBytes = 512
	// leaseAhead is how far ahead of now the fence allows own stamps, and so how seldom it is written.
	leaseAhead = 10 * time.Second
	// leaseStep is how far a lease goes beyond stamps that are ahead of the clock: stamps then count up, so this
	// is room for 600,000 transactions.
	leaseStep = 10 * time.Millisecond
	// autocheckpoint is the length of the -wal, in pages, at which SQLite moves it into the database.
	autocheckpoint = 4000
	// maxTriggerColumns is the most key columns an outbox entry can hold.
	maxTriggerColumns = 32
)
