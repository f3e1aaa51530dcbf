# The verbs of this repository. `make` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run-$(shell cat requirements/run.lock pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)
DEV_STAMP := $(VENV)/.dev-$(shell cat requirements/dev.lock pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo test check cluster conformance bench docs lock

help: ## list the verbs
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Stellwerk needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1): set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "python3 -m venv does not work: on Debian and Ubuntu install python3-venv"; exit 1; }

$(RUN_STAMP): $(VENV)/bin/python
	@echo "installing what the gateway needs into $(VENV) ..."
	@$(PIP) --require-hashes -r requirements/run.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.run-*; touch $@

$(DEV_STAMP): $(VENV)/bin/python
	@echo "installing what tests and checks need into $(VENV) ..."
	@$(PIP) --require-hashes -r requirements/dev.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.dev-* $(VENV)/.run-*; touch $@ $(RUN_STAMP)

setup: $(DEV_STAMP) ## make .venv with everything in it

demo: $(RUN_STAMP) ## model servers, gateway and traffic on this machine; ONCE=1 checks itself and exits
	@$(BIN)/stellwerk demo $(if $(ONCE),--once)

test: $(DEV_STAMP) ## all tests: units in seconds, then the integration tests on real Envoy
	@$(BIN)/python -m pytest -m "not integration"
	@$(BIN)/python -m pytest -m integration

check: $(DEV_STAMP) ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

cluster: $(DEV_STAMP) ## a Kubernetes cluster on this machine, to play with (Linux, root, Go)
	@$(BIN)/python -m tests.cluster up

conformance: $(DEV_STAMP) ## the suites of the inference extension and of the Gateway API; writes docs/conformance
	@$(BIN)/python -m tests.cluster conformance $(CONFORMANCE)

bench: $(DEV_STAMP) ## measure, and write docs/performance.md
	@$(BIN)/python -m bench

docs: $(DEV_STAMP) ## regenerate the generated parts of the documentation and of deploy/
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m deploy.generate

lock: $(DEV_STAMP) ## pin the newest versions with hashes (needs the network)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml --extra build --output-file requirements/run.lock --upgrade
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml --extra build --extra dev -c requirements/run.lock --output-file requirements/dev.lock --upgrade
