# Everything a newcomer, an operator or CI does here. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
export UV_SYSTEM_CERTS := 1

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DISTRIBUTIONS := packages/servicekit packages/tunnel services/proxy-client services/proxy-server services/http-target loadgen
LOCKS := services/requirements loadgen/requirements requirements-build requirements

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: setup
setup: $(READY) ## install everything into .venv
$(READY): requirements.lock $(DISTRIBUTIONS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "finback needs Python 3.11 or newer; say which with PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check "$$(grep -oE '^uv==[0-9.]+' requirements.lock)"
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation $(DISTRIBUTIONS:%=-e %)
	@touch $@

CRATE := packages/quinn-engine
RUST := 1.85
RUST_READY := command -v cargo >/dev/null && printf '%s\n' $(RUST) "$$(rustc --version | cut -d' ' -f2)" | sort -VC
WHEEL := wheelhouse/.built
CRATE_SOURCES := $(shell find $(CRATE) -name target -prune -o -type f -not -name Cargo.lock -print 2>/dev/null)

.PHONY: native
native: $(VENV)/.native ## build the native engine into wheelhouse/ and install it (takes Rust; nothing else here does)
$(VENV)/.native: $(WHEEL) | $(READY)
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-index --reinstall wheelhouse/quinn_engine-*.whl
	@touch $@
$(WHEEL): $(CRATE_SOURCES) | $(READY)
	@$(RUST_READY) || { \
		echo "the native engine needs Rust $(RUST) or newer (cargo and rustc), from rustup or from Debian 13;" \
		"without it everything runs with aioquic, and make native-wheel builds it in a container" >&2; exit 2; }
	@command -v cc >/dev/null || { echo "the native engine needs a C compiler; on Debian: apt-get install gcc libc6-dev" >&2; exit 2; }
	@rm -f wheelhouse/*.whl
	@$(BIN)/maturin build -q --release -i $(BIN)/python -m $(CRATE)/Cargo.toml -o wheelhouse
	@touch $@

.PHONY: has-rust
has-rust: # succeeds where the native engine can be built
	@$(RUST_READY)

.PHONY: native-wheel
native-wheel: ## build the wheel of the native engine with Docker and RUST_IMAGE: for images, on a machine without Rust
	@docker build --target native $(if $(RUST_IMAGE),--build-arg RUST_IMAGE=$(RUST_IMAGE)) -t finback/native .
	@rm -f wheelhouse/*.whl && container=$$(docker create finback/native) && trap "docker rm $$container >/dev/null" EXIT && \
		docker cp -q "$$container":/wheelhouse/. wheelhouse/
	@if [ "$$(uname -s)" = Linux ]; then touch $(WHEEL); else rm -f $(WHEEL); fi # On Linux `make native` takes it as it is.

.PHONY: lock
lock: $(READY) ## compile the requirements.in files into hash-locked requirements.lock
	@for name in $(LOCKS); do $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --custom-compile-command 'make lock' $$name.in -o $$name.lock || exit 1; done

.PHONY: check
check: $(READY) ## ruff, import-linter, mypy: cheapest first
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy packages services loadgen tests deploy docs/metrics.py
	@if $(RUST_READY) && cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; then \
		$(MAKE) --no-print-directory check-native; fi

.PHONY: check-native
check-native: $(READY) ## rustfmt, clippy and the tests of the native engine's crate
	@cargo fmt --manifest-path $(CRATE)/Cargo.toml --check
	@env -u MAKEFLAGS PYO3_PYTHON=$(abspath $(BIN)/python) cargo clippy -q --manifest-path $(CRATE)/Cargo.toml --all-targets -- -D warnings
	@env -u MAKEFLAGS PYO3_PYTHON=$(abspath $(BIN)/python) cargo test -q --manifest-path $(CRATE)/Cargo.toml

.PHONY: actionlint
actionlint: $(READY) ## build the linter of workflows with Go, into .venv/bin
	@GOBIN=$(abspath $(BIN)) go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

ARGUMENTS ?=

.PHONY: soak
soak: $(READY) ## the 30-second soak on the local stack (ARGUMENTS="--duration 5m" and the like)
	@$(BIN)/loadgen soak --stack local --log-format text --metrics-listen 127.0.0.1:0 $(ARGUMENTS)

SOAK_FAULTS ?= examples/faults/rough-minute.toml
SOAK_DURATION ?= 1m
SOAK_REPORT ?= reports/ci-soak
SOAK_BASELINE ?= reports/baseline

.PHONY: ci-soak
ci-soak: $(READY) ## CI's soak: in containers, with faults, into reports/ci-soak; compared with reports/baseline where that is
	@$(BIN)/loadgen soak --stack compose --mix small --faults $(SOAK_FAULTS) --duration "$(SOAK_DURATION)" \
		--report $(SOAK_REPORT) --log-format text $(ARGUMENTS)
	@if [ -e $(SOAK_BASELINE)/verdict.json ]; then \
		$(BIN)/loadgen compare $(SOAK_BASELINE) $(SOAK_REPORT) || { code=$$?; [ $$code = 3 ] || exit $$code; \
		echo "not to be compared with $(SOAK_BASELINE): this run is the next one's baseline"; }; \
		else echo "no baseline in $(SOAK_BASELINE)"; fi

.PHONY: docs
docs: $(READY) ## what is made from the code: docs/METRICS.md, the dashboards
	@$(BIN)/python docs/metrics.py
	@$(BIN)/python -m deploy.grafana.source

.PHONY: serve
serve: $(READY) ## the local stack in the foreground: SOCKS5 on 127.0.0.1:1080, http-target on 127.0.0.1:8080
	@$(BIN)/loadgen stack --stack local $(ARGUMENTS)

# As many at once as there are processors; what takes containers is one after the other.
.PHONY: test
test: $(READY) ## every test, cheap ones first (FINBACK_REQUIRE_DOCKER=1: container tests may not be skipped)
	@$(BIN)/pytest -n auto tests/unit tests/sim $(ARGUMENTS)
	@$(BIN)/pytest -n auto --dist worksteal tests/integration $(ARGUMENTS)
	@$(BIN)/pytest tests/e2e $(ARGUMENTS)

# A row of docs/FAILURES.md without a test, and a test that was skipped, are failures too.
.PHONY: test-failures
test-failures: $(READY) ## which test proves which row of docs/FAILURES.md, and a run of exactly those
	@FINBACK_REQUIRE_QUINN=1 $(BIN)/python -m tests.failures $(ARGUMENTS)

COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

.PHONY: images
images: ## build the images of the four programs
	@$(COMPOSE) build proxy-server proxy-client http-target link loadgen

.PHONY: up
up: images ## the whole stack in containers, with Prometheus on 127.0.0.1:9090
	@$(COMPOSE) up -d
	@echo "SOCKS5 on 127.0.0.1:$${SOCKS_PORT:-1080}, Prometheus on http://127.0.0.1:$${PROMETHEUS_PORT:-9090}"

.PHONY: down
down: ## end what `make up` started, its volumes too
	@$(COMPOSE) down --volumes --remove-orphans

.PHONY: bench
bench: $(READY) ## this tunnel and its peers side by side, into docs/BENCHMARKS.md (ARGUMENTS="--quick" and the like)
	@if $(RUST_READY); then $(MAKE) --no-print-directory native || echo "without a new native engine" >&2; fi
	@$(BIN)/python -m bench $(ARGUMENTS)

.PHONY: bench-profile
bench-profile: $(READY) ## bulk download with a profile of where the time goes (ARGUMENTS="--engine aioquic")
	@$(BIN)/python -m bench.bulk $(ARGUMENTS)

PROMISES := selftest soak curl slow_reader close_delimited kill founding_bug faults recovery rolling_restart garbage leaks exhaustion \
	foreign report engines ledger bench long_soak compose tests
ONLY ?= $(PROMISES)

.PHONY: acceptance
acceptance: $(READY) ## every promise with its figure, one script a line (ONLY=NAME for one)
	@failed=; for name in $(ONLY); do echo "== $$name"; $(BIN)/python acceptance/$$name.py || failed="$$failed $$name"; done; \
	if [ -n "$$failed" ]; then echo "not kept:$$failed"; exit 1; fi; echo "all kept"

.PHONY: recovery
recovery: $(READY) ## the README's table of what breaks and how soon it is over, measured in containers (ARGUMENTS="--engine quinn")
	@$(BIN)/python acceptance/recovery.py $(ARGUMENTS)

SEEDS ?= 2000
ENGINES ?= model,aioquic,quinn,aioquic to quinn,quinn to aioquic

.PHONY: sim
sim: $(READY) ## the simulation: SEEDS=20000 on the model (a tenth on each real pairing), SEED=123 to see one again
	@$(BIN)/python -m tests.sim --engines '$(ENGINES)' $(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(ARGUMENTS)

SECONDS ?= 60

.PHONY: fuzz
fuzz: $(READY) ## coverage-guided fuzzing of what bytes from outside reach (SECONDS=3600 for an hour, SEED=123, ARGUMENTS="--only codec")
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGUMENTS)
