# Two commands matter: `make repro` and `make test`. Each makes the environment if it is not there.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PROFILE ?= smoke
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
export PATH := $(abspath $(BIN)):$(PATH)

# A user without a name, as in some containers, and Jupyter's and matplotlib's settings of others.
export USER ?= $(shell id -u)
unexport JUPYTER_PATH MPLBACKEND PYTHONSTARTUP

.DEFAULT_GOAL := help
.PHONY: help env repro test lab profile check fetch search trace verify compare site bench bench-quick lint format lock

help:  ## this list, in a second
	@awk -F ':.*## ' '/^## /{print "\n" substr($$0, 4)} /^[a-z-]+:.*## /{printf "  %-13s%s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@if [ -x $(BIN)/python ]; then echo; $(BIN)/python tests/counts.py; fi

## Reproduce
repro: env  ## every run, table, figure and page of the active profile; smoke: 8 minutes on two cores
	@git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/dvc config --local core.no_scm true
	@$(BIN)/dvc repro
	@name=$$(tr -d '"' < data/generated/settings/profile.json); \
	echo "The report: $(CURDIR)/reports/$$name/README.md"; \
	echo "As pages:   $(CURDIR)/data/generated/site/$$name/index.html"
	@$(BIN)/vecaf compare || true

lab: env  ## JupyterLab, opened at the interactive notebook, in seconds; every notebook runs by hand
	$(BIN)/jupyter lab notebooks/00_explore.ipynb

site: env  ## the pages of the active profile again, in seconds
	@$(BIN)/vecaf site data/generated/site/{profile}

## Another profile
profile: env  ## make PROFILE the active one, in seconds: make profile PROFILE=cifar10-cpu
	@$(BIN)/vecaf profile $(PROFILE) && echo "params.yaml is now profile $(PROFILE)"

check: env  ## is all at hand that PROFILE needs, in seconds
	@$(BIN)/vecaf check $(PROFILE)

fetch: env  ## fetch and verify what PROFILE needs, or the images of DATASET=caltech101 alone; minutes
	@env -u HF_HUB_OFFLINE -u TRANSFORMERS_OFFLINE $(BIN)/vecaf fetch $(if $(DATASET),--dataset $(DATASET),$(PROFILE))

search: env  ## try the active profile's settings in profiles/search/ on the validation split; smoke: 1 minute
	@$(BIN)/vecaf settings params.yaml data/generated/settings
	@$(BIN)/vecaf execute notebooks/05_search.ipynb data/generated/{profile}/search.ipynb \
	  -p output=reports/{profile}/search.csv -p rounds="$(ROUNDS)"

## Audit and measure
trace: env  ## where it comes from, in seconds: make trace ID=table1/vecaf/multi/r5
	@$(BIN)/vecaf trace $(ID)

verify: env  ## make a table again in a scratch folder and compare, in seconds: make verify TABLE=table6
	@$(BIN)/vecaf verify $(TABLE)

compare: env  ## which runs and means differ from the active profile's reference, in seconds
	@$(BIN)/vecaf compare --list

bench: $(VENV)/.bench  ## selection beside what people use, a frozen trunk's gain, PROFILE's descent; hours
	$(BIN)/python benchmarks/selection.py
	$(BIN)/python benchmarks/trainable_speed.py
	$(BIN)/python benchmarks/descent_agreement.py $(PROFILE)

bench-quick: $(VENV)/.bench  ## a part of the first, in two minutes
	$(BIN)/python benchmarks/selection.py --quick

$(VENV)/.bench: $(VENV)/.installed
	$(PIP) -c requirements.lock --editable '.[bench]'
	touch $@

## Develop
env: $(VENV)/.installed  ## the virtual environment, from requirements.lock; 3 minutes

$(VENV)/.installed: requirements.lock requirements-nodeps.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; the project needs Python 3.11 (or: make PYTHON=/path/to/python3.11 ...)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "$(PYTHON) is not Python 3.11, for which requirements.lock was made" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make a virtual environment; install the package python3.11-venv" >&2; exit 1; }
	@mkdir -p $(VENV) 2>/dev/null && test -w $(VENV) -a -w . || { echo "$(CURDIR) and $(abspath $(VENV)) must be folders that you can write; copy the project to your own (or: make VENV=/path/to/your/environment ...)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.lock
	$(PIP) --no-deps -r requirements-nodeps.lock
	$(PIP) --no-deps --editable .
	touch $@

test: env  ## the tests; 6 minutes on two cores
	$(BIN)/python -m pytest

lint: env  ## ruff, formatting, types, notebooks without outputs; a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify notebooks/*.ipynb

format: env  ## let ruff and nbstripout mend what they can, in seconds
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout notebooks/*.ipynb

lock: pyproject.toml  ## resolve pyproject.toml anew into requirements.lock, in a scratch environment; 2 minutes
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet --disable-pip-version-check '.[pipeline,site,dev]'
	{ echo '# Made by `make lock` from pyproject.toml, Python 3.11; do not edit.'; \
	  .venv-lock/bin/pip freeze --exclude vecaf | sed -E 's/^(torch==[0-9.]+)[+]cpu$$/\1/'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf .venv-lock
