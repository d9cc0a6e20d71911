package replica

import (
	"time"

	"github.com/rowmesh/rowmesh/crdt"
)

// Every bound of this package, with its reason. docs/PROTOCOL.md shows the ones a peer can notice.
const (
	// MaxFrameBytes bounds one frame's body, compressed or not: a peer never allocates more for bytes it
	// has not checked yet.
	MaxFrameBytes = 1 << 20
	// MaxMessageBytes bounds a body that goes on over several frames, after decompression. It holds a part
	// of a row, see maxRowBytes, and what is beside it.
	MaxMessageBytes = 64 << 20
	// maxControlBytes bounds the body of a message that carries no rows, after decompression: three vectors of 100,000
	// origins, or the schemas of a block with a thousand tables.
	maxControlBytes = 8 << 20
	// maxInflation bounds decompression: no table data worth compressing shrinks further, a bomb does. What does, such as a
	// value of zeros, is sent as it is.
	maxInflation = 1000
	// compressFrom is the least body worth compressing: smaller ones grow.
	compressFrom = 1 << 10

	// maxPushBytes bounds a block that is pushed; a larger one is announced and pulled, so that it never
	// holds up the small ones behind it.
	maxPushBytes = 64 << 10
	// maxBlocksBytes bounds a BLOCKS body, after decompression. A peer sends no more than maxPushBytes and a head at once,
	// and decoded rows take up to some 200 times their bytes.
	maxBlocksBytes = 2 * maxPushBytes
	// maxHeldBlocks and maxHeldBytes bound the blocks held back per origin, out of order or ahead of the
	// clock. A block that finds no room is dropped: a later pull brings its content.
	maxHeldBlocks = 1000
	maxHeldBytes  = 16 << 20
	// maxHeldOrigins bounds the origins that have held blocks: ids come from outside.
	maxHeldOrigins = 64

	// maxVectors and maxVectorBytes bound the vectors that are kept as bases: seventy of 10,000 origins, or one of the
	// greatest size.
	maxVectors     = 256
	maxVectorBytes = 16 << 20
	// defaultPackBytes is the least vector that is packed, of 43 origins: for a smaller one it is not worth a question and an
	// answer more where the other side was started anew.
	defaultPackBytes = 1 << 10
	// tellAllFrom is how many heads are told at once as a whole vector, which is packed: it is what a session brings.
	tellAllFrom = 64
	// maxKnown bounds the origins whose heads a link is remembered to know: some 10 MB of ids that may be made up.
	maxKnown = 1 << 17
	// maxGrafts bounds the origins in a GRAFT that may be needless: 24 KB.
	maxGrafts = 1024

	// FullMesh is the size up to which a group's peers are all linked with each other.
	FullMesh = 64
	// dialAll is how many peers one of a larger group dials, and dialNear how many of them at least are among the nearest
	// len/nearPart: half of the 8 links, 5 of them near, at which blocks reach a thousand peers as soon as by flooding.
	dialAll  = 4
	dialNear = 2
	nearPart = 5
	// meshPatience is how long a neighbour may not be reached before another is dialled too: longer than one attempt, or the
	// restart of a program, takes. The other links go on meanwhile.
	meshPatience = 20 * time.Second
	// meshSteady is how long a neighbour must be linked without a break before the one in its place is let go: two rounds of
	// the digest.
	meshSteady = 10 * time.Second

	// maxOwnTimes bounds the times of own transactions that are remembered since the start, to know a fork by:
	// half a megabyte.
	maxOwnTimes = 1 << 16

	// maxTold and maxToldBytes bound the schemas told on one link, and in one session, used or not.
	maxTold      = 4096
	maxToldBytes = 16 << 20

	// defaultChunkBytes is the size a chunk is filled to: large enough to compress and commit well, small enough
	// that serving it takes a few milliseconds.
	defaultChunkBytes = 256 << 10
	// minChunkBytes is to what chunks become smaller on links that die before one has come: still some dozens of rows, and a
	// few kilobytes on the wire.
	minChunkBytes = 8 << 10
	// rowChunks is how many times the size of a chunk the cells of a row may take that goes into one chunk, up to maxRowBytes: larger rows
	// go in parts, for what is put into one message must come whole. A value of the greatest size still makes one part.
	rowChunks   = 64
	maxRowBytes = crdt.MaxValueBytes
	// maxChunkRows bounds the rows of a chunk that comes: some more than 256 KiB of the smallest.
	maxChunkRows = 1 << 16
	// lookBytes is for how much of a chunk's size one row is looked at, whether it is sent or not: 4,096 rows for a usual one, which
	// are read in some 40 ms. All that a session comes by may have been sent already, at other transactions of the same rows.
	lookBytes = 64
	// maxAhead bounds the bytes of chunks that are not known to have come, beyond the moreCredit after which the client says so:
	// with one more they fit into a link's queue.
	maxAhead = 48 << 20
	// defaultStageBytes is how much of a session is held in memory until it is whole; what is more goes to the scratch space.
	defaultStageBytes = 4 << 20
	// defaultPutRows is how many changed rows of a large session, or of a first copy, gather before they are handed to the
	// store: a few megabytes.
	defaultPutRows = 4096
	// worthWaiting is how much of a session must have come for it to be worth a wait of resumeWait for a server that can go on
	// with it, before it is begun anew with one that cannot.
	worthWaiting = 1 << 20
	resumeWait   = 20 * time.Second
	// startCredit is how many chunks a client allows at once, moreCredit how many it adds each time that many
	// have come. The product with the chunk size bounds what waits in queues.
	startCredit = 8
	moreCredit  = 4
	maxCredit   = 64
	// lastPassBytes is what the last pass of a session may hold up the server for; more than that is first
	// sent in another ordinary pass, at most maxPasses times.
	lastPassBytes = 1 << 20
	maxPasses     = 8

	// maxSkew is how far ahead of this machine's clock a stamp may be. Evolu allows 5 minutes, iroh-docs 10.
	maxSkew = 5 * time.Minute

	// headsEvery is how long changed heads are gathered before they are told.
	headsEvery = 100 * time.Millisecond
	// pullAfter is how long a replica that is told of newer heads waits for the blocks to come by push.
	pullAfter = 150 * time.Millisecond
	// answerAfter is how long a pushed head may go without an answer before it is told again: half the
	// globe is 150 ms away, and answers are gathered for headsEvery.
	answerAfter = 400 * time.Millisecond
	// settleAfter is how long after the last change a link is told the hash of all heads where the other side does not
	// know that what it told was known here already.
	settleAfter = time.Second
	// digestEvery is the period in which a silent link tells the hash of all heads, so that a lost last
	// frame is noticed. It is the round in which promises about convergence are counted.
	digestEvery = 5 * time.Second
	// helloEvery is how often HELLO is repeated until the other side's has come.
	helloEvery = time.Second
	// pieceBytes is how much of a large message goes into one frame. Each that comes is progress of a session: a row of any size comes
	// through a link that carries so much in sessionTimeout, 13 kB/s.
	pieceBytes = 128 << 10
	// sessionTimeout is how long a session may make no progress before it is given up and asked for anew.
	sessionTimeout = 10 * time.Second
	// busyRetry is how long a client waits after BUSY.
	busyRetry = 500 * time.Millisecond

	// auditRows and auditBytes are the size of a segment that an audit compares at once: few enough to read in some 40 ms, many
	// enough that a million rows take 250 questions of 100 bytes. auditPart is the size of the parts that follow where it
	// differs; maxAuditSegments is how many of them there can be.
	auditRows        = 4096
	auditBytes       = 4 << 20
	auditPart        = 64
	maxAuditSegments = auditRows / auditPart
	// maxMendRows bounds the rows of one MEND, which hold up the side that joins them.
	maxMendRows = 1024
	// maxAuditNamed is how many differing rows an audit names. Beyond them a row may count once for each of its transactions.
	maxAuditNamed = 1000
	// auditAgain is how long a question of an audit waits for its answer before it is repeated, auditPatience how long
	// until the audit ends.
	auditAgain    = 10 * time.Second
	auditPatience = time.Minute

	// hubPatience is how long a hub has to begin to work before the next of the list is tried too: enough for a link that
	// was lost to come back.
	hubPatience = 2 * time.Second
	// hubSteady is how long a hub must work without a break before the ones after it are let go: two rounds of the digest.
	hubSteady = 10 * time.Second
	// hubSilent is how long nothing may come from a hub that is relied upon: three rounds of the digest.
	hubSilent = 3 * digestEvery

	// defaultCacheRows is how many decoded rows are kept: a few megabytes for usual rows.
	defaultCacheRows = 1 << 15
	// readBatch is how many rows are read from the store at once.
	readBatch = 512
	// cacheBatch is the most rows of one commit that go into the cache: a catch-up would only wash it out.
	cacheBatch = 2048
)
