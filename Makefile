# Posthouse.  make up: install and run it here, as yourself.  make test: the tests, from nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.posthouse-installed
PYTEST := $(BIN)/pytest -q

.PHONY: help up demo install test check lint format e2e bench clean
.DEFAULT_GOAL := help

help:
	@echo 'make up       run it in the foreground: configure, send one message, show its trace, follow the log'
	@echo 'make demo     the same, but it ends by itself; exit 0 if the message arrived'
	@echo 'make test     the tests that need nothing but Python'
	@echo 'make e2e      real processes, sockets and clients; what is not installed is skipped by name'
	@echo 'make check    format, lint, types, tests'
	@echo 'make bench    figures for this machine'
	@echo 'make install  only .venv     make clean  remove what was made here (not your mail)'

up: install
	@$(BIN)/mta up --try

demo: install
	@$(BIN)/mta demo

install: $(INSTALLED)

$(INSTALLED): pyproject.toml mta/launcher.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Posthouse needs Python 3.11 or later; make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo 'the module venv is missing: sudo apt-get install python3-venv' >&2; exit 1; }
	@test -x $(BIN)/python || { echo 'making $(VENV)'; $(PYTHON) -m venv $(VENV); }
	@echo 'installing into $(VENV)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fast]' || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -m mta.launcher $(BIN) >/dev/null
	@touch $@

test: install
	@$(PYTEST) -n auto -m 'not e2e'

check: lint test

lint: install
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

format: install
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

e2e: install
	@$(PYTEST) -m e2e tests/e2e

bench: install
	@for bench in tests/bench/bench_*.py; do echo "== $$bench"; $(BIN)/python "$$bench" || exit; done

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
