# Every command of a checkout. Those that need the environment set it up first, in under a minute
# on a fresh machine and in no time after that.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Containers often set it; every process would compile all it imports once more.
unexport PYTHONDONTWRITEBYTECODE
option = $(if $($(1)),--$(2) $($(1)))

.DEFAULT_GOAL := help
.PHONY: help install lock run resume runner broker knowledge format lint test test-device test-gpu \
	check exploits bench bench-gate bench-knowledge bench-digest fuzz-digest fuzz-replies soak fuzz-bus \
	flood-bus bench-link bench-bus bench-peers bench-scaling chaos chaos-ray docs docs-check size \
	bench-agents crash-models cheat test-long

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

install: ## Create .venv from requirements.lock; nothing to do when it is current
	@$(PYTHON) scripts/bootstrap.py

lock: install ## Write requirements.lock from what .venv holds
	@$(BIN)/python -m scripts.lock

run: install ## Optimise TARGET=softmax within BUDGET=5m (ROUNDS= DEVICE=auto LANES= TEAM= SEED= ARGS=)
	@$(BIN)/kernelpilot run $(or $(TARGET),softmax) --budget $(or $(BUDGET),5m) \
		$(call option,ROUNDS,rounds) $(call option,DEVICE,device) $(call option,LANES,lanes) \
		$(call option,TEAM,team) $(call option,SEED,seed) $(ARGS)

resume: install ## Go on with RUN=latest after a stop or a crash
	@$(BIN)/kernelpilot resume $(or $(RUN),latest) $(ARGS)

runner: install ## Start a worker of a pool (ARGS= as kernelpilot-runner worker)
	@$(BIN)/kernelpilot-runner worker $(ARGS)

broker: install ## Start a broker of a pool (ARGS= as kernelpilot-runner broker)
	@$(BIN)/kernelpilot-runner broker $(ARGS)

knowledge: install ## Build a store of evidence from BUNDLES=path or GIT=path (STORE=knowledge ARGS=)
	@$(BIN)/kernelpilot knowledge build --store $(or $(STORE),knowledge) $(call option,BUNDLES,bundles) \
		$(call option,GIT,git) $(if $(BUNDLES)$(GIT),,--own) $(ARGS)

format: install ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .

lint: install ## Ruff, formatting, mypy strict, import contracts
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install ## All tests that need no GPU and no network, but for those of test-device
	@bash scripts/test.sh $(ARGS)

test-long: install ## Whole runs of models in number: endings, mends, limits, a kill; a minute
	$(BIN)/python -m pytest -q -m long $(ARGS)

test-device: install ## The GPU tier without a GPU: compile CUDA and Triton, judge on a processor
	$(BIN)/python -m pytest -q -n auto -m "device and not gpu" $(ARGS)

test-gpu: install ## The tests that need a CUDA device
	$(BIN)/python -m pytest -q -m gpu $(ARGS)

check: lint test test-device docs-check ## Lint, all tests and docs-check

exploits: install ## Evaluate every published way to cheat; print the table
	$(BIN)/python -m tests.exploits.run $(ARGS)

bench: install ## Overhead, latency of a verdict and memory of the product itself
	$(BIN)/python -m tests.benchmarks.bench $(ARGS)

bench-bus: install ## What the job bus costs a job, and a broker's restart with 110,000 jobs
	$(BIN)/python -m tests.benchmarks.bus $(ARGS)

bench-peers: install ## A job that does nothing, beside Ray and Dask where installed (PYTHON_RAY= ARGS=)
	$(or $(PYTHON_RAY),$(BIN)/python) -m tests.benchmarks.peers $(ARGS)

bench-scaling: install ## 50 ms jobs on 1 and on 8 workers, each in a network namespace (ARGS=)
	$(BIN)/python -m tests.benchmarks.scaling $(ARGS)

chaos: install ## Thousands of jobs while broker, workers and clients are killed and cut off (ARGS=)
	$(BIN)/python -m tests.benchmarks.chaos $(ARGS)

chaos-ray: install ## A Ray cluster loses a node while jobs run; needs kernelpilot[ray] (PYTHON_RAY= ARGS=)
	$(or $(PYTHON_RAY),$(BIN)/python) -m tests.gpu_runner.provisioning.ray_cluster $(ARGS)

bench-gate: install ## False wins on identical code, power on a planted difference
	$(BIN)/python -m tests.benchmarks.gate $(ARGS)

bench-knowledge: install ## Search beside ripgrep, latencies, build and memory (BUNDLES=path ARGS=)
	$(BIN)/python -m tests.benchmarks.knowledge $(call option,BUNDLES,bundles) $(ARGS)

bench-digest: install ## Time and memory of reading profiler reports
	$(BIN)/python -m tests.benchmarks.digest

bench-agents: install ## What models cost a run: tokens by role, cache, overhead (ARGS=--rounds 8)
	$(BIN)/python -m tests.benchmarks.agents $(ARGS)

crash-models: install ## Kill a run of models as every node begins and ends; it must go on alike
	$(BIN)/python -m tests.graph.model_crash

cheat: install ## A run whose models cheat: every exploit of the corpus as a draft, really judged
	$(BIN)/python -m tests.graph.cheating_run

soak: install ## 300 rounds of scripted models: memory, checkpoints, prompts, spend (ROUNDS=)
	$(BIN)/python -m tests.benchmarks.soak $(ROUNDS)

fuzz-digest: install ## Feed damaged reports to the digest (INPUTS=100000 SEED=1)
	$(BIN)/python -m tests.benchmarks.fuzz_reports $(or $(INPUTS),100000) $(or $(SEED),1)

fuzz-replies: install ## Feed malformed replies to every role of a team of models (EACH=1000 SEED=1)
	@$(BIN)/python -m tests.benchmarks.fuzz_replies $(or $(EACH),1000) $(or $(SEED),1)

fuzz-bus: install ## Send mutated messages of enrolled keys to a broker (MESSAGES=1000000 SEED=1)
	$(BIN)/python -m tests.gpu_runner.security.fuzz $(or $(MESSAGES),1000000) $(or $(SEED),1)

flood-bus: install ## Strangers by the thousand at a broker with keys (ARGS=--idle 1500 --huge 500)
	$(BIN)/python -m tests.gpu_runner.security.flood $(ARGS)

bench-link: install ## Heartbeats beside a large upload over a slow line (ARGS=--mib 1024 --mb-per-s 25)
	$(BIN)/python -m tests.gpu_runner.blobs.bench_link $(ARGS)

docs: install ## Write the generated documents
	@$(BIN)/python -m scripts.docs

docs-check: install ## Fail when a generated document is out of date
	@$(BIN)/python -m scripts.docs --check

size: install ## Lines a file, worst first, and tests per product line
	@$(BIN)/python -m scripts.size
