package sim

import (
	"slices"

	"github.com/rowmesh/rowmesh/replica"
)

// In a star the first machines are hubs, and the others spokes: each keeps a link to the first hub that works of a list of its
// own, as peers do.

func (m *machine) isHub() bool { return m.id < m.w.c.Hubs }

func (m *machine) isSpoke() bool { return m.w.c.Hubs > 0 && !m.isHub() }

// hubsOf returns the edges from a spoke to its hubs, in its order of preference: half of the spokes prefer another hub.
func (w *World) hubsOf(m *machine) []*edge {
	out := slices.Clone(m.star)
	if m.id%2 == 1 {
		slices.Reverse(out)
	}
	return out
}

// wanted reports whether both ends of an edge want a link.
func (w *World) wanted(e *edge) bool {
	for _, m := range e.ends {
		if m.isSpoke() && slices.Index(w.hubsOf(m), e) >= m.reach {
			return false
		}
	}
	return true
}

// chooseHub lets a spoke choose, after a round.
func (m *machine) chooseHub() {
	if !m.isSpoke() {
		return
	}
	m.w.checkAcks(m)
	edges := m.w.hubsOf(m)
	m.reach = m.hubs.Choose(m.w.now, func(hub int) bool {
		e := edges[hub]
		return e.up && m.core.Serves(m.instant(), e.links[e.index(m)])
	})
	for i, e := range edges {
		if i < m.reach {
			m.w.dial(e)
		} else {
			m.w.disconnect(e)
		}
	}
	if use := m.hubs.InUse(); use >= 0 {
		if m.lastHub > 0 && use > m.lastHub-1 {
			m.w.mark("hub failover")
		} else if m.lastHub > 0 && use < m.lastHub-1 {
			m.w.mark("hub preferred again")
		}
		m.lastHub = use + 1
	}
}

// checkAcks requires that a hub holds durably what a spoke takes it to hold, where the hub's database was not replaced.
func (w *World) checkAcks(m *machine) {
	for _, a := range m.core.Acks() {
		for _, hub := range w.machines[:w.c.Hubs] {
			if hub.name() == a.Peer && hub.own && hub.rotten == 0 && !w.doubtful(a.Origin) && a.Head > hub.claimed[a.Origin] {
				w.violate("P5", "%s takes %s to hold its %s, and it holds %s", m.name(), a.Peer, a.Head, hub.claimed[a.Origin])
			}
		}
	}
}

// checkAcked requires that spokes whose hub holds all know it.
func (w *World) checkAcked() {
	if w.uncertain() {
		return
	}
	for _, m := range w.alive() {
		if m.core == nil || !m.isSpoke() {
			continue
		}
		if own := m.core.Origin(); m.core.Acked() != m.claimed[own] {
			w.violate("P2", "%s wrote up to %s, and takes its hubs to hold %s", m.name(), m.claimed[own], m.core.Acked())
		}
	}
}

// beginHubs lets a spoke that was started begin with the first of its list.
func (m *machine) beginHubs() {
	if m.isSpoke() {
		m.hubs = replica.NewHubs(m.w.now, len(m.star))
		m.reach = min(1, len(m.star))
	}
}
