# What a person or CI types. Needs make and Python 3.11, 3.12 or 3.13; everything else comes
# from the package index that pip is set up to use.

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest -m "not slow"

USABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c '$(USABLE)' 2>/dev/null && echo $$p && break; done)

# What `make constraints` holds fixed; everything else follows from pyproject.toml. pandas 2 is
# older than dateutil 4, and newer graphene (for MLflow) excludes it.
PINS := apache-airflow==3.3.2 mlflow==3.17.2 great-expectations==1.24.1 feast==0.67.0 \
	scikit-learn==1.9.1 pandas==2.3.3 python-dateutil<3

export PATH := $(abspath $(BIN)):$(PATH)
export PYTHONPATH := $(abspath dags)
unexport PYTHONDONTWRITEBYTECODE  # Airflow starts many processes: they need the .pyc files

BENCH ?= imports parse snapshot validation drift drift_soundness materialize \
	feature_stores training tuning tracking auc slices gate gate_soundness scorer prediction_log \
	router rollout_soundness ab_soundness waiting sensors batch_predict monitoring

took = start=$$(date +%s); $(1) && echo "== $(notdir $@) took $$(($$(date +%s) - start)) s"

.NOTPARALLEL:
.PHONY: help setup demo test test-unit test-integration test-dags test-slow bench replay lint \
	format constraints clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(READY)  ## Make the virtual environment .venv (PYTHON=... chooses the interpreter)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && "$(PYTHON)" -c '$(USABLE)' || { echo "No usable Python 3.11, 3.12 \
	or 3.13 with venv and pip was found; name one: make setup PYTHON=/path/to/python"; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON): some 350 packages, a few minutes the first time"
	@$(call took,"$(PYTHON)" -m venv --clear $(VENV) \
	&& $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[dev]' --constraint constraints.txt \
	&& { $(BIN)/python -m compileall -q -j 0 $(VENV)/lib >$(VENV)/compileall.log || true; } \
	&& touch $(READY))

demo: setup  ## Run levels 0, 1 and 2 on real data here; DEMO_EXIT=1 stops after the report
	@exec $(BIN)/python -m flights.demo

test: lint test-unit test-integration test-dags  ## Everything CI runs

test-unit: setup  ## Fast tests without services
	@$(call took,$(PYTEST) tests/unit)

test-integration: setup  ## Tests against real services
	@$(call took,$(PYTEST) tests/integration)

test-dags: setup  ## Every example DAG, run for real
	@$(call took,$(PYTEST) tests/dags)

test-slow: setup  ## Simulations and long runs
	@$(call took,$(BIN)/python -m pytest -m slow)

bench: setup  ## Measure anew what docs/benchmarks says (BENCH="drift snapshot" chooses)
	@$(call took,$(BIN)/python -m benchmarks $(BENCH) --save docs/benchmarks)

replay: setup  ## Replay the year 2013 for docs/monitoring.md: monitored, and retrained or not
	@$(call took,$(BIN)/python -m flights.replay --save docs)

lint: setup  ## Style, types and the direction of imports
	@$(call took,$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy \
	&& $(BIN)/lint-imports --no-logo)

format: setup  ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints:  ## Resolve all dependencies anew into constraints.txt (needs Python >= 3.11)
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT \
	&& "$(PYTHON)" -m venv $$tools && $$tools/bin/python -m pip install --quiet uv \
	&& $$tools/bin/uv pip compile pyproject.toml --quiet --all-extras --universal --upgrade \
		--python-version 3.11 --no-annotate --no-header --no-emit-index-url \
		$(foreach pin,$(PINS),--upgrade-package '$(pin)') --output-file $$tools/resolved.txt \
	&& ! grep -nE '://|file:| @ |^-' $$tools/resolved.txt \
	&& { printf '# Made by `make constraints`: the versions every test has seen, for Python 3.11-3.13.\n'; \
		cat $$tools/resolved.txt; } >constraints.txt

clean:  ## Remove the environment, the demo and every cache
	rm -rf $(VENV) .demo dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
