# Everything that a fresh machine with Python 3.11 or later, git and make needs.
# Every target makes the virtual environment .venv itself where it is missing.

PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo
# Fresh arrays on large pages: a training update on two cores is a tenth faster.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
SOURCES := benchmarks configs launching learning scripts sphere_ops tests weather setup.py

.PHONY: demo test test-slow lint format clean

# Simulate a planet, train on it, forecast five days, score, report.
demo: .venv/installed
	$(BIN)/python scripts/simulate.py --output=$(DEMO)/planet.zarr --days=780
	$(BIN)/python scripts/train.py --config=configs/demo.py --workdir=$(DEMO)
	$(BIN)/python scripts/compute_climatology.py --workdir=$(DEMO)
	$(BIN)/python scripts/forecast.py --workdir=$(DEMO) --output=$(DEMO)/forecasts \
	    --overwrite
	$(BIN)/python scripts/evaluate.py --forecast=$(DEMO)/forecasts \
	    --truth=$(DEMO)/planet.zarr --climatology=$(DEMO)/climatology.zarr \
	    --output=$(DEMO)/scores.csv --overwrite
	$(BIN)/python scripts/report.py --workdir=$(DEMO) --overwrite

test: .venv/installed-dev
	$(BIN)/python -m pytest -q --durations=15

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -q --durations=15 -m slow

lint: .venv/installed-dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean:
	rm -rf .venv $(DEMO) build *.egg-info .pytest_cache .ruff_cache .mypy_cache

# The stamps say which set of packages .venv holds.
.venv/installed: setup.py | .venv/bin/python
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-dev: setup.py | .venv/bin/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch .venv/installed $@

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    f"Python 3.11 or later is needed, found {sys.version}; make PYTHON=...")'
	$(PYTHON) -m venv .venv
