"""What takes the items of imap() from their iterable and submits the tasks.

The iterable may block, or never end: it is asked in a thread of its own, and only for as
much as the workers need.  So imap() of a generator holds few items in memory, and a worker
finds its next task waiting.
"""
from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from cfutures._base import Future, as_completed
from cfutures._pool_results import IMapIterator, failed

__all__ = ["Feeds"]

_MOST_AHEAD = 8192      # tasks that are submitted and not done


class Feeds:
    """The calls of imap() of one pool that still take items."""

    def __init__(self) -> None:
        self._changed = threading.Condition()   # guards what follows
        self._count = 0
        self._abandoned = False
        self._at_end: Callable[[], object] | None = None

    def feed(
        self,
        result: IMapIterator[Any],
        items: Iterator[Any],
        submit: Callable[[Any], Future[Any]],
        *,
        ahead: int,
        plain: bool,
    ) -> None:
        """Have `submit` called with each of the items, and its futures put into `result`.

        ahead: how many tasks are submitted before the first is done; more, if they are
            done faster than a thread wakes.
        plain: the items are there: no code of the user's runs and nothing blocks.

        What needs no waiting is done here, the rest in a thread, which keeps neither the
        pool nor the result alive.
        """
        feeder = _Feeder(result, items, submit, ahead)
        with self._changed:
            self._count += 1
        try:
            if plain and feeder.run(may_wait=False):
                self._over()
            else:
                threading.Thread(target=self._rest, args=(feeder,), name="cfutures-imap",
                                 daemon=True).start()
        except BaseException:
            self._over()
            raise

    def at_end(self, call: Callable[[], object]) -> None:
        """Have `call` called when no call of imap() takes items any more, perhaps now."""
        with self._changed:
            self._at_end = call
            if self._count:
                return
        call()

    def join(self) -> None:
        """Wait for that."""
        with self._changed:
            self._changed.wait_for(lambda: not self._count or self._abandoned)

    def abandon(self) -> None:
        """Nobody is to wait: an iterable may block for ever."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def _rest(self, feeder: _Feeder) -> None:
        try:
            feeder.run(may_wait=True)
        finally:
            self._over()

    def _over(self) -> None:
        with self._changed:
            self._count -= 1
            if self._count:
                return
            call = self._at_end
        if call is not None:
            call()
        with self._changed:
            self._changed.notify_all()


class _Feeder:
    """One call of imap()."""

    def __init__(
        self,
        result: IMapIterator[Any],
        items: Iterator[Any],
        submit: Callable[[Any], Future[Any]],
        ahead: int,
    ) -> None:
        self._result = weakref.ref(result)
        self._put: Callable[[Future[Any]], object] = result._entrance()
        self._items = items
        self._submit = submit
        self._ahead = ahead                 # how many tasks may be submitted and not done
        self._enough = (ahead + 1) // 2     # with fewer a worker is idle
        self._pending: list[Future[Any]] = []
        self._done = 0

    def run(self, may_wait: bool) -> bool:
        """Submit; whether the items are at their end.  Can be called again if not."""
        submit = self._submit
        try:
            for item in self._items:
                future = submit(item)
                self._pending.append(future)
                self._put(future)
                if len(self._pending) >= self._ahead:
                    del future
                    if not may_wait:
                        return False
                    self._wait()
        except Exception as error:
            # The iterable raised, or the pool is closed: in the place of a result.
            self._pending.append(failed(error))
            self._put(self._pending[-1])
        count = self._done + len(self._pending)
        self._pending.clear()
        result = self._result()
        if result is not None:
            result._end(count)
        return True

    def _wait(self) -> None:
        """Wait until half of the tasks are done."""
        for _ in itertools.islice(as_completed(self._pending), (self._ahead + 1) // 2):
            pass
        before = len(self._pending)
        self._pending = [future for future in self._pending if not future.done()]
        self._done += before - len(self._pending)
        if self._result() is None:
            # Who has dropped it wants the tasks run, not their results.
            self._put = _ignore
        if len(self._pending) < self._enough:
            # They are done faster than this thread wakes.
            self._ahead = min(2 * self._ahead, _MOST_AHEAD)


def _ignore(future: Future[Any]) -> None:
    """Keep nothing."""
