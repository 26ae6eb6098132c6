# Everything a developer runs. `make` alone lists the targets.

SHELL := bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help run test test-compiled coverage faults fuzz setup dev deps compiled lint format bench bench-check attacks capacity proto lock clean

BIN := .venv/bin
# Arguments for the demonstration, pytest or the benchmarks: make test ARGS="tests/unit -x"
ARGS ?=
# Two at a time: more would disturb the tests of whole services on a small machine. PARALLEL= for one.
PARALLEL ?= -n 2 --dist loadfile
# What the compiled modules must pass as well.
# Which server it is makes no difference to them.
COMPILED_TESTS := tests/unit tests/contract tests/e2e/test_crowds.py -k 'not Valkey'
COMPILED := PYTHONPATH=build/compiled
# What measures coverage. It makes hot code two or three times slower, so services with much to serve measure none.
MEASURED_TESTS := tests/unit tests/contract tests/simulation tests/e2e/test_cli.py tests/e2e/test_import.py tests/e2e/test_workers.py
MEASURED := COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/build/coverage/one

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup ## install what is missing, start the service and show presence changing hands
	@$(BIN)/adsum demo $(ARGS)

test: dev deps lint ## install what is missing, then lint and test (ARGS="tests/unit -x" for some)
	@echo "test: pytest $(PARALLEL) $(ARGS)"
ifdef ARGS
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)
else
	@rm -rf build/coverage
	@$(MEASURED) $(BIN)/python -m pytest $(PARALLEL) $(MEASURED_TESTS)
	@$(BIN)/python -m pytest $(PARALLEL) $(addprefix --ignore=,$(MEASURED_TESTS))
	@$(MAKE) test-compiled coverage
endif

test-compiled: deps compiled ## test the compiled modules (a part of `make test`)
	@echo "test-compiled: pytest $(PARALLEL) $(or $(ARGS),$(COMPILED_TESTS))"
	@$(COMPILED) $(BIN)/python -m pytest $(PARALLEL) $(or $(ARGS),$(COMPILED_TESTS))

coverage: dev ## say what the last `make test` covered (ARGS=--raise: write higher floors; ARGS="--missing core")
	@$(BIN)/python scripts/covered.py $(ARGS)

faults: dev deps ## run the fault tests at their full length: real gateways, real Redis (about five minutes)
	@FAULTS=long $(BIN)/python -m pytest tests/e2e/test_faults.py $(ARGS)

fuzz: dev ## fuzz the decoders with seeds that are new each day (ten minutes; ARGS="gob http2 --minutes 60")
	@$(BIN)/python -m tests.fuzz $(ARGS)

setup: ## make .venv with the adsum command in it (PYTHON=python3.12 to choose)
	@scripts/setup.sh run

# What tests and linters need on top of `setup`.
dev:
	@scripts/setup.sh dev

deps: dev
	@scripts/deps.sh test

compiled: dev ## compile the hot modules into build/compiled, for `make bench` and for comparing (two minutes)
	@scripts/deps.sh compile
	@scripts/compiled.sh

lint: dev ## check style, types and import contracts
	@failed=; \
	check() { echo "lint: $$1"; "$(BIN)/$${@:2}" || failed+=" $$1"; }; \
	check style ruff check --quiet; \
	check format ruff format --quiet --check; \
	check types mypy --no-error-summary; \
	check imports lint-imports --no-logo; \
	[ -z "$$failed" ] || { echo "lint: failed:$$failed ('make format' mends what it can)" >&2; exit 1; }

format: dev ## format the code and apply the safe fixes
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format

bench: compiled ## measure the service and write bench/RESULTS.md (ten minutes; needs Go and redis-server)
	@$(COMPILED) $(BIN)/python -m bench $(ARGS)

bench-check: compiled ## measure quickly and say what got slower than in bench/results.json (four minutes)
	@$(COMPILED) $(BIN)/python -m bench --check $(ARGS)

attacks: dev ## measure what others notice while clients flood, and write bench/ATTACKS.md (five minutes; needs redis-server)
	@$(BIN)/python -m bench.attacks $(ARGS)

capacity: dev ## write docs/capacity.md from bench/results.json: machines for 1 to 100 million users (a minute)
	@$(BIN)/python -m bench.capacity $(ARGS)

proto: dev ## regenerate the gRPC code
	@PYTHON=$(BIN)/python scripts/proto.sh

lock: ## write requirements/*.lock anew (UPGRADE=1 for newer versions; needs uv)
	@scripts/lock.sh

clean: ## remove .venv and what builds and tools leave behind
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests bench -type d -name __pycache__ -exec rm -rf {} +
