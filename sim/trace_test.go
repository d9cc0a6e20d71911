package sim

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/rowmesh/rowmesh/replica/trace"
)

// record runs a seed and returns the recording of each machine.
func record(t *testing.T, seed uint64, steps int, mask *[32]byte) []*bytes.Buffer {
	t.Helper()
	var tapes []*bytes.Buffer
	r := Run(Plan(Config{Seed: seed, Steps: steps}), Options{Mask: mask, unaudited: true, Traces: func(int) io.Writer {
		tapes = append(tapes, &bytes.Buffer{})
		return tapes[len(tapes)-1]
	}})
	if r.Err != nil {
		t.Fatal(r)
	}
	return tapes
}

// TestRecordingsReplay: P25. What a replica was given makes it do the same again, round by round: through crashes, failing disks,
// broken sessions and forks.
func TestRecordingsReplay(t *testing.T) {
	seeds := uint64(30)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		rounds := 0
		for i, tape := range record(t, seed, 600, nil) {
			sum, err := trace.Replay(bytes.NewReader(tape.Bytes()), nil)
			if err != nil {
				t.Errorf("seed %d, machine %d: %v", seed, i, err)
			}
			if sum.Cut || sum.Full {
				t.Errorf("seed %d, machine %d: %+v", seed, i, sum)
			}
			rounds += sum.Rounds
		}
		if rounds < 50 {
			t.Errorf("seed %d: only %d rounds", seed, rounds)
		}
	}
}

// TestMaskedRecordings: P25. A recording that may be given away holds no value and no key, and replays as one that holds them does.
func TestMaskedRecordings(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 5
	}
	found := 0
	for seed := range seeds {
		secrets := []string{rowKey("t", 39).Key.Encoded(), rowKey("u", 37).Key.Encoded()}
		for _, a := range Plan(Config{Seed: seed, Steps: 600}).Actions {
			for _, g := range a.Write {
				for _, op := range g {
					if op.Pad > 0 {
						secrets = append(secrets, pad(op.Value, 20))
					}
				}
			}
		}
		plain := record(t, seed, 600, nil)
		for i, tape := range record(t, seed, 600, &[32]byte{byte(seed)}) {
			want, err := trace.Replay(bytes.NewReader(plain[i].Bytes()), nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := trace.Replay(bytes.NewReader(tape.Bytes()), nil)
			if err != nil || got.Rounds != want.Rounds || got.Cut || got.Full {
				t.Errorf("seed %d, machine %d: %+v, unmasked %+v: %v", seed, i, got, want, err)
			}
			for _, s := range secrets {
				if bytes.Contains(plain[i].Bytes(), []byte(s)) {
					found++
				}
				if bytes.Contains(tape.Bytes(), []byte(s)) {
					t.Fatalf("seed %d, machine %d: the masked recording has %q", seed, i, s)
				}
			}
		}
	}
	if found < 50 && !testing.Short() {
		t.Errorf("only %d keys and values that must be masked: the test does not test what it should", found)
	}
}

// TestDamagedRecordings: P15, P17. A recording that was cut is replayed up to there; one in which a bit has flipped is refused with
// its place; one whose inputs were changed differs.
func TestDamagedRecordings(t *testing.T) {
	tape := record(t, 1, 100, nil)[0].Bytes()
	whole, err := trace.Replay(bytes.NewReader(tape), nil)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 20; cut < len(tape); cut += 1 + len(tape)/200 {
		sum, err := trace.Replay(bytes.NewReader(tape[:cut]), nil)
		if err != nil || sum.Rounds > whole.Rounds {
			t.Fatalf("cut at %d: %+v %v", cut, sum, err)
		}
	}
	for at := 0; at < len(tape); at += 1 + len(tape)/500 {
		bent := bytes.Clone(tape)
		bent[at] ^= 1 << (at % 8)
		sum, err := trace.Replay(bytes.NewReader(bent), nil)
		var damage *trace.DamageError
		if !sum.Cut && !errors.As(err, &damage) {
			t.Fatalf("a bit at %d flips: %+v %v", at, sum, err)
		}
	}
}
