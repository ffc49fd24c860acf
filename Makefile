# `make run` shows it, `make test` proves it, `make check` is all that must pass.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: run test check lint types docs bench coverage clean

run: $(READY)  ## the showcase on http://127.0.0.1:8000
	$(BIN)/uvicorn examples.showcase:app --port 8000 --timeout-graceful-shutdown 1

test: $(READY)  ## all tests, with branch coverage of the package
	$(BIN)/coverage erase
	$(BIN)/python -bb -m coverage run -m pytest
	$(BIN)/coverage report

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes wsgi_asgi --ignoreexternal

docs: $(READY)
	$(BIN)/sphinx-build -n -W --keep-going -q docs docs/_build

check: lint types docs test

bench: $(READY)  ## requests a second against the other adapters, as ratios
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv docs/_build .coverage .mypy_cache .pytest_cache .ruff_cache

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable . --group dev
	touch $(READY)
