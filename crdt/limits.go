package crdt

// Every bound of this package, with its reason.
const (
	// MaxValueBytes bounds one TEXT or BLOB. A peer must be able to hold a whole value in memory several
	// times over while it merges and projects it.
	MaxValueBytes = 16 << 20
	// MaxKeyBytes bounds an encoded key. Keys are repeated in indexes, cursors and messages.
	MaxKeyBytes = 8 << 10
	// MaxKeyParts bounds the columns of a composite key. SQLite itself stops at 2,000 columns; a key of more
	// than a few is a mistake, and each part is compared and indexed.
	MaxKeyParts = 32
	// MaxNameBytes bounds the name of a table or column: names are held in memory for ever once seen.
	MaxNameBytes = 128
	// MaxColumns bounds the columns of a table, SQLite's own default limit.
	MaxColumns = 2000
	// MaxBlockBytes bounds one encoded block that is decoded at once. Larger transactions travel row by row
	// in a session, so this bounds only what is pushed or kept whole.
	MaxBlockBytes = 64 << 20
	// MaxDeltaOrigins bounds the origins one delta may name, so that its dictionary stays small beside it.
	MaxDeltaOrigins = 65536
	// MaxDeltaItems bounds the rows and cells of one delta. On the wire they take as little as a byte, in memory up to 120: a delta of
	// 256 KiB, to which chunks are filled, has half as many at most.
	MaxDeltaItems = 1 << 19
	// maxRefParts bounds the parts of a reference value, which this version stores without reading.
	maxRefParts = 3
)
