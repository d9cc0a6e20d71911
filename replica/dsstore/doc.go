// Package dsstore keeps one replica on a go-datastore, for replicas without SQL.
//
// Any ds.Batching will do (Pebble, LevelDB, the in-memory map); all that is asked of it is that a single Put
// is whole or absent after a crash, and that Sync makes durable what was put before it. A batch of a
// datastore need not be atomic: a commit record is the commit point.
//
//	/j/0, /j/1                 commit records, used in turns: number, and every put and delete of a commit
//	/m                         number of the last commit that was applied, origin, group, ready
//	/f                         the token that tells this datastore from a copy
//	/v/<origin>                an origin's number, id and head
//	/t/<table>                 a table's key columns and columns, in the order in which they were learnt
//	/s/<n>                     the schemas that blocks name, in the order in which they were learnt
//	/r/<table>/<key>           a row: number of its base origin, base time, registers
//	/i/<origin>/<bucket>/<time>/<n>  the rows that name a transaction, at most 512 a record
//
// A commit puts its record and syncs: from then on it has happened. Its puts and deletes are carried out
// after that, and made durable by the sync of the next commit. At an open both records are carried out again, the
// older first; they say what each key is to hold, so that it does no harm. Coverage is part of the record, so it is
// never durable before its content.
//
// Buckets of 65.5 seconds let a session read what changed since some time without a walk through the whole history.
// Every record but those of datastores themselves carries a CRC32C: a damaged one is ErrCorrupt, never a row.
package dsstore
