# The study's front door: `make study` and `make test` work on a fresh machine with Python >= 3.11, pip and make.
# `make help` lists the rest.

PYTHON  ?= python3
VENV    ?= .venv
PROFILE ?= demo
DATASETS ?=
LOCK    ?= requirements-cpu.lock
TORCH_INDEX ?=
JOBS    ?= auto

BIN   := $(VENV)/bin
READY := $(VENV)/.ready

# one data set or several, separated by blanks or commas: DATASETS="ml-1m ml-100k"
comma := ,
DATASET_OPTIONS := $(foreach d,$(subst $(comma), ,$(DATASETS)),--dataset $(d))

.DEFAULT_GOAL := help
.PHONY: help setup study test test-older-cpu test-workflow stress goldens book check-book pdf archive evidence readme lab lint format lock clean

help: ## list the targets
	@echo "make setup | study | test | test-older-cpu | test-workflow | stress | goldens | book | check-book | pdf | archive | evidence | readme | lab | lint | format | lock | clean"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1: \2/p' $(MAKEFILE_LIST)
	@echo "Variables: PROFILE=demo|paper  DATASETS=\"ml-1m ml-100k\"  PYTHON=python3.12  QUICK=1"
	@echo "           TORCH_INDEX=https://download.pytorch.org/whl/cpu  LOCK=requirements-cuda.lock"

setup: $(READY) ## make .venv and install the locked packages into it, once

# Installed again only when the lock or pyproject.toml changes. The stamp is written last: a broken-off install is repeated.
$(READY): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "error: $(PYTHON) is missing or older than Python 3.11; name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) from $(LOCK) (once; a few minutes and a few gigabytes, most of it PyTorch) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r $(LOCK)
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@$(BIN)/python -m pip install --quiet --constraint $(LOCK) "bitsandbytes==0.50.2" >/dev/null 2>&1 \
	  || echo "note: bitsandbytes has no build for this machine: everything else works, sources with nf4: do not"
	@$(BIN)/python -m pip install --quiet --constraint $(LOCK) "lightfm-next==1.19.0" >/dev/null 2>&1 \
	  || echo "note: LightFM was not built (it needs a C compiler): everything else works, preference pairs from it do not"
	@touch $@

study: $(READY) ## run the study's notebooks and build the book (PROFILE, DATASETS)
	$(BIN)/seqrec study --profile $(PROFILE) $(DATASET_OPTIONS)

test: $(READY) ## run the tests, one process a core (JOBS=1: in one)
	$(if $(filter-out 1,$(JOBS)),OMP_NUM_THREADS=1) $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

goldens: $(READY) ## compare the tiny runs that hold the study's numbers, add new ones, stamp the code
	$(BIN)/python -m tests.golden

test-older-cpu: $(READY) ## the goldens once more, with the instructions of an older processor and fresh kernels
	cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && env NUMBA_CACHE_DIR="$$cache" NUMBA_CPU_NAME=haswell \
	  ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest tests/golden

test-workflow: $(READY) $(VENV)-workflow/.ready ## the tests of the Snakefile, with Snakemake in an environment of its own
	PATH="$(abspath $(VENV)-workflow/bin):$$PATH" $(BIN)/python -m pytest tests/test_workflow.py

$(VENV)-workflow/.ready: workflow/requirements.txt
	$(PYTHON) -m venv $(VENV)-workflow
	$(VENV)-workflow/bin/python -m pip install --quiet --requirement $<
	@touch $@

stress: $(READY) ## kill runs, flip bits, fill a disk, and see what holds; half an hour, or minutes with QUICK=1
	$(BIN)/python -m tests.stress $(if $(QUICK),--quick)

book: $(READY) ## build the book from published records alone: no data, no training
	$(BIN)/seqrec book

check-book: $(READY) ## open every page of the built book in a headless Chromium; screenshots in _build/screenshots
	$(BIN)/python tests/browser/check_book.py _build/html --screenshots _build/screenshots

pdf: $(READY) ## print the built book into one PDF in _build/release, by a headless Chromium
	$(BIN)/python -m tools.pdf

archive: $(READY) ## pack the built book for a release, with checksums, in _build/release
	$(BIN)/python -m tools.archive

evidence: $(READY) ## write down what the book's sentences rest on, after results were published
	$(BIN)/python -m seqrec_lib.report.chapters

readme: $(READY) ## rewrite the README's table of results from published records
	$(BIN)/python -m tools.readme

lab: $(READY) ## open JupyterLab on the page that says which notebook answers which question
	$(BIN)/jupyter lab notebooks --LabApp.app_settings_dir="$(CURDIR)/notebooks/lab" --LabApp.default_url=/lab/tree/README.md

lint: $(READY) ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## rewrite the code in the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY) ## resolve pyproject.toml again, rewrite both lock files and the list of licences
	$(BIN)/python tools/lock.py
	$(BIN)/python -m tools.licences

clean: ## remove what was built (not .venv, not .runs)
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis seqrec_lib.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
