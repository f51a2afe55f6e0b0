"""install() and uninstall(): programs that import concurrent.futures get cfutures.

What is replaced is attributes of the standard modules, not the modules, so code that
already holds `concurrent.futures` (asyncio does) sees the change as well.  Names that
were taken out before, by `from concurrent.futures import ThreadPoolExecutor`, keep
what they were given.

Replaced: `Future`, `ThreadPoolExecutor`, `ProcessPoolExecutor`, `wait` and `as_completed`,
in `concurrent.futures` and in its `_base`, `thread` and `process`.  Left alone, for a reason
each:

- The exceptions and constants: ours are the same objects.
- `Executor`.  An abstract base is there for isinstance() and for subclassing, and the
  standard one is a base of ours too.  If ours took its place, `isinstance(pool,
  concurrent.futures.Executor)` would be false for the standard process pool and for
  every executor that a library defined before install().

The standard executors go on working.  They look `_base.Future` up for each task, so
from install() on their futures are ours: awaitable, and cheaper to wait for.  That is
safe since they use a future through its public methods only; a pool that was half way
through its tasks simply has futures of both kinds, which wait() and as_completed() of
either side take in one call.  The other choice, to leave `_base.Future` alone, would
make asyncio refuse a standard process pool's futures, since `asyncio.wrap_future`
asks for a `concurrent.futures.Future`, which is then ours.

For the same reason asyncio is told to accept both kinds: standard futures made before
install(), futures of libraries that subclassed the standard class before it, and
standard thread pools given to `loop.set_default_executor()`.  Elsewhere such older
objects are not instances of the names looked up after install(); they are instances
of what those names were before.

An event loop that has already made its default executor keeps it; others get ours.
"""
from __future__ import annotations

import concurrent.futures as _package
import contextlib
import importlib
import sys
import threading
from concurrent.futures import _base, thread
from types import ModuleType
from typing import Any

__all__ = ["STANDARD", "install", "replace_names", "uninstall"]

_MISSING = object()
# Taken before anything is replaced: this module is imported by cfutures itself, and what
# it does not import yet (the process pool) by replace_names().
STANDARD: dict[str, Any] = {
    "Future": _base.Future,
    "wait": _base.wait,
    "as_completed": _base.as_completed,
    "ThreadPoolExecutor": thread.ThreadPoolExecutor,
}

_lock = threading.RLock()
_undo: list[tuple[ModuleType, str, object, object]] = []    # guarded by _lock


def install() -> None:
    """Make `concurrent.futures` give cfutures' classes and functions.

    Takes effect for every import and attribute access from now on, and makes ours the
    default executor of asyncio.  Calling it again changes nothing.  Safe to call from
    any thread.
    """
    with _lock:
        replace_names()
        _open_asyncio()


def uninstall() -> None:
    """Put the standard classes and functions back.

    Futures and executors made meanwhile go on working.  Does nothing if install() was
    not called; an attribute that somebody else has replaced since is left as it is.
    """
    with _lock:
        while _undo:
            module, name, before, ours = _undo.pop()
            if vars(module).get(name, _MISSING) is not ours:
                continue
            if before is _MISSING:
                # One of the names that concurrent.futures looks up when first asked.
                delattr(module, name)
            else:
                setattr(module, name, before)


def replace_names() -> None:
    """The part of install() that asyncio need not be imported for.

    Enough for a program in which nothing standard can exist yet.
    """
    import cfutures

    with _lock:
        _define_lazy_subclasses()
        process = _process_module()
        for module in (_package, _base):
            for name in ("Future", "wait", "as_completed"):
                _replace(module, name, getattr(cfutures, name))
        for module in (_package, thread):
            _replace(module, "ThreadPoolExecutor", cfutures.ThreadPoolExecutor)
        if process is not None:
            for module in (_package, process):
                _replace(module, "ProcessPoolExecutor", cfutures.ProcessPoolExecutor)


def _replace(module: ModuleType, name: str, ours: object) -> None:
    before = vars(module).get(name, _MISSING)
    if before is not ours:
        _undo.append((module, name, before, ours))
        setattr(module, name, ours)


def _process_module() -> ModuleType | None:
    """The standard process pool's module, or None: this Python has no processes."""
    try:
        from concurrent.futures import process

        import cfutures.process  # noqa: F401 -- it subclasses the standard class
    except ImportError:
        return None
    STANDARD.setdefault("ProcessPoolExecutor", process.ProcessPoolExecutor)
    return process


def _define_lazy_subclasses() -> None:
    # Python 3.14 makes this subclass of the standard ThreadPoolExecutor when it is
    # first asked for: it must not find ours under that name by then.
    if sys.version_info >= (3, 14):
        with contextlib.suppress(ImportError):      # a Python without subinterpreters
            importlib.import_module("concurrent.futures.interpreter")


def _open_asyncio() -> None:
    import asyncio.base_events
    import asyncio.futures

    for module, name, accepted in (
            (asyncio.futures, "Future", STANDARD["Future"]),
            (asyncio.base_events, "ThreadPoolExecutor", _AnyThreadPool())):
        before = vars(module).get("concurrent")
        if before is not None and not isinstance(before, _Concurrent):
            _replace(module, "concurrent", _Concurrent(name, accepted))


class _Concurrent:
    """What the global name `concurrent` is in a module of asyncio: one name differs."""

    def __init__(self, name: str, accepted: object) -> None:
        self.futures = _Futures(name, accepted)


class _Futures:
    def __init__(self, name: str, accepted: object) -> None:
        setattr(self, name, accepted)

    def __getattr__(self, name: str) -> Any:
        return getattr(_package, name)


class _AnyThreadPool:
    """Makes what `concurrent.futures` has; takes any thread pool for an instance."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _package.ThreadPoolExecutor(*args, **kwargs)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(
            instance, (STANDARD["ThreadPoolExecutor"], _package.ThreadPoolExecutor))
