# Two commands: `make demo` and `make test`. Each sets up .venv on its first run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export TF_CPP_MIN_LOG_LEVEL ?= 2
# Off by default on CPUs without AVX-512, where it trains several times faster, too.
export TF_ENABLE_ONEDNN_OPTS ?= 1

.PHONY: demo test test-all docs faults consumers coverage matrix size lint format clean

demo: $(READY)
	$(BIN)/python -m tfslim.export resnet18:alpha=0.5 --overwrite

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: $(READY)
	$(BIN)/python -m pytest -m ""

# Tries to make tfslim lose something; half an hour on two cores.
faults: $(READY)
	$(BIN)/python -m benchmarks.faults

# Sets up the programs that run the files, and writes who runs what: half an hour.
consumers: $(READY)
	-$(BIN)/python -m tfslim.consumers --setup=all
	$(BIN)/python -m benchmarks.consumers

# The site of docs/ in build/site; a warning is an error.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python docs/make_pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# What of Keras converts, quantizes and is cut: docs/coverage.md, half an hour.
coverage: $(READY)
	$(BIN)/python -m benchmarks.coverage

# The oldest and newest TensorFlow and Keras, without TF-MOT, and the base install.
matrix: $(READY)
	$(BIN)/python -m benchmarks.matrix

size: $(READY)
	$(BIN)/python -m benchmarks.code_size

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[tensorflow,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) out build *.egg-info
