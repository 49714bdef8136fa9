# The commands of this project. `make help` prints them.

PYTHON ?= python3
VENV_PYTHON = .venv/bin/python
# Runs a command under production settings with made-up values.
PRODUCTION = $(VENV_PYTHON) -m portal.local.production
# Many containers set it. Nothing would be kept then, and each process that we start would compile 1,200 modules anew:
# two seconds of work, where reading what the first one kept takes half a second.
unexport PYTHONDONTWRITEBYTECODE
# GNU make 3.81 (macOS) has no .ONESHELL; recipes stay short, and programs do the work.
.DEFAULT_GOAL := help
.PHONY: help run example test check fix install install-dev sandbox shell bench-read bench-proxy bench-refresh bench-scale bench-sandbox bench-soak faults pictures lock clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make run obeys PORT, SANDBOX_PORT, DATA_DIR, DATABASE_URL, REDIS_URL and SANDBOX=off."

run: install ## Start everything on this machine, with a demo: http://127.0.0.1:8000
	@exec $(VENV_PYTHON) -m portal.local.up

example: install ## Start the example application beside a running `make run`: http://127.0.0.1:8002
	@exec $(VENV_PYTHON) -m portal.local.example

test: install-dev ## Run all tests (ARGS="-k name" for some)
	@CHROMIUM="$$($(VENV_PYTHON) -m tests.chromium)" && export CHROMIUM && \
		exec $(VENV_PYTHON) -m pytest -n 4 --dist loadscope --no-loadscope-reorder $(ARGS)

check: install-dev ## Check style, types, layers, templates, migrations and production settings
	$(VENV_PYTHON) -m ruff check --quiet .
	$(VENV_PYTHON) -m ruff format --check --quiet .
	git ls-files -z 'templates/*.html' | xargs -0 .venv/bin/djade --check
	.venv/bin/lint-imports --no-cache
	$(PRODUCTION) -m mypy
	$(PRODUCTION) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(PRODUCTION) manage.py check --deploy --fail-level WARNING

fix: install-dev ## Format the code and repair what can be repaired
	@$(VENV_PYTHON) -m ruff check --fix-only --quiet .
	@$(VENV_PYTHON) -m ruff format .
	@git ls-files -z 'templates/*.html' | xargs -0 .venv/bin/djade

install: ## Make .venv and install the pinned requirements (the others do it themselves)
	@$(PYTHON) portal/local/install.py requirements.txt

install-dev: ## The same, with what the tests and checks need
	@$(PYTHON) portal/local/install.py requirements.txt requirements-dev.txt

sandbox: install ## Start only the Atlassian sandbox: http://127.0.0.1:8001
	@exec $(VENV_PYTHON) -m portal.local.manage sandbox --port $${SANDBOX_PORT:-8001} $(ARGS)

shell: install ## Open a Python shell on the data of a running `make run`
	@exec $(VENV_PYTHON) -m portal.local.manage shell $(ARGS)

bench-read: install ## Measure how many tokens a second one web process hands out, against a bare function
	@exec $(VENV_PYTHON) -m bench.read $(ARGS)

bench-proxy: install ## Measure what the proxy adds to a call, against the direct one
	@exec $(VENV_PYTHON) -m bench.proxy $(ARGS)

bench-refresh: install ## Measure how many grants a second one worker refreshes, against a bare loop
	@exec $(VENV_PYTHON) -m bench.refresh $(ARGS)

bench-scale: install ## Measure claiming and refreshing with 10,000 to 1,000,000 connections stored (12 GB of disk)
	@exec $(VENV_PYTHON) -m bench.scale $(ARGS)

bench-sandbox: install ## Measure how many token requests a second the sandbox answers
	@exec $(VENV_PYTHON) -m bench.sandbox $(ARGS)

bench-soak: install ## Keep 50,000 one-minute tokens fresh for ten minutes, with faults and readers (ARGS="--minutes 1")
	@exec $(VENV_PYTHON) -m bench.soak $(ARGS)

faults: install-dev ## Kill, stop and starve everything at every moment, and show what was lost (ARGS="--seed 7")
	@INVARIANT_EXAMPLES=150 $(VENV_PYTHON) -m pytest -q --timeout 900 tests/faults/test_invariants.py
	@exec $(VENV_PYTHON) -m bench.faults $(ARGS)

pictures: install-dev ## Take the README's pictures anew
	@CHROMIUM="$$($(VENV_PYTHON) -m tests.chromium)" && export CHROMIUM && \
		exec $(VENV_PYTHON) -m pytest -q tests/browser/pictures.py

lock: ## Install the newest that requirements*.txt allow, and write the versions to constraints.txt
	@rm -rf .venv constraints.txt
	@$(PYTHON) portal/local/install.py requirements.txt requirements-dev.txt
	@$(VENV_PYTHON) -m portal.local.lock

clean: ## Delete the virtual environment and all local data, the demo's database included
	rm -rf .venv .venv.lock .data
