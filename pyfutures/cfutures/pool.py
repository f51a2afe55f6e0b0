"""Pool and ThreadPool: multiprocessing.Pool's methods on our executors.

    pool.py             the classes: arguments, methods, the life of a pool
    _pool_results.py    AsyncResult, MapResult, the iterators of imap()
    _pool_feed.py       the thread that takes the items of imap() from their iterable

A pool is an executor (ProcessPoolExecutor with on_crash="replace", ThreadPoolExecutor) and
a state:

    RUN --close()--> CLOSE --the last imap() has its items in--> the executor is shut down
     +--terminate(), end of the with block, exit---> TERMINATE: running tasks are killed
"""
from __future__ import annotations

import functools
import itertools
import multiprocessing.pool as _standard
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from multiprocessing.context import BaseContext
from multiprocessing.pool import CLOSE, INIT, RUN, TERMINATE
from types import BuiltinFunctionType, FunctionType, MappingProxyType, ModuleType
from typing import Any, TypeVar, overload

from cfutures._base import Future
from cfutures._deferred import DeferredSignals
from cfutures._manager import Manager
from cfutures._pool_feed import Feeds
from cfutures._pool_results import (
    AsyncResult,
    IMapIterator,
    MapResult,
    TimeoutError,
    chunks_of,
    failed,
)
from cfutures.process import ProcessPoolExecutor
from cfutures.process import _default_max_workers as _cpus
from cfutures.thread import ThreadPoolExecutor

__all__ = ["ApplyResult", "AsyncResult", "IMapIterator", "MapResult", "Pool", "ThreadPool",
           "TimeoutError"]

_S = TypeVar("_S")
_T = TypeVar("_T")

ApplyResult = AsyncResult
_NO_KEYWORDS: Mapping[str, Any] = MappingProxyType({})
_MOST_IN_CHUNK = 1024   # more save nothing, and are as long a wait for the last worker
_KILL_AFTER = 5.0       # seconds that workers have to end by SIGTERM

# Pools of processes whose workers run, and of threads: what is ended at exit.
_managers: weakref.WeakSet[Manager] = weakref.WeakSet()
_thread_executors: weakref.WeakSet[_Threads] = weakref.WeakSet()


class _Processes(ProcessPoolExecutor):
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
            try:
                crew.start(count, signals)
            finally:
                if self._manager is None and crew.workers:
                    self._start_manager()
        crew.engine._wake()

    def _start_manager(self) -> None:
        super()._start_manager()
        if self._manager is not None:
            _managers.add(self._manager)

    def end(self) -> None:
        """End the workers now, with what they run, and wait for that."""
        self.shutdown(wait=False, cancel_futures=True)
        if self._manager is not None:
            _end([self._manager])


class _Threads(ThreadPoolExecutor):
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
_Processes.__name__ = _Processes.__qualname__ = "Pool"
_Threads.__name__ = _Threads.__qualname__ = "ThreadPool"


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


class Pool(_standard.Pool):
    """Worker processes and methods that have functions called in them.

    As multiprocessing.Pool, on the native process pool.  A worker that dies costs the task
    that it was running, whose result raises WorkerCrashed; functions of notebook cells,
    lambdas and closures work; tiny tasks need no chunks.
    """

    _state: str = INIT
    _processes: int
    _maxtasksperchild: int | None = None

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
    ) -> None:
        """Make a pool and start its processes.

        Parameters
        ----------
        processes: how many; by default the CPUs that this process may use.
        initializer, initargs: each process first calls ``initializer(*initargs)``; if that
            raises, the pool is broken and its tasks raise BrokenProcessPool.
        maxtasksperchild: a process ends after so many tasks (chunks of map() and imap() are
            one task each) and another one takes its place.
        context: how processes are started, as multiprocessing.get_context() gives it.

        Raises ValueError, TypeError or OSError as multiprocessing.Pool does.
        """
        count = _count(processes)
        if maxtasksperchild is not None and (
                not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        self._maxtasksperchild = maxtasksperchild
        self._open(count, _Processes(
            count, context, initializer, tuple(initargs), maxtasksperchild))

    def _open(self, processes: int, executor: _Processes | _Threads) -> None:
        self._processes = processes
        self._executor = executor
        self._feeds = Feeds()
        try:
            executor.fill()
        except BaseException:
            executor.end()
            raise
        self._state = RUN

    def __enter__(self) -> Pool:
        """The pool; raises ValueError if it is not running.  At the end: terminate()."""
        self._check_running()
        return self

    def _repr_html_(self) -> str | None:
        return self._executor._repr_html_()

    # ---- private names of the standard class that programs and tests read ----

    @property
    def _pool(self) -> list[Any]:
        return self._executor.workers()

    def _repopulate_pool(self) -> None:
        self._executor.fill()

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    # ---- one call ----

    def apply(
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = _NO_KEYWORDS,
    ) -> _T:
        """``func(*args, **kwds)``, called in a worker; waits for it.

        Raises what it raises, ValueError if the pool is not running.
        """
        return _get(self.apply_async(func, args, kwds))

    def apply_async(
        self,
        func: Callable[..., _T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = _NO_KEYWORDS,
        callback: Callable[[_T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[_T]:
        """Have ``func(*args, **kwds)`` called in a worker; returns its AsyncResult.

        callback, error_callback: called with the result, or with the exception, in a thread
        of the pool, before get() returns.

        Raises ValueError if the pool is not running.
        """
        self._check_running()
        try:
            future = self._executor.submit(func, *args, **kwds)
        except Exception as error:
            future = failed(self._reason(error))
        return AsyncResult(self, future, callback, error_callback)

    # ---- a call for each item ----

    def map(
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int | None = None
    ) -> list[_T]:
        """The list of ``func(item)`` for each item; waits for all.

        chunksize: how many calls are one task; by default few, more if there are many.

        Raises what the first failing call raised, when all calls are done; ValueError if
        the pool is not running.
        """
        return _get(self._map(func, iterable, chunksize, False))

    def map_async(
        self,
        func: Callable[[_S], _T],
        iterable: Iterable[_S],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[_T]:
        """As map(), without waiting: returns a MapResult.

        callback, error_callback: called with the list, or with the exception, in a thread
        of the pool, before get() returns.
        """
        return self._map(func, iterable, chunksize, False, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[_T]:
        """As map(), with ``func(*item)`` for each item."""
        return _get(self._map(func, iterable, chunksize, True))

    def starmap_async(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[_T]:
        """As map_async(), with ``func(*item)`` for each item."""
        return self._map(func, iterable, chunksize, True, callback, error_callback)

    def imap(
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int | None = 1
    ) -> IMapIterator[_T]:
        """An iterator of ``func(item)`` for each item, in order.

        Items are taken from the iterable as workers need them, in a thread of their own.
        With a chunksize of 1 the iterator has a method next(timeout), in seconds.

        Raises ValueError if the pool is not running, or if chunksize is less than 1.
        """
        return self._imap(func, iterable, chunksize, True)

    def imap_unordered(
        self, func: Callable[[_S], _T], iterable: Iterable[_S], chunksize: int | None = 1
    ) -> IMapIterator[_T]:
        """As imap(), with the results in the order in which they come."""
        return self._imap(func, iterable, chunksize, False)

    # ---- the end ----

    def close(self) -> None:
        """Take no more calls; the workers leave when what was asked for is done."""
        if self._state == RUN:
            self._state = CLOSE
            self._feeds.at_end(functools.partial(self._executor.shutdown, wait=False))

    def terminate(self) -> None:
        """End the workers now, and wait for that.  What is not done will not be done."""
        self._state = TERMINATE
        self._feeds.abandon()
        self._executor.end()

    def join(self) -> None:
        """Wait until the workers have ended; after close() or terminate().

        Raises ValueError if the pool is running.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._feeds.join()
        self._executor.shutdown(wait=True)

    def __del__(self, _warn: Callable[..., None] = warnings.warn, RUN: str = RUN) -> None:
        # What was asked for is done, then the workers leave: the executor is dropped, too.
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning,
                  source=self)

    # ---- submitting ----

    def _map(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Any],
        chunksize: int | None,
        star: bool,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[_T]:
        self._check_running()
        sized: Any = iterable if hasattr(iterable, "__len__") else list(iterable)
        if chunksize is None:
            chunksize = self._chunksize(len(sized))
        elif chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
        items, task, before = _tasks(func, sized, chunksize, star)
        if star and chunksize == 1:
            calls = ((*before, *item) for item in items)
        else:
            calls = ((*before, item) for item in items)
        submit = self._executor.submit
        futures: list[Future[Any]] = []
        # No code of the user's runs while a built-in sequence is gone through, so the
        # globals that the function reads need not be looked at for each task.
        frozen = type(sized) in _PLAIN and not star and self._executor._freeze()
        try:
            for arguments in calls:
                futures.append(submit(task, *arguments))
        except Exception as error:
            # The iterable raised, or the pool is broken: that is one more result.
            futures.append(failed(self._reason(error)))
        finally:
            if frozen:
                self._executor._thaw()
        return MapResult(self, futures, chunksize > 1, callback, error_callback)

    def _reason(self, error: Exception) -> Exception:
        """For an error of submit() what a Pool raises."""
        if (isinstance(error, RuntimeError) and not isinstance(error, BrokenExecutor)
                and self._executor._shutdown):
            return ValueError("Pool not running")
        return error

    def _chunksize(self, length: int) -> int:
        workers = self._processes
        if self._maxtasksperchild is not None:
            # Tasks are counted: as few as in multiprocessing.Pool.
            return -(-length // (4 * workers)) or 1
        return min(-(-length // (16 * workers)), _MOST_IN_CHUNK) or 1

    def _imap(
        self,
        func: Callable[..., _T],
        iterable: Iterable[Any],
        chunksize: int | None,
        ordered: bool,
    ) -> IMapIterator[_T]:
        self._check_running()
        if chunksize is None:
            chunksize = 1
        elif chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
        items, task, before = _tasks(func, iterable, chunksize, False)
        submit = functools.partial(self._executor.submit, task, *before)
        result: IMapIterator[Any] = IMapIterator(self, ordered)
        self._feeds.feed(result, items, submit, ahead=2 * self._processes,
                         plain=type(iterable) in _PLAIN)
        if chunksize == 1:
            return result
        # Also in the standard library another kind of iterator, for speed.
        return itertools.chain.from_iterable(result)  # type: ignore[return-value]


class ThreadPool(Pool, _standard.ThreadPool):
    """As Pool, with threads of this process; see multiprocessing.pool.ThreadPool.

    Threads are started when calls need them.  terminate() begins no more calls; it cannot
    end one that runs.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        """Make a pool.

        Parameters
        ----------
        processes: how many threads; by default the CPUs that this process may use.
        initializer, initargs: each thread first calls ``initializer(*initargs)``; if that
            raises, the pool is broken and its calls raise BrokenThreadPool.

        Raises ValueError or TypeError as multiprocessing.pool.ThreadPool does.
        """
        count = _count(processes)
        self._open(count, _Threads(count, initializer, tuple(initargs)))


def _count(processes: int | None) -> int:
    count = _cpus() if processes is None else processes
    if count < 1:
        raise ValueError("Number of processes must be at least 1")
    return count


@overload
def _get(result: AsyncResult[_T]) -> _T: ...
@overload
def _get(result: MapResult[_T]) -> list[_T]: ...
def _get(result: Any) -> Any:
    """The result, for a caller who has nothing else to ask for it."""
    try:
        return result.get()
    except BaseException:
        if not result.ready():      # Ctrl-C
            result._cancel()
        raise
    finally:
        del result      # which has the exception that refers to this frame


# ---- tasks ----

#: Iterables that have their items, so that taking one neither blocks nor runs foreign code.
_PLAIN = (list, tuple, range, dict, set, frozenset, str, bytes)


def _tasks(
    func: Callable[..., Any], iterable: Iterable[Any], chunksize: int, star: bool
) -> tuple[Iterator[Any], Callable[..., Any], tuple[Any, ...]]:
    """What map() submits: the items (chunks, if chunksize is not 1), what is to be called,
    and with what arguments before the item."""
    if chunksize == 1:
        return iter(iterable), func, ()
    chunks = chunks_of(iterable, chunksize)
    if not _is_definition(func):
        return chunks, _star_each if star else _each, (func,)
    # A function of its own, which travels once for all the chunks.
    make = _kept_runner if _is_global(func) else _runner
    return chunks, make(func, star), ()


def _runner(func: Callable[..., Any], star: bool) -> Callable[[Iterable[Any]], list[Any]]:
    each = _star_each if star else _each

    def run(chunk: Iterable[Any]) -> list[Any]:
        return each(func, chunk)

    run.__qualname__ = func.__qualname__    # who reads of a crash knows this one
    return run


# To describe a new function for the workers takes as long as some hundred small tasks.
_kept_runner = functools.lru_cache(maxsize=16)(_runner)


def _is_global(func: Any) -> bool:
    """Whether its module keeps it: then we may as well."""
    module = sys.modules.get(func.__module__)
    return getattr(module, func.__name__, None) is func


def _each(func: Callable[..., _T], chunk: Iterable[Any]) -> list[_T]:
    return list(map(func, chunk))


def _star_each(func: Callable[..., _T], chunk: Iterable[Iterable[Any]]) -> list[_T]:
    return list(itertools.starmap(func, chunk))


def _is_definition(func: Callable[..., Any]) -> bool:
    """Whether it has no state that a call could change, as an object with a method has."""
    if isinstance(func, BuiltinFunctionType):
        return isinstance(func.__self__, ModuleType)
    return isinstance(func, FunctionType | type)


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
