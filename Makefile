# Everything a checkout can do; nothing is written outside it and the user's cache.
# `make run` is the challenge's whole job on the embedded model, `make test` passes every test; both set up .venv first.
# Paths in rules are relative, and tools run as `.venv/bin/python -m ...`, so that a space in the checkout's path is no trouble.

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV ?= .venv
LOCK ?= requirements.lock
PY := $(VENV)/bin/python
# The first of these that can make a venv does; `make PYTHON=/some/python3.12` decides.
PYTHON ?= python3 python3.12 python3.11 python3.13 python3.10
# The scorer's classes. Its metadata demands torchvision and transformers < 5, its code neither.
SCORER := simple-aesthetics-predictor==0.1.2
# A venv is ready when it was made from these very files, in this very place.
STAMP := $(VENV)/ready-$(shell (cat $(LOCK) pyproject.toml; echo "$(SCORER) $$PWD") | cksum | cut -d' ' -f1)

export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export IPYTHONDIR := $(CURDIR)/.cache/ipython
export JUPYTER_CONFIG_DIR := $(CURDIR)/.cache/jupyter/config
export JUPYTER_DATA_DIR := $(CURDIR)/.cache/jupyter/data
export JUPYTER_RUNTIME_DIR := $(CURDIR)/.cache/jupyter/runtime
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help setup run test test-unit test-notebooks test-gpu bars data lock lint wheel clean

help:  ## these lines
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## make .venv from the lock

$(STAMP):
	$(eval FOUND := $(shell bash .ci/find_python $(PY) $(PYTHON)))
	$(if $(filter ok:%,$(FOUND)),,$(error $(FOUND)))
	@[ "$(FOUND)" = "ok:$(PY)" ] || $(FOUND:ok:%=%) -m venv --clear $(VENV)
	@echo "Setting up $(VENV) from $(LOCK); the first time takes a few minutes."
	@$(PY) -m pip install --quiet --requirement $(LOCK)
	@$(PY) -m pip install --quiet --no-deps $(SCORER)
	@$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/ready-* && touch $@

run: $(STAMP)  ## the whole job on the embedded model -> runs/baseline/report.html
	@$(PY) -m kolors_lab baseline --preset tiny --out runs/baseline

test: test-unit test-notebooks  ## every test, the notebooks too

test-unit: $(STAMP)
	@$(PY) -m pytest -q

test-notebooks: $(STAMP)
	@$(PY) -m pytest -q --nbval notebooks

bars: $(STAMP)  ## measure the embedded models and the default LoRA: name value bar
	@$(PY) data/make/bars.py

data: $(STAMP)  ## draw the sets and train the embedded models anew (hours)
	@$(PY) data/make/build.py

lint: $(STAMP)  ## ruff
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

clean:  ## remove what make made, runs/ excepted
	rm -rf .venv .venv-older .cache dist build .pytest_cache .ruff_cache
