# Every target sets up what it needs: `make demo` works on a machine with only git, make and Python.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help venv demo test test-arviz1 lint docs format notebooks quick naive accuracy paper runtime clean
help:
	@echo "make demo   train on the Sachs flow-cytometry data, write out/sachs/ (under 5 minutes)"
	@echo "make test   run the test suite (about 12 minutes)"
	@echo "make test-arviz1  the ArviZ export on ArviZ 1.x (needs Python 3.12; no torch)"
	@echo "make lint   ruff and mypy"
	@echo "make docs   the documentation's site, out/docs/index.html (a minute)"
	@echo "make venv   only the virtual environment, .venv"
	@echo "make notebooks  run notebooks/*.py at full size and write the .ipynb (about 15 minutes)"
	@echo "make quick  accuracy and speed of the paper's configuration (about 15 minutes)"
	@echo "make naive  scores that need no model, on every kind of world (about 3 minutes)"
	@echo "make runtime  seconds and memory along variables and tasks (an hour; leave the machine alone)"
	@echo "make paper  the paper's experiment with what one would use instead (many hours; goes on where it stopped)"
	@echo "make accuracy  every method on every world, 20 seeds (many hours; goes on where it stopped)"

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

venv: $(STAMP)

demo: venv
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/metacadi demo --out out/sachs --overwrite

test: venv
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# ArviZ 1.x needs Python 3.12; the export takes plain arrays, so that torch is not needed.
PYTHON312 ?= python3.12
.venv-312/.installed: constraints-3.12.txt
	test -x .venv-312/bin/python || $(PYTHON312) -m venv .venv-312
	.venv-312/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-3.12.txt \
	    "arviz>=1" xarray numpy h5netcdf h5py zarr matplotlib packaging pytest
	touch $@

test-arviz1: .venv-312/.installed
	.venv-312/bin/python -m pytest -q --noconftest -o addopts= -o timeout=0 -W ignore::pytest.PytestConfigWarning \
	    tests/inference/test_arviz_generations.py

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q -E -b html -c docs -d out/doctrees . out/docs

notebooks: venv
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python notebooks/execute.py

quick: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quick

naive: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.naive

accuracy: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.accuracy

paper: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[utigsp]"
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.paper

runtime: venv
	$(BIN)/python -m benchmarks.runtime

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-312 out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
