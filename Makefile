# Every command of the repository; `make help` lists them. A command does the set-up that it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
REQUIREMENTS := requirements/dev.txt
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: help demo test check serve bench soak docs requirements clean format

help: ## List the commands.
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 16

$(STAMP): $(REQUIREMENTS) server/pyproject.toml client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	@echo "setting up $(VENV): about two minutes and 1.1 GB, once"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r $(REQUIREMENTS)
	@$(PIP) --no-deps --no-build-isolation -e server -e client
	@touch $@

demo: $(STAMP) ## Set up, then walk the main job: queue offline, sync, open and print offline.
	$(BIN)/document-service demo

# The whole suite runs in one process more than there are cores, for tests wait a third of their time; each has a service
# of its own. The longest files come first (tests/longest_first.py). What is named by hand runs in one process.
PROCESSES = $(shell $(PYTHON) -c 'import os; print(min(len(os.sched_getaffinity(0)) + 1, 4))')
test: $(STAMP) ## Set up, then run every test that this machine can (TESTS=path for some of them).
	@scripts/install-engines clamd cups qpdf pdfbox openid-provider || true
	$(BIN)/python -m pytest -q $(or $(TESTS),-n $(PROCESSES) --dist loadfile --no-loadscope-reorder)

check: $(STAMP) ## Formatting, lint, strict types, import rules, docs and OpenAPI in step with the code.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_docs.py

format: $(STAMP) ## Format the code and mend what lint can mend.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

serve: $(STAMP) ## Run the service on this machine (port 3020, embedded engines, local issuer).
	$(BIN)/document-service serve --data-dir $(VENV)/serve

docs: $(STAMP) ## Write docs/openapi.json and the generated tables of docs/.
	$(BIN)/python scripts/check_docs.py --write

bench: $(STAMP) ## Measure; results go to standard output as ratios (docs/benchmarks.md holds the last ones).
	$(BIN)/python -m bench

soak: $(STAMP) ## Long runs: simulated seeds, planted bugs, schedules, kills (SOAK="--minutes 60" limits the seeds).
	@test -e tests/simulation/soak.py || { echo "the simulation is not there yet"; exit 69; }
	$(BIN)/python -m tests.simulation --soak $(SOAK)
	SOAK_MIDDLE=1 $(BIN)/python -m pytest -q -n $(PROCESSES) tests/unit/test_client_in_the_middle.py
	POWER_CUTS=200 SCHEMATHESIS_EXAMPLES=50 DOCUMENTS_FEED_ROWS=100000 $(BIN)/python -m pytest -q tests/flows/test_power_cuts.py tests/flows/test_openapi_conformance.py tests/flows/test_long_poll.py

requirements: ## Compile requirements/*.in to hashed requirements/*.txt (needs $(VENV)).
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header -o requirements/server.txt requirements/server.in
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header -o requirements/client.txt requirements/client.in
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header -o requirements/dev.txt requirements/dev.in

clean: ## Remove what the commands above made.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
