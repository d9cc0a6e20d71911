package rowmesh

import (
	"context"
	"time"
)

// Progress says how far a first copy, or a catch-up, has come.
type Progress struct {
	Phase  string  `json:"phase"`           // connecting, waiting (for a peer that can give a copy), first copy, catching up; "" at rest
	Table  string  `json:"table,omitempty"` // of the row that came last
	Done   uint64  `json:"done"`            // rows that have come
	Total  uint64  `json:"total"`           // about how many there will be; 0: nobody knows
	Bytes  uint64  `json:"bytes"`           // of those that have come, not compressed
	Rate   float64 `json:"rate"`            // rows a second, on the average
	LeftMS int64   `json:"left_ms"`         // until Total at this rate; 0: nobody knows
}

// meter measures how fast a number grows.
type meter struct {
	since      time.Time
	from, last uint64
}

// rate returns the average since the number last began anew.
func (m *meter) rate(now time.Time, n uint64) float64 {
	if m.since.IsZero() || n < m.last {
		m.since, m.from = now, n
	}
	m.last = n
	if d := now.Sub(m.since).Seconds(); d > 0 {
		return float64(n-m.from) / d
	}
	return 0
}

// Progress says how far a first copy, or a catch-up, has come. It is cheap.
func (p *Peer) Progress(ctx context.Context) (out Progress, err error) {
	err = p.do(ctx, func() { out = p.progress() })
	return out, err
}

// progress is called by the runner.
func (p *Peer) progress() (out Progress) {
	if p.core == nil {
		return out
	}
	now, active := p.core.Pulling()
	ready := p.core.IsReady()
	switch {
	case active && ready:
		out.Phase = "catching up"
	case active:
		out.Phase = "first copy"
	case ready:
		p.pace = meter{}
		return out
	case len(p.links) == 0:
		out.Phase = "connecting"
	default:
		out.Phase = "waiting"
	}
	out.Table, out.Done, out.Total, out.Bytes = now.Table, now.Rows, now.Total, now.Bytes
	out.Rate = p.pace.rate(time.Now(), now.Rows)
	if out.Total > out.Done && out.Rate > 0 {
		out.LeftMS = int64(1000 * float64(out.Total-out.Done) / out.Rate)
	}
	return out
}
