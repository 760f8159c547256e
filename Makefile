PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: test test-slow fuzz demo docs clean

# The environment is made anew whenever requirements.txt changes.
$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

test: $(VENV)/.installed
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/.installed
	$(BIN)/python -m pytest tests/system --hostile-lines 10000 --damaged-folders 1000

demo: $(VENV)/.installed
	$(BIN)/python -m examples.demo

# docs/configuration.md, from the configurations' fields.
docs: $(VENV)/.installed
	$(BIN)/python -m docs.reference

clean:
	rm -rf $(VENV) demo
