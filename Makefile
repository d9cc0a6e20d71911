# The few words of daily work. Tools run at a pinned version, so that go.mod stays small.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.7.0
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.1.4
OURS        = ./...
FUZZTIME   ?= 30s
SEEDS      ?= 10000

.PHONY: build demo test race lint vuln fuzz sim selftest soak bench bench-peers check

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
	go -C bench vet ./...
	go -C bench run $(STATICCHECK) ./...

vuln:
	go run $(GOVULNCHECK) $(OURS)

# Each fuzz target for FUZZTIME. The saved inputs run with every go test.
fuzz:
	@grep -ro --include='*_test.go' 'func Fuzz[A-Za-z]*' fuzz | sed 's|/[^/]*:func | |' | while read -r dir f; do \
		echo "== $$f"; go test ./$$dir -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) || exit 1; done

# SEEDS simulated groups, from a first seed that is new every day.
sim:
	go run ./cmd/peer sim soak --from $$(date +%Y%m%d)000000 --count $(SEEDS)

# Every planted bug must be caught.
selftest:
	ROWMESH_SOAK=1 go test -count=1 -v ./sim/planted

# Many more random worlds, kills and histories than the default suite.
soak: selftest
	ROWMESH_SOAK=1 ROWMESH_EXHAUSTIVE=1 go test -count=1 -timeout 120m ./crdt ./replica ./cmd/peer

# A module of its own, so that what it compares with is not among our dependencies.
bench:
	go -C bench run .

# Other engines from the npm registry for `go -C bench run . -compare`, in a folder that git ignores. One that cannot be installed
# here is left out, and the table says so.
PEERS = @sqliteai/sqlite-sync-linux-x86_64@1.1.4 @vlcn.io/crsqlite-wasm@0.16.0

bench-peers:
	mkdir -p bench/.peers
	for p in $(PEERS); do npm install --prefix bench/.peers --ignore-scripts --no-audit --no-fund $$p || echo "$$p is left out"; done

check: build lint test race
	$(MAKE) sim SEEDS=1000
