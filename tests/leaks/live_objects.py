"""A pytest plugin: after each test as many objects of the engine are alive as before it.

`make test-leaks` loads it, with a build of cfutures that counts (csrc/base/live.h).  A test
must leave nothing of any kind when its fixtures are gone and garbage was collected; it is
given some time, for threads that still end.  Pools that tests share are made anew for each
of them (testkit.shared_scope).
"""
import gc
import pickle
import time

import pytest

# What is made once, at an import, is there before the first test.
from cfutures import _byvalue, _core, _survey, pool, process, queue, thread  # noqa: F401

#: Seconds for what other threads and processes still let go of.
PATIENCE = 15
BEFORE = pytest.StashKey[dict]()
#: Of queues that another process made a few stay open without any object (LINGERING in
#: csrc/procs/queue_view.c): so many of these kinds may be there, at any time, and any blocks.
LINGERING = 4
OF_QUEUE_VIEWS = ("queue_view", "queue", "codec", "pickling", "pickle_sink", "segment",
                  "arena", "pins")


def pytest_configure():
    if not hasattr(_core, "_live"):
        raise pytest.UsageError("this cfutures does not count: see make test-leaks")
    # Of these a few are kept for the next time.
    _survey.outline(None)


def look_at_forks():
    """Receive a buffer and drop it: only then the engine looks whether forked processes that
    may see an earlier one have ended (csrc/procs/lease.c)."""
    mail = queue.Queue()
    mail.put(pickle.PickleBuffer(bytearray(1 << 17)))
    mail.get(timeout=PATIENCE)


def left_over(before):
    """The kinds of which there are more or fewer than `before`, and by how many."""
    # Functions and classes that were sent, the last 64, kept to be sent faster again.
    _byvalue._parcels.clear()
    gc.collect()
    if _core._live()["lease"] != before["lease"]:
        look_at_forks()
    now = _core._live()
    views = now["queue_view"] or before["queue_view"]
    return {kind: count - before[kind] for kind, count in now.items()
            if count != before[kind] and not (views and _lingers(kind, count))}


def _lingers(kind, count):
    return kind == "block" or (kind in OF_QUEUE_VIEWS and count <= LINGERING)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    gc.collect()
    item.stash[BEFORE] = _core._live()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item):
    result = yield
    # What fixtures gave the test; they have ended.
    item.funcargs.clear()
    end = time.monotonic() + PATIENCE
    while left_over(item.stash[BEFORE]) and time.monotonic() < end:
        time.sleep(0.01)
    left = left_over(item.stash[BEFORE])
    assert not left, f"alive after the test: {left}"
    return result


