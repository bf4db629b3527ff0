# make ablation: set up, run the main job, write runs/REPORT.md.   make test: set up, pass the tests.   make lint: ruff, mypy.
# make slurm-start, make slurm-stop: a real Slurm with four virtual nodes on this machine (needs root; see README).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e '.[dev]'
	touch $@

.PHONY: install ablation test lint slurm-start slurm-stop
install: $(INSTALLED)

ablation: install
	$(BIN)/python experiments/launch.py grid=ablation cluster=local; code=$$?; $(BIN)/python analysis/images.py || code=$$?; \
	$(BIN)/python analysis/report.py && exit $$code

test: install
	$(BIN)/python -m pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slurm-start: install
	$(BIN)/python -m tests.slurm.testcluster start

slurm-stop: install
	$(BIN)/python -m tests.slurm.testcluster stop
