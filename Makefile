# Everything a developer or a pipeline does, one word each. `make` alone lists the words.
# Works with GNU make 3.81 and later and any POSIX shell; needs Python 3.11 or later, nothing else.

.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
# Twice as many as there are cores, since most tests wait as much as they compute; not more than eight, since
# each worker starts a PostgreSQL and a Chromium of its own.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
WORKERS ?= $(shell expr $(CORES) \* 2 '|' 2 | awk '{ print ($$1 < 8 ? $$1 : 8) }')
SEEDS ?= 2000
QUICK_SEEDS ?= 100
PROOF_SEEDS ?= 20000
CHAOS_SECONDS ?= 120
PROOF_CHAOS_SECONDS ?= 900
UPGRADE ?=

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
DEV_LOCK := requirements/dev.lock
RUN_LOCK := requirements/run.lock
LOCK := $(PY) -m uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-header --no-emit-index-url $(UPGRADE)

# The folders of which the tests must run every branch: the rules and the state. `make test` alone must do it.
FULLY_COVERED := reconciler/core/*,reconciler/store/*

# `make test` leaves out the tests marked slow, `make test SLOW=yes` and `make check` run them, too.
SLOW ?=
FAST := not slow and not proof and not chaos
MARKS := $(if $(SLOW),not proof and not chaos,$(FAST))

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_NO_INPUT = 1
unexport PIP_REQUIRE_VIRTUALENV PYTHONPATH
# Without compiled files every worker compiles all tests again, and every command all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo docs quick test tests left-out check format lint types locked collected simulate mutants chaos proof bench screenshots lock clean

help: ## list these words
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make .venv with the locked dependencies (the others do it by themselves)

demo: $(READY) ## a tour: the simulated exchange and the real program, checked at every step
	@$(VENV)/bin/mmp demo --check

quick: $(READY) ## unit tests, tidy tests, golden files and 100 simulated histories of each world
	@$(PY) -m tests.simulation --seeds $(QUICK_SEEDS) --jobs all
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal -m '$(FAST)' tests/unit tests/tidy tests/golden

test: tests left-out ## all tests but the slow ones; fails without full branch coverage of core and store

tests: $(READY)
	@$(PY) -m tests.support.requirements --required
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal -m '$(MARKS)' --cov --cov-report=
	@$(PY) -m coverage report --include='$(FULLY_COVERED)' --fail-under=100 \
		--omit="$$($(PY) -m tests.support.requirements --uncovered)"

left-out: $(READY)
	@$(PY) -m tests.support.requirements
	@test -n '$(SLOW)' || echo 'Left out, because they take minutes (make check runs them): the tests marked slow'
	@echo 'Left out, because it takes long (make proof runs it):'
	@echo '  the seeded mutants, $(PROOF_SEEDS) simulated histories of each world, thirty kills in a row of the real program,'
	@echo '  three replicas under chaos (make chaos: two minutes)'
	@echo 'Left out, because it cannot be run here: anything against OKX itself'

check: format lint types locked ## format, lint, types, lock and all tests, the slow ones included
	@$(MAKE) --no-print-directory test SLOW=yes

format: $(READY)
	@$(PY) -m ruff format --check --quiet . && echo 'format: as ruff would'

lint: $(READY)
	@$(PY) -m ruff check --quiet . && echo 'lint: nothing found'

types: $(READY)
	@$(PY) -m mypy

locked: $(READY)
	@$(PY) -m pip check >/dev/null && echo 'lock: everything that is needed is in it'

collected: $(READY)
	@$(PY) -m pytest --collect-only -q -n0 >/dev/null && echo 'tests: all can be collected'

simulate: $(READY) ## SEEDS=n simulated histories of each world, on all cores
	@$(PY) -m tests.simulation --seeds $(SEEDS) --jobs all

mutants: $(READY) ## break the program on purpose, rule by rule: the simulation must see each
	@$(PY) -m tests.simulation --mutants

chaos: $(READY) ## replicas and pipelines over thirty accounts, while a seed kills, stops, cuts and restarts
	@CHAOS_SECONDS=$(CHAOS_SECONDS) $(PY) -m pytest -q -n0 -s -m chaos tests/postgres/test_chaos.py

proof: $(READY) ## the long runs: mutants, many histories, many kills, chaos
	@$(PY) -m pytest -n $(WORKERS) -m proof
	@$(MAKE) --no-print-directory chaos CHAOS_SECONDS=$(PROOF_CHAOS_SECONDS)
	@$(PY) -m tests.simulation --mutants
	@$(PY) -m tests.simulation --seeds $(PROOF_SEEDS) --jobs all

docs: $(READY) ## write docs/reference/ again from the code
	@$(PY) -m tests.reference_docs.write

bench: $(READY) ## what things cost, as ratios measured in one run
	@$(PY) -m bench

screenshots: $(READY) ## take the pictures of the status page in docs/ again (needs Chromium)
	@$(PY) -m tests.support.screenshots

lock: $(READY) ## write the lock files again (UPGRADE=--upgrade for newer versions)
	@$(PY) -m uv --version >/dev/null 2>&1 || $(PY) -m pip install --quiet uv
	@$(LOCK) --group dev pyproject.toml -o $(DEV_LOCK)
	@$(LOCK) pyproject.toml -o $(RUN_LOCK)

clean: ## remove caches and build results; .venv stays
	@rm -rf .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache build dist htmlcov
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# A virtual environment that no longer runs, or is too old, is made anew. Each candidate is tried,
# not just looked up: a name on the PATH may be a shim without an interpreter behind it.
$(READY): pyproject.toml $(DEV_LOCK)
	@recent='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(PY) -c "$$recent" >/dev/null 2>&1 || ! $(PY) -m pip --version >/dev/null 2>&1; then \
		for candidate in $(PYTHON) ''; do \
			if [ -n "$$candidate" ] && "$$candidate" -c "$$recent" >/dev/null 2>&1; then break; fi; \
		done; \
		if [ -z "$$candidate" ]; then \
			echo 'make: no Python 3.11 or later with venv and pip was found among: $(PYTHON)' >&2; \
			echo '      install one (Debian: python3 python3-venv), or name it: make PYTHON=/path/to/python3' >&2; \
			exit 1; \
		fi; \
		echo "setting up $(VENV) with $$($$candidate --version)"; \
		"$$candidate" -m venv --clear $(VENV); \
	fi
	@echo 'installing the locked dependencies'
	@: the lock is whole, so nothing is resolved here and a release made tomorrow changes nothing
	@$(PY) -m pip install --quiet --no-deps --require-hashes -r $(DEV_LOCK)
	@$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@
