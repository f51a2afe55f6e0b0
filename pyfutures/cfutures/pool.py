"""Pool and ThreadPool: multiprocessing.Pool's methods on our executors.

    pool.py             the classes: arguments, methods, the life of a pool
    _pool_executor.py   its workers: started at once, ended at any time, and at exit
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
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from multiprocessing.context import BaseContext
from multiprocessing.pool import CLOSE, INIT, RUN, TERMINATE
from types import MappingProxyType
from typing import Any, TypeVar, overload

from cfutures._base import Future
from cfutures._chunks import PLAIN, chunked
from cfutures._pool_executor import Processes, Threads
from cfutures._pool_feed import Feeds
from cfutures._pool_results import (
    AsyncResult,
    IMapIterator,
    MapResult,
    TimeoutError,
    chunks_of,
    failed,
)
from cfutures.process import _default_max_workers as _cpus

__all__ = ["ApplyResult", "AsyncResult", "IMapIterator", "MapResult", "Pool", "ThreadPool",
           "TimeoutError"]

_S = TypeVar("_S")
_T = TypeVar("_T")

ApplyResult = AsyncResult
_NO_KEYWORDS: Mapping[str, Any] = MappingProxyType({})
_MOST_IN_CHUNK = 1024   # more save nothing, and are as long a wait for the last worker


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
        self._open(count, Processes(
            count, context, initializer, tuple(initargs), maxtasksperchild))

    def _open(self, processes: int, executor: Processes | Threads) -> None:
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
        items, task = _tasks(func, sized, chunksize, star)
        calls = items if star and chunksize == 1 else ((item,) for item in items)
        submit = self._executor.submit
        futures: list[Future[Any]] = []
        # No code of the user's runs while a built-in sequence is gone through, so the
        # globals that the function reads need not be looked at for each task.
        frozen = type(sized) in PLAIN and not star and self._executor._freeze()
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
        items, task = _tasks(func, iterable, chunksize, False)
        submit = functools.partial(self._executor.submit, task)
        result: IMapIterator[Any] = IMapIterator(self, ordered)
        self._feeds.feed(result, items, submit, ahead=2 * self._processes,
                         plain=type(iterable) in PLAIN)
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
        self._open(count, Threads(count, initializer, tuple(initargs)))


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


def _tasks(
    func: Callable[..., Any], iterable: Iterable[Any], chunksize: int, star: bool
) -> tuple[Iterator[Any], Callable[..., Any]]:
    """What map() submits: the items (chunks, if chunksize is not 1), and what is called."""
    if chunksize == 1:
        return iter(iterable), func
    return chunks_of(iterable, chunksize), chunked(func, star)
