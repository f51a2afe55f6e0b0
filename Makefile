# Everything a fresh machine needs is Python 3.11+, a C compiler and make.
#   make lectures   run the lecture notebooks, print a table, leave pages and an index
#   make lab        open them in JupyterLab
#   make test       build, then run every test
#   make test-all   the Python tests on each of PYTHONS="python3.11 ...", then one table
#   make test-freethreaded  on a CPython without a GIL, built in ~/.cache if need be
#   make wheel-check  a wheel: built, looked at, installed, tested outside the checkout
#   make test-browser   what a person sees in JupyterLab, in a headless Chromium
#   make test-asan test-leaks test-tsan soak   see docs/contributing.md
#   make bench      measure against the standard library, print and save ratios
#   make bench-peers   the same work on other libraries; writes tables and plots into docs/
#   make instructions  instructions a task, counted by valgrind
# PYTHON=python3.13 picks another interpreter; each gets an environment of its own.

PYTHON ?= python3
TAG := $(shell $(PYTHON) -c 'import sys, sysconfig; print("%d.%d%s" % (*sys.version_info[:2], "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))')
VENV ?= .venv-$(TAG)
PY := $(VENV)/bin/python
CC ?= cc
SIZE ?= small
ENGINE ?= both
# Of what an environment needs not every version has a wheel for each interpreter: an older
# one that has is better than half an hour of compiling.
export PIP_PREFER_BINARY := 1
# The notebooks and mypy are among the tests, except where what they need has no wheels: then
# they are skipped, and say so.
comma := ,
TEST_EXTRAS := $(if $(filter %t,$(TAG)),test,test$(comma)lint$(comma)lectures)

.PHONY: help test test-all test-freethreaded wheel-check test-browser browser-environment \
	test-asan test-leaks test-tsan soak pytest conformance ctest tsan asan perturb fuzz faults \
	stress stress-deaths lectures lab bench bench-peers instructions lint clean

help:
	@sed -n '1,13p' Makefile

# An environment is made once a set of requirements; cfutures itself is
# (re)built by every target that runs it, which costs a second when nothing changed.
$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml setup.py $(wildcard csrc/*/*.[ch])
	$(PY) -m pip install --quiet -e '.[$(TEST_EXTRAS)]'
	@touch $@

$(VENV)/.lectures: $(VENV)/.made pyproject.toml setup.py $(wildcard csrc/*/*.[ch])
	$(PY) -m pip install --quiet -e '.[lectures]'
	@touch $@

$(VENV)/.lab: $(VENV)/.lectures
	$(PY) -m pip install --quiet -e '.[lectures,lab]'
	@touch $@

$(VENV)/.browser: $(VENV)/.test
	$(PY) -m pip install --quiet -e '.[test,lectures,lab,browser]'
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

# One after the other; PYTEST_ARGS goes to all of them.
PYTHONS ?= $(PYTHON)
test-all:
	$(PYTHON) tests/matrix.py --pytest-args="$(PYTEST_ARGS)" $(PYTHONS)

# FREETHREADED=python3.13t names an interpreter, and nothing is built.
FREETHREADED ?=
test-freethreaded:
	python="$(FREETHREADED)"; [ -n "$$python" ] || python=$$(tests/freethreaded.sh) || exit; \
		$(MAKE) pytest PYTHON="$$python"

wheel-check:
	tests/wheel_check.sh $(PYTHON) $(PYTEST_ARGS)

# ---- builds of other kinds ----

# Each has an environment of its own, build/KIND-VERSION/venv, which takes cfutures from
# build/KIND-VERSION/lib and everything else from the usual environment.
CFLAGS_asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
LDFLAGS_asan := -fsanitize=address,undefined
CFLAGS_leaks := -O1 -g -UNDEBUG -DCF_COUNT_LIVE
CFLAGS_tsan := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
LDFLAGS_tsan := -fsanitize=thread
SITE_PACKAGES := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'

build/%-$(TAG)/.made: $(VENV)/.test $(wildcard pyfutures/cfutures/*.py)
	rm -rf $(@D)
	CFUTURES_CFLAGS="$(CFLAGS_$*)" LDFLAGS="$(LDFLAGS_$*)" $(PY) -m pip install --quiet \
		--no-deps --target $(@D)/lib \
		-C--global-option=build -C--global-option=--build-base=$(@D) .
	$(PY) -m venv --without-pip $(@D)/venv
	printf '%s\n' "$(CURDIR)/$(@D)/lib" "$$($(PY) $(SITE_PACKAGES))" \
		> "$$($(@D)/venv/bin/python $(SITE_PACKAGES))/$*.pth"
	@touch $@

# What reads the sources, builds, or starts a browser gains nothing by another build.
ENGINE_TESTS := $(wildcard tests/test_*.py) $(addprefix tests/,stress isolated pool queue procs)

# tests/leaks/asan.sh says how, and which tests are left out.
test-asan: build/asan-$(TAG)/.made
	CC="$(CC)" CFUTURES_CFLAGS="$(CFLAGS_asan)" sh tests/leaks/asan.sh $(<D) \
		$(ENGINE_TESTS) $(PYTEST_ARGS)

test-leaks: build/leaks-$(TAG)/.made
	PYTHONPATH=tests/leaks $(<D)/venv/bin/python -m pytest --impl cfutures -p live_objects \
		-p no:cacheprovider $(ENGINE_TESTS) $(PYTEST_ARGS)

# Threads only: ThreadSanitizer does not follow what happens between processes.  With a GIL
# it sees the hand-over of the GIL, and so finds what is done without it.
TSAN_TESTS := $(addprefix tests/,stress test_as_completed.py test_asyncio.py \
	test_future_callbacks.py test_future_repr_and_attributes.py test_future_states.py \
	test_map.py test_mixed.py test_references.py test_result_timeouts.py test_shutdown.py \
	test_thread_pool.py test_unread.py test_wait.py)

# Three pools of processes at a time reserve more address space than ThreadSanitizer leaves.
TSAN_NOT := tests/stress/test_lives.py::test_random_lives

# setarch: see tests/c/Makefile.
test-tsan: build/tsan-$(TAG)/.made
	LD_PRELOAD="$$($(CC) -print-file-name=libtsan.so)" \
	TSAN_OPTIONS="suppressions=$(CURDIR)/tests/leaks/tsan.supp die_after_fork=0 history_size=4 $(TSAN_OPTIONS)" \
	$(shell setarch -R true 2>/dev/null && echo setarch -R) $(<D)/venv/bin/python -m pytest \
		--impl cfutures -p no:cacheprovider $(TSAN_TESTS) --deselect $(TSAN_NOT) $(PYTEST_ARGS)

soak: $(VENV)/.test
	$(PY) -m pytest --deep tests/leaks $(PYTEST_ARGS)

# Its pictures are left in build/screenshots/.
BROWSER ?= $(shell for name in chromium chromium-browser google-chrome; do \
	command -v $$name && break; done)
browser-environment: $(VENV)/.browser

test-browser: $(VENV)/.browser
	@test -n "$(BROWSER)" || \
		{ echo "make test-browser: no Chromium was found: BROWSER=/path/of/one" >&2; exit 1; }
	$(PY) -m pytest --browser "$(BROWSER)" tests/browser $(PYTEST_ARGS)

# Each stress test goes on for some multiple of STRESS_SECONDS; SEED repeats its choices.
STRESS_SECONDS ?= 10
STRESS := --impl cfutures -s --stress-seconds $(STRESS_SECONDS) $(if $(SEED),--seed $(SEED))
stress: $(VENV)/.test
	$(PY) -m pytest $(STRESS) tests/stress tests/procs/test_process_stress.py $(PYTEST_ARGS)

# Workers killed at random moments, and a count of what was lost with them.
DEATHS ?= 1000
stress-deaths: $(VENV)/.test
	$(PY) -m pytest $(STRESS) --deaths $(DEATHS) tests/stress/test_deaths.py $(PYTEST_ARGS)

# Calls of the system that fail one after the other, and limits that are too low.
faults: $(VENV)/.test
	$(PY) -m pytest --deep tests/faults $(PYTEST_ARGS)

conformance: $(VENV)/.test
	$(PY) tests/conformance/cpython_suite.py --impl cfutures $(SUITE_ARGS)

ctest tsan asan perturb fuzz:
	$(MAKE) -C tests/c CC=$(CC) $@

lectures: $(VENV)/.lectures
	$(PY) notebooks/run_lectures.py --size $(SIZE) --engine $(ENGINE)

# LAB_ARGS: --no-browser, --port=9999, ...  The notebooks ask for data of this size.
lab: $(VENV)/.lab
	$(PY) notebooks/lecture_data.py --size lecture
	$(PY) -m jupyterlab notebooks $(LAB_ARGS)

bench: $(VENV)/.bench
	$(PY) benchmarks/run.py $(BENCH_ARGS)

# The other libraries in the versions that are pinned; one that this interpreter cannot have
# is left out, and its column says so.  PEERS_ARGS: --quick, --without ray, ...
PEERS := benchmarks/peers/requirements.txt
$(VENV)/.peers: $(VENV)/.bench $(PEERS)
	$(PY) -m pip install --quiet -e '.[bench,plots]'
	@grep -v '^#' $(PEERS) | while read -r peer; do \
		$(PY) -m pip install --quiet --only-binary :all: "$$peer" \
			|| echo "make bench-peers: without $$peer" >&2; \
	done
	@touch $@

bench-peers: $(VENV)/.peers
	$(PY) benchmarks/run_peers.py --page $(PEERS_ARGS)

instructions: $(VENV)/.bench
	$(PY) benchmarks/instructions.py $(INSTRUCTIONS_ARGS)

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean:
	rm -rf .venv-* build dist *.egg-info pyfutures/*.egg-info tests/c/build notebooks/out notebooks/data
	find pyfutures -name '*.so' -delete
