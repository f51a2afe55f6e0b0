"""What the programs of these tests do, and what must be true of them whatever fails.

A work is a function of a multiprocessing context.  It raises what the pool or queue raised,
checks each value that it gets, and closes what it opened.
"""
import collections
import ctypes
import gc
import logging
import os
import sys
import threading

import cfutures
import proc_tasks as tasks
from prockit import offspring
from testkit import GUARD, eventually

BIG = bytearray(range(250)) * 4000
UNDERSTOOD = (OSError, MemoryError, cfutures.BrokenExecutor)
MOST_CALLS = 200        # of one function in one work


class Outcomes:
    """How the attempts at a work ended."""

    def __init__(self):
        self.counts = collections.Counter()

    def note(self, error):
        """Count an exception, which must be one that says what went wrong."""
        text = f"{type(error).__name__}: {error}"
        known = isinstance(error, UNDERSTOOD) and (str(error) or isinstance(error, MemoryError))
        # CPython's own words for no thread.
        if not known and text != "RuntimeError: can't start new thread":
            raise AssertionError(f"nobody understands this: {text}") from error
        self.counts[text[:200]] += 1

    def try_(self, work, *args):
        """Do the work, or note what it raised."""
        try:
            work(*args)
        except Exception as error:
            self.note(error)
        else:
            self.counts["works"] += 1

    def show(self):
        """Print and forget them."""
        for text, count in sorted(self.counts.items()):
            print(f"    {count:4d} {text}")
        self.counts.clear()


outcomes = Outcomes()


def prepare():
    """Keep the log of what is to fail out of what is printed."""
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = threading.excepthook = lambda info: None


# ---- what there is ----


def _target(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}").partition("[")[0]
    except FileNotFoundError:
        return "what the folder was read with"


def possessions(pipes=True):
    """What could be left behind: descriptors, shared memory, processes, threads.

    Without `pipes` those are not looked at: multiprocessing does not close its own where
    Process.start() fails.
    """
    gc.collect()
    descriptors = sorted(_target(fd) for fd in os.listdir("/proc/self/fd"))
    if not pipes:
        descriptors = [target for target in descriptors if target != "pipe:"]
    with open("/proc/self/maps") as file:
        shared = [line.split(None, 5)[5].strip() for line in file if "memfd:cfutures" in line]
    return (descriptors, shared, sorted(offspring()),
            sorted(thread.name for thread in threading.enumerate()))


def leaves_nothing(before, pipes=True):
    """Wait until there is what there was before; AssertionError if that does not come."""
    if not eventually(lambda: possessions(pipes) == before, 10):
        raise AssertionError(f"left behind: {possessions(pipes)} after {before}")


# ---- works ----


def _settle(future, expected):
    error = future.exception(GUARD)
    if error is not None:
        outcomes.note(error)
    else:
        assert future.result(0) == expected, future


def threads(context):
    """A thread pool."""
    with cfutures.ThreadPoolExecutor(3) as executor:
        futures = [executor.submit(tasks.add, n) for n in range(5)]
        assert list(executor.map(tasks.add, range(4))) == [1, 2, 3, 4]
        assert len(list(cfutures.as_completed(futures, GUARD))) == 5
        for n, future in enumerate(futures):
            _settle(future, n + 1)


def processes(context):
    """A process pool: simple, large, pickled arguments, a function by value, a callback."""
    with cfutures.ProcessPoolExecutor(2, context, on_crash="replace") as executor:
        scale = 3
        futures = [(executor.submit(tasks.add, n), n + 1) for n in range(4)]
        futures += [(executor.submit(tasks.echo, BIG), BIG) for _ in range(3)]
        futures += [(executor.submit(tasks.echo, {"key": [1.5]}), {"key": [1.5]})]
        futures += [(executor.submit(lambda x: x * scale, 2), 6)]
        called = []
        futures[0][0].add_done_callback(called.append)
        assert len(list(cfutures.as_completed([f for f, _ in futures], GUARD))) == len(futures)
        assert eventually(lambda: called)
        for future, expected in futures:
            _settle(future, expected)


def pool(context):
    """multiprocessing.Pool's methods."""
    with cfutures.Pool(2, context=context) as workers:
        assert workers.map(tasks.add, range(10)) == list(range(1, 11))
        assert workers.apply_async(tasks.echo, (BIG,)).get(GUARD) == BIG
        assert sorted(workers.imap_unordered(tasks.add, range(3))) == [1, 2, 3]


def queue(context):
    """A queue of small, large and many items."""
    items = cfutures.Queue()
    for item in (1, BIG, ["pickled", BIG, {}]):
        items.put(item)
    for item in (1, BIG, ["pickled", BIG, {}]):
        assert items.get(timeout=GUARD) == item
    for n in range(300):
        items.put(n)
    assert [items.get(timeout=GUARD) for _ in range(300)] == list(range(300))
    items.close()


def forks(context):
    """A fork of the program while it holds an array of the pool's."""
    with cfutures.ProcessPoolExecutor(1, context, on_crash="replace") as executor:
        held = executor.submit(tasks.echo, BIG).result(GUARD)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if held == BIG else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert executor.submit(tasks.echo, held).result(GUARD) == BIG


# ---- the injector ----


def fail_each_call(work, context, name, in_children):
    """Do the work with the n-th call of libc's `name` failing, n = 1, 2, … until none does.

    The program has fault.c preloaded.  `in_children`: it is the n-th call of each process
    that is forked, and not of this one.
    """
    injector = ctypes.CDLL(None)
    pipes = name not in ("fork", "pipe")
    before = possessions(pipes)
    for n in range(1, MOST_CALLS):
        injector.fault_arm(name.encode(), n, in_children)
        outcomes.try_(work, context)
        failed = injector.fault_disarm()
        leaves_nothing(before, pipes)
        if not failed:
            break
    else:
        raise AssertionError(f"{name} was called {MOST_CALLS} times")
    assert n > 1, f"{name} is never called"
    print(f"{name}: {n - 1} calls failed, one after the other")
    outcomes.show()
