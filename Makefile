# Every target builds .venv first where it is missing.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo

# One process of pytest a core, and a file's tests in one; tests/conftest.py says which come first.
# A single file is quicker without: .venv/bin/python -m pytest tests/sequences/test_frames.py
IN_PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

# What `make test` runs. On macOS "not slow and not faults": processes end otherwise there.
MARKS ?= not slow and not slurm and not gridengine and not htcondor
BATCH_TESTS ?=

.PHONY: demo test test-slow test-faults test-slurm test-gridengine test-htcondor check docs clean

demo: .venv/ready
	$(BIN)/python -m virnuc_dask run tests/data/demo.fasta.gz -o $(DEMO) --config configs/laptop.yaml --force
	@$(BIN)/python tests/data/demo_truth.py $(DEMO)

test: .venv/ready
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "$(MARKS)" --durations 15

# What takes too long for every change: large inputs, long fuzzing, trainings of transformers.
test-slow: .venv/ready
	FUZZ_SECONDS=60 $(BIN)/python -m pytest -m slow --timeout 1800 --durations 15

# The long forms of the faults: a hundred killed workers, fifty interrupted runs, and what test
# does too.
test-faults: .venv/ready
	VIRNUC_FAULTS_LONG=1 $(BIN)/python -m pytest -m faults --timeout 3600 tests/faults

# Real batch systems, which the tests start on this machine and stop again.
test-slurm: SUBMIT = sbatch
test-gridengine: SUBMIT = qsub
test-htcondor: SUBMIT = condor_submit
test-slurm test-gridengine test-htcondor: test-%: .venv/ready
	@command -v $(SUBMIT) > /dev/null || { echo "No $(SUBMIT): see Tests in CONTRIBUTING.md"; exit 1; }
	$(BIN)/python -m pytest -m $* -k "$(BATCH_TESTS)" --timeout 600 --durations 20 tests/batch

check: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The documentation's site, in docs/site; whatever MkDocs warns of is an error.
docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file docs/mkdocs.yml

# dask-cuda is installed without its dependencies: what it pins cannot be had everywhere, and its
# code is imported and tested without a GPU.
.venv/ready: pyproject.toml constraints.txt tests/cuda-requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test,docs,jobqueue]"
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps -r tests/cuda-requirements.txt
	touch $@

clean:
	rm -rf .venv $(DEMO)
