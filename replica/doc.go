// Package replica is one replica's state machine: writes, frames and ticks go in; a batch to store, frames
// to send and links to close come out. It has no goroutine, clock, file, socket or randomness of its own.
//
// # Driving it
//
// One goroutine owns a Replica. It is loaded from a Store by New and then driven round by round:
//
//	r, err := replica.New(cfg, view)
//	for {
//		... wait for inputs, for r.Wake(), or for a sign that somebody wrote the tables ...
//		err := replica.Process(ctx, store, r, now, capture, inputs, output)
//		if err != nil { throw r away, load it anew }
//	}
//
// Process is the only place where decisions are carried out. In one round it captures what others wrote
// (Write), takes in each frame (Step), lets time pass (Tick), asks for what all of that led to (Ready), and
// carries it out in the order of Ready's fields: the batch made durable first, then frames sent, then links
// closed, then rows shown; Advance ends the round. So no byte derived from a transaction leaves before the
// transaction is durable here. After an error the outcome of the round is unknown: the replica is thrown
// away and loaded again. A frame that cannot be sent is forgotten; a later session repairs it.
//
// # The claim rule
//
// A replica's coverage names, for each origin, the last transaction up to which it holds everything. What
// everything else rests on is:
//
//	claimed implies state dominates: for each transaction in the coverage and each register it
//	wrote, the rows hold that register or a newer one.
//
// A whole block holds all of its transaction, so it is merged and claimed at once, if it follows its
// origin's head; else it is held back for a while and pulled. A session sends surviving registers only:
// what was overwritten is left out, and what overwrote it may be in any later chunk. So its client stages
// the chunks, and at DONE merges the stage and claims the server's cut as one unit. CheckClaims checks the
// rule against an independent list of all blocks ever written.
//
// # Sessions
//
// The client opens a session (PULL) with what it covers. The server visits, in the order of Position,
// each transaction that the client lacks, and for each row that one of them still names sends every
// register that the client does not cover, also newer ones. It goes on committing meanwhile; so after the
// first pass it makes further ones over what came since, the last of them in a single view together with
// DONE. Chunks carry the heads of the server that rose. A broken session leaves its stage behind, and any
// replica may go on with it that holds all that the last server held when it made the last chunk. That it
// holds the session's first cut is not enough: a register of that cut may have been replaced at the server
// before its row was visited, so that neither the old register nor the new one was sent.
//
// # Forks
//
// Two databases that write under one origin have forked: one is a copy of the other, or was set back to an
// earlier state, and went on writing. The fence beside the database, which is not part of this package,
// prevents that in nearly all cases: it has Config.NeedOrigin set before the first write. What it does not
// see is found out here, by the first peer that names a head of the own origin which is none of the
// transactions made here. Process then returns a ForkError, and the replica is loaded with Config.Forked:
// all that the database ever wrote under the old origin is issued anew, and the other branch is fetched.
//
// Out of reach is a peer that took transactions of the new branch before anybody was met who knew the old
// one, and now claims both. Where the writer of the old branch is still there, it finds out too and issues
// its branch anew; where it is not, such a peer may miss transactions of the old branch. The same holds for
// a restart between the writing and the meeting, after which the own transactions are not known one by one,
// and for a part of a broken session that holds what was forgotten and is gone on with elsewhere.
//
// # What always holds
//
//   - Claims never pass content, in memory as on disk; both move in one batch.
//   - An origin's transactions are taken in order, without gaps. A block that two of them could follow (its
//     database was copied) is refused by name.
//   - Nothing beyond the clock's limit is merged, claimed or observed by the clock; it is held back, or the
//     session is refused by name and asked for again when its time has come.
//   - A replica that is not ready yet (it waits for its first copy) neither serves nor takes blocks.
//   - What a peer sends is checked before it changes anything; a fault ends its link and nothing else.
//
// # What is not promised
//
// Transactions of different origins may be seen in any order. Two concurrent writes of one cell keep one.
// Of forks that the fence does not see, the ones named above are not repaired. A peer that lies is not found
// out: whoever is let in is trusted with its own and with relayed transactions.
//
// The protocol is versioned in HELLO; frames of unknown type are skipped unless they are marked critical.
package replica
