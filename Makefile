# The words people type. Each works alone on a fresh clone; the first one makes .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo serve test chaos check bench clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## make .venv with everything in it (the other targets do so themselves)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Tailor needs Python 3.11 or newer, and '$(PYTHON)' is not: name one with 'make PYTHON=python3.11 ...'." >&2; \
		exit 1; }
	@echo "Making $(VENV) and installing what constraints.txt names: once, a few minutes."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,starter,embedded,demo,dev]'
	@touch $@

demo: $(INSTALLED)  ## fine-tune a real model on movie reviews through the API, in under three minutes
	@$(BIN)/python -m examples.demo

serve: $(INSTALLED)  ## run the whole service on this machine until Ctrl-C
	@$(BIN)/tailor up

test: $(INSTALLED)  ## run all tests
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadgroup --ignore tests/faults
	$(BIN)/pytest tests/faults

chaos: $(INSTALLED)  ## kill everything at random while jobs run, and judge what is left
	$(BIN)/pytest -m chaos tests/faults

check: $(INSTALLED)  ## style, types, import rules, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/pytest --quiet tests/test_migrations.py

bench: $(INSTALLED)  ## run the benchmarks
	$(BIN)/python -m benchmarks

clean:  ## remove .venv and caches; data directories stay
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
