# make ablation     install, train the ablation on shapes, write runs/REPORT.md, compare with the committed records
# make test         install, run the tests; make test TESTS= runs the slow ones too
# make lint, docs   ruff and mypy; the documentation site
# make lock         add what pyproject.toml asks for to requirements.lock; make lock UPGRADE=1 takes newer versions
# make slurm-start, make slurm-stop   a real Slurm with four virtual nodes on this machine (needs root; docs/slurm.md)
#
# Everything is installed into .venv, in the versions of requirements.lock. LOCK= takes the newest that pip finds.
PYTHON ?= python3
GRID ?= ablation
TESTS ?= not slow
LOCK ?= requirements.lock
BIN := .venv/bin
INSTALLED := .venv/installed
# the newest releases that the tests have passed with
NEWEST_TORCH := torch<=2.14.1 torchvision<=0.29.1

$(INSTALLED): pyproject.toml $(LOCK)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(if $(LOCK),-c $(LOCK)) -e '.[dev,docs]'
	$(BIN)/pip install $(if $(LOCK),-c $(LOCK)) --no-deps --force-reinstall opencv-python-headless  # works without libGL
	touch $@

.PHONY: install ablation test lint docs lock slurm-start slurm-stop
install: $(INSTALLED)

ablation: install
	$(BIN)/python experiments/launch.py grid=$(GRID) cluster=local; code=$$?; $(BIN)/python analysis/images.py || code=$$?; \
	$(BIN)/python analysis/report.py against=analysis/records && exit $$code

test: install
	$(BIN)/python -m pytest -n 2 -m '$(TESTS)'

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint containers/Dockerfile; fi

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock:
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/pip install uv==0.13.9
	printf '%s\n' $(foreach release,$(NEWEST_TORCH),'$(release)') > .venv/lock/newest.txt
	.venv/lock/bin/uv pip compile pyproject.toml --constraints .venv/lock/newest.txt $(if $(UPGRADE),--upgrade) \
		--universal --python-version 3.10 --extra dev --extra docs --no-annotate --quiet \
		--custom-compile-command 'make lock' --output-file requirements.lock

slurm-start: install
	$(BIN)/python -m tests.slurm.testcluster start

slurm-stop: install
	$(BIN)/python -m tests.slurm.testcluster stop
