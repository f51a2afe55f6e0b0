"""What the tests share: loading an implementation, guards against hangs, child processes."""
import gc
import importlib
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from types import SimpleNamespace

import pytest

#: Seconds after which something that should be immediate is called hung.
GUARD = 30
STATES = ("PENDING", "RUNNING", "CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED")
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
#: Free-threaded CPython 3.13 hangs at times, without futures, when a collection meets
#: the start or end of a thread.
COLLECTOR_HANGS = FREE_THREADED and sys.version_info < (3, 14)
PACKAGES = {"stdlib": "concurrent.futures", "cfutures": "cfutures"}

PUBLIC = (
    "FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED", "CancelledError", "TimeoutError",
    "InvalidStateError", "BrokenExecutor", "Future", "Executor", "wait", "as_completed",
    "ProcessPoolExecutor", "ThreadPoolExecutor")

ours = pytest.mark.ours
stdlib_from = pytest.mark.stdlib_from
stdlib_with_gil = pytest.mark.stdlib_with_gil


class Implementation(SimpleNamespace):
    """The names of one of them; see load()."""

    def __repr__(self):
        return f"<{self.implementation}>"


def load(implementation):
    """Return the names of "stdlib" or "cfutures" as one namespace."""
    package = PACKAGES[implementation]
    module = importlib.import_module(package)
    thread = importlib.import_module(f"{package}.thread")
    process = importlib.import_module(f"{package}.process")
    return Implementation(
        implementation=implementation, module=module, thread=thread, process=process,
        _base=importlib.import_module(f"{package}._base"),
        BrokenThreadPool=thread.BrokenThreadPool,
        BrokenProcessPool=process.BrokenProcessPool,
        **{name: getattr(module, name) for name in PUBLIC})


def in_threads(functions):
    """Run each in a thread; raise the first exception of one."""
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(8 * GUARD)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def shared_scope(fixture_name, config):
    """The scope of a pool that tests share: where live objects are counted they do not."""
    return "function" if config.pluginmanager.has_plugin("live_objects") else "session"


def eventually(condition, guard=GUARD):
    """Wait for something that offers no event to wait on; False if it never came."""
    end = time.monotonic() + guard
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def parked(thread):
    """Wait until the thread sleeps in a wait of its own, not for the GIL.

    There is no public way to see that somebody waits for a future, so this asks
    the system (and gives the thread ample time where it cannot be asked).
    """
    path = f"/proc/self/task/{thread.native_id}/stat"
    if not os.path.exists(path):
        time.sleep(0.1)
        return True
    looks = []

    def asleep():
        # This thread sleeps between two looks, so the GIL is free to be taken.
        with open(path) as stat:
            looks.append(stat.read().rpartition(")")[2].split()[0] == "S")
        return len(looks) >= 5 and all(looks[-5:])

    return eventually(asleep)


def freed(reference):
    """Whether the object of a weak reference is gone, without the cycle collector.

    A free-threaded build merges reference counts of other threads late, often
    only in a collection, so there the collector is allowed to help.
    """
    if not FREE_THREADED:
        return reference() is None
    return eventually(lambda: gc.collect() is not None and reference() is None)


def add(a, b=1):
    """A Python function to submit."""
    return a + b


def boom(text="boom"):
    """A Python function that raises ValueError(text)."""
    raise ValueError(text)


class Thing:
    """Something that can be weakly referenced and takes part in reference cycles."""


# --- child processes --------------------------------------------------------------------

PRELUDE = """\
import faulthandler, os, signal, sys, threading, time
faulthandler.enable()
def watch(seconds):
    # An alarm, not faulthandler's own watchdog: that one hangs in a forked child.
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(seconds)
watch({limit})
if {collector_hangs}:
    import gc
    gc.disable()
import {package} as cf
import {package}.thread
GUARD = {limit}
def say(*words):
    # One write, which other threads cannot cut in two.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


def prelude(implementation, limit=GUARD):
    """The first lines of a child, which make what the code after them uses."""
    return PRELUDE.format(
        limit=limit, package=PACKAGES[implementation], collector_hangs=COLLECTOR_HANGS)


def run_child(code, implementation="cfutures", *, limit=GUARD, flags=(), status=0):
    """Run Python code in a process of its own, which must end by itself with `status`.

    `cf` is the implementation there. If the child takes longer than `limit`
    seconds (an int), faulthandler prints where each thread stood. Returns its standard
    output; its standard error must be empty of tracebacks that we did not expect.
    """
    source = prelude(implementation, limit) + code
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV_")}
    environment["PYTHONUNBUFFERED"] = "1"
    child = subprocess.Popen(
        [sys.executable, *flags, "-c", source], text=True, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True)
    try:
        out, err = child.communicate(timeout=limit + 15)
    except subprocess.TimeoutExpired:
        # Its own children hold the pipes as well.
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        pytest.fail(f"the child hangs even after its watchdog\n{out}\n{err}")
    if child.returncode != status:
        pytest.fail(f"exit status {child.returncode}, expected {status}\n"
                    f"--- stdout\n{out}\n--- stderr\n{err}")
    return SimpleNamespace(out=out, err=err)
