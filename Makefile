# make demo | test | lint | docs | wheel | wheel-check | cuda-check | fuzz | bench: each sets itself up on a bare machine (Python 3.10 or later, a C++ compiler).
# Another interpreter: make demo PYTHON=python3.12. Arguments for pytest: make test ARGS='-k metrics'.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
SOURCES := setup.py pyproject.toml $(wildcard csrc/* csrc/*/*)

BARE := $(VENV)/bare

.PHONY: demo test lint docs wheel wheel-check cuda-check fuzz bench
demo: $(VENV)/.package
	$(PY) examples/qm9_ar.py

test: $(VENV)/.package $(VENV)/.scatter
	$(PY) -m pytest -n 2 --dist loadfile -m 'not slow and not gpu and not cuda_compile' $(ARGS)

lint: $(VENV)/.package
	$(PY) -m ruff check .
	$(PY) -m mypy

docs: $(VENV)/.package
	$(PY) -m sphinx -W -b html docs docs/_build/html

# One wheel for every Python from 3.10 and every torch from 2.10, in dist/.
wheel: $(VENV)/.requirements
	rm -rf dist build
	$(PY) -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir dist .
	ls dist

# The wheel in an environment that has what it requires, and nothing else.
wheel-check: wheel
	$(PYTHON) -m venv --clear $(BARE)
	sed 's/\[[a-z]*\]//' requirements.txt > $(BARE)/constraints.txt
	$(BARE)/bin/python -m pip install --quiet --disable-pip-version-check -c $(BARE)/constraints.txt dist/*.whl
	$(BARE)/bin/python -I tests/helpers/bare_environment.py

# Every CUDA source through nvcc, without a GPU: about two minutes.
cuda-check: $(VENV)/.package
	$(PY) -m pytest tests/test_cuda_compiles.py -m 'cuda_compile and not slow' $(ARGS)

# Ten minutes for each test that draws cases for as long as INERTIAL_FUZZ_SECONDS says.
fuzz: $(VENV)/.package
	INERTIAL_FUZZ_SECONDS=$${INERTIAL_FUZZ_SECONDS:-600} $(PY) -m pytest tests/fuzz $(ARGS)

bench: $(VENV)/.package
	set -e; for script in benchmarks/bench_*.py; do echo "== $$script"; $(PY) $$script; done

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.requirements: requirements.txt $(VENV)/.created
	@echo 'installing the packages of requirements.txt into $(VENV)'
	$(PIP) -r requirements.txt
	touch $@

$(VENV)/.package: $(SOURCES) $(VENV)/.requirements
	@echo 'building the package'
	$(PIP) --no-build-isolation --no-deps --editable .
	touch $@

# torch-scatter has no wheels: about 10 minutes of compiling, once. The package works without it; its tests want it.
# A wheel that pip kept may be of another torch, which shows on import.
$(VENV)/.scatter: requirements-scatter.txt $(VENV)/.requirements
	@echo 'building torch-scatter: this takes minutes'
	$(PIP) --no-build-isolation --no-deps -r requirements-scatter.txt
	$(PY) -c 'import torch_scatter' || $(PIP) --no-build-isolation --no-deps --no-cache-dir --force-reinstall -r requirements-scatter.txt
	touch $@
