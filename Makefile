# Everything sets itself up: Python 3.11 or newer and make are all that a machine needs.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
READY := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help setup browser demo check format lint imports types fast slow test soak coverage bench snapshots docs pins clean

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with everything that constraints.txt pins

$(READY): constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Darkroom needs Python 3.11 or newer" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv \
		|| { echo "this Python has no venv; on Debian: apt install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --no-deps --require-hashes -r constraints.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)

browser: # The gallery is tested in a real one
	@command -v chromium chromium-browser google-chrome >/dev/null || .ci/install chromium

demo: setup ## Run the main job of every provider on the embedded sandbox
	$(BIN)/darkroom demo

check: format lint imports ## Format, lint, imports, types and the fast tests
	$(MAKE) -j2 types fast

fast: setup
	$(BIN)/pytest -q -n auto --dist loadfile -m "not slow and not soak"

slow: setup browser
	$(BIN)/pytest -m "slow and not soak"

format: setup
	$(BIN)/ruff format --quiet .

lint: setup
	$(BIN)/ruff check --quiet .

imports: setup
	$(BIN)/lint-imports --no-logo --no-cache

types: setup
	$(BIN)/pyright --pythonpath $(BIN)/python

test: setup browser ## Run every test
	$(MAKE) fast
	$(MAKE) slow

soak: setup ## Run 10,000 histories of faults, 200 kills, 100,000 calls and the fuzz targets for long
	$(BIN)/pytest -m soak

coverage: setup ## Run the fast tests and say which branches they miss
	$(BIN)/pytest -q -m "not slow and not soak" --cov --cov-report=term-missing:skip-covered

bench: setup ## Measure the numbers we hold ourselves to
	$(BIN)/python -m benchmarks

snapshots: setup ## Rewrite the snapshot of every tool
	$(BIN)/python -m tests.snapshots --write

docs: setup ## Rewrite what is made from code and results: parts of documents, plots
	$(BIN)/python -m tests.project.documents --write

pins: setup ## Resolve the dependencies anew into constraints.txt
	$(PYTHON) -m venv .cache/pins
	.cache/pins/bin/pip install --quiet uv
	.cache/pins/bin/uv pip compile --quiet --universal --upgrade --generate-hashes \
		--no-annotate --no-header --python-version 3.11 --extra http --extra s3 --extra tokens --group dev \
		pyproject.toml --output-file constraints.txt

clean: ## Remove what was made here
	rm -rf .venv .cache build dist demo-output .coverage .hypothesis .pytest_cache .ruff_cache
