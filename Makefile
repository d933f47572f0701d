# Two commands matter: `make repro` and `make test`. Each makes the environment if it is not there.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PROFILE ?= smoke
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help env repro test lab profile check fetch search trace verify bench bench-quick lint format lock

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(VENV)/.installed  ## the virtual environment, from requirements.lock

$(VENV)/.installed: requirements.lock requirements-nodeps.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; the project needs Python 3.11 (or: make PYTHON=/path/to/python3.11 ...)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "$(PYTHON) is not Python 3.11, for which requirements.lock was made" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-nodeps.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

repro: env  ## regenerate every run, table and figure of the active profile, and the report
	$(BIN)/dvc repro
	@echo "The report: $(abspath reports)/$$(sed -n 's/^profile: *//p' params.yaml)/html/index.html"

test: env  ## the tests
	$(BIN)/python -m pytest

lab: env  ## JupyterLab, opened at the interactive notebook
	$(BIN)/jupyter lab notebooks/00_explore.ipynb

profile: env  ## make PROFILE the active one: make profile PROFILE=smoke
	$(BIN)/python -m vecaf_lib.pipeline.profile $(PROFILE)

check: env  ## is all at hand that PROFILE needs: make check PROFILE=cifar10-cpu
	$(BIN)/python -m vecaf_lib.pipeline.check $(PROFILE)

fetch: env  ## fetch and verify what PROFILE needs, or the images of DATASET=caltech101 alone
	env -u HF_HUB_OFFLINE -u TRANSFORMERS_OFFLINE $(BIN)/python -m $(if $(DATASET),vecaf_lib.datasets.fetch $(DATASET),vecaf_lib.pipeline.fetch $(PROFILE))

search: env  ## try the settings of profiles/search/PROFILE.yaml on the validation split
	$(BIN)/python -m vecaf_lib.pipeline.search $(PROFILE) $(ROUNDS)

trace: env  ## where a number comes from: make trace ID=table1/vecaf/multi/r5
	$(BIN)/python -m vecaf_lib.pipeline.trace $(ID)

verify: env  ## regenerate a table in a scratch folder and compare: make verify TABLE=table6
	$(BIN)/python -m vecaf_lib.pipeline.verify $(TABLE)

bench: env  ## selection beside plain autograd and at the size of ImageNet; an hour, two idle cores
	$(BIN)/python benchmarks/selection_engine.py
	$(BIN)/python benchmarks/selection_scale.py

bench-quick: env  ## the first three rows of bench, in one to two minutes
	$(BIN)/python benchmarks/selection_engine.py --quick

lint: env  ## ruff, formatting, types, notebooks without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify notebooks/*.ipynb

format: env  ## let ruff and nbstripout mend what they can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout notebooks/*.ipynb

lock: pyproject.toml  ## resolve pyproject.toml anew into requirements.lock (in a scratch environment)
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet --disable-pip-version-check '.[dev]'
	{ echo '# Made by `make lock` from pyproject.toml, Python 3.11; do not edit.'; \
	  .venv-lock/bin/pip freeze --exclude vecaf | sed -E 's/^(torch==[0-9.]+)[+]cpu$$/\1/'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf .venv-lock

