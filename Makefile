# Everything works on a machine that has only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RESULT ?= results/quickstart

.PHONY: run test lint smoke validate nightly vllm-cpu benchmarks clean

run: $(STAMP)
	$(BIN)/slobench run quickstart --target sim --out $(RESULT) --force

test: $(STAMP)
	$(BIN)/python -m pytest -q -m "not smoke and not long"

lint: $(STAMP)
	$(BIN)/ruff format --check slobench tests benchmarks scripts
	$(BIN)/ruff check slobench tests benchmarks scripts
	$(BIN)/mypy

smoke: $(STAMP) vllm-cpu
	$(BIN)/python -m pytest -q -m smoke tests/e2e

validate: $(STAMP) vllm-cpu
	mkdir -p build
	$(BIN)/python -m scripts.validate_statistics
	$(BIN)/python -m scripts.validate_stopping
	$(BIN)/python -m scripts.validate_gate
	$(BIN)/python -m scripts.validate_capacity
	$(BIN)/python -m scripts.validate_sessions
	$(BIN)/python -m pytest -q -m long --ignore=tests/e2e --ignore=tests/validation/test_stopping.py tests
	$(BIN)/python -m pytest -q -m long --junitxml=build/validation.xml tests/e2e
	$(BIN)/python scripts/validation.py build/validation.xml

# Some 40 minutes: a day in virtual time, then half an hour at half of this machine's envelope; not for CI.
nightly: $(STAMP)
	$(BIN)/python benchmarks/day.py
	$(BIN)/python benchmarks/soak.py

# Ratios in one run each, kept in benchmarks/history/; all peers that `sh scripts/peers.sh` installed: benchmarks/ladder.py.
benchmarks: $(STAMP)
	$(BIN)/python benchmarks/micro.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/traces.py --rows 300000
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/memory.py --seconds 45 --from 15
	$(BIN)/python benchmarks/wire.py
	$(BIN)/python benchmarks/receive.py
	$(BIN)/python benchmarks/fidelity.py --rounds 1
	$(BIN)/python benchmarks/ladder.py slobench floor --parts ladder --seconds 4

vllm-cpu:
	bash scripts/vllm_cpu_env.sh

$(STAMP): pyproject.toml constraints.txt hatch_build.py scripts/build_native.py slobench/generate/_receive.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "slobench needs Python 3.11 or newer; set PYTHON=python3.12, say"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
