# Two commands to start with: make demo, make test. Each makes its own .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO := demo
FUZZ_SECONDS ?= 600
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-base lint docs bench bench-gpu fuzz torture mutants clean

# torch goes first and alone: the constraints file names the build, and nothing may fetch another.
$(VENV)/installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[train,export,plot,rtx,bench,dev,docs]'
	touch $@

## A monitor from nothing: synthesise machines, train, export, score clips it never heard, compile.
demo: $(VENV)/installed
	$(BIN)/edgeflow data synth $(DEMO)/data --types slider --machines 3 --clips 120
	$(BIN)/edgeflow train $(DEMO)/data --all -o $(DEMO)/runs
	$(BIN)/edgeflow export $(DEMO)/runs -o $(DEMO)/bundles --precision auto --false-alarms 5%
	$(BIN)/edgeflow verify $(DEMO)/bundles/slider_id_00.edgeflow
	@echo "--- scoring clips it never heard (anomalies are named so)"
	$(BIN)/edgeflow score $(DEMO)/bundles/slider_id_00.edgeflow --table --map $(DEMO)/maps \
	    $(DEMO)/data/slider/test/*_id_00_*[05].wav || test $$? -eq 1  # 1: there are anomalies
	@echo "--- does NVIDIA's parser take the graph? (on a Jetson: edgeflow build makes its engine)"
	$(BIN)/edgeflow build $(DEMO)/bundles/slider_id_00.edgeflow --backend tensorrt-rtx
	@echo "--- how well they tell them apart, and how often they cry wolf (5 % was promised)"
	$(BIN)/edgeflow evaluate $(DEMO)/bundles $(DEMO)/data --plots $(DEMO)/plots
	@echo "--- the files: sounds $(DEMO)/data, runs $(DEMO)/runs, bundles $(DEMO)/bundles," \
	    "pictures $(DEMO)/maps and $(DEMO)/plots"

## The whole suite: style, types, arrows, doctests, tests.
test: lint
	OMP_NUM_THREADS=1 $(PYTEST) -n 2

## The runtime's tests on the base install alone: oldest and newest Python, fresh environments.
test-base:
	PYTHON=$(PYTHON) tests/on_base_install.sh

## What the suite does in short, in full: coverage-guided fuzzing, FUZZ_SECONDS for each harness.
fuzz: $(VENV)/installed
	$(PIP) -e '.[fuzz]'
	PYTHONWARNINGS=error::RuntimeWarning $(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

## A fault at every call of the disk, a power cut after each, memory in steps, and other hardships.
torture: $(VENV)/installed
	EDGEFLOW_TORTURE=inf $(PYTEST) -s tests/torture

## Every small wrong in the core, and whether a test notices.
mutants: $(VENV)/installed
	$(BIN)/python -m tests.mutants.run

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=.:export:runtime:benchmarks $(BIN)/lint-imports

## The docs site, into site/: strictly, and with nothing fetched.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

## Ratios against what people do today, in one run (about three minutes on a quiet machine).
bench: $(VENV)/installed
	$(BIN)/python -m edgeflow_benchmarks

## The same for its GPU, in every precision (on a Jetson: that command, where TensorRT is seen).
bench-gpu: $(VENV)/installed
	$(BIN)/python -m edgeflow_benchmarks gpu

clean:
	rm -rf $(VENV) $(DEMO) site build dist *.egg-info
