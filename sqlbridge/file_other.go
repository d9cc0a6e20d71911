//go:build !unix

package sqlbridge

import "os"

// lockFile does nothing where there is no flock: the open file alone keeps others from removing it.
func lockFile(*os.File) error { return nil }

// syncDir does nothing where directories cannot be opened as files.
func syncDir(string) error { return nil }

// fileID cannot tell files apart here; copies are recognised by their token alone.
func fileID(path string) (device, inode uint64, err error) {
	_, err = os.Stat(path)
	return 0, 0, err
}
