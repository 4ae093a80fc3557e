# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the others.

VENV := .venv
PYTHON_BIN := $(CURDIR)/$(VENV)/bin
PORT ?= 8000
SECONDS ?= 120
WORKERS ?= 1
REDIS ?=
DEMO := STOREFRONT_DATABASE_URL=sqlite+aiosqlite:///demo-$(PORT).db STOREFRONT_UPLOADS=demo-$(PORT).uploads \
	STOREFRONT_EVENTS_URL=$(or $(REDIS),memory://) \
	STOREFRONT_CACHE_URL=$(or $(REDIS),$(if $(filter-out 1,$(WORKERS)),local://$(CURDIR)/examples/storefront/demo-$(PORT).cache,memory://))
QUICK ?=
DEPLOY := examples/storefront/deploy

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export NO_MKDOCS_2_WARNING := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-full load test check lint types layers unit storefront docs bench lock clean

help:  ## what there is to make
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ------------------------------------------------------------------------------------------------------- the set-up

# What is installed is what the lock says, byte for byte; the stamps say that it was.
install = $(PYTHON_BIN)/python -m pip install -qq --require-hashes --no-deps -r $(1) \
	&& $(PYTHON_BIN)/python -m pip install -qq --no-deps --no-index --no-build-isolation --editable .

$(VENV)/.made: scripts/venv
	@scripts/venv $(VENV)
	@touch $@

$(VENV)/.storefront: requirements/storefront.txt pyproject.toml $(VENV)/.made
	@echo 'Installing the storefront into $(VENV): half a minute, the first time'
	@$(call install,requirements/storefront.txt)
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml $(VENV)/.made
	@echo 'Installing everything into $(VENV): a minute, the first time'
	@$(call install,requirements/dev.txt)
	@touch $@ $(VENV)/.storefront

# --------------------------------------------------------------------------------------------------------- to use

demo: $(VENV)/.storefront  ## the storefront on 127.0.0.1:8000 and what to try; PORT=, WORKERS=4, REDIS=redis://...; Ctrl-C ends it
	@rm -rf $(addprefix examples/storefront/demo-$(PORT).,db* cache uploads)  # every demonstration begins with the catalogue as it came
	@cd examples/storefront && $(DEMO) $(PYTHON_BIN)/python -m storefront.load
	@cd examples/storefront && $(DEMO) PORT=$(PORT) WORKERS=$(WORKERS) PYTHONPATH=. exec $(PYTHON_BIN)/python ../../scripts/demo.py

demo-full: $(VENV)/.storefront  ## the same behind nginx, on PostgreSQL and Redis, in two processes; PORT=; Ctrl-C ends it
	@command -v redis-server >/dev/null || scripts/need redis-server
	@command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || scripts/need nginx
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || scripts/need postgresql
	@cd examples/storefront && PORT=$(PORT) PYTHONPATH=.:tests/harness:../../tests/harness exec $(PYTHON_BIN)/python ../../scripts/demo_full.py

load: $(VENV)/.storefront  ## reads and writes over 4 workers for SECONDS=120: is anything older than it may be? WORKERS=, REDIS=redis://127.0.0.1...
	@cd examples/storefront && SECONDS=$(SECONDS) WORKERS=$(or $(filter-out 1,$(WORKERS)),4) REDIS=$(REDIS) exec $(PYTHON_BIN)/python -m storefront.loadrun

docs: $(VENV)/.dev  ## the documentation, into site/
	@$(PYTHON_BIN)/mkdocs build --strict --quiet
	@$(PYTHON_BIN)/python scripts/check_site.py site

bench: $(VENV)/.dev  ## the benchmarks; QUICK=1 for the short ones
	@$(PYTHON_BIN)/python -m benchmarks $(if $(QUICK),--quick)

# --------------------------------------------------------------------------------------------------------- to test

# All tests of a file run in one process, so that what they share is started once; files in their order, and not by
# how many tests they have: the longest are not those with the most.
ON_ALL_CORES := --numprocesses auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test: check unit storefront docs  ## everything: lint, types, layers, tests with coverage, documentation

check: lint types layers  ## lint, types and layers: seconds

lint: $(VENV)/.dev
	@$(PYTHON_BIN)/ruff check --quiet
	@$(PYTHON_BIN)/ruff format --check --quiet
	@$(PYTHON_BIN)/hadolint $(DEPLOY)/Dockerfile
	@$(PYTHON_BIN)/yamllint --strict --config-file $(DEPLOY)/yamllint.yaml $(DEPLOY) .github
	@$(PYTHON_BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec $(DEPLOY)/compose.yaml
	@$(PYTHON_BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	@! docker compose version >/dev/null 2>&1 || STOREFRONT_HOST=shop docker compose --file $(DEPLOY)/compose.yaml config --quiet

types: $(VENV)/.dev
	@$(PYTHON_BIN)/mypy --no-error-summary src tests scripts $(wildcard benchmarks/*.py)
	@$(PYTHON_BIN)/mypy --no-error-summary examples/storefront
	@$(PYTHON_BIN)/pyright --pythonpath $(PYTHON_BIN)/python

layers: $(VENV)/.dev
	@$(PYTHON_BIN)/lint-imports --no-logo

unit: $(VENV)/.dev
	@command -v redis-server >/dev/null && command -v openssl >/dev/null || scripts/need redis-server openssl
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || scripts/need postgresql
	@$(PYTHON_BIN)/coverage erase
	@$(PYTHON_BIN)/coverage run -m pytest --quiet $(ON_ALL_CORES)
	@$(PYTHON_BIN)/coverage combine --quiet
	@$(PYTHON_BIN)/coverage report

storefront: $(VENV)/.dev
	@command -v curl >/dev/null || scripts/need curl
	@command -v redis-server >/dev/null || scripts/need redis-server
	@command -v chromium >/dev/null || scripts/need chromium
	@command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || scripts/need nginx
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || scripts/need postgresql
	@$(PYTHON_BIN)/python -m pytest --quiet $(ON_ALL_CORES) examples/storefront/tests

# ------------------------------------------------------------------------------------------------------- to tidy up

LOCK := $(PYTHON_BIN)/uv pip compile --upgrade --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --annotation-style line --custom-compile-command 'make lock'

lock: $(VENV)/.dev  ## choose the newest versions of everything that is installed, and pin them
	@$(LOCK) pyproject.toml --all-extras --group dev --group docs --group storefront --output-file requirements/dev.txt
	@$(LOCK) pyproject.toml --constraints requirements/dev.txt --group storefront --output-file requirements/storefront.txt
	@for peer in $(basename $(wildcard benchmarks/peers/*.in)); do \
		$(LOCK) $$peer.in --constraints requirements/dev.txt --output-file $$peer.txt || exit 1; done

clean:  ## remove all that make made
	rm -rf $(VENV) .venv-peers site dist .coverage* examples/storefront/*.db* examples/storefront/*.cache examples/storefront/*uploads
	find . -type d \( -name __pycache__ -o -name '.*_cache' -o -name .hypothesis \) -prune -exec rm -rf {} +
