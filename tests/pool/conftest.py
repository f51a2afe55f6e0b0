"""Pools of both implementations: multiprocessing.Pool is the oracle."""
import multiprocessing
import multiprocessing.pool
import queue
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import testkit

# Doors, programs and the process table are those of the process pool's tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "procs"))

import proc_tasks
from prockit import Door, no_new_offspring

KINDS = ("fork", "spawn", "threads")


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            # From 3.12 on CPython warns of every fork in a process with threads.
            item.add_marker(pytest.mark.filterwarnings(
                "ignore:This process .* is multi-threaded:DeprecationWarning"))
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(90))


@pytest.fixture(scope="session")
def lib(implementation):
    """The classes of the implementation under test."""
    if implementation == "stdlib":
        module = multiprocessing.pool
        timeout = multiprocessing.TimeoutError
    else:
        import cfutures.pool as module
        timeout = module.TimeoutError
    return SimpleNamespace(Pool=module.Pool, ThreadPool=module.ThreadPool,
                           TimeoutError=timeout, name=implementation)


@pytest.fixture(scope="session", params=KINDS)
def kind(request):
    """What the workers are: processes that were started so, or threads."""
    return request.param


def make_pool(lib, kind, count, **options):
    """A pool of `count` workers."""
    if kind == "threads":
        return lib.ThreadPool(count, **options)
    return lib.Pool(count, context=multiprocessing.get_context(kind), **options)


@pytest.fixture(scope=testkit.shared_scope)
def shared(lib, kind):
    """One pool of 2 workers for all tests that leave it as they found it."""
    with make_pool(lib, kind, 2) as pool:
        if kind == "threads":
            # Both threads now, so that no test starts one.
            together = threading.Barrier(2)
            pool.map(lambda _: together.wait(testkit.GUARD), range(2), 1)
        yield pool
    pool.join()


@pytest.fixture
def make(lib):
    """Make pools that are terminated after the test, even if it failed."""
    pools = []

    def make(kind="fork", count=2, **options):
        pools.append(make_pool(lib, kind, count, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.terminate()
        pool.join()


class ThreadDoor:
    """A Door for threads: `task` waits at it, as proc_tasks.wait_at() does."""

    def __init__(self):
        self.path = ""
        self._opened = threading.Event()
        self._came = queue.SimpleQueue()

    def task(self, path, tag=None):
        if path != self.path:
            raise FileNotFoundError(path)
        self._came.put(tag)
        assert self._opened.wait(testkit.GUARD)
        return tag

    def entered(self, count=1):
        for _ in range(count):
            self._came.get(timeout=testkit.GUARD)

    def open(self):
        self._opened.set()

    close = open


@pytest.fixture
def door(request, tmp_path):
    """A door at which `door.task(door.path, tag)` waits; open when the test is over."""
    if "kind" in request.fixturenames and request.getfixturevalue("kind") == "threads":
        door = ThreadDoor()
    else:
        door = Door(tmp_path)
        door.task = proc_tasks.wait_at
    yield door
    door.close()


@pytest.fixture(autouse=True)
def no_process_left_behind():
    """Fail a test that leaves a process running, or a zombie."""
    with no_new_offspring():
        yield
