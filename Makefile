# The product's front door. `make help` lists the targets; everything they need is installed by them and cached in
# $(STAR_CACHE), outside the tree. Mirrors come from your own pip, apt and Go configuration. What a machine must bring
# along is in README.md; each target begins with a check of it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export STAR_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/star-operator
export UV_CACHE_DIR ?= $(STAR_CACHE)/uv
export UV_LINK_MODE ?= hardlink

PYTHON ?= python3.11
# Images for nodes without (cpu) or with GPUs (cuda), and where their references are written.
VARIANT ?= cpu
IMAGES_FILE ?= $(STAR_CACHE)/images-$(VARIANT).yaml
# Test processes side by side; each brings its own S3 server and, for the integration tests, its own control plane.
WORKERS ?= 2
# How long `make fuzz` tries each property.
FUZZ_MINUTES ?= 10
UV := $(STAR_CACHE)/bootstrap/bin/uv
BIN := .venv/bin
MIRRORS := $(PYTHON) -I operator/star_cli/mirrors.py
STARCTL := $(BIN)/starctl
# Runs with the machine's Python alone, before anything is installed.
HOST = PYTHONPATH=operator $(PYTHON) -m star_cli.host
NEEDS ?= demo

.NOTPARALLEL:
.PHONY: help host setup lint format types imports unit contract integration audit-rights e2e e2e-retraining e2e-promotion test fuzz demo bench-demo bench-baselines bench-prepare bench-learning bench-neighbours bench-schedule bench-store bench-teacher bench-retrain bench-promotion promotions generate binaries images images-cuda locks clean

help: ## List the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}'

host: ## Check this machine for NEEDS (demo, tests, promotion, images, cluster, programs, setup), and install what is missing
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "error: $(PYTHON) is not here," \
	  "or older than 3.11: install it (Debian 12: apt-get install python3), or name another with PYTHON=..." >&2; exit 1; }
	@$(HOST) $(NEEDS)

$(UV):
	@$(MAKE) --no-print-directory host NEEDS=setup
	@echo "installing uv"
	@$(PYTHON) -m venv $(STAR_CACHE)/bootstrap
	@$(STAR_CACHE)/bootstrap/bin/pip install --quiet uv

.venv/installed: pyproject.toml images/locks/dev.txt | $(UV)
	@echo "installing the development environment"
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	@eval "$$($(MIRRORS))"; $(UV) pip sync --quiet --python $(BIN)/python --require-hashes images/locks/dev.txt
	@eval "$$($(MIRRORS))"; $(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

setup: .venv/installed ## Install the development environment into .venv

binaries: setup ## Find, download or build what the embedded cluster runs (cached)
	@$(STARCTL) local binaries

images: NEEDS = images
images: host setup ## Build and push the container images (VARIANT=cpu or cuda); what is there already is skipped
	@$(BIN)/python -m star_cli.images build --variant $(VARIANT) --out $(IMAGES_FILE)

images-cuda: ## The same for GPU nodes
	@$(MAKE) --no-print-directory images VARIANT=cuda

locks: setup ## Make the dependency locks anew from pyproject.toml and images/locks/*.in
	@eval "$$($(MIRRORS))"; $(BIN)/python -m star_cli.images locks

lint: setup ## Check style and formatting
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: setup ## Rewrite the code in the house's format
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format

types: setup ## Check types (strict)
	@$(BIN)/mypy

imports: setup ## Check the import contracts
	@$(BIN)/lint-imports

unit: setup ## Unit and golden tests
	@$(BIN)/pytest -q --numprocesses $(WORKERS) --dist loadfile tests/unit

contract: setup binaries ## CRDs, samples and chart against a real API server
	@$(BIN)/pytest -q --numprocesses $(WORKERS) --dist loadfile tests/contract

integration: setup binaries ## The operator against real etcd and kube-apiserver
	@$(BIN)/pytest -q --numprocesses $(WORKERS) tests/integration

audit-rights: AUDIT = $(STAR_CACHE)/audit
audit-rights: setup binaries ## Integration tests, and whether the operator used just the rights that the chart gives it
	@rm -rf $(AUDIT); trap 'rm -rf $(AUDIT)' EXIT; STAR_AUDIT=$(AUDIT) $(BIN)/pytest -q --numprocesses $(WORKERS) tests/integration; \
	  $(BIN)/python -m tests.support.rights $(AUDIT)

e2e: NEEDS = tests
e2e: host setup binaries images ## The whole chain with real pods on the embedded cluster
	@$(BIN)/pytest -q tests/e2e

e2e-retraining: NEEDS = tests
e2e-retraining: host setup binaries images ## Two tenants retrained by a schedule with real pods: new data, kills, retention
	@$(BIN)/pytest -q -s tests/e2e/proof_retraining.py

e2e-promotion: NEEDS = promotion
e2e-promotion: host setup binaries images ## Promotion with a real forge (Gitea) and a real Argo CD, built once; then with real pods
	@$(STARCTL) local binaries gcc git redis-check-rdb gitea argocd kustomize
	@$(BIN)/pytest -q tests/e2e_promotion
	@$(BIN)/pytest -q -s tests/e2e_promotion/proof_real_pods.py

test: NEEDS = tests
test: host lint types imports unit contract integration e2e ## Everything CI runs

fuzz: setup ## Nightly: the properties of every border over new generated input, FUZZ_MINUTES (10) each
	@$(BIN)/pytest -q --numprocesses $(WORKERS) -m fuzz --fuzz-minutes $(FUZZ_MINUTES) tests/unit

demo: NEEDS = demo
demo: host setup ## From YAML to a served recommendation, on this machine
	@$(STARCTL) demo

bench-demo: setup ## Time a warm demo in a cluster of its own
	@$(BIN)/python tests/bench/bench_demo.py

bench-neighbours: setup ## Time a million users' and items' neighbours against the bare kernel
	@$(BIN)/python tests/bench/bench_neighbours.py

bench-store: setup ## Write a look-up store of ten million entries and look things up in it
	@$(BIN)/python tests/bench/bench_store.py

bench-schedule: setup ## Simulate a year of scheduled retraining of 200 tenants against an oracle
	@$(BIN)/python -m tests.bench.bench_schedule

bench-prepare: setup ## Prepare a synthetic 5 GB review table and measure memory and speed
	@$(BIN)/python -m tests.bench.bench_prepare

bench-baselines: setup ## Measure the baselines on MovieLens-100K against reference figures
	@$(BIN)/python tests/bench/bench_baselines.py

bench-learning: setup ## Measure whether SFT and GRPO beat their base model, in a cluster of its own
	@$(BIN)/python tests/bench/bench_learning.py

bench-teacher: setup ## Measure how much of the engine's throughput the teacher uses (ARGS='--engine simulated')
	@$(BIN)/python -m tests.bench.bench_teacher $(ARGS)

bench-retrain: setup ## Count the LLM calls that a retraining of the demo after 5% new interactions does not make again
	@$(BIN)/python -m tests.bench.bench_retrain $(ARGS)

bench-promotion: NEEDS = promotion
bench-promotion: host setup binaries ## Time promotions: to the commit, to Argo CD's sync, and all the way to prod (ARGS=...)
	@$(STARCTL) local binaries gcc git redis-check-rdb gitea argocd kustomize
	@$(BIN)/python -m tests.bench.bench_promotion $(ARGS)

promotions: setup ## A history of 200 random promotions, conflicts, kills and merges, held against a model (ARGS=...)
	@STAR_PROMOTIONS=$${STAR_PROMOTIONS:-200} $(BIN)/pytest -q -o timeout=3600 tests/unit/star_jobs/promote/test_history.py $(ARGS)

generate: setup ## Rewrite what is generated: CRDs, values schema, pages, kustomize, rendered install, goldens
	@$(BIN)/python -m star_cli.generate
	@$(BIN)/pytest -q tests/unit/star_operator/builders/test_goldens.py --update-goldens

clean: ## Stop the embedded cluster and remove build output (the cache stays)
	@[ ! -x $(STARCTL) ] || $(STARCTL) local down
	@rm -rf .venv dist build
