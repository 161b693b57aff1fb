# `make run` and `make test` do everything, set-up included; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find acil scenarios strategies cli -name '*.py')

.PHONY: run test test-slow lint clean

run: $(VENV)/installed
	$(BIN)/acil run --phases 25

test: $(VENV)/installed-for-development lint
	$(BIN)/pytest -m "not slow"

test-slow: $(VENV)/installed-for-development
	$(BIN)/pytest -m slow

lint: $(VENV)/installed-for-development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p acil

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The package is installed, not linked: what is tested is what a user gets.
$(VENV)/installed: $(VENV)/bin/python pyproject.toml $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check .
	touch $@

$(VENV)/installed-for-development: $(VENV)/bin/python pyproject.toml $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[dev]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build *.egg-info
