package main

import (
	"bytes"
	"context"
	"testing"
	"time"
)

// TestRun: the example does what it says.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	if err := run(ctx, t.TempDir(), &out); err != nil {
		t.Fatal(err)
	}
	const want = "hub: 'attic' 24.5 ''\nhub: 'cellar' 12.0 'damp'\ngauge: 'attic' 24.5 ''\ngauge: 'cellar' 12.0 'damp'\n"
	if out.String() != want {
		t.Errorf("it prints\n%s\nwant\n%s", &out, want)
	}
}
