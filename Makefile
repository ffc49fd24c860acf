# `make run` shows it, `make test` proves it, `make check` is all that must pass.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: run test test-rules test-servers check lint types docs lowest suite conformance conformance-selftest bench clean

run: $(READY)  ## the showcase on http://127.0.0.1:8000
	$(BIN)/uvicorn examples.showcase:app --port 8000 --timeout-graceful-shutdown 1

test: $(READY)  ## all tests, with branch coverage of the package
	$(BIN)/coverage erase
	$(MAKE) --jobs=2 --output-sync=target test-rules test-servers
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Two halves at a time, since tests wait for servers and clocks most of the time.
test-rules: $(READY)
	$(BIN)/python -bb -m coverage run --parallel-mode -m pytest -m "not integration"

test-servers: $(READY)
	$(BIN)/python -bb -m coverage run --parallel-mode -m pytest -m integration

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes wsgi_asgi --ignoreexternal

docs: $(READY)
	$(BIN)/sphinx-build -n -W --keep-going -q docs docs/_build

lowest: .venv-lowest/.ready  ## what asgiref and typing-extensions decide, on the lowest versions
	.venv-lowest/bin/python -bb -m pytest -q tests/test_http_context.py \
		tests/test_http_threads.py tests/test_bridge.py tests/test_lifespan.py

check: lint types docs test suite conformance-selftest lowest

suite: $(READY)  ## the specifications, clause by clause, on our adapter, on each loop
	$(BIN)/python -m conformance --strict
	$(BIN)/python -m conformance --strict --loop trio

FOUND := docs/_build/conformance
PAGE := docs/reference/conformance

conformance: $(READY)  ## the pages about all adapters, written from a run of some minutes
	mkdir -p $(FOUND) && rm -f $(FOUND)/*
	-$(BIN)/python -m conformance --all --json $(FOUND)/in-process.json
	-$(BIN)/python -m conformance --live --json $(FOUND)/live.json
	$(BIN)/python -m conformance.report --json $(FOUND)/in-process.json \
		--live $(FOUND)/live.json --markdown $(PAGE).md --html $(PAGE).html

conformance-selftest: $(READY)  ## that the suite can fail: faults sown into our adapter
	$(BIN)/python -m conformance.selftest

bench: $(READY)  ## ratios to the other adapters and servers, in ten minutes; OPTIONS=--quick
	$(BIN)/python -m benchmarks $(OPTIONS)

clean:
	rm -rf .venv .venv-lowest docs/_build .coverage .mypy_cache .pytest_cache .ruff_cache

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable . --group dev
	touch $(READY)

FLOORS = import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*(d.replace(">=", "==") for d in p["dependencies"]))

.venv-lowest/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --upgrade pip
	.venv-lowest/bin/pip install --quiet --editable . uvloop flask --group test --group clients \
		$$($(PYTHON) -c '$(FLOORS)')
	touch .venv-lowest/.ready
