package dsstore

// Every bound of this package, with its reason.
const (
	// refsPerRecord bounds the rows named in one record of the index, so that a transaction of a million rows is
	// read and written in pieces.
	refsPerRecord = 512
	// sweepBytes bounds the record that is rewritten when one of its rows names its transaction no more. A longer one
	// keeps the name, which readers pass over: to rewrite it for each row would cost the square of its length.
	sweepBytes = 512
	// bucketBits is the length of a bucket of the index, in bits of a time: 65.5 seconds.
	bucketBits = 32
	// scanRows is how many rows are decoded before they are handed on.
	scanRows = 512
)
