package replica

// Scratch is room for what a replica keeps out of its memory for a while: the chunks of a session that is not whole
// yet. Nothing in it need outlive the process. It belongs to one replica, which uses it from within its inputs; an
// error is one of the store, after which the replica is thrown away.
type Scratch interface {
	// Append adds a chunk. It does not keep the slice.
	Append(chunk []byte) error
	// Each calls yield for every chunk in the order of Append, until it fails. The slice is valid until yield returns.
	Each(yield func(chunk []byte) error) error
	// Reset forgets all chunks and gives the room back.
	Reset() error
}

// stage holds the chunks of a session until it is whole: in memory as long as they are small, in the scratch space from
// then on.
type stage struct {
	scratch Scratch // nil: there is none
	limit   int     // bytes that are held in memory
	chunks  [][]byte
	bytes   int
	spilled bool
}

func (s *stage) add(chunk []byte) error {
	s.bytes += len(chunk)
	if s.scratch == nil || !s.large() {
		s.chunks = append(s.chunks, chunk)
		return nil
	}
	if !s.spilled {
		if err := s.spill(); err != nil {
			return err
		}
	}
	return s.scratch.Append(chunk)
}

// large reports whether the stage is more than memory should hold.
func (s *stage) large() bool { return s.bytes > s.limit }

func (s *stage) spill() error {
	if err := s.scratch.Reset(); err != nil {
		return err
	}
	for _, c := range s.chunks {
		if err := s.scratch.Append(c); err != nil {
			return err
		}
	}
	s.chunks, s.spilled = nil, true
	return nil
}

func (s *stage) each(f func(chunk []byte) error) error {
	if s.spilled {
		return s.scratch.Each(f)
	}
	for _, c := range s.chunks {
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

// drop gives the room back. That it fails matters to nobody before the next stage, which begins with a Reset.
func (s *stage) drop() {
	if s.spilled {
		_ = s.scratch.Reset()
	}
	*s = stage{scratch: s.scratch, limit: s.limit}
}
