package replica

// Every bound of this package, with its reason. docs/PROTOCOL.md shows the ones a peer can notice.
const (
	// MaxFrameBytes bounds one frame's body, compressed or not: a peer never allocates more for bytes it
	// has not checked yet.
	MaxFrameBytes = 1 << 20
)
