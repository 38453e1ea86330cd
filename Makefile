# Homeport: everything is done by these targets; each sets up what it needs first.
SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
PYTHON ?= $(shell command -v /usr/bin/python3 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Guests and daemons are waited for more than they compute; those with guests take longest: first.
SPREAD := -n 3 --dist loadscope --no-loadscope-reorder
REAL := tests/acceptance tests/integration tests/contracts

.DEFAULT_GOAL := help
.PHONY: help setup packages demo check format lint types imports unit coverage test test-all bench lock clean

help: ## What can be done here
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

packages: ## Debian packages, for root; for others the line to have run
	@PYTHON=$(PYTHON) scripts/packages.sh

$(STAMP): requirements.lock pyproject.toml scripts/python.sh
	@PYTHON=$(PYTHON) scripts/python.sh $(VENV)
	@touch $(STAMP)

setup: packages $(STAMP) ## Debian packages and the Python environment

node_modules/.installed: package-lock.json
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

demo: setup ## The whole journey on a real guest, on this machine
	@$(BIN)/homeport demo

check: $(STAMP) format lint types imports unit ## Format, lint, types, imports, unit tests

format: $(STAMP)
	@$(BIN)/ruff format --check .

lint: $(STAMP)
	@$(BIN)/ruff check .

types: $(STAMP)
	@$(BIN)/mypy

imports: $(STAMP)
	@$(BIN)/lint-imports --no-cache | tail -n 4

unit: $(STAMP)
	@$(BIN)/python -m pytest -q -n 2 tests/unit

coverage: $(STAMP) ## Which lines and branches the unit tests reach, by module
	@$(BIN)/python -m pytest -q -n 2 --cov=homeport --cov-report=term:skip-covered tests/unit

test: setup node_modules/.installed ## All tests with real peers, but the long matrices
	@$(BIN)/python -m pytest -q $(SPREAD) -m "not long" --timeout 420 --durations 30 $(REAL)

test-all: setup node_modules/.installed coverage ## Every test, the long matrices whole; coverage
	@$(BIN)/python -m pytest -q $(SPREAD) -m "long or not long" --hypothesis-profile search --timeout 3600 --durations 25 $(REAL)

bench: setup ## Figures, each as a ratio to its limit in the same run
	@$(BIN)/python -m benchmarks

lock: $(STAMP) ## Choose the newest versions that fit and write them down with their hashes
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --no-annotate --group dev pyproject.toml -o requirements.lock

clean: ## Remove what was made here
	@rm -rf $(VENV) node_modules build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
