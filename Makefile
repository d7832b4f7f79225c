# On a new machine start with `make run` or `make test`.
.DEFAULT_GOAL := help
.PHONY: help run run-replicas test test-unit test-postgresql lint format bench bench-quick bench-peers soak docs console api-documents lock wheels clean programs

VENV := .venv
BIN := $(VENV)/bin
# Tests often wait for brokers and daemons, so more processes than cores are faster.
# asyncio's debug mode finds calls from the wrong thread. Daemons of a whole file and those whose disk or broker fails are
# in it; the others run on uvloop, as in production. It doubles the time of the code that tests run in their own process:
# `make soak` has that, and every daemon, in it, with a variable and the setting of pytest-asyncio.
PYTEST = $(BIN)/python -m pytest --numprocesses 6 --dist worksteal

# Node comes from the wheel that pyright uses; what npm starts finds it on the PATH.
NPM = $(BIN)/python scripts/npm.py --prefix web

# Hundreds of short processes would otherwise each compile the program again.
unexport PYTHONDONTWRITEBYTECODE

help:  ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/installed-run  ## Install the dependencies and start everything on this machine
	@$(BIN)/aliciacfg serve --dev

run-replicas: $(VENV)/installed-run  ## Start PostgreSQL, three daemons of one home and a load balancer on this machine
	@$(BIN)/python scripts/run_replicas.py

test: $(VENV)/installed-javascript web/node_modules/.installed programs  ## Install the test tools and run all tests
	$(PYTEST)

test-postgresql: $(VENV)/installed-javascript programs  ## Run the tests of whole daemons with their databases on PostgreSQL
	$(PYTEST) --database postgresql tests/end_to_end

test-unit: $(VENV)/installed-dev  ## Run the tests that need neither a broker nor a daemon
	$(PYTEST) --ignore tests/end_to_end --ignore tests/faults

lint: $(VENV)/installed-dev web/node_modules/.installed  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(NPM) run --silent check

format: $(VENV)/installed-dev web/node_modules/.installed  ## Fix style and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(NPM) run --silent format

console: web/node_modules/.installed  ## Build the console from web/ into the files that the daemon serves
	$(NPM) run --silent types -- src/api/types.ts
	$(NPM) run --silent shapes
	$(NPM) run --silent advice
	$(NPM) run --silent format
	$(NPM) run --silent build

bench: $(VENV)/installed-dev programs  ## Measure the daemon beside its limits and peers, and write docs/performance.md
	$(BIN)/python benchmarks/bench.py --document $(if $(SERVICES),--services $(SERVICES))

bench-quick: $(VENV)/installed-dev programs  ## The same in two minutes, with more noise; writes nothing
	$(BIN)/python benchmarks/bench.py --quick

bench-peers: $(VENV)/installed-dev  ## Install etcd, NATS and Redis for it (Debian packages, needs root), and the original
	@sh scripts/ensure-bench-peers $(VENV)/original requirements/original.txt

soak: $(VENV)/installed-javascript programs docs  ## Run the long tests: faults under load, random requests, floods
	@rm -f $(VENV)/trials.jsonl
	ALICIACFG_TRIALS=$(CURDIR)/$(VENV)/trials.jsonl $(BIN)/python -m pytest -m soak --timeout 3600
	$(BIN)/python scripts/write_reliability.py $(VENV)/trials.jsonl
	$(BIN)/python benchmarks/floods.py
	$(MAKE) test-postgresql
	PYTHONASYNCIODEBUG=1 $(BIN)/python -m pytest --numprocesses 4 --dist worksteal --hypothesis-profile many \
	  --override-ini asyncio_debug=true

docs: $(VENV)/docs/installed  ## Build the documentation's site in site/; a broken link is an error
	@$(VENV)/docs/bin/python scripts/build_site.py

api-documents: $(VENV)/installed-dev programs  ## Record examples; write docs/openapi.json, docs/asyncapi.json, the tables of docs/reference
	$(BIN)/python scripts/write_docs.py
	$(BIN)/python scripts/write_reference.py

# A test tool may bound a version, so the program's own dependencies are those that the tests ran with.
lock: $(VENV)/installed-dev  ## Update the locked versions of all dependencies
	cd requirements && for what in dev run; do \
	  extras="--extra embedded --extra postgres"; \
	  [ $$what = run ] && extras="$$extras --constraint dev.txt" || extras="$$extras --extra dev"; \
	  ../$(BIN)/uv pip compile ../pyproject.toml $$extras --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	    --no-emit-index-url --no-header --upgrade --quiet --output-file $$what.txt || exit 1; \
	done; \
	../$(BIN)/uv pip compile original.in --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	  --no-emit-index-url --no-header --upgrade --quiet --output-file original.txt; \
	../$(BIN)/uv pip compile --group ../pyproject.toml:docs --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	  --no-emit-index-url --no-header --upgrade --quiet --output-file docs.txt

wheels: $(VENV)/installed-dev  ## Build the wheels of aliciacfg and of aliciacfg-client into dist/
	$(BIN)/python -m hatchling build --target wheel --directory dist
	cd packaging/client && ../../$(BIN)/python -m hatchling build --target wheel --directory ../../dist

clean:  ## Remove everything that make installed or built; data/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .coverage .site .cache site dist

# A stamp records which lock file is installed; "dev" includes "run".
$(VENV)/installed-run: requirements/run.txt pyproject.toml
	@test -e $(VENV)/installed-dev || sh scripts/make-venv $(VENV) requirements/run.txt
	@touch $@

$(VENV)/installed-dev: requirements/dev.txt pyproject.toml
	@sh scripts/make-venv $(VENV) requirements/dev.txt
	@touch $@

# The generator has an environment of its own: tests do not need it, and it needs nothing of the daemon.
$(VENV)/docs/installed: requirements/docs.txt
	@sh scripts/make-venv $(VENV)/docs requirements/docs.txt --no-project
	@touch $@

# The packages of examples/node, for its test and those of interoperability, with the npm of pyright[nodejs].
$(VENV)/installed-javascript: $(VENV)/installed-dev examples/node/package-lock.json
	@mkdir -p $(VENV)/javascript
	@cp examples/node/package.json examples/node/package-lock.json $(VENV)/javascript
	@echo "Installing examples/node/package-lock.json into $(VENV)/javascript"
	@$(BIN)/python scripts/npm.py ci --prefix $(VENV)/javascript --ignore-scripts --no-audit --no-fund --loglevel error >/dev/null
	@touch $@

# What the console is built from and with. The built files are committed, so that only a change of web/ needs this.
web/node_modules/.installed: $(VENV)/installed-dev web/package-lock.json
	@echo "Installing web/package-lock.json into web/node_modules"
	@$(NPM) ci --ignore-scripts --no-audit --no-fund --loglevel error >/dev/null
	@touch $@

programs:
	@sh scripts/ensure-test-programs
