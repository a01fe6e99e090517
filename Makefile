# `make run` and `make test` do all their set-up. Nothing but Python >= 3.11 and make is needed.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: run run-s3 test soak lint types contracts sync-twin docs check bench bench-http bench-pipeline constraints clean
.DEFAULT_GOAL := run

run: $(STAMP)
	@exec $(BIN)/python -m earmark serve $(ARGS)

run-s3: $(STAMP)
	@exec $(BIN)/python tools/run_s3.py $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

# RUNS deaths of everything, from seed SEED on, each seed printed; see tests/crash/test_chaos.py
soak: $(STAMP)
	EARMARK_CHAOS_SEED=$(or $(SEED),1) EARMARK_CHAOS_RUNS=$(or $(RUNS),500) $(BIN)/python -m pytest tests/crash/test_chaos.py -n $(WORKERS) --dist worksteal -v $(ARGS)

check: lint types contracts sync-twin docs

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python tools/problems_reference.py --check
	$(BIN)/python tools/reference.py --check

types: $(STAMP)
	$(BIN)/python -m mypy

contracts: $(STAMP)
	$(BIN)/python -c "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"

sync-twin: $(STAMP)
	$(BIN)/python tools/generate_sync.py --check

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(STAMP)
	@$(BIN)/python -c "import neveroversell" 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python bench/ledger.py $(ARGS)

bench-http: $(STAMP)
	@command -v wrk >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get install -y -qq --no-install-recommends wrk >/dev/null; } || { echo "bench-http needs wrk: install your system's package of that name" >&2; exit 1; }
	$(BIN)/python bench/over_http.py $(ARGS)

bench-pipeline: $(STAMP)
	$(BIN)/python bench/pipeline.py $(ARGS)

constraints: $(STAMP)
	$(BIN)/python -m uv pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate --upgrade -o constraints.txt pyproject.toml

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Earmark needs Python 3.11 or newer; point PYTHON at one: make PYTHON=python3.12 run" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@if command -v uv >/dev/null 2>&1; \
	then uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; fi
	@touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
