package network

import (
	"time"

	libp2pnet "github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// resourceManager bounds what connections and streams may cost. libp2p's defaults are made for open
// networks of strangers: 8 connections and one new one in 5 seconds for an IPv4 address. A hub serves many
// enrolled peers behind one address.
func resourceManager() (libp2pnet.ResourceManager, error) {
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: peersPerAddress, ConnsInbound: peersPerAddress, FD: peersPerAddress,
			Streams: 8 * peersPerAddress, StreamsInbound: 8 * peersPerAddress,
		},
		PeerDefault: rcmgr.ResourceLimits{Conns: 8, ConnsInbound: 8, StreamsInbound: 32, Streams: 64},
	}.Build(rcmgr.DefaultLimits.AutoScale())
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits), rcmgr.WithConnRateLimiters(connLimiter()),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: peersPerAddress}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: peersPerAddress}},
		))
}

func connLimiter() *rate.Limiter {
	each := rate.Limit{RPS: connsPerSecond, Burst: connsBurst}
	return &rate.Limiter{
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: each}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: each}},
			GracePeriod:      time.Minute,
		},
	}
}
