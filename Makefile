# Every target works on a fresh checkout; `make PYTHON=python3.12 test` chooses the interpreter of a new .venv.
PYTHON ?= python3
BIN := .venv/bin
# Every pip call carries the constraints: without them pip may replace torch by a build of another kind.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest
# Two OpenMP threads on two busy cores were up to ten times slower than one.
OMP_NUM_THREADS ?= 1
export OMP_NUM_THREADS

.PHONY: help demo test test-slow bench docs lint clean

help:
	@echo "make demo       fit, generate and plot the built-in pbmc68k_reduced into demo_output/"
	@echo "make test       the test suite; DIFFAUG_DATA_DIR=<folder> adds the tests on real data sets"
	@echo "make test-slow  the tests marked slow"
	@echo "make bench      the benchmarks against peers"
	@echo "make docs       the documentation into docs/_build/html, warnings are errors"
	@echo "make lint       ruff, mypy and the import contracts"
	@echo "make clean      remove what the other targets made"

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP_INSTALL) -e ".[test]"
	touch $@

# One stamp for each further extra: .venv/.installed-dev, -docs, -bench.
.venv/.installed-%: .venv/.installed
	$(PIP_INSTALL) -e ".[$*]"
	touch $@

demo: .venv/.installed
	$(BIN)/diffaug-cells demo -o demo_output --overwrite

test: .venv/.installed
	$(PYTEST)

test-slow: .venv/.installed
	$(PYTEST) -m slow

bench: .venv/.installed-bench
	for script in benchmarks/bench_*.py; do $(BIN)/python "$$script" || exit 1; done
	$(BIN)/python benchmarks/bench_synthetic.py --rare

docs: .venv/.installed-docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

lint: .venv/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv build dist demo_output docs/_build docs/generated
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
