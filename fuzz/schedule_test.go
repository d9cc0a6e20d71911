package fuzz

import (
	"encoding/binary"
	"testing"

	"github.com/rowmesh/rowmesh/sim"
)

// FuzzSchedule turns bytes into a schedule of writes, faults and fates of messages, so that the search for inputs is
// a search for histories. No history breaks a promise.
func FuzzSchedule(f *testing.F) {
	f.Add([]byte("a few bytes make a short history of three machines"))
	f.Add([]byte{0, 0, 0, 1, 1, 1, 9, 9, 9, 30, 31, 32, 33, 34, 35, 200, 210, 220, 4, 4, 4, 4, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 400 {
			b = b[:400]
		}
		if r := sim.Run(schedule(b), sim.Options{}); r.Err != nil {
			t.Errorf("%v\n%s", r, r.Case)
		}
	})
}

var verbs = []string{"put", "set", "del", "rep"}

// schedule reads actions of four bytes each.
func schedule(b []byte) *sim.Case {
	c := &sim.Case{Replicas: 3, Links: [][2]int{{0, 1}, {1, 2}}, Chunk: 60, Fates: map[sim.Message]sim.Fate{}}
	at := int64(0)
	for ; len(b) >= 4; b = b[4:] {
		n := int64(b[3])
		at += n * 5
		a := sim.Action{At: at, A: int(b[0]) % 3, B: 1, N: 1 + n*20}
		if a.A == 1 {
			a.B = int(b[1]) % 2 * 2
		}
		switch b[1] % 16 {
		case 0:
			a.Do = "crash"
		case 1:
			a.Do = "cut"
		case 2:
			a.Do = "clog"
		case 3:
			a.Do, a.N = "jump", (n-128)*1000
		case 4:
			a.Do, a.N = "fail", n
		case 5:
			a.Do = "replay"
		case 6, 7:
			m := sim.Message{From: a.A, To: a.B, N: uint64(binary.BigEndian.Uint16(b[2:]) % 64)}
			c.Fates[m] = sim.Fate{Drop: n%3 == 0, Copies: int(n % 3), Delay: n * 7}
			continue
		default:
			a.Do = "write"
			a.Write = [][]sim.Op{{{Verb: verbs[b[2]%4], Table: "t", Key: int(b[2] / 4 % 4), Cols: "abc"[b[2]%3:], Value: at*10 + n}}}
			if a.Write[0][0].Verb == "del" {
				a.Write[0][0].Cols = ""
			}
		}
		c.Actions = append(c.Actions, a)
	}
	c.End = at + 1
	return c
}
