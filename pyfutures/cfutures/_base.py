"""Future and Executor: the C engine under the standard library's names and types.

The names without a place in the documentation (LOGGER, PENDING, …) are the ones
that programs import from ``concurrent.futures._base``.
"""
from __future__ import annotations

import concurrent.futures as _standard
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures._base import (  # noqa: F401
    _STATE_TO_DESCRIPTION_MAP,
    ALL_COMPLETED,
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    LOGGER,
    PENDING,
    RUNNING,
    BrokenExecutor,
    CancelledError,
    DoneAndNotDoneFutures,
    Error,
    InvalidStateError,
    TimeoutError,
)
from concurrent.futures._base import Executor as _StandardExecutor
from concurrent.futures._base import Future as _StandardFuture
from types import TracebackType
from typing import Any, TypeVar

from cfutures import _core
from cfutures._core import as_completed, wait

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "TimeoutError",
    "as_completed",
    "wait",
]

_T = TypeVar("_T")


class Future(_core.Future[_T], _StandardFuture[_T]):
    """The result of a call that an executor makes, now or later.

    As ``concurrent.futures.Future``, of which it is a subclass, with its state in
    C.  Besides, ``await future`` works in asyncio, and Jupyter shows its state.
    """

    def __await__(self) -> Generator[Any, None, _T]:
        """Wait for the future in a running asyncio event loop."""
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def _repr_html_(self) -> str:
        from cfutures._html_future import future_repr_html

        return future_repr_html(self)


Future.__module__ = "cfutures"


class Executor(_core.Executor, _StandardExecutor):
    """The base of all executors; see ``concurrent.futures.Executor``."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Have ``fn(*args, **kwargs)`` called and return its future.

        Raises NotImplementedError: this is for subclasses.
        """
        raise NotImplementedError()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Shut down and wait for the tasks.

        Ctrl-C, in the block or while it waits here, means stop: what has not begun
        is cancelled, and what has is not waited for.
        """
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
            self.shutdown(wait=False, cancel_futures=True)
            return
        try:
            self.shutdown(wait=True)
        except KeyboardInterrupt:
            self.shutdown(wait=False, cancel_futures=True)
            raise

    def _repr_html_(self) -> str | None:
        from cfutures._html_executor import executor_repr_html

        return executor_repr_html(self)


Executor.__module__ = "cfutures"


# ---- what C asks of Python: nothing here is on the way of an ordinary task ----


def _log_callback_error(future: Future[Any], exception: BaseException) -> None:
    LOGGER.error("exception calling callback for %r", future, exc_info=exception)


def _log_critical(message: str, exception: BaseException) -> None:
    LOGGER.critical(message, exc_info=exception)


def _log_unread(name: object, exception: BaseException) -> None:
    from cfutures._unread import log_unread

    log_unread(name, exception)


def _show_progress(
    results: Iterator[Any], args: tuple[Any, ...], progress: object
) -> Iterator[Any]:
    from cfutures._progress import map_progress

    shown: Iterator[Any] = map_progress(results, args[1:], progress)
    return shown


def _log_unexpected_state(future: Future[Any]) -> None:
    LOGGER.critical("Future %s in unexpected state: %s", id(future), future._state)


def _finish_emulated(future: Future[Any], how: str, value: object) -> bool:
    """Change the state of a future whose `_condition` somebody has asked for.

    Those who hold the condition (the standard library's wait() and as_completed())
    see the state change only while they do not.
    """
    told = {"result": "add_result", "exception": "add_exception", "notify": "add_cancelled"}
    condition = future._condition
    with condition:
        moved = future._commit(how, value)
        if moved:
            if how in told:
                for waiter in future._waiters:
                    getattr(waiter, told[how])(future)
            condition.notify_all()
    return moved


def _add_callback_emulated(future: Future[Any], fn: Callable[[Future[Any]], object]) -> bool:
    """Add to the list that somebody has asked for, unless the future is done."""
    with future._condition:
        if future.done():
            return False
        future._done_callbacks.append(fn)
        return True


def _watch_foreign(future: _StandardFuture[Any], waiter: object) -> bool:
    """Have a standard future tell our waiter; True if it is done already."""
    with future._condition:
        if future._state in (CANCELLED_AND_NOTIFIED, FINISHED):
            return True
        future._waiters.append(waiter)  # type: ignore[arg-type]
        return False


def _unwatch_foreign(future: _StandardFuture[Any], waiter: object) -> None:
    with future._condition:
        if waiter in future._waiters:
            future._waiters.remove(waiter)


_core._configure(
    future_type=Future,
    standard_future=_StandardFuture,
    cancelled_error=CancelledError,
    invalid_state_error=InvalidStateError,
    done_and_not_done=DoneAndNotDoneFutures,
    log_callback_error=_log_callback_error,
    log_critical=_log_critical,
    log_unexpected_state=_log_unexpected_state,
    log_unread=_log_unread,
    show_progress=_show_progress,
    new_condition=threading.Condition,
    finish_emulated=_finish_emulated,
    add_callback_emulated=_add_callback_emulated,
    watch_foreign=_watch_foreign,
    unwatch_foreign=_unwatch_foreign,
    state_pending=PENDING,
    state_running=RUNNING,
    state_cancelled=CANCELLED,
    state_cancelled_and_notified=CANCELLED_AND_NOTIFIED,
    state_finished=FINISHED,
)

assert _standard.Future is not Future
