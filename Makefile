# Everything runs in .venv, which the first target that needs it makes: the demo with what it needs, the rest with
# every extra and the tools of development beside.
PYTHON ?= python3
BIN := .venv/bin
PACKAGE := .venv/.package
DEVELOPMENT := .venv/.development
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint torture format clean

help:  ## list what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(PACKAGE)  ## a teacher makes a student, on Shakespeare: five to ten minutes on two cores
	$(BIN)/gemmule demo

test: $(DEVELOPMENT)  ## the whole test suite, two files at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(DEVELOPMENT)  ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

torture: $(DEVELOPMENT)  ## kill a run 30 times and damage its checkpoints 200 times: some minutes
	$(BIN)/python tests/torture.py

format: $(DEVELOPMENT)  ## let ruff format and mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment and caches; runs/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PACKAGE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e .
	touch $@

$(DEVELOPMENT): $(PACKAGE)
	$(INSTALL) -e '.[dev]'
	touch $@
