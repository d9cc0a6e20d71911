package replica

// NewMemStore lets the suite of all stores run on the store that the tests of this package use.
func NewMemStore() Store { return newMemStore() }
