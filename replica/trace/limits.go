package trace

// Every bound of this package, with its reason.
const (
	// DefaultBytes bounds a trace where the caller says nothing: about a day of a group that writes ten rows a second.
	DefaultBytes = 256 << 20
	// maxRecord bounds one record: an input with the largest message that a replica takes, and some room. A trace comes from
	// outside, and this is what one length in it may claim.
	maxRecord = 80 << 20
	// maxCacheRows is what a recorded configuration may ask for.
	maxCacheRows = 1 << 20
	// firstRead is how much is read on the word of a length alone; more is made room for as it arrives.
	firstRead = 64 << 10
)
