# Every target builds .venv first where it is missing.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo

.PHONY: demo test test-faults check clean

demo: .venv/ready
	$(BIN)/python -m virnuc_dask run tests/data/demo.fasta.gz -o $(DEMO) --config configs/laptop.yaml --force
	@echo "The truth: Escherichia_phage_lambda is a virus, the twelve others are bacteria."
	@echo "What mini misses, here and elsewhere: $(BIN)/python -m virnuc_dask models show mini"

test: .venv/ready
	$(BIN)/python -m pytest

# The long forms: a hundred killed workers, fifty interrupted runs, and what test does too.
test-faults: .venv/ready
	VIRNUC_FAULTS_LONG=1 $(BIN)/python -m pytest -m faults --timeout 3600 tests/faults

check: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# dask-cuda is installed without its dependencies: what it pins cannot be had everywhere, and its
# code is imported and tested without a GPU.
.venv/ready: pyproject.toml constraints.txt tests/cuda-requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test,jobqueue]"
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps -r tests/cuda-requirements.txt
	touch $@

clean:
	rm -rf .venv $(DEMO)
