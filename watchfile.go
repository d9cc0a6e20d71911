package rowmesh

import (
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// watchFile gives a sign whenever the database's directory shows that somebody wrote it. The directory is
// watched, not the file: the -wal file comes and goes. Where it cannot be watched, the slow look alone
// notices.
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
		p.log.Warn("the database's directory cannot be watched; changes are noticed twice a second", "reason", err)
		return nil, none
	}
	signs := make(chan struct{}, 1)
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
				default:
				}
			case _, ok := <-w.Errors:
				if !ok {
					return
				}
			}
		}
	}()
	return signs, func() { _ = w.Close() }
}
