package rowmesh

import (
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// watchFile gives a sign whenever the database's directory shows that somebody wrote it. The directory is
// watched, not the file: the -wal file comes and goes. Where it cannot be watched, the slow look alone
// notices. While no sign is taken none is read from the system either, which then puts those that are alike into one and wakes
// nobody: each of them costs a program that writes nearly as much as its write.
func (p *Peer) watchFile() (<-chan struct{}, func()) {
	none := func() {}
	if p.bridge == nil {
		return nil, none
	}
	w, err := fsnotify.NewWatcher()
	if err == nil {
		if err = w.Add(filepath.Dir(p.bridge.Path())); err != nil {
			_ = w.Close()
		}
	}
	if err != nil {
		p.log.Warn("the database's directory cannot be watched; changes are noticed once a second", "reason", err)
		return nil, none
	}
	signs, over := make(chan struct{}), make(chan struct{})
	base := filepath.Base(p.bridge.Path())
	go func() {
		for {
			select {
			case ev, ok := <-w.Events:
				if !ok {
					return
				}
				name := filepath.Base(ev.Name)
				if !strings.HasPrefix(name, base) || strings.HasSuffix(name, "-shm") {
					continue
				}
				select {
				case signs <- struct{}{}:
				case <-over:
					return
				}
			case _, ok := <-w.Errors:
				if !ok {
					return
				}
			}
		}
	}()
	return signs, func() {
		close(over)
		_ = w.Close()
	}
}
