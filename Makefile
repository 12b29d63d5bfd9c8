# Greenroom's commands. `make` alone says what there is.

CARGO ?= cargo
# nextest runs tests in parallel, each in a process of its own; without it cargo's own runner does.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

.PHONY: stores help run setup test unit doc examples chaos lint verify

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# Unoptimised: a fresh clone serves as soon as it is compiled. Measure with `cargo build --release`.
run: ## compile and serve on http://127.0.0.1:8080, data in ./data (ARGS="--listen …" for more)
	@echo "Compiling the product (a fresh clone takes some minutes, later runs seconds), then serving."
	$(CARGO) run --package greenroom-actors --bin greenroom -- serve $(ARGS)

setup: ## install what the tests need besides Rust (into .venv and .parts)
	@tests/setup

# The servers that tests share run meanwhile, and whatever happens are ended with it. To run one test
# by hand: `tests/servers start && . .parts/run/env`.
# Not $(MAKE): that would run this line, and stop the servers, when make is only asked what it would do.
test: setup ## everything that runs: tests, documentation, examples
	@trap 'tests/servers stop' EXIT; trap 'exit 130' INT; trap 'exit 143' HUP TERM; \
	tests/servers start && . ./.parts/run/env && make --no-print-directory unit stores doc examples

# Process tests run the real binary, so it is built first.
unit:
	$(CARGO) build --workspace --bins
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --workspace --no-fail-fast
else
	$(CARGO) test --workspace --all-targets --no-fail-fast
endif

# The guarantees once more on each store of a cluster. The embedded one has been killed 200 times.
stores:
	@set -e; for store in redis valkey redis-cluster; do \
		echo "── the guarantees on $$store"; \
		GREENROOM_TEST_STORE=$$store GREENROOM_TEST_KILLS=20 $(CARGO) $(if $(NEXTEST),nextest run --no-fail-fast,test) --test guarantees --test features; \
	done

doc:
	$(CARGO) test --workspace --doc

# Each example runs to its end by itself, in a directory of its own that is gone afterwards.
examples:
	$(CARGO) build --examples
	@set -e; root=$$(pwd); dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	target=$$($(CARGO) metadata --format-version 1 --no-deps | sed -E 's/.*"target_directory":"([^"]*)".*/\1/'); \
	for example in examples/*; do \
		name=$$(basename "$$example" .rs); \
		echo "── example $$name"; \
		(cd "$$dir" && timeout 120 "$$target/debug/examples/$$name") || { echo "example $$name failed"; exit 1; }; \
	done

# `make test` runs the same for five minutes in all. CHAOS_SEED decides the faults, CHAOS_KEEP=DIR keeps all logs.
chaos: setup ## half an hour of killed processes, broken networks, forgetful servers; writes docs/RELIABILITY.md
	CHAOS_SECONDS=$${CHAOS_SECONDS:-1800} CHAOS_REPORT=docs/RELIABILITY.md \
		$(CARGO) test --test chaos -- --nocapture --test-threads 1

lint: ## format, clippy, licences and sources of dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) deny --log-level error check licenses bans sources

verify: lint test ## all that must pass before a merge
