// Package hlc is a hybrid logical clock: readings that follow wall time and never go backwards.
//
// A Timestamp is 48 bits of milliseconds since the Unix epoch and a 16-bit counter, in one uint64 that
// compares as a plain integer. A Clock hands them out:
//
//	var c hlc.Clock
//	t := c.Now(wallMillis)   // greater than every earlier reading and everything observed
//	c.Update(remote)         // later readings are greater than remote
//
// The clock does not read the time: the caller hands in the wall clock, in milliseconds. It has no error
// path. When the counter is full it carries into the milliseconds, so a frozen or backward wall clock
// slows nothing and refuses nothing: 65,536 readings move the clock ahead by one millisecond.
//
// A Clock is a plain value without locks. It needs no store of its own: at open, Update it with the
// greatest timestamp the store holds.
//
// After Kulkarni, Demirbas, Madappa, Avva and Leone, "Logical Physical Clocks" (OPODIS 2014).
package hlc
