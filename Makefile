# `make demo` and `make test` work on a fresh Linux machine with Python 3.11 or newer: each installs what it needs into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all lint docs clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-core: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# PyTorch and the other peers are gigabytes.
$(VENV)/.installed-parity: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[dev,parity]'
	touch $@

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

demo: $(VENV)/.installed-core
	$(BIN)/python scripts/demo.py

# What a newcomer runs: minutes. Tests that compare with PyTorch are skipped unless the extra `parity` is installed.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not slow" $(PYTEST_ARGS)

# Every test that needs no GPU: also those that compare with PyTorch, processes, kills, fuzzing and all meshes.
test-all: $(VENV)/.installed-parity
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.installed-parity
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict --site-dir site

clean:
	rm -rf $(VENV) demo outputs site
