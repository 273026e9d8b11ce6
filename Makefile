# make run, make test, make core, make crash, make cron, make soak, make bench, make check, make clean.
# Everything is installed into .venv when it is first needed, and again when pyproject.toml changes.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:
.NOTPARALLEL:
# Compiled once, started often: a start without bytecode costs several times as much.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?=
PYTHONS := $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3
PY := .venv/bin/python
PYTEST := $(PY) -m pytest
# One test or one file is watched by a person; all of them are spread over the cores, and half as many again: they wait a lot.
WORKERS := $(if $(T)$(K),0,$(shell echo $$(( $$(nproc 2>/dev/null || echo 2) * 3 / 2 ))))

# How far `make crash` goes, in percent of the rounds that the project promises.
CRASH ?= 100

# How long `make soak` goes on.
HOURS ?= 0.17

# A virtual environment holds absolute paths and a link to its Python: moved, or without that Python, it is made anew.
HERE := $(shell [ -x $(PY) ] && cat .venv/made-in 2>/dev/null)
ifneq ($(HERE),$(CURDIR))
.venv/made-in: again
endif

# Where the rivals of `make bench` are installed, and below what it runs: a disk, as a sync costs nothing in memory.
RIVALS ?= .bench/rivals
SCRATCH ?= .bench

.PHONY: help run test core crash cron soak bench bench-full lint check format clean again

help:
	@echo 'make run              install what is needed, then run the shipped pipeline (orch run --from -8 --to 15)'
	@echo 'make test             all tests;  T=tests/core/test_retry.py: one file;  K=backoff: those with that word'
	@echo 'make core             the tests of the core: seconds, not minutes'
	@echo 'make crash            the long hazards: kill -9, stubborn trees, races; CRASH=10: a tenth of the rounds, SEED=7'
	@echo 'make cron             eight minutes with the cron daemon of Debian (as root): each minute has its record'
	@echo 'make soak             ten minutes of runs under faults: nothing grows, nothing is lost; HOURS=8: a night'
	@echo 'make bench            orch beside a floor and its rivals, and how its cost grows: minutes; writes docs/performance.md'
	@echo 'make bench-full       the same with every rival that can be installed: half an hour'
	@echo 'make check            format, lint, types, then all tests'
	@echo 'make format           let ruff put the code into shape'
	@echo 'make clean            remove .venv and every cache'

run: .venv/ready-to-run
	@.venv/bin/orch run --from -8 --to 15

test: .venv/ready-to-test
	@$(PYTEST) -n $(WORKERS) --maxprocesses=6 --dist worksteal $(if $(K),-k '$(K)') $(T)

core: .venv/ready-to-test
	@$(PYTEST) -n 0 $(if $(K),-k '$(K)') tests/core

crash: .venv/ready-to-test
	@ORCH_TEST_TIMES=$(CRASH) ORCH_TEST_SEED=$(SEED) $(PYTEST) -n $(WORKERS) --maxprocesses=6 $(if $(K),-k '$(K)') $(or $(T),tests/crash)

cron: .venv/ready-to-test
	@ORCH_TEST_CRON=1 $(PYTEST) -n 0 -s tests/crash/test_real_cron.py

soak: .venv/ready-to-test
	@ORCH_TEST_SOAK=$$(awk 'BEGIN { print $(HOURS) * 3600 }') ORCH_TEST_SEED=$(SEED) $(PYTEST) -n 0 -s tests/crash/test_soak.py

bench bench-full: .venv/ready-to-run
	@$(PY) -m bench.compare $(if $(filter bench-full,$@),--full) --home $(RIVALS) --scratch $(SCRATCH)
	@$(PY) -m bench.costs --scratch $(SCRATCH)
	@$(PY) -m bench.report

lint: .venv/ready-to-test
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy

check: lint
	@$(MAKE) --no-print-directory test

format: .venv/ready-to-test
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

clean:
	@rm -rf .venv .bench .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

again:

# A command of that name may be there and not work (a shim, a Python without venv), so each is tried.
.venv/made-in:
	@for python in $(PYTHONS); do \
	    "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	    echo "make: .venv is being made with $$("$$python" --version)" >&2; \
	    "$$python" -m venv --clear .venv || exit 1; \
	    pwd -P >$@; \
	    exit 0; \
	done; \
	echo 'make: orch needs Python 3.11 or newer with its venv module, and none was found.' >&2; \
	echo '      Install one (Debian: apt install python3 python3-venv), or name it: make run PYTHON=/path/to/python3.11' >&2; \
	exit 1

# Two stamps: who only runs orch does not wait for the tools of its developers.
.venv/ready-to-run: EXTRA :=
.venv/ready-to-test: EXTRA := [dev]
.venv/ready-to-run .venv/ready-to-test: pyproject.toml .venv/made-in
	@echo "make: the packages named in pyproject.toml are being installed into .venv" >&2
	@$(PY) -m pip install -qq --disable-pip-version-check --editable '.$(EXTRA)' || { \
	    echo 'make: the packages could not be installed, pip says why above; then the same command again.' >&2; exit 1; }
	@$(PY) -m compileall -q orchestrator
	@touch .venv/ready-to-run $@
