# `make demo` and `make test` are all a new user needs; each makes the environment first if it is not there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: env demo test test-slow test-all lint format smoke clean

env: $(VENV)/.complete

$(VENV)/.complete: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: env
	$(BIN)/aldvae adaptive --results-dir runs/demo

# Two processes of one thread each: on small tensors a second thread costs more than it brings.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test: env
	$(PYTEST) -m 'not slow'

test-slow: env
	$(PYTEST) -m slow

test-all: test test-slow

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: env
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Every subcommand on a tiny subset, seconds each.
smoke: env
	rm -rf runs/smoke
	$(BIN)/aldvae --version
	$(BIN)/aldvae adaptive --limit 300 --epochs 4 --patience 2 --fid-samples 80 --silhouette-samples 80 --results-dir runs/smoke
	$(BIN)/aldvae data
	$(BIN)/aldvae data fetch digits
	$(BIN)/aldvae data verify digits
	$(BIN)/aldvae data sheet digits --output-dir runs/smoke

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
