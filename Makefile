# make demo, make test: from a fresh clone, with nothing but Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find emsiam -name '*.py' 2>/dev/null) pyproject.toml
TESTED := $(shell find emsiam experiments examples tests docs notebooks -type f -not -path '*/.*' -not -name '*.pyc' 2>/dev/null) \
	$(wildcard results/*.json results/*.jsonl *.md *.yml *.toml) Makefile
# two processes with a thread each make better use of two cores than one with two
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# each writes its section of BENCHMARKS.md; on a machine that does nothing else
BENCHMARKS := $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))

# the documentation as a site; a link that leads nowhere is an error
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# benchmarks have few types; what mypy sees is whether they call what is there
UNTYPED := --disable-error-code var-annotated --disable-error-code union-attr --disable-error-code misc
UNTYPED += --disable-error-code import-untyped

.PHONY: demo test retest fast check slow bench same-bits generated notebooks docs dist lab paper systems
.DELETE_ON_ERROR:

demo: runs/demo/summary.json
	@echo "The picture: $(CURDIR)/runs/demo/trajectory.png"

runs/demo/summary.json: $(VENV)/installed $(SOURCES)
	@echo "Training SimSiam on scikit-learn's digits ..."
	@$(BIN)/python -m emsiam.train --mode onestep --out runs/demo --overwrite

test: $(VENV)/tested
	@echo "Tests passed $$(cat $(VENV)/tested); nothing has changed since (make retest runs them again)."

retest:
	@rm -f $(VENV)/tested
	@$(MAKE) --no-print-directory test

$(VENV)/tested: $(VENV)/installed-test $(TESTED)
	@echo "Running the tests ..."
	@$(PYTEST) -n 2 --dist worksteal
	@date '+on %Y-%m-%d at %H:%M' > $@

fast: $(VENV)/installed-test
	@echo "Running the tests of the mathematics ..."
	@$(PYTEST) -n 2 --dist worksteal -m 'mathematics and not slow'

check: $(VENV)/installed-test
	@echo "Lint, format, types, notebooks ..."
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy benchmarks $(UNTYPED)
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/python docs/notebooks.py --check
	@$(MKDOCS)
	@echo "Checks passed."

slow: $(VENV)/installed-test
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[slow]'
	@echo "Running the long tests ..."
	@$(PYTEST) -m slow -s

bench: $(VENV)/installed-test
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[benchmarks]'
	@for file in $(BENCHMARKS); do echo "$$file ..."; $(BIN)/python $$file || exit 1; done

# BASE, a commit, and this checkout train every case of tests/golden.py, on one process and on two: are the bits the same?
BASE ?= HEAD
same-bits: $(VENV)/installed-test
	@$(BIN)/python tests/golden.py beside $(BASE)
	@$(BIN)/python tests/golden.py beside $(BASE) --ranks 2

# emsiam/names.py and the tables of the docs, from the code that they tell of
generated: $(VENV)/installed-test
	@$(BIN)/python docs/generate.py

notebooks: $(VENV)/installed-test
	@$(BIN)/python docs/notebooks.py

docs: $(VENV)/installed-test
	@$(MKDOCS)
	@echo "The site: $(CURDIR)/site/index.html; $(BIN)/mkdocs serve shows it with its search"

# sdist and wheel; the wheel is installed elsewhere, and trains there
dist: $(VENV)/installed-test
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[release]'
	@rm -rf dist && $(BIN)/python -m build --outdir dist .
	@$(BIN)/python tests/try_wheel.py dist/*.whl

lab: $(VENV)/installed-test
	@$(BIN)/jupyter lab notebooks

# the tables of a group (python -m experiments lists them); what is done is left as it is; then what is made of them
paper systems: $(VENV)/installed-test
	@for table in $$($(BIN)/python -m experiments $@); do echo "$$table"; $(BIN)/python -m experiments.$$table || exit; done
	@$(BIN)/python -m experiments.report
	@$(BIN)/python -m experiments.paper_scale

$(VENV)/made:
	@echo "Making $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "emsiam needs Python 3.11 or newer; make PYTHON=... names one")'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/made pyproject.toml
	@echo "Installing emsiam; PyTorch is large, this takes minutes the first time ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo "Installing what tests and notebooks need ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@
