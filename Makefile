PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=
BASE ?=
TESTS = pytest -n logical --maxprocesses 4 --dist loadfile $(ARGS)

.PHONY: help ablate test plain bench lint format docs clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

ablate: $(VENV)/.ready  ## install, then the main job on the embedded data: 30 trainings, a table, a plot
	$(BIN)/unept-bench ablate --grid N=4,16,64 L=1,3 --margin 1 $(ARGS)

test: $(VENV)/.ready lint  ## install, then ruff, mypy and the tests
	$(BIN)/$(TESTS)

plain: $(VENV)/.ready  ## the tests as they are on a machine without a compiler
	CXX=/nonexistent UNEPT_CACHE=$$(mktemp -d) $(BIN)/$(TESTS)

bench: $(VENV)/.ready  ## times beside another commit's, in turns: make bench BASE=COMMIT
	$(BIN)/python -m experiments.compare_commits $(BASE) $(ARGS)

docs: $(VENV)/.ready  ## write the records' verdicts from their rows, and the figures of the README and docs/ from them
	$(BIN)/python -m experiments.records
	$(BIN)/python -m experiments.docs

lint: $(VENV)/.ready  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.ready  ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment and the caches, never a study
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev,weights]'
	touch $@
