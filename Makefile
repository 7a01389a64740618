# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv
URL    ?=
DIR    ?= .

.DEFAULT_GOAL := help
.PHONY: help get test check bench docs man lock clean compiled

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

get: $(VENV)/.run compiled  ## download one file: make get URL=https://… [DIR=folder]
	@test -n "$(URL)" || { echo "usage: make get URL=https://example.org/file [DIR=folder]" >&2; exit 2; }
	@$(BIN)/dlqueue get -d "$(DIR)" "$(URL)"

test: $(VENV)/.dev compiled check  ## everything: checks, then the whole test suite (installs what the tests need)
	@sh tests/install-needs
	$(BIN)/python -m pytest -n 3 --dist worksteal $(PYTEST)

check: $(VENV)/.dev  ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev compiled  ## the benchmarks (see benchmarks/README.md)
	$(BIN)/python -m benchmarks

man: $(VENV)/.dev  ## the manual page, docs/man/dlqueue.1, from the commands
	$(BIN)/python docs/man/generate.py

docs: man  ## the documentation as a site, in docs/site
	$(BIN)/python docs/reference.py
	$(BIN)/zensical build --strict -f docs/zensical.toml

lock: $(VENV)/.uv  ## renew the lock files from pyproject.toml
	$(UV) pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links $(UPGRADE) \
	    pyproject.toml -o requirements.lock
	$(UV) pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links $(UPGRADE) \
	    pyproject.toml --group dev -o requirements-dev.lock

# Bytecode is made here rather than at the first run, which may not be allowed to write it.
compiled:
	@$(BIN)/python -m compileall -q dlqueue plugins

clean:  ## remove the environment and the caches
	rm -rf $(VENV) docs/site docs/.cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find dlqueue plugins tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "dlqueue needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "setting up $(VENV) (once)" >&2
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	    && apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && $(PYTHON) -m venv --clear $(VENV); } \
	    || { echo "Python cannot make a virtual environment: install the package python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check "uv>=0.9"
	@touch $@

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/.uv
	@$(UV) pip install -q --compile-bytecode --require-hashes -r requirements.lock
	@$(UV) pip install -q --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/.uv
	@$(UV) pip install -q --compile-bytecode --require-hashes -r requirements-dev.lock
	@$(UV) pip install -q --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.run
