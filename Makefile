# `make test` and `make demo` work on a fresh checkout: they build the environment first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
DEMO ?= ckpts/demo
FUZZ_INPUTS ?= 10000

SEED ?= 1
TRIALS ?= 50
# files of tests that run at the same time; each takes some 2 GB
TESTS_AT_ONCE ?= 2

.PHONY: demo test faults fuzz lint clean

demo: $(VENV)/.program
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" DEMO="$(DEMO)" bash scripts/demo.sh

test: $(VENV)/.tests lint
	$(RUN) -m pytest -n $(TESTS_AT_ONCE) --dist loadfile

# Many hostile files for every reader of files, where `make test` takes some. They lie in memory:
# what is written for good waits for the disk
fuzz: $(VENV)/.tests
	folder=$$(mktemp -d -p $$(test -w /dev/shm && echo /dev/shm || echo /tmp)) \
	&& trap "rm -rf $$folder" EXIT \
	&& FUZZ_INPUTS=$(FUZZ_INPUTS) $(RUN) -m pytest tests/fuzz --basetemp=$$folder/files \
		-n $(TESTS_AT_ONCE) --dist loadfile

# Kills, damage, full disks: TRIALS of each kind of training, the others in proportion
faults: $(VENV)/.tests
	$(RUN) -m pytest tests/faults --seed $(SEED) --trials $(TRIALS)

lint: $(VENV)/.program
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

$(VENV)/.program: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info < (3, 14) else "Python 3.10 to 3.13 is needed; name one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.tests: requirements-test.txt $(VENV)/.program
	$(RUN) -m pip install --quiet -r requirements-test.txt
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
