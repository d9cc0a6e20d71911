// Package crdt holds rows as register maps with birth and tombstone; merging in any order gives one result.
//
// A Row has a birth register, a tomb register and a register per column, each a maximum by Stamp. A row is
// alive when its newest insert is not older than its newest delete; an update never brings a row to life.
// Registers below the floor (the later of birth and tomb) are dropped. Every transaction has one Stamp, so
// whole transactions win or lose together wherever they wrote the same cells.
//
//	r = r.Merge(delta)             // commutative, associative, idempotent
//	r.Alive(); r.Cell("name")      // what SQL shows
//	r.Without(coverage)            // what another replica lacks
//
// The package also owns the bytes: a Value, a Key and a Row are held in canonical CBOR, a Block is one
// transaction as its origin encoded it, and a delta carries parts of rows in a session. Decoders accept the
// canonical form and nothing else, allocate in proportion to their input, and never panic on it.
//
// Nothing here reads a clock, a file or a socket, and nothing is changed in place: values may be shared
// between goroutines.
//
// The model follows Shapiro, Preguiça, Baquero and Zawirski, "Conflict-free Replicated Data Types" (2011)
// and, for parts of states, Almeida, Shoker and Baquero, "Delta State Replicated Data Types" (2018).
package crdt
