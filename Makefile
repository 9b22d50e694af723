# Everything goes through here; `make` alone lists the commands.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help demo up test soak check audit fmt lock bench clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

demo: $(INSTALLED) ## the main job from end to end, on servers of its own (FILE=path.tif takes your raster)
	$(BIN)/aerotask demo $(if $(FILE),--file '$(FILE)')

up: $(INSTALLED) ## the whole stack in the foreground (PORT=8000 DATA=var/up WORKERS=1)
	$(BIN)/aerotask up --port $(or $(PORT),8000) --data '$(or $(DATA),var/up)' --workers $(or $(WORKERS),1)

test: $(INSTALLED) ## the whole suite, on servers of its own
	$(BIN)/pytest -n auto --dist loadgroup

soak: $(INSTALLED) ## mixed load with random kills, freezes and outages (MINUTES=20 SEED=42)
	AEROTASK_SOAK_MINUTES=$(or $(MINUTES),20) AEROTASK_SOAK_SEED=$(or $(SEED),42) $(BIN)/pytest -n 0 -s tests/soak.py

check: $(INSTALLED) ## format, lint, types, import contracts, lock files, deployment files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python deploy/check_locks.py
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.renovate .github/renovate.json
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/ci.yml

audit: $(INSTALLED) ## known vulnerabilities of the locked dependencies (asks PyPI)
	$(BIN)/pip-audit --requirement deploy/requirements.lock --require-hashes --disable-pip --strict

fmt: $(INSTALLED) ## repair what can be repaired
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/python deploy/env_example.py > .env.example.new && mv .env.example.new .env.example

bench: $(INSTALLED) ## the benchmarks, each with its peers (takes long)
	benchmarks/run

lock: $(INSTALLED) ## resolve the dependencies again and write the lock files
	deploy/lock

# As root, a stack may keep links to Postgres's programs (and did keep its database) in the folder that `outside-home` names.
clean: ## remove what the other commands made
	@for named in var/*/outside-home; do \
	    if [ -f "$$named" ]; then outside=$$(head -n 1 "$$named"); \
	        case "$${outside#/var/tmp/aerotask-}" in "$$outside"|*[!0-9a-f]*|"") ;; *) rm -rf "$$outside" ;; esac; \
	    fi; done
	rm -rf .venv var dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# uv when it can be had, else pip: both install only what the lock's hashes allow.
$(INSTALLED): requirements.lock deploy/tools.lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Aerotask needs Python 3.11 or newer; say which with PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv …"
	@$(BIN)/python -m pip --disable-pip-version-check install -q --require-hashes -r deploy/tools.lock.txt \
	    && $(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock \
	    || $(BIN)/python -m pip --disable-pip-version-check install -q --require-hashes -r requirements.lock
	@$(BIN)/python -m pip --disable-pip-version-check install -q --no-deps --no-index --no-build-isolation -e .
	@touch $@
