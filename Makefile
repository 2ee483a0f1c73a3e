# Two commands do everything on a machine that has Python 3.11, git and make:  make demo   and   make test
.DEFAULT_GOAL := help
.PHONY: help setup clients demo up down test test-all check types-pipelines types-others rules bench bench-imagery lock clean

PYTHON ?= python3
# tests/conftest.py says which tests stay together in one of them.
TEST_PROCESSES ?= 2
# uv brings the environment; where it is missing it is put into .uv/, not into the system.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
BIN := .venv/bin
export RAY_ENABLE_UV_RUN_RUNTIME_ENV := 0
export RAY_USAGE_STATS_ENABLED := 0

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

.uv/bin/uv:
	$(PYTHON) -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9' \
	  || $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv 'uv>=0.9'  # a Python without venv

setup: .venv/.ready ## the environment, as locked

.venv/.ready: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	$(UV) sync --frozen
	@touch $@

clients: .venv-clients/.ready ## foreign clients that tests drive the service with, in an environment of their own

.venv-clients/.ready: tests/clients/requirements.txt | $(filter .uv/bin/uv,$(UV))
	$(UV) venv --quiet --clear --python 3.11 .venv-clients
	$(UV) pip sync --quiet --python .venv-clients/bin/python tests/clients/requirements.txt
	@touch $@

demo: setup ## water and burn scars of a scene with known truth, on a local Ray
	$(BIN)/swathe demo

up: setup ## the service on this machine, until Ctrl-C: API, models, jobs
	$(BIN)/swathe up

down: ## stop it, where it was started with `swathe up -d`
	$(BIN)/swathe down

# Tests of users' scripts need bubblewrap (apt-get install bubblewrap) and are skipped without.
test: setup ## the tests, with a real Ray; under 12 minutes on 2 cores
	$(BIN)/pytest -q -m 'not slow' -n $(TEST_PROCESSES)

test-all: setup clients ## the slow ones: chaos, compilers, several clusters; all services again, on PostgreSQL
	$(BIN)/pytest -q -m slow -n $(TEST_PROCESSES)
	SWATHE_TEST_DATABASE=postgresql $(BIN)/pytest -q -m 'not slow' -n $(TEST_PROCESSES) tests/serve

check: setup ## style, types, and the rules of the house
	@$(MAKE) --no-print-directory --jobs=2 types-pipelines types-others rules

# pyright uses one core, so the house is checked in halves; with room for young objects it collects less garbage.
types-pipelines types-others: export NODE_OPTIONS := --max-semi-space-size=128
types-pipelines:
	$(BIN)/pyright pipelines
types-others:
	$(BIN)/pyright swathe models cluster serve

rules:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest -q tests/test_house.py

bench: setup ## the table of docs/benchmarks.md; about an hour on 2 cores, with nothing else running
	$(BIN)/python benchmarks/engine.py

bench-imagery: setup ## searched imagery: windows, composite, a narrow link, the catalogue; which aims are met
	$(BIN)/python -m benchmarks.imagery

lock: | $(filter .uv/bin/uv,$(UV)) ## resolve the dependencies anew
	$(UV) lock

clean: ## everything that was made here
	rm -rf .venv .venv-clients .uv .pytest_cache .ruff_cache .hypothesis demo out dist
