"""progress(): how many tasks have ended, shown while one waits for them.

    _Progress   what the user has: an iterator, closed by the end, an error, or by being
                dropped
    _Count      what the futures' callbacks have: counts, says when a picture is due
    _bars.py    the picture

A picture is drawn by a thread of its own that lives for the tenth of a second between the
first change and the next picture: workers are not kept from their work by drawing, nothing
polls, and what changed last is always shown.
"""
from __future__ import annotations

import collections
import concurrent.futures._base
import contextlib
import enum
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future as _StandardFuture
from types import TracebackType
from typing import Any, Generic, TypeVar

from cfutures import _core
from cfutures._bars import Bar, make_bar

__all__ = ["map_progress", "progress"]

_T = TypeVar("_T")

_AS_COMPLETED: type = type(_core.as_completed(()))
_STANDARD_CODE = concurrent.futures._base.as_completed.__code__

_INTERVAL = 0.1     # seconds between two pictures, at least
_GUARD = 5.0        # seconds after which a callback that has not come will not come


def progress(
    iterable: Iterable[_T], total: int | None = None, *, desc: str = ""
) -> _Progress[_T]:
    """Iterate over futures as they are done, and show how many have ended.

    ::

        for future in cfutures.progress(futures):
            future.result()
        results = list(cfutures.progress(executor.map(f, items)))

    What is counted is completions, not submissions and not turns of the loop: a task counts
    when it has returned, raised or been cancelled, though the loop be busy with another one;
    those that failed or were cancelled are shown beside the number.

    Parameters
    ----------
    iterable: futures (a list, a dict with futures as keys, a generator that submits): they
        are yielded as they are done, each once.  The iterator that executor.map() returned:
        its results are yielded, in order.  The one that as_completed() returned: its futures
        are yielded, and counted when they are.  Anything else: its items are yielded, and
        counted when the loop asks for the next one.  An iterator is asked for its first item
        at once, and for the others if that is a future.
    total: how many there will be, if the iterable cannot tell.
    desc: a text to show beside the number.

    It is shown by tqdm where that is installed (and in a notebook ipywidgets, too), else as
    a line of HTML in a notebook and of text elsewhere.  It ends with the last
    task, when the loop is left by break or the iterator raises, with close(), or with the
    end of a `with` block.

    Raises TypeError if `iterable` is none.
    """
    if hasattr(iterable, "_observe"):
        return _of_map(iterable, total, desc)
    if _is_as_completed(iterable):
        return _Progress(iterable, _Count(total, desc), _Each.FUTURE)
    items = iter(iterable)
    first = list(itertools.islice(items, 1))
    if first and isinstance(first[0], _StandardFuture):
        futures: list[Any] = list(dict.fromkeys(itertools.chain(first, items)))
        count = _Count(len(futures) if total is None else total, desc)
        done: Any = _core.as_completed(futures)
        for future in futures:
            count.add(future)
        count.all_added()
        return _Progress(done, count, _Each.CALLBACK)
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    return _Progress(itertools.chain(first, items), _Count(total, desc), _Each.ITEM)


def map_progress(
    results: Any, iterables: tuple[Iterable[Any], ...], progress: object,
    size: Callable[[], int] | None = None,
) -> Any:
    """The iterator `results` of map(), with what `map(..., progress=...)` asks for.

    `size`: gives of each task, in order of submission, how many calls it is; None: one each.
    """
    sized = [len(items) for items in iterables if isinstance(items, Sized)]
    total = min(sized) if sized and len(sized) == len(iterables) else None
    return _of_map(results, total, progress if isinstance(progress, str) else "", size)


def _of_map(
    results: Any, total: int | None, desc: str, size: Callable[[], int] | None = None
) -> _Progress[Any]:
    count = _Count(total, desc)

    def submitted(future: _StandardFuture[Any]) -> None:
        count.add(future, 1 if size is None else size())

    more = results._observe(submitted)
    if not more:
        count.all_added()
    return _Progress(results, count, _Each.CALLBACK)


def _is_as_completed(iterable: object) -> bool:
    return (type(iterable) is _AS_COMPLETED
            or getattr(iterable, "gi_code", None) is _STANDARD_CODE)


class _Each(enum.Enum):
    """What counts: see _Progress."""

    CALLBACK = enum.auto()  # the futures' callbacks do
    FUTURE = enum.auto()    # a future that is yielded
    ITEM = enum.auto()      # an item, when the next one is asked for


class _Ended(enum.IntEnum):
    RETURNED = 0
    FAILED = 1
    CANCELLED = 2


class _Count:
    """How many have ended, and how; the bar that shows it.

    `_lock` guards everything and is held while the bar draws: no picture is older than the
    one before it.  Callbacks take no lock, since the collector can run one anywhere: they
    append to `_events` and then look whether a picture is due; who draws says first that
    none is, and then takes the events.
    """

    def __init__(self, total: int | None, desc: str) -> None:
        self.total = total
        self._tasks = [0, 0, 0]             # by _Ended
        self._events: collections.deque[tuple[int, _Ended]] = collections.deque()
        self._added = 0                     # whose callbacks count
        self._expected: int | None = None   # all that will ever end, once that is known
        self._due = False                   # a thread is about to draw
        self._closed = False
        self._abandoned = False
        # Set by callbacks while somebody waits in finish().
        self._news: threading.Event | None = None
        self._lock = threading.RLock()
        self._bar: Bar = make_bar(total, desc)

    def add(self, future: _StandardFuture[Any], size: int = 1) -> None:
        """Count that future when it is done, as so many."""
        self._added += size
        future.add_done_callback(
            self.ended if size == 1 else lambda done: self.ended(done, size))

    def all_added(self) -> None:
        """There will be no more futures."""
        if self.total is None:
            self.total = self._added
        self._expected = self._added
        self._changed()

    def ended(self, future: _StandardFuture[Any], size: int = 1) -> None:
        """That future is done."""
        how = (_Ended.CANCELLED if future.cancelled() else
               _Ended.FAILED if _has_failed(future) else _Ended.RETURNED)
        self._events.append((size, how))
        news = self._news
        if news is not None:
            news.set()
        self._changed()

    def item(self) -> None:
        """One that is no future has ended."""
        self._events.append((1, _Ended.RETURNED))
        self._changed()

    def figures(self) -> tuple[int, int, int]:
        """How many have ended, and how many of these failed and were cancelled."""
        with self._lock:
            while self._events:
                size, how = self._events.popleft()
                self._tasks[how] += size
            return (sum(self._tasks), self._tasks[_Ended.FAILED],
                    self._tasks[_Ended.CANCELLED])

    def _changed(self) -> None:
        if self._due or self._closed:
            return
        self._due = True
        timer = threading.Timer(_INTERVAL, self._draw)
        timer.name = "cfutures-progress"
        try:
            timer.start()
        except RuntimeError:    # no thread to be had, or the interpreter exits
            self._draw()

    def _draw(self) -> None:
        self._due = False
        with self._lock:
            if self._closed:
                return
            done, failed, cancelled = self.figures()
            if self._expected is not None and done >= self._expected:
                self.close()
                return
            self._bar.show(done, self.total, failed, cancelled)
        if self._abandoned:
            self.close()

    def close(self) -> None:
        """Draw for the last time."""
        with self._lock:
            if not self._closed:
                self._closed = True
                done, failed, cancelled = self.figures()
                self._bar.close(done, self.total, failed, cancelled)

    def finish(self, seconds: float) -> None:
        """The iterator has come to its end, and so have the tasks, or soon will: close()
        when their callbacks have run, but wait no longer than that for them."""
        self._news = news = threading.Event()
        self._expected = self._added
        end = time.monotonic() + seconds
        while self.figures()[0] < self._added:
            left = end - time.monotonic()
            if left <= 0 or not news.wait(left):
                break
            news.clear()
        self.close()

    def abandon(self) -> None:
        """close(), for a finalizer, which must not wait: who draws just now does it then."""
        self._abandoned = True
        if self._lock.acquire(blocking=False):
            try:
                self.close()
            finally:
                self._lock.release()


def _has_failed(future: _StandardFuture[Any]) -> bool:
    has_failed: Callable[[], bool] | None = getattr(future, "_has_failed", None)
    # Ours can say so without its exception counting as read.
    return future.exception() is not None if has_failed is None else has_failed()


class _Progress(Generic[_T]):
    """An iterator that shows how far its tasks are; see progress()."""

    def __init__(self, iterable: Iterable[_T], count: _Count, each: _Each) -> None:
        self._items = iter(iterable)
        self._count = count
        self._each = each
        self._begun = False

    def __iter__(self) -> Iterator[_T]:
        return self

    def __next__(self) -> _T:
        if self._each == _Each.ITEM and self._begun:
            self._count.item()
        try:
            item = next(self._items)
        except StopIteration:
            # The thread that calls the last task's callbacks may be some moments behind.
            self._count.finish(_GUARD)
            raise
        except Exception:
            # A task failed and the others were cancelled, or time is up.
            self._count.finish(_INTERVAL)
            raise
        except BaseException:
            self.close()
            raise
        self._begun = True
        if self._each == _Each.FUTURE:
            self._count.ended(item)  # type: ignore[arg-type]
        return item

    def close(self) -> None:
        """Show the last figures and no more; an iterator of map() is closed as well."""
        self._begun = False
        with contextlib.suppress(AttributeError):
            close: Callable[[], object] = self._items.close  # type: ignore[attr-defined]
            close()
        self._count.close()

    def __enter__(self) -> _Progress[_T]:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Not close(): an iterator of map() that was never begun goes on without it.
        if hasattr(self, "_count"):
            self._count.abandon()

    @property
    def total(self) -> int | None:
        """How many there will be, or None."""
        return self._count.total

    @property
    def done(self) -> int:
        """How many have ended, in whatever way."""
        return self._count.figures()[0]

    @property
    def failed(self) -> int:
        """How many of these raised."""
        return self._count.figures()[1]

    @property
    def cancelled(self) -> int:
        """How many of these were cancelled."""
        return self._count.figures()[2]

    def __repr__(self) -> str:
        total = "?" if self.total is None else self.total
        return (f"<progress {self.done}/{total}, {self.failed} failed, "
                f"{self.cancelled} cancelled>")
