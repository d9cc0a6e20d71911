package network

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// PeerID names a peer: the hash of its public key.
type PeerID = peer.ID

// ParsePeerID reads the text form of a peer id.
func ParsePeerID(s string) (PeerID, error) {
	id, err := peer.Decode(s)
	if err != nil {
		return "", fmt.Errorf("network: %q is not a peer id; peer id DATABASE prints one, such as 12D3KooW...: %w", s, err)
	}
	return id, nil
}

// Identity is the key that makes a peer itself.
type Identity struct {
	key crypto.PrivKey
	id  PeerID
}

// PeerID returns the id that others know this peer by.
func (i Identity) PeerID() PeerID { return i.id }

// NewIdentity makes an identity that is kept nowhere.
func NewIdentity() (Identity, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("network: make a key: %w", err)
	}
	return identityOf(key)
}

func identityOf(key crypto.PrivKey) (Identity, error) {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return Identity{}, fmt.Errorf("network: %w", err)
	}
	return Identity{key, id}, nil
}

// LoadIdentity reads the identity in a file, and makes one where there is no file. Two processes that make
// it at once get the same.
func LoadIdentity(path string) (Identity, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := createIdentity(path); err != nil {
			return Identity{}, err
		}
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("network: read the identity: %w; the peer needs read permission on it", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return Identity{}, fmt.Errorf("network: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return Identity{}, fmt.Errorf("network: %s can be read by others (mode %04o): whoever has it is this peer; run chmod 600 %s", path, mode, path)
	}
	key, err := crypto.UnmarshalPrivateKey(raw)
	if err != nil || key.Type() != crypto.Ed25519 {
		return Identity{}, fmt.Errorf("network: %s is not an Ed25519 identity: restore it from a backup, or remove it to get a new identity, which the other peers must allow", path)
	}
	return identityOf(key)
}

// createIdentity writes a new identity, whole or not at all, unless there is one.
func createIdentity(path string) error {
	id, err := NewIdentity()
	if err != nil {
		return err
	}
	raw, err := crypto.MarshalPrivateKey(id.key)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("network: make the identity's directory: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "identity-*") // mode 0600
	if err != nil {
		return fmt.Errorf("network: make the identity: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("network: write the identity: %w", err)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("network: write the identity: %w", err)
	}
	return nil
}
