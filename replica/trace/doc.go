// Package trace records what a replica was given while it ran, and runs it again.
//
// A replica is a state machine: what it does follows from what it was loaded from, the inputs with their times, and what its
// store answered. A Recorder writes these down, and a hash of what came out of each round. Replay gives the same to the same
// code, without a database and without a network, and says in which round something else comes out.
//
// A trace is a line of text and then records: the length of the body as a uvarint, its CRC32C, and the body in CBOR. A peer that is
// killed leaves a trace that is whole up to its last round. It holds the values of all rows that were read or written
// meanwhile: handle it as the database itself.
//
// A masked trace may be given away. Each key and value in it is another one, of the same kind and length, by a permutation whose secret
// key is kept nowhere: equal ones are equal still, NULL stays NULL, and a replay does exactly what it would do with the true ones. What
// remains to be seen: names of tables and columns, ids and times, how long texts and how large whole numbers are, how many
// bytes each character has, and which values are equal. The errors of the store are left out.
package trace
