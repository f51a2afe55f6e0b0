"""concurrent.futures with its engine in C.

The names, signatures and behaviour are those of ``concurrent.futures``;
``install()`` makes unmodified programs use this package.
"""
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from cfutures._base import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    InvalidStateError,
    TimeoutError,
    as_completed,
    wait,
)
from cfutures._install import install, uninstall
from cfutures._ipython import load_ipython_extension, unload_ipython_extension
from cfutures._unread import warn_unread
from cfutures.thread import ThreadPoolExecutor

if TYPE_CHECKING:
    from cfutures._progress import progress
    from cfutures.pool import Pool, ThreadPool
    from cfutures.process import ProcessPoolExecutor
    from cfutures.queue import Queue

__version__ = "0.1.0"

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "Pool",
    "ProcessPoolExecutor",
    "Queue",
    "ThreadPool",
    "ThreadPoolExecutor",
    "TimeoutError",
    "as_completed",
    "install",
    "load_ipython_extension",
    "progress",
    "uninstall",
    "unload_ipython_extension",
    "wait",
    "warn_unread",
]


# multiprocessing is imported only by those who want processes, and so on.
_LAZY = {
    "Pool": "pool",
    "ProcessPoolExecutor": "process",
    "Queue": "queue",
    "ThreadPool": "pool",
    "progress": "_progress",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        found = getattr(importlib.import_module(f"cfutures.{_LAZY[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
