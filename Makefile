# Two commands do all set-up: `make demo` and `make test`. `make help` lists the rest.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# Images of Python often set it: each of hundreds of processes would then compile anew what it imports.
unexport PYTHONDONTWRITEBYTECODE
# Processes that run tests: they wait for most of their time.
TESTERS ?= 8
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test nightly chaos known-bad soak check docs format bench lock sbom clean

help: ## List what there is
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with everything in it (redone when the requirements change)

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@# By its hashes too: it is what looks at those of all others.
	awk '/^[a-z]/ { on = /^uv==/ } on' requirements/dev.txt > $(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(VENV)/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: $(STAMP) ## Run the main job: Airflow -> Kafka -> LangGraph -> result or dead letter -> redrive
	$(BIN)/redrive demo

test: $(STAMP) ## Run every test, on a real broker (needs Java 17 and Maven)
	@# Compiles what tests import, once: all processes begin at the same time.
	@$(BIN)/python -m pytest --collect-only -qq > /dev/null || true
	$(BIN)/python -m pytest -n $(TESTERS)

nightly: $(STAMP) ## Run the tests that show once more, in another way, what others show
	$(BIN)/python -m pytest -n $(TESTERS) -m nightly
	$(BIN)/python -m pytest -n $(TESTERS) -m "hypothesis and not nightly" --hypothesis-profile=night

SEEDS ?= 1-3
EVENTS ?= 10000
CHECKPOINTED ?= 700
AT_ONCE ?= 1
chaos: $(STAMP) ## Run workers under faults, SEEDS=1-3,7; lost, doubled, skipped, stuck: 0
	@SEEDS=$(SEEDS) EVENTS=$(EVENTS) CHECKPOINTED=$(CHECKPOINTED) AT_ONCE=$(AT_ONCE) \
	  $(BIN)/python -m tests.chaos.run

HUNTED ?= 1-20
# Which of them, parted by commas.
BAD ?= all
known-bad: $(STAMP) ## Let known-bad workers live through random seeds; each must be caught
	@SEEDS=$(HUNTED) AT_ONCE=$(AT_ONCE) $(if $(filter-out all,$(BAD)),BAD=$(BAD)) $(BIN)/python -m tests.chaos.hunt

MINUTES ?= 60
RATE ?= 10
soak: $(STAMP) ## Run workers under load and faults for MINUTES=60; nothing may leak
	@MINUTES=$(MINUTES) RATE=$(RATE) $(BIN)/python -m tests.chaos.soak

check: $(STAMP) ## Format, lint, types, layers, spelling, the site
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md docs scripts src tests
	$(MAKE) docs

docs: $(STAMP) ## Build the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(STAMP) ## Print the figures of this machine, as ratios, one JSON line each
	@$(BIN)/python -m benchmarks

format: $(STAMP) ## Format, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

COMPILE := pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url \
  --generate-hashes
lock: $(STAMP) ## Compile the requirement files anew (versions and hashes)
	$(BIN)/uv $(COMPILE) --upgrade --all-extras --output-file requirements/dev.txt pyproject.toml
	$(BIN)/uv $(COMPILE) --upgrade --extra worker --output-file requirements/worker.txt pyproject.toml
	$(BIN)/uv $(COMPILE) --upgrade --group sbom --output-file requirements/sbom.txt

INSTALL := $(BIN)/uv pip install --quiet --require-hashes
sbom: $(STAMP) ## Write what a worker is made of (CycloneDX) and its licences, into sbom/
	rm -rf sbom && mkdir sbom
	$(BIN)/uv venv --quiet --python $(BIN)/python sbom/.tool
	$(BIN)/uv venv --quiet --python $(BIN)/python sbom/.worker
	$(INSTALL) --python sbom/.tool/bin/python --requirement requirements/sbom.txt
	$(INSTALL) --python sbom/.worker/bin/python --requirement requirements/worker.txt
	sbom/.tool/bin/cyclonedx-py environment --output-reproducible --spec-version 1.6 --validate \
	  --pyproject pyproject.toml --output-file sbom/worker.cdx.json sbom/.worker/bin/python
	$(BIN)/python deploy/sbom/licences.py sbom/worker.cdx.json > sbom/licences.md
	rm -rf sbom/.tool sbom/.worker

clean: ## Remove what this Makefile made
	rm -rf $(VENV) site sbom .pytest_cache .mypy_cache .ruff_cache .hypothesis
