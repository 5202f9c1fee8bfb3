# `make serve` and `make test` are all that a newcomer needs; the rest is for those who change the code.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

# Two processes, each with half of the processors for its servers (tests/conftest.py). On a GPU their engines would have to share its memory.
TWO_ENGINES := $(if $(wildcard /proc/driver/nvidia/version),,-n 2 --dist loadfile)

.PHONY: help env env-bench env-clients tools adapters policy serve test test-fast test-vllm test-replicas test-clients lint check format docs docs-serve bench lock clean

help: ## This list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

env: ## .venv with the locked dependencies
	@scripts/bootstrap.sh

env-bench: ## The same with what the benchmarks need besides, and with Ray
	@scripts/bootstrap.sh bench ray

env-clients: env ## .venv-clients with the clients that the tests drive the server with
	@scripts/clients.sh

tools: ## Debian's prometheus and chromium, kubectl, helm and valkey-server, for the tests that need them
	@scripts/tools.sh

serve: env ## Serve on 127.0.0.1:8000; MODEL=folder-or-id PORT=8000 ARGS="--max-n 16"
	@exec $(BIN)/ponder serve $(if $(MODEL),--model $(MODEL)) $(if $(PORT),--port $(PORT)) $(ARGS)

test: test-fast test-vllm ## The whole test suite

# Two processes with one thread each for torch. A file stays in one process, so that its servers are started once.
# The browser's tests wait for what is seen within seconds: they have the machine for themselves.
test-fast: env
	OMP_NUM_THREADS=1 $(PYTEST) -m "not vllm" -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/playground --cov --cov-report=
	$(PYTEST) -m "not vllm" tests/playground --cov --cov-append --cov-report=term

test-vllm: env
	$(PYTEST) -m vllm tests $(TWO_ENGINES)

test-replicas: env ## The tests of the surface once more, over two front ends with two `vllm serve` processes
	REPLICAS=2 $(PYTEST) -m vllm tests/vllm/test_surface.py tests/vllm/test_protocol.py tests/vllm/test_searches.py tests/vllm/test_tools.py \
	  tests/vllm/test_responses.py tests/vllm/test_messages.py tests/vllm/test_logprobs.py tests/vllm/test_tokenize.py tests/vllm/test_endings.py

test-clients: env-clients ## Drive a real server with the clients that people use
	.venv-clients/bin/python -m pytest tests/clients -W ignore $(TWO_ENGINES)

lint: env ## Format, lint, types, architecture, documents, Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.generate_docs --check
	$(MKDOCS) build --strict
	$(BIN)/python deploy/grafana/generate.py --check
	$(BIN)/hadolint Dockerfile

check: lint test ## Everything that must hold

docs: env ## The documentation site, in .site/
	$(MKDOCS) build --strict
	@echo open .site/index.html

docs-serve: env ## The same on 127.0.0.1:8001, while it is written
	$(MKDOCS) serve --dev-addr 127.0.0.1:8001

format: env ## Format, and write the dashboards and the generated parts of the documents
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m scripts.generate_docs
	$(BIN)/python -m benchmarks.results_index
	$(BIN)/python deploy/grafana/generate.py

adapters: env-bench ## Train again what is shipped for the embedded model; hours, goes on where it was stopped
	scripts/train_shipped.sh

policy: env-bench ## Calibrate the policy of the shipped adapter anew; takes an hour, and resumes where it was stopped
	scripts/calibrate_shipped.sh

bench: env-bench ## Run the benchmarks; ARGS="--quick" for a short look
	$(BIN)/python -m benchmarks $(ARGS)

lock: ## Resolve the dependencies again; ARGS="--upgrade" for newer ones
	scripts/lock.sh $(ARGS)

clean: ## Remove everything that was made here
	rm -rf .venv .venv-clients tests/clients/node_modules .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
