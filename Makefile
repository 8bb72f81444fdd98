PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each stamp depends on its lock, so a changed pin installs again.
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
HASHED := --require-hashes --no-deps
ARGS ?=
# Tests use one thread each. The tests of a file run in one worker, because they share slow fixtures. Files start in the order of
# tests/conftest.py, the long ones first; xdist would start those with the most tests first.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: install install-dev lock run test check bench train clean

install: $(RUN_STAMP)
install-dev: $(DEV_STAMP)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone, in the right build for this machine. The locks contain everything else, and no CUDA packages.
$(RUN_STAMP): requirements.txt locks/run.txt locks/install_torch.py | $(BIN)/python
	$(BIN)/python -m locks.install_torch
	$(PIP) install $(HASHED) -r locks/run.txt
	touch $@

$(DEV_STAMP): locks/dev.txt $(RUN_STAMP)
	$(PIP) install $(HASHED) -r locks/dev.txt
	touch $@

lock: $(DEV_STAMP)  ## make locks/*.txt after a changed pin
	$(BIN)/python -m locks

run: $(RUN_STAMP)  ## start the studio on the shipped model
	$(BIN)/python app.py serve $(ARGS)

test: $(DEV_STAMP)  ## install the packages of the tests, run all tests, print the 25 slowest
	$(PYTEST) --durations=25 $(ARGS)

check: $(DEV_STAMP)  ## lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) --durations=25 $(ARGS)

bench: $(DEV_STAMP)  ## the figures of the README, written to benchmarks/results
	$(BIN)/python app.py bench $(ARGS)

train: $(DEV_STAMP)  ## train the pocket model from nothing
	$(BIN)/python -m training $(ARGS)

clean:
	rm -rf .cache .pytest_cache .mypy_cache .ruff_cache artifacts
