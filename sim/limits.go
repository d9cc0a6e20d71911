package sim

import "time"

// Every bound of this package, with its reason.
const (
	// MaxReplicas keeps a mistyped case from filling the memory.
	MaxReplicas = 1000
	// maxCaseLine holds a transaction of thousands of rows.
	maxCaseLine = 4 << 20
	// maxPad keeps a value within what a block may push several times over.
	maxPad = 1 << 20
	// clogRoom is how many frames wait on a link that has stopped, before its sender is told that it lags.
	clogRoom = 20
	// recordFrames is how many frames of a link are kept to be replayed.
	recordFrames = 64
	// calm is how long a scenario is without faults at its beginning.
	calm = 10 * time.Second
	// maxAtOnce is how many events one moment has at most; beyond it machines keep each other busy for ever.
	maxAtOnce = 200_000
	// never is longer than any run.
	never = 1 << 40
	// roundLength is the period of the slow digest, in which promises about convergence are counted.
	roundLength = 5 * time.Second
	// roundsToConverge is how many rounds replicas have after the last fault, for each hop between the two
	// farthest; see the promise of liveness in docs/SIMULATION.md.
	roundsToConverge = 10
	// quietFor is how long replicas are watched after they agree.
	quietFor = 30 * time.Second
	// dueSoon is more than clocks and lies are ahead in a scenario, other than by more than a year.
	dueSoon = 48 * time.Hour
	// reconnectAfter is how long a lost link takes to come up again.
	reconnectAfter = 300 * time.Millisecond
	// retryAfter is how long a machine waits before it opens its store again after an error.
	retryAfter = 100 * time.Millisecond
	// skewLimit is the promise about clocks: nobody takes a stamp further ahead of his own wall clock.
	skewLimit = 10 * time.Minute
	// largeCase is from how many events on small worlds are looked at for what goes wrong in a large one, where leaving out most of it at
	// once has not helped.
	largeCase = 500
	// smallWorlds is how many small worlds are looked at for what goes wrong in a large one with databases: about half of the minute that
	// a case is cut down for.
	smallWorlds = 200
	// checkedOneIn is the share of commits whose rows are compared with the oracle on the spot, which looks at every
	// write that a row ever had.
	checkedOneIn = 8
)
