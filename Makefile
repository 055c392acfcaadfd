# Everything a working day needs. `make` alone lists it.

# One optimised profile for lint, tests and the servers they start: a dependency is compiled once, not twice.
PROFILE := quick
CARGO   := cargo
# Compiled as a whole, whatever the environment says: incrementally less is inlined, and up to a sixth more is counted.
COUNTED := CARGO_INCREMENTAL=0 $(CARGO) build --locked --profile $(PROFILE) --example instructions
COUNT   := bench/micro/instructions.py target/$(PROFILE)/examples/instructions
# All test programs of Cargo.toml but the simulator.
OTHER_TESTS := $(shell awk '/^\[/ { is = $$0 == "[[test]]" } is && $$1 == "name" && $$3 != "\"sim\"" { gsub(/"/, "", $$3); print "--test " $$3 }' Cargo.toml)
# Private items as well: the tour in src/lib.rs and the heads of modules live on links.
DOCUMENT := RUSTDOCFLAGS="$(RUSTDOCFLAGS) -D warnings" \
	$(CARGO) doc --locked --profile $(PROFILE) --lib --no-deps --document-private-items
export CARGO_TERM_COLOR ?= auto

.PHONY: help setup setup-bench fmt lint doc deny unit integration loom test simulated-tests all-other-tests screenshots wire nonsense \
	sim sim-mutants mutants mutants-sampled coverage faults flaky fuzz \
	bench bench-smoke bench-bytes bench-crowds bench-news bench-overdue bench-tls bench-restarts bench-watchers bench-scale pgo micro instructions instructions-accept flamegraph

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the servers and clients that the tests start (only those missing)
	@tests/setup.sh

fmt: ## Format the sources
	$(CARGO) fmt

lint: setup ## Formatting, clippy, links of rustdoc, Python and shell: warnings are errors
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path bench/peers/axum/Cargo.toml
	$(CARGO) fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(CARGO) clippy --locked --profile $(PROFILE) --all-targets -- -D warnings
	$(DOCUMENT)
	target/schemathesis/bin/ruff check --quiet bench tests
	shellcheck .ci/run tests/setup.sh tests/fuzz/run.sh nginx/follow-hosts.sh tests/integration/restarts.sh

doc: ## The code's documentation, private items included; a link that leads nowhere fails
	$(DOCUMENT)

# The database of advisories is fetched from GitHub; where that cannot be reached, what needs no network is checked alone.
deny: ## Licences, sources and versions of all dependencies, and advisories if they can be fetched (takes cargo-deny)
	$(CARGO) deny --offline check licenses bans sources
	@if $(CARGO) deny fetch db 2>/dev/null; then $(CARGO) deny check advisories; \
		else echo "deny: advisories were not checked: their database cannot be fetched" >&2; fi

unit: ## Unit tests only: seconds, no servers
	$(CARGO) test --locked --profile $(PROFILE) --lib

integration: ## Integration tests only: real servers, real load
	$(CARGO) test --locked --profile $(PROFILE) --test integration

# loom sees another crate (`--cfg loom`), so it keeps a cache of its own instead of spoiling the common one.
loom: ## Every interleaving of the shard and the board
	RUSTFLAGS="$(RUSTFLAGS) --cfg loom" CARGO_TARGET_DIR=target/loom \
		$(CARGO) test --locked --profile loom --lib loom_tests

# Tests of real servers wait for most of their time, and the simulator never does: they share the cores.
test: setup lint loom ## Set up, lint, then every test there is
	$(CARGO) test --locked --profile $(PROFILE) --no-run
	+$(MAKE) --no-print-directory --output-sync=target -j2 simulated-tests all-other-tests
	$(COUNTED)
	$(COUNT) coarse

simulated-tests:
	SIM_THREADS="$${SIM_THREADS:-1}" $(CARGO) test --locked --profile $(PROFILE) --test sim

all-other-tests:
	$(CARGO) test --locked --profile $(PROFILE) --lib --bins $(OTHER_TESTS)
	$(CARGO) test --locked --profile $(PROFILE) --doc

screenshots: setup ## Make the screenshots of the dashboard anew, by its test; writes docs/images/
	SCREENSHOTS=$(CURDIR)/docs/images \
		$(CARGO) test --locked --profile $(PROFILE) --test integration -- --nocapture dashboard::an_operator_sees

wire: setup ## HTTP by raw bytes alone: the table against boxoffice and nginx, and nonsense
	$(CARGO) test --locked --profile $(PROFILE) --test wire

MB ?= 10000
nonsense: ## Nonsense at length (MB=10000; NONSENSE_SEED=... replays a run)
	NONSENSE_MB=$(MB) $(CARGO) test --locked --profile $(PROFILE) --test wire nonsense -- --nocapture

# SEEDS=1000000 runs so many, SEED=17 one of them with its trace; SIM_ARGS takes what a failing run says.
SEEDS ?= 100000
sim: ## Simulate many seeds of a whole system (SEEDS=100000), or one with its trace (SEED=17)
	SEEDS=$(SEEDS) SEED=$(SEED) $(CARGO) test --locked --profile $(PROFILE) --test sim -- seed $(SIM_ARGS)

sim-mutants: ## Find every mutant by the simulator; writes tests/sim/MUTANTS.md
	TABLE=tests/sim/MUTANTS.md $(CARGO) test --locked --profile $(PROFILE) --test sim -- mutant

SEEDS_COVERED ?= 1000
coverage: ## Tell which lines the simulator runs (takes cargo-tarpaulin); writes tests/sim/COVERAGE.md
	@tests/coverage.py --seeds "$(SEEDS_COVERED)"

# Not a part of `make test`: a build each. MUTANTS="sqlite lua-never-swept" plants some.
mutants: setup ## Plant each mutant of tests/mutants.toml and see that its test finds it (MUTANTS=name for some)
	@tests/mutants.py --mutants "$(MUTANTS)"

# For a night, and outside CI. A larger sample costs only what is new, and MUTANTS="rules.rs next_unread" judges some of it anew.
SAMPLE ?= 100
mutants-sampled: setup ## Plant a sample of all mutants that cargo-mutants lists (SAMPLE=100 a folder); writes tests/MUTANTS_SAMPLED.md
	@tests/mutants_sampled.py --sample "$(SAMPLE)" --mutants "$(MUTANTS)"

faults: RUNS  ?= 5
faults: KILLS ?= 5000
faults: setup ## Every fault at length (RUNS=5 KILLS=5000); writes tests/faults/RESULTS.md
	RUNS=$(RUNS) KILLS=$(KILLS) TABLE=tests/faults/RESULTS.md \
		$(CARGO) test --locked --profile $(PROFILE) --test faults

# SUITES="integration wire", SETTINGS="quiet loaded one-core" and TESTS="durability" restrict it; empty is all.
flaky: RUNS    ?= 20
flaky: TIMEOUT ?= 1200
flaky: setup ## Run the tests again and again: quiet, loaded and on one core (RUNS=20 SUITES= SETTINGS= TESTS= TIMEOUT=1200)
	@tests/flaky.py --runs "$(RUNS)" --suites "$(SUITES)" --settings "$(SETTINGS)" --tests "$(TESTS)" --timeout "$(TIMEOUT)"

# On nightly Rust, which alone can instrument. The short run on stable Rust is the test `fuzz`, a part of `make test`.
MINUTES ?= 2
fuzz: ## Fuzz each target in turn on nightly Rust (MINUTES=2 each, TARGETS="peer session" for some)
	@MINUTES=$(MINUTES) TARGETS="$(TARGETS)" tests/fuzz/run.sh

setup-bench:
	@tests/setup.sh bench

bench: setup-bench ## Measure boxoffice beside its peers, half an hour of it; writes bench/runs/ (BENCH="--only bookings")
	$(CARGO) build --locked --release --bin boxoffice --example load
	bench/macro/run.py $(BENCH)

bench-smoke: setup-bench ## One tiny round of the bench: shows that all of it works, measures nothing
	$(CARGO) build --locked --profile $(PROFILE) --bin boxoffice --example load
	bench/macro/run.py --smoke --binary target/$(PROFILE)/boxoffice --load target/$(PROFILE)/examples/load $(BENCH)

bench-restarts: setup-bench ## Measure what a restart costs those who connect meanwhile (takes root); writes bench/runs/ (RESTARTS="--rounds 1")
	$(CARGO) build --locked --release --bin boxoffice
	bench/macro/restarts.py $(RESTARTS)

bench-watchers: setup-bench ## Measure what 1,000 open dashboards cost those who buy; writes bench/runs/ (WATCHERS="--rounds 3")
	$(CARGO) build --locked --release --bin boxoffice --example load
	bench/macro/watchers.py $(WATCHERS)

bench-scale: ## A million buyers on one, ten and a hundred hosts, in virtual time; writes bench/scale.md
	@mkdir -p target/scale
	$(CARGO) run --locked --profile $(PROFILE) --example scale > target/scale/scale.md
	mv target/scale/scale.md bench/scale.md

micro: ## Time each part of a request's way, and permits against one atomic and a mutex (criterion)
	$(CARGO) bench --locked --bench micro

instructions: setup ## Count the instructions of each part of a request's way; fails where they grew
	$(COUNTED)
	$(COUNT)

instructions-accept: setup ## Take the counts of now as those to hold; commit them with the change
	$(COUNTED)
	$(COUNT) accept

# Frame pointers: perf follows them from function to function. Another build of everything, so with a cache of its own.
WORKLOAD ?= soldout
LEDGER   ?= sqlite
flamegraph: ## Draw where a loaded host's CPU time goes (WORKLOAD=booking LEDGER=redis); writes target/flamegraph/
	@tests/setup.sh flamegraph
	CFLAGS="$(CFLAGS) -fno-omit-frame-pointer" RUSTFLAGS="$(RUSTFLAGS) -C force-frame-pointers=yes" \
		CARGO_TARGET_DIR=target/profiling $(CARGO) build --locked --profile profiling \
		--bin boxoffice --example load --example flame
	bench/profile/flamegraph.py --workload $(WORKLOAD) --ledger $(LEDGER)

pgo: setup ## Build with profile-guided optimisation and compare with the plain release (takes llvm-profdata); target/pgo/release/
	$(CARGO) build --locked --release --bin boxoffice --example load
	bench/profile/pgo.py $(PGO)

bench-bytes: setup-bench ## Measure the bytes a booking takes in each ledger; writes bench/runs/
	$(CARGO) build --locked --release
	bench/macro/bytes.py

bench-crowds: ## Measure what idle, dribbling and unread crowds cost the others; writes bench/runs/
	$(CARGO) build --locked --release --bin boxoffice --example load
	bench/macro/crowds.py

bench-news: setup-bench ## Measure how late news of sales are on other hosts; writes bench/runs/ (NEWS="--binary before --binary after")
	$(CARGO) build --locked --release --bin boxoffice
	bench/macro/news.py $(NEWS)

bench-overdue: setup-bench ## Measure how soon holds that end at once can be bought; writes bench/runs/ (OVERDUE="--binary before --binary after")
	$(CARGO) build --locked --release --bin boxoffice --example load
	bench/macro/overdue.py $(OVERDUE)

bench-tls: setup-bench ## Measure what TLS between a host and Redis costs; writes bench/runs/ (TLS="--rounds 3")
	$(CARGO) build --locked --release --bin boxoffice --example load
	bench/macro/tls.py $(TLS)
