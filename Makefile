PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: test quick test-slow fuzz demo docs clean

# The environment is made anew whenever requirements.txt changes.
$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

# A file's tests share their fixtures, so they stay in one process.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(PARALLEL)

# What needs no process of its own, no server and no network: under a minute.
quick: $(VENV)/.installed
	$(BIN)/python -m pytest $(PARALLEL) -m "not heavy"

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/.installed
	$(BIN)/python -m pytest tests/system/test_hostile_lines.py tests/system/test_damaged_folders.py \
		--hostile-lines 10000 --damaged-folders 1000 --timeout 0

demo: $(VENV)/.installed
	$(BIN)/python -m examples.demo

# docs/configuration.md, from the configurations' fields.
docs: $(VENV)/.installed
	$(BIN)/python -m docs.reference

clean:
	rm -rf $(VENV) demo
