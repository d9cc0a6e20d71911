package replica

import (
	"fmt"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
)

// String is the frame on one line, for logs, scripts and failures.
func (f Frame) String() string {
	if f.More {
		return fmt.Sprintf("%s, %d bytes, more follows", f.Type, len(f.Body))
	}
	body, err := f.plain()
	if f.Cont || err != nil {
		return fmt.Sprintf("%s, %d bytes, the end of more", f.Type, len(f.Body))
	}
	return strings.TrimSpace(f.Type.String() + " " + describe(f.Type, body))
}

func describe(t FrameType, body []byte) string {
	switch t {
	case FrameHello:
		return described[helloBody](t, body)
	case FramePull:
		return described[pullBody](t, body)
	case FrameChunk:
		return described[chunkBody](t, body)
	case FrameDone:
		return described[doneBody](t, body)
	case FrameHeads:
		return described[headsBody](t, body)
	case FramePrune:
		return described[pruneBody](t, body)
	case FrameCredit:
		return described[creditBody](t, body)
	case FrameAnnounce:
		return described[announceBody](t, body)
	case FrameReject:
		return described[rejectBody](t, body)
	case FrameAudit:
		return described[auditBody](t, body)
	case FrameAudited:
		return described[auditedBody](t, body)
	case FrameMend:
		return described[mendBody](t, body)
	case FrameBlocks:
		return describeItems(body, describeBlock)
	case FrameSchema:
		return describeItems(body, describeSchema)
	}
	return fmt.Sprintf("%d bytes", len(body))
}

func described[T fmt.Stringer](t FrameType, body []byte) string {
	var b T
	if err := decodeBody(t, body, &b); err != nil {
		return err.Error()
	}
	return b.String()
}

func describeItems(list []byte, one func([]byte) string) string {
	var all []string
	for len(list) > 0 {
		item, rest, err := nextItem(list)
		if err != nil {
			return err.Error()
		}
		all, list = append(all, one(item)), rest
	}
	return strings.Join(all, ", ")
}

func describeBlock(raw []byte) string {
	s, prev, err := crdt.ParseBlockHead(string(raw))
	switch {
	case err != nil:
		return err.Error()
	case prev == 0:
		return s.String() + ", its first"
	}
	return fmt.Sprintf("%s after %s", s, prev)
}

func describeSchema(raw []byte) string {
	s, err := crdt.ParseSchema(raw)
	if err != nil {
		return err.Error()
	}
	return s.String()
}

// line joins the parts that have something to say.
func line(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		if p != "" {
			b.WriteString(" " + p)
		}
	}
	return strings.TrimPrefix(b.String(), " ")
}

func iff(ok bool, format string, args ...any) string {
	if !ok {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

func (v vector) String() string {
	c, err := v.coverage()
	if err != nil {
		return err.Error()
	}
	return c.String()
}

func (p packed) String() string {
	if len(p.Base) == 0 {
		return p.Heads.String()
	}
	return line(fmt.Sprintf("based on %x", p.Base[:min(4, len(p.Base))]), iff(len(p.Changed) > 0, "%d bytes of changes", len(p.Changed)), iff(len(p.Heads) > 0, "%s", p.Heads))
}

func (p *placeBody) String() string {
	pos, err := p.position()
	switch {
	case err != nil:
		return err.Error()
	case p.End:
		return "the end of the first pass"
	case pos == Position{}:
		return "nothing"
	case pos == endOfAll:
		return "the end"
	case pos.Stamp.IsZero():
		return "row " + pos.RowKey.String()
	}
	return line(pos.Stamp.String(), pos.RowKey.String())
}

func shortID(id []byte) string {
	o, err := id16(id)
	if err != nil {
		return "none"
	}
	return crdt.Origin(o).Short()
}

func (b helloBody) String() string {
	return line("origin "+shortID(b.Origin), "group "+shortID(b.Group), b.Heads.String(), iff(b.Ready, "ready"), iff(b.Hub, "hub"), iff(b.Answer, "answer"), iff(b.Whole, "whole"))
}

func (b pullBody) String() string {
	return line(fmt.Sprintf("%d claims %s", b.Session, b.Claims), iff(b.Copy, "copy"), iff(b.Chunk > 0, "chunks of %d bytes", b.Chunk), iff(b.After != nil, "resume cut %s seen %s after %s", b.Cut, b.Seen, b.After))
}

func (b chunkBody) String() string {
	return line(fmt.Sprintf("%d.%d %d bytes", b.Session, b.Seq, len(b.Delta)), iff(b.Cut != nil, "cut %s", b.Cut), iff(len(b.Seen) > 0, "seen %s", b.Seen),
		iff(b.After != nil, "to %s", b.After))
}

func (b doneBody) String() string { return fmt.Sprintf("%d.%d cut %s", b.Session, b.Seq, b.Cut) }

func (b headsBody) String() string {
	return line(iff(b.All != nil, "all %s", b.All), iff(len(b.Heads) > 0, "%s", b.Heads), iff(len(b.Hash) > 0, "hash"), iff(b.Want, "want"), iff(b.Whole, "whole"))
}

func (b pruneBody) String() string {
	return line(iff(len(b.Prune) > 0, "%s", b.Prune), iff(len(b.Graft) > 0, "graft %s", b.Graft))
}

func (b creditBody) String() string { return fmt.Sprintf("%d +%d", b.Session, b.Credit) }

func (b announceBody) String() string { return fmt.Sprintf("%s %d rows", b.Heads, b.Rows) }

func (b rejectBody) String() string {
	return line(string(b.Reason), iff(b.Session > 0, "session %d", b.Session), iff(len(b.Origin) > 0, "origin %s", shortID(b.Origin)), iff(b.Time > 0, "at %s", b.Time), b.Text)
}
