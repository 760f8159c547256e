PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# uv installs faster than pip; `make UV= ...` uses only pip.
UV ?= $(shell command -v uv)

.PHONY: check lint types contracts test quick test-slow fuzz demo claims docs clean

# The environment is rebuilt whenever requirements.txt changes. pip always installs torch: uv does not read pip's settings, so
# it would download gigabytes of CUDA even if pip is configured for a CPU build.
$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv --clear $(VENV)
ifneq ($(UV),)
	$(BIN)/python -m pip install --quiet $$(grep "^torch==" requirements.txt)
	-$(UV) pip install --quiet --python $(BIN)/python --requirement requirements.txt
endif
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# The tests of a file share fixtures, so they stay in one process.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(PARALLEL)

# Tests that need no separate process, no server and no network: under a minute.
quick: $(VENV)/.installed
	$(BIN)/python -m pytest $(PARALLEL) -m "not heavy"

# The checks that a change must pass before review.
check: lint types contracts quick

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed
	$(BIN)/mypy

contracts: $(VENV)/.installed
	$(BIN)/lint-imports

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/.installed
	$(BIN)/python -m pytest tests/system/test_hostile_lines.py tests/system/test_damaged_folders.py \
		--hostile-lines 10000 --damaged-folders 1000 --timeout 0

demo: $(VENV)/.installed
	$(BIN)/python -m examples.demo

# The paper's claims at a small scale: about two hours on two cores.
claims: $(VENV)/.installed
	$(BIN)/python -m examples.claims

# Generates docs/configuration.md and the JSON schemas for editors from the configurations' fields.
docs: $(VENV)/.installed
	$(BIN)/python -m docs.reference
	$(BIN)/python -m schemas schema pipeline > pipeline/config.schema.json
	$(BIN)/python -m schemas schema trainer > trainer/config.schema.json
	$(BIN)/python -m schemas schema evaluation > trainer/evaluation/config.schema.json

clean:
	rm -rf $(VENV) demo claims build mergedistill.egg-info
