# Every target prepares the one environment it needs, .venv beside this file, from constraints.txt.
PYTHON ?= python3
WORKERS ?= 2

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PINS := pyproject.toml constraints.txt

# Thousands of small programs make the fast tests: compile them in less time. The slow tests run as users run.
HASTY := XLA_FLAGS="--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"

# Different tests, and both workers, compile many of the same programs: a cache that lives as long as the run.
CACHED = JAX_COMPILATION_CACHE_DIR="$$cache" JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
	JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1

# The float32 job loads only the files that have such tests: collecting all of them takes longer than running these.
SINGLE = $(shell grep -rl --include='test_*.py' 'mark\.float32' tests)

# MNIST for the tests and benchmarks that want it, where the reference folder lies beside the checkout.
DATA := $(if $(wildcard ../shared/data),QUASISTATIC_DATA="$(CURDIR)/../shared/data")

.DEFAULT_GOAL := help
.PHONY: help train test test-slow check bench docs clean

help:
	@echo "make train      train the default recipe (digits-rbm) and write its report"
	@echo "make test       the fast tests: float64 laws, then the float32 job"
	@echo "make test-slow  the tests of minutes"
	@echo "make check      lint, format, types, architecture"
	@echo "make bench      benchmarks, correctness first"
	@echo "make docs       build the documentation into site/"
	@echo "make clean      remove the environment, the caches and site/ (never runs/)"

train: .venv/run.stamp
	$(BIN)/quasistatic train digits-rbm

test: .venv/dev.stamp
	$(DATA) JAX_ENABLE_X64=0 $(BIN)/python -m pytest -m "float32 and not slow" $(SINGLE)
	cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && $(DATA) $(HASTY) $(CACHED) JAX_ENABLE_X64=1 \
		$(BIN)/python -m pytest -m "not slow and not float32" -n $(WORKERS) --dist worksteal

test-slow: .venv/dev.stamp
	$(DATA) JAX_ENABLE_X64=1 $(BIN)/python -m pytest -m "slow" --durations=20

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest tests/architecture

bench: .venv/dev.stamp
	$(DATA) $(BIN)/python -m benchmarks

docs: .venv/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf .venv site .pytest_cache .ruff_cache .hypothesis
	find quasistatic tests -type d -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run.stamp: $(PINS) | .venv/bin/python
	$(INSTALL) --editable .
	@touch $@

.venv/dev.stamp: .venv/run.stamp
	$(INSTALL) --editable ".[dev]"
	@touch $@

.venv/docs.stamp: .venv/run.stamp
	$(INSTALL) --editable ".[docs]"
	@touch $@
