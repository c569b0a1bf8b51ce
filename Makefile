# `make run` does the challenge's whole job on the embedded model, `make test` passes every test; both set up .venv first.
# Nothing is written outside the checkout and the user's cache. Paths in rules are relative, and tools run as
# `.venv/bin/python -m ...`, so that a space in the checkout's path is no trouble.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help
VENV ?= .venv
LOCK ?= requirements.lock
PY := $(VENV)/bin/python
# The first of these that can make a venv does; `make PYTHON=/some/python3.12` decides.
PYTHON ?= python3 python3.12 python3.11 python3.13 python3.10
# Tests run two at a time, each on one thread: on two cores that is quicker than one after the other on both.
THREADS ?= 1
PYTEST = OMP_NUM_THREADS=$(THREADS) $(PY) -m pytest -q --numprocesses 2 --dist loadfile
# The scorer's classes. Its metadata demands torchvision and transformers < 5, its code neither.
SCORER := simple-aesthetics-predictor==0.1.2
# A venv is ready when it was made from these files in this place.
STAMP := $(VENV)/ready-$(shell (cat $(LOCK) pyproject.toml; echo "$(SCORER) $$PWD") | cksum | cut -d' ' -f1)

# uv where it is there: ten times as quick, and it takes the torch that fits the GPU or the CPU by itself. `make TORCH=cpu`
# decides (or cu126 …), without uv too: the lock's uv then fetches torch, pip all else. TORCH= leaves it to the index in use.
TORCH ?= $(if $(HAS_UV),auto)
HAS_UV := $(shell command -v uv)
INSTALL := $(if $(HAS_UV),uv pip install --python $(PY),$(PY) -m pip install --no-compile --use-pep517)
LOCKED = $(INSTALL) --no-build-isolation --requirement $(LOCK)
BACKEND = $(if $(TORCH),--torch-backend=$(TORCH))
# Of what pip and uv say while they install: how far it is, and errors; a mirror's warnings are not for a learner.
SHOW := awk '/^Collecting/ {printf "\r%d packages", ++n; fflush()} /^(Resolved|Downloading|Prepared|Installed) / {print; fflush()} \
	/^ *ERROR|^error|×/ {bad = 1} bad {print} END {if (n) print ""}'

export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export IPYTHONDIR := $(CURDIR)/.cache/ipython
export JUPYTER_CONFIG_DIR := $(CURDIR)/.cache/jupyter/config
export JUPYTER_DATA_DIR := $(CURDIR)/.cache/jupyter/data
export JUPYTER_RUNTIME_DIR := $(CURDIR)/.cache/jupyter/runtime
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false
# Stored outputs of notebooks are compared, so they speak both languages wherever they are run.
test test-unit test-notebooks notebooks: export KOLORS_LAB_LANG = both

.PHONY: help setup run test test-unit test-notebooks test-portable test-gpu fuzz notebooks texts site bars full-size data lock lint wheel clean

help:  ## these lines
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## make .venv from the lock

# The lock's own pip first: old ones take minutes longer.
# --no-compile: what is never imported is never compiled.
# --no-build-isolation: the four packages that have no wheel are built with the locked setuptools, not the newest.
$(STAMP):
	$(eval FOUND := $(shell bash .ci/find_python $(wildcard $(PY)) $(PYTHON)))
	$(if $(filter ok:%,$(FOUND)),,$(error $(FOUND)))
	@[ "$(FOUND)" = "ok:$(PY)" ] || "$(FOUND:ok:%=%)" -m venv --clear $(VENV)
	@echo "Setting up $(VENV) from $(LOCK); the first time takes a few minutes."
	@$(PY) -m pip install -qq --requirement <(grep -E '^(pip|setuptools)==' $(LOCK))
	@$(if $(HAS_UV),,$(if $(TORCH),$(PY) -m pip install -qq $$(grep '^uv==' $(LOCK)) && \
	$(PY) -m uv pip install --python $(PY) $(BACKEND) $$(grep '^torch==' $(LOCK)) 2>&1 | $(SHOW)))
	@$(if $(and $(HAS_UV),$(TORCH)),$(LOCKED) $(BACKEND) 2>&1 | $(SHOW) || echo "PyTorch's own index does not serve: torch from the one in use")
	@$(LOCKED) 2>&1 | $(SHOW)
	@$(INSTALL) -q --no-deps $(SCORER) 2>&1 | $(SHOW)
	@$(INSTALL) -q --no-deps --no-build-isolation --editable . 2>&1 | $(SHOW)
	@rm -f $(VENV)/ready-* && touch $@

# At strength 1 outlines grow heavy and the practice score falls (6.12); at 0.7 the style is there too (6.42, the base 6.40).
run: $(STAMP)  ## the whole job on the embedded model -> runs/baseline/report.html
	@$(PY) -m kolors_lab baseline --preset tiny --out runs/baseline --lora_strength 0.7

test: export CUDA_VISIBLE_DEVICES =
test: test-unit test-notebooks  ## every test, the notebooks too, on the CPU

test-gpu: $(STAMP)  ## the same on CUDA
	@if $(PY) -c 'import sys; from kolors_lab.models.device import pick_device; sys.exit(pick_device().type != "cuda")'; \
	then $(MAKE) --no-print-directory test-unit test-notebooks; \
	else echo "No CUDA device that computes: nothing was tested"; fi

test-unit: $(STAMP)
	@$(PYTEST)

# --nbval compares each cell's output with the stored one; --nbval-current-env: this venv, whatever kernel a notebook names.
# Copies, so that every notebook begins in an empty folder and a learner's own notebooks/runs stays as it is.
test-notebooks: $(STAMP)
	@rm -rf .cache/notebooks && mkdir -p .cache/notebooks && cp notebooks/*.ipynb .cache/notebooks
	@$(PYTEST) --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg -p tests.nbval_pictures .cache/notebooks

fuzz: export FUZZ = 2000
fuzz: export OMP_NUM_THREADS = $(THREADS)
fuzz: $(STAMP)  ## ten minutes of files that nobody would write, at random, for every reader
	@end=$$((SECONDS + 600)); while [ $$SECONDS -lt $$end ]; do \
	timeout $$((end - SECONDS + 60)) $(PY) -m pytest -q -x tests/test_fuzz.py -p no:cacheprovider -n 2 --dist load; \
	code=$$?; [ $$code = 0 ] || [ $$code = 124 ] || exit $$code; done

test-portable: export CUDA_VISIBLE_DEVICES =
test-portable: $(STAMP)  ## all notebooks on a preset that is not tiny: 256 px, random weights, batches of one
	@$(PY) benchmarks/portable.py

notebooks: export CUDA_VISIBLE_DEVICES =
notebooks: $(STAMP)  ## run all notebooks from clean, on the CPU, and store their outputs
	@$(PY) .ci/store_notebooks.py

texts: $(STAMP)  ## bring the catalogues of texts up to date with the code, and name what lacks its translation
	@$(PY) .ci/texts.py

# Sphinx is in the extra `site` alone: make takes it from there when it is missing.
site: $(STAMP)  ## the course as pages to read, both languages -> build/site/index.html
	@$(PY) -c 'import myst_nb, sphinx_book_theme' 2>/dev/null || $(INSTALL) -q --editable '.[site]'
	@$(PY) .ci/site.py

bars: $(STAMP)  ## measure the embedded models and the default LoRA: name value bar
	@$(PY) data/make/build.py bars

# By hand only: 20 GB of disk; FULL_SIZE names another folder for them, SHAPES=small rehearses in a minute.
FULL_SIZE ?= .cache/full-size/kolors
SHAPES ?= full
full-size: $(STAMP)  ## Kolors' full shapes with random weights: train, resume, draw, score, doctor against the plan
	@mkdir -p $(dir $(FULL_SIZE))
	@$(PY) benchmarks/full_size_check.py $(FULL_SIZE) --shapes $(SHAPES) --size $(if $(filter small,$(SHAPES)),128,512)

data: $(STAMP)  ## draw the sets and train the embedded models anew (hours)
	@$(PY) data/make/build.py

# One lock for every Python and system. What torch's CUDA builds need is left out: torch's own metadata names it where it is
# wanted, and the CPU build where pip is set up with one must not bring it along. Torch itself is pinned exactly for that reason.
COMPILE = $(PY) -m uv pip compile pyproject.toml --universal --python-version 3.10 --extra dev --extra make-data \
	--no-annotate --no-header --quiet --upgrade --constraint /dev/stdin | grep -vE '^(nvidia-|cuda-|triton)'
NEWER := torch==2.13.0
OLDER := torch==2.13.0 transformers==4.57.6 diffusers==0.39.0 huggingface-hub==0.36.2

lock: $(STAMP)  ## resolve both locks anew from pyproject.toml
	@mkdir -p .cache
	@set -o pipefail; printf '%s\n' $(NEWER) | $(COMPILE) > .cache/lock && mv .cache/lock requirements.lock
	@set -o pipefail; printf '%s\n' $(OLDER) | $(COMPILE) > .cache/lock && mv .cache/lock requirements-older.lock

lint: $(STAMP)  ## ruff, the floors, the types of the public front
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .
	@$(PY) -c 'from importlinter.cli import lint_imports_command as check; check()'
	@$(PY) -m mypy

wheel: $(STAMP)  ## dist/*.whl, the embedded models inside
	@$(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean:  ## remove what make made, runs/ excepted
	rm -rf .venv .venv-older .cache dist build .pytest_cache .ruff_cache
