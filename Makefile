PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Both stamps name the requirements they were made from, so a changed pin installs again.
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
ARGS ?=
# Tests use one thread each; a file's tests stay together, since they share what is slow to make.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: install install-dev run test check bench train clean

install: $(RUN_STAMP)
install-dev: $(DEV_STAMP)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# torch first and alone: a resolver that sees it beside a range may pull the CUDA build.
$(RUN_STAMP): requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' requirements.txt)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(DEV_STAMP): requirements-dev.txt $(RUN_STAMP)
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

run: $(RUN_STAMP)  ## start the studio on the shipped model
	$(BIN)/python app.py serve $(ARGS)

test: $(DEV_STAMP)  ## install what tests need, run them all
	$(PYTEST) $(ARGS)

check: $(DEV_STAMP)  ## lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) $(ARGS)

bench: $(DEV_STAMP)  ## the figures of the README, written to benchmarks/results
	$(BIN)/python app.py bench $(ARGS)

train: $(DEV_STAMP)  ## make the pocket model again, from nothing
	$(BIN)/python -m training $(ARGS)

clean:
	rm -rf .cache .pytest_cache .mypy_cache .ruff_cache artifacts
