"""What the methods of a Pool return: AsyncResult, MapResult, the iterators of imap().

A result is futures behind other names.  Without callbacks nobody is told when a task is
done: who asks for the result looks at its future.  With callbacks there is one future more,
the *signal*, which is set when the callback has returned: as in multiprocessing.Pool, whoever
waits for a result finds its callback called.
"""
from __future__ import annotations

import builtins
import itertools
import multiprocessing
import multiprocessing.pool as _standard
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from concurrent.futures.process import _RemoteTraceback
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cfutures._base import Future, wait

if TYPE_CHECKING:
    from cfutures.pool import Pool

__all__ = ["AsyncResult", "IMapIterator", "MapResult", "TimeoutError"]

_T = TypeVar("_T")

_TERMINATED = "the pool was terminated before this task was begun"


class TimeoutError(multiprocessing.TimeoutError, builtins.TimeoutError):
    """The time is up.  Both what multiprocessing raises and Python's own TimeoutError."""


def _adopt(error: BaseException | None) -> None:
    """Give an exception of a task the cause that it has in a Pool."""
    if error is not None and type(error.__cause__) is _RemoteTraceback:
        # A class of the same content: what is printed is the same.
        error.__cause__ = _standard.RemoteTraceback(  # type: ignore[attr-defined]
            error.__cause__.tb)


def _error_of(future: Future[Any]) -> BaseException | None:
    """The exception of a future that is done."""
    if future.cancelled():
        return BrokenExecutor(_TERMINATED)
    error = future.exception()
    _adopt(error)
    return error


def _outcome(future: Future[_T]) -> _T:
    """The result of a future that is done; raises its exception."""
    try:
        return future.result()
    except BaseException as error:
        if future.cancelled():
            raise BrokenExecutor(_TERMINATED) from None
        _adopt(error)
        raise
    finally:
        del future      # or the traceback's frames would refer to what has them


def _until(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(until: float | None) -> float | None:
    if until is None:
        return None
    return min(max(0.0, until - time.monotonic()), threading.TIMEOUT_MAX)


def _acquire(lock: threading.Lock, until: float | None) -> bool:
    return lock.acquire() if until is None else lock.acquire(timeout=_left(until) or 0)


def _done(future: Future[Any], timeout: float | None) -> bool:
    """Wait for a future; whether it is done."""
    if not future.done():
        wait([future], timeout)
    return future.done()


# How many forks this process and its ancestors went through.  A result that is older than the
# last one is the parent's: here nobody calls its callbacks, and no thread holds its lock.
_forks = 0


def _after_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class AsyncResult(_standard.ApplyResult[_T]):
    """What apply_async() returns: the result of one call, now or later."""

    def __init__(
        self,
        pool: Pool,
        future: Future[_T],
        callback: Callable[[_T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        self._pool: Pool | None = pool      # a pool lives until its results are there
        self._future = future
        self._callback = callback
        self._error_callback = error_callback
        self._last = future                 # the one that is done last, but for _awaited()
        self._forks = _forks
        if callback or error_callback:
            self._last = Future()
            future.add_done_callback(self._call_back)

    def _awaited(self) -> Future[Any]:
        return self._last if self._forks == _forks else self._future

    def ready(self) -> bool:
        """Whether the call is done."""
        return self._awaited().done()

    def successful(self) -> bool:
        """Whether the call returned and did not raise; raises ValueError before it is done."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return _error_of(self._future) is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call is done, or for `timeout` seconds."""
        _done(self._awaited(), timeout)

    def get(self, timeout: float | None = None) -> _T:
        """The result of the call, when it is there.

        Raises what the call raised; TimeoutError after `timeout` seconds; WorkerCrashed if
        its process died; BrokenExecutor if the pool was terminated.
        """
        if not _done(self._awaited(), timeout):
            raise TimeoutError
        self._pool = None
        try:
            return _outcome(self._future)
        finally:
            del self            # which has the exception that refers to this frame

    def _cancel(self) -> None:
        """Nobody waits for it any more: do not begin it."""
        self._future.cancel()

    def _call_back(self, future: Future[_T]) -> None:
        try:
            error = _error_of(future)
            if error is None:
                if self._callback:
                    self._callback(future.result())
            elif self._error_callback:
                self._error_callback(error)
        finally:
            self._callback = self._error_callback = self._pool = None
            self._last.set_result(None)  # type: ignore[arg-type]


class MapResult(_standard.MapResult[_T]):
    """What map_async() and starmap_async() return: a list of results, now or later.

    It is there when all calls are done, the failed ones too.
    """

    def __init__(
        self,
        pool: Pool,
        futures: list[Future[Any]],
        chunked: bool,
        callback: Callable[[list[_T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        """`chunked`: what the futures give is lists of results."""
        self._pool: Pool | None = pool
        self._futures = futures             # empty once all are in _parts
        self._parts: list[Any] = [None] * len(futures)
        self._chunked = chunked
        self._taken = 0                     # how many of _parts are there
        self._error: BaseException | None = None
        self._lock = threading.Lock()       # guards the four above, and _missing
        self._forks = _forks
        self._callback = callback
        self._error_callback = error_callback
        self._signal: Future[None] | None = None
        if callback or error_callback:
            self._signal = Future()
            self._missing = len(futures)
            for future in futures:
                future.add_done_callback(self._count)
            if not futures:
                self._call_back()

    def _forget_parent(self) -> None:
        if self._forks != _forks:
            self._signal = None
            self._lock = threading.Lock()
            self._forks = _forks

    def ready(self) -> bool:
        """Whether all calls are done."""
        self._forget_parent()
        if self._signal is not None:
            return self._signal.done()
        return all(future.done() for future in self._futures)

    def successful(self) -> bool:
        """Whether no call raised; raises ValueError before all are done."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        self._gather(None)
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all calls are done, or for `timeout` seconds."""
        self._all_done(timeout)

    def get(self, timeout: float | None = None) -> list[_T]:
        """The list of results, when all are there; each time the same list.

        Raises the exception of the first call that failed; TimeoutError after `timeout`
        seconds.
        """
        if not self._all_done(timeout):
            raise TimeoutError
        if self._error is None:
            return self._parts
        try:
            raise self._error
        finally:
            del self            # which has the exception that refers to this frame

    def _cancel(self) -> None:
        """Nobody waits for it any more: begin no more of it."""
        for future in reversed(self._futures):
            future.cancel()

    def _all_done(self, timeout: float | None) -> bool:
        self._forget_parent()
        if self._signal is not None:
            return _done(self._signal, timeout)
        return self._gather(timeout)

    def _gather(self, timeout: float | None) -> bool:
        """Take over the results in order, as long as there is time; whether that is all."""
        until = _until(timeout)
        if not _acquire(self._lock, until):
            return False
        try:
            futures, count = self._futures, len(self._futures)
            for i in range(self._taken, count):
                future = futures[i]
                # First for a later one, so as not to wake for each.
                if not future.done() and not (
                        _done(futures[(i + count) // 2], _left(until))
                        and _done(future, _left(until))):
                    return False
                # Ctrl-C may come between any two of these lines: then they are repeated.
                error = _error_of(future)
                if error is None:
                    self._parts[i] = future.result()
                elif self._error is None:
                    self._error = error
                self._taken = i + 1
            if self._futures:
                if self._error is not None:
                    self._parts = []
                elif self._chunked:
                    self._parts = list(itertools.chain.from_iterable(self._parts))
                self._futures = []
                self._pool = None
            return True
        finally:
            self._lock.release()

    def _count(self, future: Future[Any]) -> None:
        with self._lock:
            self._missing -= 1
            if self._missing:
                return
        self._call_back()

    def _call_back(self) -> None:
        assert self._signal is not None
        try:
            self._gather(None)
            if self._error is None:
                if self._callback:
                    self._callback(self._parts)
            elif self._error_callback:
                self._error_callback(self._error)
        finally:
            self._callback = self._error_callback = None
            self._signal.set_result(None)


class IMapIterator(_standard.IMapIterator, Generic[_T]):  # type: ignore[type-arg]
    """What imap() and imap_unordered() return: results, one after the other.

    The tasks are put in by another thread (_pool_feed).  An exception of a task is raised
    in its place; the iteration can go on after it, and after a TimeoutError.
    """

    def __init__(self, pool: Pool, ordered: bool) -> None:
        self._pool: Pool | None = pool      # a pool lives until its results are there
        self._ordered = ordered
        # Futures in the order in which they are wanted, None at the end of the input; of
        # unordered ones only those that are done.
        self._queue: queue.SimpleQueue[Future[_T] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()       # guards what follows
        self._length: int | None = None     # how many futures there will have been
        self._taken = 0                     # how many of them were taken out
        self._head: Future[_T] | None = None    # the next one, if it was taken out

    def __iter__(self) -> IMapIterator[_T]:
        return self

    def next(self, timeout: float | None = None) -> _T:
        """The next result.

        Raises what the task raised; TimeoutError after `timeout` seconds, and then it can
        be asked for again; StopIteration at the end.
        """
        until = None if timeout is None else _until(timeout)
        if not _acquire(self._lock, until):
            raise TimeoutError
        try:
            future = self._head or self._take(until)
            if not future.done() and not _done(future, _left(until)):
                raise TimeoutError
            self._head = None
        finally:
            self._lock.release()
        try:
            return _outcome(future)
        finally:
            del future      # which has the exception that refers to this frame

    __next__ = next

    def _take(self, until: float | None) -> Future[_T]:
        """Take the next future out; `_head` from then on.  The lock is held."""
        while True:
            if self._taken == self._length:
                self._pool = None
                raise StopIteration
            try:
                future = (self._queue.get() if until is None
                          else self._queue.get(timeout=_left(until)))
            except queue.Empty:
                raise TimeoutError from None
            if future is not None:
                self._taken += 1
                self._head = future
                return future

    # ---- for the thread that puts in ----

    def _entrance(self) -> Callable[[Future[Any]], object]:
        """What to call with each future; it does not keep this iterator."""
        put = self._queue.put
        return put if self._ordered else lambda future: future.add_done_callback(put)

    def _end(self, length: int) -> None:
        """There were so many futures."""
        self._length = length
        self._queue.put(None)


def failed(error: BaseException) -> Future[Any]:
    """A future that has failed."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def chunks_of(iterable: Iterable[_T], size: int) -> Iterator[Any]:
    """Parts of `size` items of an iterable, the last one may be shorter."""
    if type(iterable) in (list, tuple, range) or _is_array(iterable):
        # A part of a range is a range, of an array an array: less to be sent.
        whole: Any = iterable
        return (whole[at:at + size] for at in range(0, len(whole), size))
    return _batches(iter(iterable), size)


def _is_array(obj: object) -> bool:
    kind = type(obj)
    return kind.__module__ == "numpy" and kind.__name__ == "ndarray"


def _batches(items: Iterator[_T], size: int) -> Iterator[tuple[_T, ...]]:
    while batch := tuple(itertools.islice(items, size)):
        yield batch
