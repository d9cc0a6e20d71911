package rowmesh

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/rowmesh/rowmesh/replica"
)

// scratchFile keeps the chunks of a large session outside of memory, in a file beside the database that no other process
// opens: each chunk after its length. It is made when it is needed and removed when the session is over; one that a
// crash left behind is emptied by the next.
type scratchFile struct {
	path string
	f    *os.File // nil: there is none
	w    *bufio.Writer
}

func (s *scratchFile) Append(chunk []byte) error {
	if s.f == nil {
		f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("rowmesh: keep a session that does not fit into memory: %w", err)
		}
		s.f, s.w = f, bufio.NewWriter(f)
	}
	var size [binary.MaxVarintLen64]byte
	_, err := s.w.Write(size[:binary.PutUvarint(size[:], uint64(len(chunk)))])
	if err == nil {
		_, err = s.w.Write(chunk)
	}
	if err != nil {
		return fmt.Errorf("rowmesh: keep a session that does not fit into memory: %w", err)
	}
	return nil
}

func (s *scratchFile) Each(yield func([]byte) error) error {
	if s.f == nil {
		return nil
	}
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("rowmesh: keep a session that does not fit into memory: %w", err)
	}
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("rowmesh: read a session that was kept: %w", err)
	}
	r := bufio.NewReader(s.f)
	var chunk []byte
	for {
		size, err := binary.ReadUvarint(r)
		if err == io.EOF {
			return nil
		}
		if err == nil && size > replica.MaxMessageBytes {
			err = fmt.Errorf("a chunk of %d bytes", size)
		}
		if err == nil {
			chunk = append(chunk[:0], make([]byte, size)...)
			_, err = io.ReadFull(r, chunk)
		}
		if err != nil {
			return fmt.Errorf("rowmesh: %s: read a session that was kept: %w", s.path, err)
		}
		if err := yield(chunk); err != nil {
			return err
		}
	}
}

func (s *scratchFile) Reset() error {
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f, s.w = nil, nil
	if err == nil {
		err = os.Remove(s.path)
	}
	if err != nil {
		return fmt.Errorf("rowmesh: give back the room of a session: %w", err)
	}
	return nil
}
