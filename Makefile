# make run    install, then start the whole hub on its embedded defaults
# make test   install, then run every check and the whole test suite

PYTHON ?= python3
JOBS ?= 4
VENV := .venv
BIN := $(VENV)/bin
SANDBOX := .venv-sandbox
INSTALLED := $(VENV)/.installed
INSTALLER := requirements/install.py requirements/build.lock pyproject.toml

.PHONY: help install dev sandbox run test lint demo prove bench crash unsubscribes resync lock clean
.DELETE_ON_ERROR:

help:           ## what can be made
	@grep -E '^[a-z]+: .*##' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

install: $(INSTALLED)-run     ## the hub and what it needs, into .venv

dev: $(INSTALLED)-dev         ## the same with the tools for tests

sandbox: $(SANDBOX)/.installed    ## a Stripe-compatible server, apart from the hub (GPL)

run: install    ## start the hub; Ctrl-C ends it
	@exec $(BIN)/upkept up

test: dev sandbox    ## every check and the whole test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m compileall -q src connectors bench tests    # the tests start hundreds of processes
	$(BIN)/pytest -n $(JOBS) --dist worksteal

lint: dev       ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: install sandbox     ## the five-minute tour, played by itself
	$(BIN)/python -m bench.demo

prove: dev      ## any order gives the same store: the full figures
	$(BIN)/python -m bench.prove

bench: dev      ## rates, latencies and memory beside a bare endpoint and an afternoon's version
	$(BIN)/python -m bench.run

resync: dev     ## 100,000 unchanged people, then kills at random pages; nothing written, nothing lost
	$(BIN)/python -m bench.resync

crash: dev      ## at least 100 kills under load; nothing answered 2xx is lost
	$(BIN)/python -m bench.crash

unsubscribes: dev    ## 10,000 of them under faults: none lost, none taken back, and how fast they spread
	$(BIN)/python -m bench.unsubscribes

lock: $(BIN)/python       ## renew requirements/*.lock from pyproject.toml and the .in files
	for name in build sandbox; do $(LOCK) requirements/$$name.in -o requirements/$$name.lock || exit 1; done
	$(LOCK) pyproject.toml -o requirements/run.lock
	$(LOCK) pyproject.toml --extra dev -o requirements/dev.lock

clean:          ## remove what was installed and cached; ./var stays
	rm -rf $(VENV) $(SANDBOX) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

LOCK = $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header

$(BIN)/python $(SANDBOX)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Upkept needs Python 3.11 or newer as $(PYTHON). Choose one: make install PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo '$(PYTHON) cannot make environments. On Debian: apt-get install python3-venv; then run make again' >&2; exit 1; }
	$(PYTHON) -m venv $(patsubst %/bin/python,%,$@)

$(INSTALLED)-%: requirements/%.lock $(INSTALLER) | $(BIN)/python
	$(BIN)/python requirements/install.py $*.lock
	@touch $@

$(SANDBOX)/.installed: requirements/sandbox.lock $(INSTALLER) | $(SANDBOX)/bin/python
	$(SANDBOX)/bin/python requirements/install.py sandbox.lock
	@touch $@
