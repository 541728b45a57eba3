# Every target works from a fresh clone: what it needs is built on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard proto/argus/v1/*.proto)
BUF := build/buf/node_modules/.bin/buf
# Without this, running python in the root of the repository would make kernels/ importable
# under its bare name, which diffusers takes for a library of that name.
export PYTHONSAFEPATH := 1

# Tests that a machine with Python alone can run; the others have targets of their own.
HERE := not gpu and not browser and not ray and not deploy and not standby

# Files of tests that run at once, each in a process of its own: as many as there are cores, at most
# four, since the longest file is all that more would wait for. `make test WORKERS=0` runs everything
# in one process, as a debugger wants it.
WORKERS ?= logical
SPREAD := --numprocesses $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | \
		awk -F'\t' '{printf "  %-18s %s\n", $$1, $$2}'

.PHONY: venv
venv: $(VENV)/.installed  ## Make .venv with the argus command in it.

$(VENV)/.installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

.PHONY: proto
proto: venv  ## Generate the stubs in argus/v1 from proto/.
	$(BIN)/python -m argus.rpc.generate

.PHONY: demo
demo: venv  ## Start a coordinator and two nodes, make pictures, write demo-out/.
	PYTHONPATH=bench $(BIN)/python bench/demo.py --out demo-out

.PHONY: test
test: venv  ## Run all tests that need no GPU (minutes).
	$(BIN)/pytest -m "$(HERE)" $(SPREAD)

.PHONY: test-quick
test-quick: venv  ## Run the tests that take seconds.
	$(BIN)/pytest -m "$(HERE) and not slow and not integration"

.PHONY: test-parity
test-parity: venv  ## Compare samplers and pictures with diffusers.
	$(BIN)/pytest tests/parity

# Seconds that coverage-guided search gets for each parser.
FUZZ_S ?= 60

.PHONY: fuzz
fuzz: venv  ## Search long for inputs that a parser cannot take (half an hour).
	$(BIN)/pytest tests/fuzz --hypothesis-profile=fuzz
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
		$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	@mkdir -p build/fuzz
	@cd build/fuzz && for parser in $$($(CURDIR)/$(BIN)/python $(CURDIR)/tests/fuzz/atheris_parsers.py --list); do \
		echo "atheris: $$parser"; \
		$(CURDIR)/$(BIN)/python $(CURDIR)/tests/fuzz/atheris_parsers.py $$parser \
			-max_total_time=$(FUZZ_S) -verbosity=0 || exit 1; \
	done

.PHONY: test-gpu
test-gpu: venv  ## Run the tests that need a CUDA device.
	@$(BIN)/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else \
		"make test-gpu needs a CUDA device, and there is none here")'
	$(BIN)/pytest -m gpu tests/gpu tests/kernels

.PHONY: test-kernels
test-kernels: venv  ## Test the kernels with nvcc, which is installed from wheels if need be.
	@command -v nvcc >/dev/null || $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[nvcc]'
	$(BIN)/pytest tests/kernels -m "not gpu"

.PHONY: test-browser
test-browser: venv  ## Use the dashboard in headless Chromium; screenshots go to build/screenshots.
	@command -v chromium chromium-browser google-chrome >/dev/null || \
		{ command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium; } || \
		{ echo "make test-browser needs Chromium, and it could not be installed" >&2; exit 1; }
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[browser]'
	$(BIN)/pytest tests/browser

.PHONY: test-ray
test-ray: venv  ## Run node daemons on a Ray cluster of two nodes on this machine (minutes).
	@$(BIN)/python -c 'import ray' 2>/dev/null || \
		$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[ray]'
	$(BIN)/pytest tests/ray

.PHONY: test-deploy
test-deploy: venv $(BUF)  ## Render, check and run what deploy/ holds, with Helm, systemd and others.
	@command -v systemd-analyze >/dev/null || \
		{ command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq systemd; } || \
		{ echo "make test-deploy needs systemd-analyze, and it could not be installed" >&2; exit 1; }
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[deploy]'
	$(BIN)/pytest tests/deploy

.PHONY: test-standby
test-standby: venv  ## Kill, hang and restart coordinators and nodes under load (minutes).
	$(BIN)/pytest -s -m standby tests/standby

.PHONY: test-sim-real
test-sim-real: venv  ## Compare the simulator with two real CPU nodes (ten minutes on two idle cores).
	$(BIN)/pytest -s bench/test_sim_real.py

.PHONY: coverage
coverage: venv  ## Run the tests and report the coverage of argus/ by lines.
	$(BIN)/coverage erase
	$(BIN)/pytest -m "$(HERE)" $(SPREAD) --cov --cov-report=term --cov-fail-under=85

.PHONY: lint
lint: venv type $(BUF)  ## Check style, types and protos.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BUF) lint
	$(BUF) breaking --against tests/wire

.PHONY: type
type: venv  ## Check types with mypy --strict.
	@# A tree of links in which kernels/ lies where setup.py installs it, inside the package.
	@rm -rf build/types && mkdir -p build/types/argus
	@ln -s $(CURDIR)/argus/* $(CURDIR)/kernels build/types/argus/
	cd build/types && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml \
		--cache-dir $(CURDIR)/.mypy_cache

$(BUF):
	@command -v npm >/dev/null || { echo "buf comes from npm, which is not installed" >&2; exit 1; }
	npm install --silent --no-fund --no-audit --prefix build/buf @bufbuild/buf@1.75.0

.PHONY: wire
wire: $(BUF)  ## Hold later protos to those of today; refused where today's break what was held.
	$(BUF) breaking --against tests/wire
	rm -rf tests/wire/argus && cp -R proto/argus tests/wire/argus

.PHONY: format
format: venv  ## Rewrite the Python files in the house style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench-engine
bench-engine: venv  ## Measure the engine against diffusers on the CPU (ten minutes).
	PYTHONPATH=bench $(BIN)/python bench/engine.py --out bench/results

.PHONY: bench-gpu
bench-gpu: venv  ## Measure the engine against diffusers on a CUDA device.
	PYTHONPATH=bench $(BIN)/python bench/gpu.py --out bench/results

.PHONY: parity-table
parity-table: venv  ## Compare every family and sampler with diffusers and rewrite docs/parity.md.
	PYTHONPATH=bench $(BIN)/python bench/parity_table.py

.PHONY: bench-step
bench-step: venv  ## Measure forms of a step's gather and update on this CPU.
	PYTHONPATH=bench $(BIN)/python bench/step_cpu.py --out bench/results

.PHONY: bench-cache-parts
bench-cache-parts: venv  ## Measure the cache's index and stores, and replay its eviction.
	PYTHONPATH=bench $(BIN)/python bench/cache_index.py --out bench/results
	PYTHONPATH=bench $(BIN)/python bench/cache_replay.py --out bench/results

.PHONY: bench-cache
bench-cache: venv  ## Measure what cached states do to the bundled family's pictures (ten minutes).
	PYTHONPATH=bench $(BIN)/python bench/cache.py --out bench/results

.PHONY: bench-router
bench-router: venv  ## Measure decisions a second from 8 to 512 nodes (a minute).
	PYTHONPATH=bench $(BIN)/python bench/router.py --out bench/results

.PHONY: bench-coordinator
bench-coordinator: venv  ## Measure what the coordinator adds, beside a bare echo (four minutes on idle cores).
	PYTHONPATH=bench $(BIN)/python bench/coordinator.py --out bench/results

.PHONY: chaos
chaos: venv  ## Let every fault happen to real processes under load (under fifteen minutes).
	PYTHONPATH=bench $(BIN)/python bench/chaos.py --out bench/results

# How long make soak takes, and make overload with each kind of nodes.
MINUTES ?= 30

.PHONY: soak
soak: venv  ## Run mixed load for MINUTES and see whether anything grows.
	PYTHONPATH=bench $(BIN)/python bench/soak.py --out bench/results --minutes $(MINUTES)

.PHONY: overload
overload: venv  ## Ask for ten times what can be made, for MINUTES of two kinds of nodes each.
	PYTHONPATH=bench $(BIN)/python bench/overload.py --out bench/results --minutes $(MINUTES)

.PHONY: bench-control
bench-control: venv  ## Compare policies in virtual time with each other and the bound (half an hour of CPU).
	PYTHONPATH=bench $(BIN)/python bench/control.py --out bench/results --processes 2

.PHONY: bench-serving
bench-serving: venv  ## Compare policies on real processes, open loop (twenty minutes on two idle cores).
	PYTHONPATH=bench $(BIN)/python bench/serving.py --out bench/results
.PHONY: bench-placing
bench-placing: venv  ## Compare residency that follows the plan with residency that stays (minutes).
	PYTHONPATH=bench $(BIN)/python bench/placing.py --out bench/results

.PHONY: bench-filling
bench-filling: venv  ## Measure what it is worth to reckon with rows that may join another (a minute).
	PYTHONPATH=bench $(BIN)/python bench/filling.py --out bench/results

.PHONY: bench-stealing
bench-stealing: venv  ## Measure what stealing rows between nodes could gain (a minute).
	PYTHONPATH=bench $(BIN)/python bench/stealing.py --out bench/results

.PHONY: profile
profile: venv  ## Profile the bundled family anew: 18,000 pictures (an hour and a half on two cores).
	$(BIN)/python -m argus.quality.domain --out build/profile
	$(BIN)/argus profile --prompts build/profile/prompts.csv --neighbours build/profile/neighbours.csv \
		--skips 0.1,0.2,0.3,0.4,0.5 --nodes 2 --threads 1 --test-repeats 4 \
		--work build/profile/work --out models/weights/profile
	$(BIN)/python -m argus.models.levels
	$(MAKE) fit

.PHONY: fit
fit: venv  ## Fit the predictor to the bundled family's profile (minutes).
	$(BIN)/argus fit --profile models/weights/profile --out models/weights/predictor

.PHONY: bench-predictor
bench-predictor: venv  ## Measure what a prediction takes in batches (seconds).
	PYTHONPATH=bench $(BIN)/python bench/predictor.py --out bench/results

.PHONY: bench-allocator
bench-allocator: venv  ## Measure the allocator from 8 to 4,096 nodes (two minutes).
	PYTHONPATH=bench $(BIN)/python bench/allocator.py --out bench/results

.PHONY: bench-demand
bench-demand: venv  ## Compare the demand forecast with moving averages on shapes of traffic.
	PYTHONPATH=bench $(BIN)/python bench/demand.py --out bench/results

.PHONY: train-models
train-models: venv  ## Train the bundled family from nothing into build/models.
	$(BIN)/python -m argus.models.train --out build/models --resume

.PHONY: evaluate-models
evaluate-models: venv  ## Score the bundled family and rewrite its model card.
	$(BIN)/python -m argus.models.evaluate

.PHONY: wheel
wheel: venv  ## Build the wheel into dist/.
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

.PHONY: clean
clean:  ## Remove everything that was built.
	rm -rf $(VENV) build dist demo-out .coverage* .pytest_cache .mypy_cache .ruff_cache *.egg-info
