"""Exceptions that nobody asked for.

`executor.submit(f)` whose future is thrown away, or `executor.map(f, …)` whose results are
never looked at: if `f` raises, nothing says so.  warn_unread() changes that.
"""
from __future__ import annotations

import sys
import threading
from concurrent.futures._base import LOGGER
from typing import Any

from cfutures import _core
from cfutures._base import Future

__all__ = ["log_unread", "warn_unread"]

# How often an exception like it went unread: by its type and where it was raised.
_seen: dict[tuple[Any, ...], int] = {}
_SEEN_AT_MOST = 1000
_lock = threading.RLock()       # the collector can call a finalizer where it is held


def warn_unread(on: bool = True) -> bool:
    """Log exceptions of tasks that nobody asked for; return whether it was so before.

    When a future dies that has failed, and neither result() nor exception() nor await has
    handed its exception to anybody, the logger "concurrent.futures" gets one error with
    the traceback; the 10th, 100th, … like it (same type, same line) are logged again with
    their number, so that a thousand failing tasks do not fill the page.  A future that
    was thrown away before its task ended counts as well, and so do results of map() that
    nobody looked at, except after map() itself has raised: then its caller knows.

    wait() and as_completed() hand out futures, not exceptions: they are not reading, as
    in asyncio.  Nor is a callback that does not ask.  A future shown in a notebook as
    failed has been read: the page says what was raised.

    It is off unless asked for.  The standard library is quiet, programs rely on it
    (submitting for the effect alone and handling errors inside the task is good style),
    and a library does not write into its user's log unbidden.  `%load_ext cfutures` asks
    for it, since in a notebook a lost exception is a wrong result that looks right.  While
    it is off it costs nothing.

    What is still referred to when the interpreter exits is not reported.
    """
    # As a finalizer, not in the deallocator: a future is often garbage together with the
    # traceback that refers to it, and only a finalizer sees both whole.
    if on:
        Future.__del__ = _core.Future._report_unread  # type: ignore[attr-defined]
    elif "__del__" in vars(Future):
        del Future.__del__  # type: ignore[attr-defined]
    with _lock:
        _seen.clear()
    return _core._warn_unread(on)


def log_unread(function: object, exception: BaseException) -> None:
    """Log an exception that nobody asked for; `function`: see _core.Future._trace()."""
    if sys.is_finalizing():
        return
    name = function_name(function)
    traceback = exception.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where: object = None
    if traceback is not None:
        where = (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
    elif exception.__cause__ is not None:
        # What a process sent has its traceback as a text.
        where = tuple(line for line in str(exception.__cause__).splitlines()
                      if line.startswith("  File "))
    kind = (type(exception), where, name)
    with _lock:
        if len(_seen) >= _SEEN_AT_MOST:
            _seen.clear()
        count = _seen[kind] = _seen.get(kind, 0) + 1
    if set(str(count)[1:]) - {"0"} or str(count)[0] != "1":
        return
    LOGGER.error(
        "a task raised %s and nobody asked for its result%s%s",
        type(exception).__name__, f": {name}()" if name else "",
        f" ({count} like this)" if count > 1 else "", exc_info=exception)


def function_name(function: object) -> str | None:
    """The text for what _core.Future._trace() knows a function by."""
    if function is None or isinstance(function, str):
        return function
    return str(getattr(function, "__qualname__", type(function).__name__))
