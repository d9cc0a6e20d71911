// Package network carries replica frames between enrolled peers over libp2p.
//
// A Network is one libp2p host: TCP and QUIC, encrypted and authenticated by an Ed25519 identity. A peer
// whose id is not on the allow-list is refused before any handler of ours runs. Between two peers there is
// one link, with a stream for control and live blocks and a stream for sessions.
//
//	n, err := network.Open(cfg)
//	for ev := range n.Events() { ... }  // LinkUp, FrameIn, LinkDown, Refused, Lagging, DialFailed, DialEnded
//	n.Send(link, frame)                 // never blocks
//
// The consumer's duty is to drain Events at all times: readers wait for it, and through them, by flow
// control, the peers. What is sent is kept in a bounded queue per link; if a peer does not take it the
// queue is cleared and Lagging says so. Nothing is decided here: what a frame means is the replica's matter, and
// replica.Mesh chooses whom to dial of those that were found.
package network
