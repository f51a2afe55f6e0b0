"""The executors of Pool and ThreadPool: their workers are started at once and can be ended.

    Pool(), a death --fill()--> workers run --shutdown()--> they leave when all is done
                                    +--end(), exit--> SIGTERM, then SIGKILL
"""
from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterable
from multiprocessing.context import BaseContext
from typing import Any

from cfutures._deferred import DeferredSignals
from cfutures._manager import Manager
from cfutures.process import ProcessPoolExecutor
from cfutures.thread import ThreadPoolExecutor

__all__ = ["Processes", "Threads"]

_KILL_AFTER = 5.0       # seconds that workers have to end by SIGTERM

# Pools of processes whose workers run, and of threads: what is ended at exit.
_managers: weakref.WeakSet[Manager] = weakref.WeakSet()
_thread_executors: weakref.WeakSet[Threads] = weakref.WeakSet()


class Processes(ProcessPoolExecutor):
    """The executor of a Pool: starts its workers at once, can end them at any time."""

    def __init__(
        self,
        count: int,
        context: BaseContext | None,
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
        max_tasks: int | None,
    ) -> None:
        super().__init__(count, context, initializer, initargs, on_crash="replace")
        # Not asked of the executor, which refuses it with fork; multiprocessing.Pool does it.
        self._crew.max_tasks = max_tasks or 0
        self._crew.word = "PoolWorker"

    def workers(self) -> list[Any]:
        """The processes."""
        return list(self._crew.processes.values())

    def fill(self) -> None:
        """Start the workers that are missing."""
        crew = self._crew
        with crew.lock, DeferredSignals() as signals:
            count = crew.limit - crew.active()
            if count <= 0 or crew.closing:
                return
            self._start_workers(count, signals)
        crew.engine._wake()

    def _start_manager(self, manager: Manager) -> None:
        super()._start_manager(manager)
        _managers.add(manager)

    def end(self) -> None:
        """End the workers now, with what they run, and wait for that."""
        self.shutdown(wait=False, cancel_futures=True)
        if self._manager is not None:
            _end([self._manager])


class Threads(ThreadPoolExecutor):
    """The executor of a ThreadPool."""

    def __init__(
        self, count: int, initializer: Callable[..., object] | None, initargs: Iterable[Any]
    ) -> None:
        super().__init__(count, "ThreadPool", initializer, initargs)
        _thread_executors.add(self)

    def workers(self) -> list[Any]:
        """The threads that were started."""
        return list(self._threads)

    def fill(self) -> None:
        """Nothing: threads are started when tasks need them."""

    def _freeze(self) -> bool:
        return False        # nothing is sent

    def _thaw(self) -> None:
        """Nothing."""

    def end(self) -> None:
        """Begin no more tasks; what runs cannot be ended."""
        self.shutdown(wait=False, cancel_futures=True)


# What lists of pools call them.
Processes.__name__ = Processes.__qualname__ = "Pool"
Threads.__name__ = Threads.__qualname__ = "ThreadPool"


def _end(managers: list[Manager]) -> None:
    """Terminate the workers of these pools, then kill those that do not end."""
    for manager in managers:
        manager.force("terminate")
        manager.crew.signal(signal.SIGTERM)
    for manager in managers:
        # A callback runs in the manager itself, which cannot wait for its own end.
        if manager is threading.current_thread():
            continue
        try:
            manager.join(_KILL_AFTER)
        finally:
            # Also if Ctrl-C comes while it waits.
            if manager.is_alive():
                manager.crew.signal(signal.SIGKILL)
        manager.join()


# ---- the interpreter's exit, and forked children ----


def _python_exit() -> None:
    """End every pool: what was not waited for is not wanted, as in multiprocessing."""
    for executor in list(_thread_executors):
        executor.end()
    _end(list(_managers))


def _after_fork() -> None:
    """In a forked child: the workers are the parent's."""
    _managers.clear()
    _thread_executors.clear()


# Called before that of the executors, which would wait for what is queued: the last one that
# was registered comes first.
threading._register_atexit(_python_exit)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
