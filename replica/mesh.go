package replica

import "slices"

// Mesh is the choice whom a peer dials in a mesh, in the course of time: its Neighbours as long as they are reached, and for each
// that is not the next in its order of preference. Those that are not reached go on being dialled. One that comes back, and one that
// was not known before and is preferred, is used beside the one in its place until it has held for a while.
//
// Who it is that opened a link does not matter: a neighbour that is linked is reached.
type Mesh struct {
	self   string
	full   int // members up to which all dial all
	dialed map[string]*dialed
}

// dialed is how things stand with a peer that is dialled.
type dialed struct {
	linked bool
	since  int64 // since when it is linked, or is not
	away   bool  // it is not to be counted on: it was not linked for meshPatience, and not for meshSteady since
	steady bool  // it has been linked for meshSteady
}

// NewMesh makes the choice of the peer of this name, who dials all in a group of up to so many members; FullMesh is meant.
func NewMesh(self string, full int) *Mesh {
	return &Mesh{self: self, full: full, dialed: map[string]*dialed{}}
}

// Choose is told how many members the group is known to have, and of those that can be dialled which are linked. It returns whom
// to dial. Times are on the clock of Instant.Mono.
func (m *Mesh) Choose(now int64, members int, others []Candidate) (dial []string) {
	most := dialAll
	if members <= m.full && len(others) < m.full {
		most = len(others)
	}
	before := m.dialed
	m.dialed = map[string]*dialed{}
	counted, steady := 0, 0
	for _, c := range preferred(m.self, others) {
		d := before[c.ID]
		if counted >= most && (steady >= most || d == nil || !c.Linked) {
			continue
		}
		if d == nil {
			d = &dialed{linked: c.Linked, since: now}
		}
		d.pass(now, c.Linked)
		m.dialed[c.ID] = d
		dial = append(dial, c.ID)
		if !d.away {
			counted++
		}
		if d.steady {
			steady++
		}
	}
	slices.Sort(dial)
	return dial
}

// pass notes how long the peer has been linked, or has not.
func (d *dialed) pass(now int64, linked bool) {
	if d.linked != linked {
		d.linked, d.since, d.steady = linked, now, false
	}
	switch held := now - d.since; {
	case linked && held >= millis(meshSteady):
		d.away, d.steady = false, true
	case !linked && held >= millis(meshPatience):
		d.away = true
	}
}

// Wake returns the moment at which time alone next changes the choice.
func (m *Mesh) Wake() int64 {
	at := int64(never)
	for _, d := range m.dialed {
		switch {
		case d.linked && !d.steady:
			at = min(at, d.since+millis(meshSteady))
		case !d.linked && !d.away:
			at = min(at, d.since+millis(meshPatience))
		}
	}
	return at
}
