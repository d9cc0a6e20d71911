package network

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Addr is where a peer listens, and which peer it must be. Without Peer the dialler learns the id from the
// handshake and holds it against the allow-list.
type Addr struct {
	Multi ma.Multiaddr
	Peer  PeerID
}

// String is the address as a multiaddr, with the peer's id where it is known.
func (a Addr) String() string {
	if a.Multi == nil && a.Peer == "" {
		return ""
	}
	if a.Multi == nil {
		return "/p2p/" + a.Peer.String()
	}
	if a.Peer == "" {
		return a.Multi.String()
	}
	return a.Multi.String() + "/p2p/" + a.Peer.String()
}

// ParseHub reads an address as ParseAddr does, or the id alone of a peer that is left to dial.
func ParseHub(s string) (Addr, error) {
	if id, err := ParsePeerID(strings.TrimPrefix(s, "/p2p/")); err == nil {
		return Addr{Peer: id}, nil
	}
	return ParseAddr(s)
}

// ParseAddr reads tcp://host:port, quic://host:port, or a multiaddr, each with or without /p2p/ID at its end.
func ParseAddr(s string) (Addr, error) {
	bad := func(err error) (Addr, error) {
		return Addr{}, fmt.Errorf("network: %q is not an address; write tcp://host:7070, quic://host:7070 or a multiaddr such as /ip4/192.0.2.1/tcp/7070/p2p/ID: %w", s, err)
	}
	text := s
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		u, err := url.Parse(s)
		if err != nil {
			return bad(err)
		}
		if text, err = fromURL(scheme, u); err != nil {
			return bad(err)
		}
	}
	m, err := ma.NewMultiaddr(text)
	if err != nil {
		return bad(err)
	}
	rest, id := peer.SplitAddr(m)
	if rest == nil {
		return bad(fmt.Errorf("it names a peer but no place"))
	}
	return Addr{rest, id}, nil
}

func fromURL(scheme string, u *url.URL) (string, error) {
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return "", err
	}
	if host == "" {
		host = "0.0.0.0"
	}
	kind := "dns"
	if ip := net.ParseIP(host); ip != nil {
		kind = "ip6"
		if ip.To4() != nil {
			kind = "ip4"
		}
	}
	end := strings.TrimSuffix(u.Path, "/")
	switch scheme {
	case "tcp":
		return fmt.Sprintf("/%s/%s/tcp/%s%s", kind, host, port, end), nil
	case "quic", "udp":
		return fmt.Sprintf("/%s/%s/udp/%s/quic-v1%s", kind, host, port, end), nil
	}
	return "", fmt.Errorf("unknown scheme %s", scheme)
}
