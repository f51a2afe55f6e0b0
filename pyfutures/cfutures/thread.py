"""ThreadPoolExecutor: threads are Python's, what they do is C's."""
from __future__ import annotations

import itertools
import math
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures.thread import (
    BrokenThreadPool,
    _WorkItem,  # noqa: F401 -- CPython's test_genericalias imports it from here
)
from concurrent.futures.thread import ThreadPoolExecutor as _StandardThreadPoolExecutor
from typing import Any

from cfutures import _base, _core

__all__ = ["BrokenThreadPool", "ThreadPoolExecutor"]

_core._configure(broken_thread_pool=BrokenThreadPool)

# Threads that run, with the object that closes their pool: joined at exit.
_threads_workers: weakref.WeakKeyDictionary[threading.Thread, _core.Worker] = (
    weakref.WeakKeyDictionary())

# Pools by the number that a future's trace names.
_pool_numbers = itertools.count()
_executors: weakref.WeakValueDictionary[int, ThreadPoolExecutor] = (
    weakref.WeakValueDictionary())


def _python_exit() -> None:
    """Finish what is queued in every pool, before the interpreter takes things down."""
    _core._finalize()
    # A list made in one step: other threads may add to the dictionary meanwhile.
    threads = [thread for ref in _threads_workers.keyrefs() if (thread := ref()) is not None]
    for thread in threads:
        worker = _threads_workers.get(thread)
        if worker is not None:
            worker.close()
    for thread in threads:
        _join(thread)
    # From here on the interpreter takes things down: logging may be among them.
    _core._warn_unread(False)


def _join(thread: threading.Thread) -> None:
    # Not one that has not begun: another thread is just starting it, or its start() was
    # interrupted and it may never begin.
    if thread.is_alive():
        thread.join()


def _after_fork() -> None:
    """In a forked child none of the threads exist: forget them and close their pools."""
    _threads_workers.clear()
    _core._after_fork()


# Before non-daemon threads are joined and atexit callbacks run, as the standard
# library's own pools.
threading._register_atexit(_python_exit)  # type: ignore[attr-defined]

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _default_max_workers() -> int:
    """Some more than the CPUs that this process may use, since threads also wait."""
    cpus = _core.cpu_count()
    if hasattr(os, "process_cpu_count"):  # it knows -X cpu_count
        cpus = min(cpus, os.process_cpu_count() or cpus)
    return min(32, cpus + 4)


def _worker_name(pool: int, worker: int) -> str:
    """The name of the thread that has that number in the pool of that number."""
    executor = _executors.get(pool)
    prefix = "worker" if executor is None else executor._thread_name_prefix
    return f"{prefix}_{worker}"


class _WorkQueue:
    """What `_work_queue` shows of the tasks that wait: their number."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor

    def qsize(self) -> int:
        return self._executor._queued()

    def empty(self) -> bool:
        return self.qsize() == 0


class ThreadPoolExecutor(_core.ThreadPool, _base.Executor, _StandardThreadPoolExecutor):
    """An executor that calls functions in threads of this process."""

    # Beside the instance dictionary: the interpreter finds submit() faster as long as
    # that is empty.
    __slots__ = ("_initargs", "_initializer", "_max_workers", "_thread_name_prefix", "_threads")

    _counter = itertools.count().__next__

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        """Make a pool; threads are started when tasks need them.

        Parameters
        ----------
        max_workers: the largest number of threads; by default the CPUs that this
            process may use (affinity, control group) and 4, at most 32.
        thread_name_prefix: names threads ``prefix_0``, ``prefix_1``, …
        initializer, initargs: each thread first calls ``initializer(*initargs)``; if
            that raises, the pool is broken.

        Raises ValueError if max_workers is 0 or less, TypeError if initializer is
        not callable.
        """
        if max_workers is None:
            max_workers = _default_max_workers()
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._max_workers = max_workers
        # Changed and copied by single calls, which are atomic: no lock, so nobody waits
        # for a thread whose signal handler or finalizer waits in turn.
        self._threads: set[threading.Thread] = set()
        self._initializer = initializer  # type: ignore[assignment]
        self._initargs = initargs  # type: ignore[assignment]
        self._thread_name_prefix = (
            thread_name_prefix or f"ThreadPoolExecutor-{self._counter()}")
        number = next(_pool_numbers) % 2**32
        self._open(math.ceil(min(max_workers, 2**31)), number, sys.getswitchinterval())
        _executors[number] = self

    def _spawn(self, number: int) -> BaseException | bool:
        """Start one more thread; submit() calls this when no worker is idle.

        Returns True; or False if there are no more threads to be had, but those that run
        will do the task; or, though the thread is on its way, an exception for submit()
        to raise.  If it raises one, there is no thread.

        shutdown(wait=True) waits until submit() has returned from here; what is in
        `_threads` then is all that it waits for.
        """
        worker = _core.Worker(self, number, self._initializer, self._initargs)
        thread = threading.Thread(name=f"{self._thread_name_prefix}_{number}", target=worker)
        try:
            # Before it starts: shutdown() in its first task joins it, and so must find it.
            _threads_workers[thread] = worker
            self._threads.add(thread)
            thread.start()
        except BaseException as exception:
            if thread.ident is not None or thread in threading.enumerate():
                return exception  # a signal handler's
            self._threads.discard(thread)
            _threads_workers.pop(thread, None)
            if isinstance(exception, RuntimeError) and self._has_workers():
                return False
            raise
        return True

    @property
    def _work_queue(self) -> _WorkQueue:  # type: ignore[override]
        return _WorkQueue(self)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, and free the threads when those queued are done.

        Parameters
        ----------
        wait: return only when all threads have ended.
        cancel_futures: cancel the tasks that have not begun.
        """
        self._close(cancel_futures)
        if wait:
            # A submit() that came before may be starting a thread.
            self._settle()
            for thread in list(self._threads):
                _join(thread)


ThreadPoolExecutor.__module__ = "cfutures.thread"
