# The few words of daily work. Tools run at a pinned version, so that go.mod stays small.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.7.0
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.1.4
OURS        = ./...
FUZZTIME   ?= 30s

.PHONY: build test race lint fuzz bench soak check demo vuln

build:
	go build -o peer ./cmd/peer

demo:
	go run ./cmd/peer demo

test:
	go test $(OURS)

race:
	go test -race -short $(OURS)

lint:
	test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet $(OURS)
	go run $(STATICCHECK) $(OURS)

vuln:
	go run $(GOVULNCHECK) $(OURS)

# Each fuzz target for FUZZTIME. The saved inputs run with every go test.
fuzz:
	@for f in $$(grep -ho 'func Fuzz[A-Za-z]*' fuzz/*_test.go | cut -c6-); do \
		echo "== $$f"; go test ./fuzz -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) || exit 1; done

# Many more random worlds and crashes than the default suite.
soak:
	ROWMESH_SOAK=1 go test -timeout 60m ./replica ./cmd/peer

bench:
	go run ./bench

check: build lint test race
