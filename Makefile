# Start with `make demo` or `make test`. Each target creates the environment first if it does not exist.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: env demo reproduce benchmark test test-slow test-all test-integrations test-notebooks test-oldest lint format \
	tables docs outputs dist test-dist check-tag smoke clean

env: $(VENV)/.complete

$(VENV)/.complete: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# The recommended protocol and, to see the difference, the paper's rule on scikit-learn's digits; then both in one report.
DEMO := runs/demo

demo: env
	$(BIN)/aldvae adaptive --epochs 100 --results-dir $(DEMO)
	$(BIN)/aldvae adaptive --epochs 100 --protocol paper --results-dir $(DEMO)
	$(BIN)/aldvae report $(DEMO)

# The paper's plan, or another one: make reproduce PLAN=experiments/digits.toml JOBS=2. Resumes after an interruption.
PLAN ?= experiments/paper.toml
RESULTS ?= results/$(notdir $(basename $(PLAN)))
JOBS ?= 1

reproduce: env
	$(BIN)/aldvae run $(PLAN) --jobs $(JOBS) --results-dir $(RESULTS)
	$(BIN)/aldvae plot $(RESULTS)
	$(BIN)/aldvae report $(RESULTS)

# The benchmark: its data, its runs, the peers, the tables in docs/benchmark.md, and its picture. Resumes after an interruption.
BENCHMARK := results/benchmark

benchmark: env
	$(BIN)/python experiments/benchmark_data.py runs/benchmark-data
	$(BIN)/aldvae run experiments/benchmark.toml --jobs $(JOBS) --results-dir $(BENCHMARK)
	PYTHONPATH=benchmarks $(BIN)/python -m peers.run $(BENCHMARK)
	PYTHONPATH=benchmarks $(BIN)/python -m peers.table $(BENCHMARK)
	PYTHONPATH=benchmarks $(BIN)/python -m peers.figure $(BENCHMARK)
	$(BIN)/python docs/tables.py --write

# Two processes with one thread each: on small tensors a second thread costs more time than it saves.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test: env
	$(PYTEST) -m 'not slow'

test-slow: env
	$(PYTEST) -m slow

test-all: test test-slow

# Other people's libraries, in an environment of their own: they ask for older versions of shared libraries.
INTEGRATIONS := .venv-integrations

$(INTEGRATIONS)/.complete: pyproject.toml
	$(PYTHON) -m venv $(INTEGRATIONS)
	$(INTEGRATIONS)/bin/python -m pip install --quiet --editable '.[lightning,pythae,scvi,anndata,datasets]' \
		diffusers pytest hypothesis nbclient ipykernel
	touch $@

test-integrations: $(INTEGRATIONS)/.complete
	# Or their tests would be skipped:
	$(INTEGRATIONS)/bin/python -W ignore -c 'import anndata, datasets, diffusers, lightning, nbclient, pythae, scvi'
	OMP_NUM_THREADS=1 $(INTEGRATIONS)/bin/python -m pytest tests/integrations

# The notebooks alone; `make test-integrations` runs them too.
test-notebooks: $(INTEGRATIONS)/.complete
	$(INTEGRATIONS)/bin/python -m pytest tests/integrations/test_notebooks.py

# The oldest versions that pyproject.toml allows; Python 3.11, since they have no wheels for newer ones.
OLDEST := .venv-oldest

$(OLDEST)/.complete: pyproject.toml requirements/oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --constraint requirements/oldest.txt \
		--editable '.[parquet,openvino,peers,ray,tensorboard]' hypothesis pytest pytest-xdist
	touch $@

test-oldest: $(OLDEST)/.complete
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n 2 -m 'not slow' -W ignore::DeprecationWarning

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[1-9]*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

format: env
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Update the tables in the pages from the CSV files in results/.
tables: env
	$(BIN)/python docs/tables.py --write

# The documentation site, in site/. Neither torch nor aldvae is installed for it: docstrings are read, not imported.
DOCS := .venv-docs

$(DOCS)/.complete: pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(DOCS)/bin/python -m pip install --quiet --group docs
	touch $@

docs: $(DOCS)/.complete
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --quiet --strict
	$(DOCS)/bin/python docs/site/check.py site

# Update the outputs and pictures in the pages by running their commands; minutes.
outputs: env $(INTEGRATIONS)/.complete
	$(BIN)/python docs/outputs.py --write
	$(INTEGRATIONS)/bin/python docs/outputs.py --write integrations.md

# Source archive and wheel, ready for upload; the wheel is built from the archive.
BUILD := .venv-build

$(BUILD)/.complete:
	$(PYTHON) -m venv $(BUILD)
	$(BUILD)/bin/python -m pip install --quiet 'build>=1.2' 'twine>=6.1'
	touch $@

dist: $(BUILD)/.complete
	rm -rf dist build
	$(BUILD)/bin/python -m build
	$(BUILD)/bin/twine check --strict dist/*

# The wheel alone, in a fresh environment and in a directory without the checkout.
DIST := .venv-dist

test-dist: dist
	rm -rf $(DIST)
	$(PYTHON) -m venv $(DIST)
	$(DIST)/bin/python -I -m pip install --quiet dist/*.whl
	set -e; unset PYTHONPATH; elsewhere=$$(mktemp -d); trap 'rm -rf "$$elsewhere"' EXIT; cd "$$elsewhere"; \
	aldvae=$(abspath $(DIST))/bin/aldvae; \
	$$aldvae --version; $$aldvae adaptive $(TINY); $$aldvae show runs; $$aldvae plot runs; $$aldvae report runs

# Does a tag name the version? make check-tag TAG=v0.2.0
check-tag:
	grep --quiet --fixed-strings '__version__ = "$(TAG:v%=%)"' aldvae/__init__.py

# Every subcommand on a tiny subset; each takes seconds.
TINY := --limit 300 --epochs 4 --fid-samples 80 --silhouette-samples 80

smoke: env
	rm -rf runs/smoke
	$(BIN)/aldvae --version
	$(BIN)/aldvae adaptive $(TINY) --results-dir runs/smoke
	$(BIN)/aldvae run experiments/smoke.toml --dry-run --results-dir runs/smoke
	$(BIN)/aldvae run experiments/smoke.toml --results-dir runs/smoke
	$(BIN)/aldvae grid --dims 2,8 --seeds 0 $(TINY) --results-dir runs/smoke
	$(BIN)/aldvae sweep-init --init-dims 16,12 --seeds 0 $(TINY) --results-dir runs/smoke
	$(BIN)/aldvae seeds --seeds 0-1 $(TINY) --results-dir runs/smoke
	$(BIN)/aldvae show runs/smoke
	$(BIN)/aldvae plot runs/smoke
	$(BIN)/aldvae report runs/smoke
	run=$$(ls -d runs/smoke/digits-fixed-dim2-* | head -1); \
	$(BIN)/aldvae encode $$run digits -o runs/smoke/latents.csv && \
	$(BIN)/aldvae reconstruct $$run digits -o runs/smoke/again.npz && \
	$(BIN)/aldvae sample $$run -n 20 -o runs/smoke/samples.png && \
	$(BIN)/aldvae card $$run -o runs/smoke/card
	$(BIN)/aldvae export runs/smoke --optuna runs/smoke/study.db
	$(BIN)/aldvae data
	$(BIN)/aldvae data fetch digits
	$(BIN)/aldvae data verify digits
	$(BIN)/aldvae data sheet digits --output-dir runs/smoke

clean:
	rm -rf $(VENV) $(INTEGRATIONS) $(OLDEST) $(BUILD) $(DIST) $(DOCS) build dist site *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
