# Everything a fresh machine needs is Python 3.11+, a C compiler and make.
#   make lectures   run the lecture notebooks on cfutures, print a table, leave HTML
#   make test       build, then run every test
#   make bench      measure against the standard library, print and save ratios
# PYTHON=python3.13 picks another interpreter; each gets an environment of its own.

PYTHON ?= python3
TAG := $(shell $(PYTHON) -c 'import sys, sysconfig; print("%d.%d%s" % (*sys.version_info[:2], "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))')
VENV ?= .venv-$(TAG)
PY := $(VENV)/bin/python
CC ?= cc
SIZE ?= small
ENGINE ?= both

.PHONY: help test pytest conformance ctest tsan asan lectures bench lint clean

help:
	@sed -n '1,7p' Makefile

# An environment is made once a set of requirements; cfutures itself is
# (re)built by every target that runs it, which costs a second when nothing changed.
$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml setup.py $(wildcard csrc/*/*.[ch])
	$(PY) -m pip install --quiet -e '.[test]'
	@touch $@

$(VENV)/.lectures: $(VENV)/.made pyproject.toml setup.py $(wildcard csrc/*/*.[ch])
	$(PY) -m pip install --quiet -e '.[lectures]'
	@touch $@

$(VENV)/.bench: $(VENV)/.made pyproject.toml setup.py $(wildcard csrc/*/*.[ch])
	$(PY) -m pip install --quiet -e '.[bench]'
	@touch $@

$(VENV)/.lint: $(VENV)/.made pyproject.toml
	$(PY) -m pip install --quiet -e '.[lint,test]'
	@touch $@

test: ctest pytest

pytest: $(VENV)/.test
	$(PY) -m pytest $(PYTEST_ARGS)

conformance: $(VENV)/.test
	$(PY) tests/conformance/cpython_suite.py --impl cfutures $(SUITE_ARGS)

ctest tsan asan:
	$(MAKE) -C tests/c CC=$(CC) $@

lectures: $(VENV)/.lectures
	$(PY) notebooks/run_lectures.py --size $(SIZE) --engine $(ENGINE)

bench: $(VENV)/.bench
	$(PY) benchmarks/run.py $(BENCH_ARGS)

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean:
	rm -rf .venv-* build dist *.egg-info pyfutures/*.egg-info tests/c/build notebooks/out notebooks/data
	find pyfutures -name '*.so' -delete
