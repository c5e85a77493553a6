# The verbs of this project. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON_BIN := .venv/bin
LAB_COMMAND = $(PYTHON_BIN)/lab
RUN_TESTS = $(PYTHON_BIN)/python tests/run.py
# Tools of the environment before the machine's: molecule and ansible-lint call ansible-playbook by name.
export PATH := $(CURDIR)/$(PYTHON_BIN):$(PATH)

.PHONY: help
help: ## List these verbs
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  \033[1mmake %-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: bootstrap
bootstrap: ## Install what this machine lacks (packages, Docker engine, Python environment)
	@scripts/bootstrap

.PHONY: lab
lab: bootstrap ## Bring the whole instance up on this machine, prove that it works, say where it is
	@$(LAB_COMMAND) up

.PHONY: lab-down
lab-down: ## Remove everything that `make lab` made (built images are kept; `lab purge` removes them too)
	@if [ -x $(PYTHON_BIN)/lab ]; then $(LAB_COMMAND) down; else echo "No lab here: .venv does not exist."; fi

.PHONY: lab-status
lab-status: ## Show the lab's parts, droplets and load balancer
	@$(LAB_COMMAND) status

.PHONY: test
test: bootstrap ## Run every check (see the parts below); closes with one line of totals
	@$(RUN_TESTS)

.PHONY: test-lint
test-lint: bootstrap ## Linters, types, documentation, sanity
	@$(RUN_TESTS) lint

.PHONY: test-unit
test-unit: bootstrap ## Unit and contract tests (about a minute)
	@$(RUN_TESTS) unit contract

.PHONY: test-molecule
test-molecule: bootstrap ## Molecule, every scenario or one: make test-molecule ROLE=exec
	@$(RUN_TESTS) molecule $(if $(ROLE),--scenario $(ROLE))

.PHONY: test-e2e
test-e2e: bootstrap ## The whole instance in a lab of its own, from nothing
	@$(RUN_TESTS) e2e

.PHONY: test-real
test-real: bootstrap ## What runs unchanged on every Mastodon, on a lab that runs another one: make test-real LAB=NAME
	@$(RUN_TESTS) real $(if $(LAB),--lab $(LAB))

.PHONY: test-vm
test-vm: ## The share (NFS) between two virtual machines; 30 minutes where two busy cores emulate them
	@scripts/bootstrap vm
	@$(RUN_TESTS) vm

.PHONY: bench
bench: bootstrap ## Measure the lab, the converge, a worker and the plugins (median of three)
	@$(PYTHON_BIN)/python scripts/bench.py

.PHONY: bench-inventory
bench-inventory: bootstrap ## Measure the inventory plugin with up to 10,000 droplets; fails where a goal is missed
	@$(PYTHON_BIN)/python scripts/bench_inventory.py

.PHONY: format
format: bootstrap ## Format the Python code
	@$(PYTHON_BIN)/ruff format . && $(PYTHON_BIN)/ruff check --fix .

.PHONY: changelog
changelog: bootstrap ## Write CHANGELOG.md from the fragments of a release
	@$(PYTHON_BIN)/antsibull-changelog release
