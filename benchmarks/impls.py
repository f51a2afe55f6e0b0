"""The implementations that are compared, each as the names a row uses.

Those of threads are here, those of processes in proc_impls.py.
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import peers
import pool_impls
import proc_impls
import queue_impls
from proc_impls import NotInstalled


def standard() -> SimpleNamespace:
    """The standard library of the interpreter that runs this."""
    import concurrent.futures as module
    return _names(module)


def cfutures() -> SimpleNamespace:
    """The project. Fails if what it gives is the standard library's own class."""
    import concurrent.futures
    try:
        import cfutures as module
    except ImportError as why:
        raise NotInstalled(f"cfutures: {why}") from why
    if module.ThreadPoolExecutor is concurrent.futures.ThreadPoolExecutor:
        raise NotInstalled("cfutures.ThreadPoolExecutor is the standard library's")
    return _names(module)


def _names(module: Any) -> SimpleNamespace:
    return SimpleNamespace(
        ThreadPoolExecutor=module.ThreadPoolExecutor, Future=module.Future,
        wait=module.wait, as_completed=module.as_completed)


def multiprocessing_threads() -> SimpleNamespace:
    """multiprocessing.pool.ThreadPool behind submit() and result().

    The wrapper adds one Python call a task, under 2 % of what it measures.
    """
    from multiprocessing.pool import ApplyResult, ThreadPool

    ApplyResult.result = ApplyResult.get

    class Pool:
        def __init__(self, workers: int) -> None:
            self.pool = ThreadPool(workers)
            self.map = self.pool.imap

        def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
            return self.pool.apply_async(fn, args)

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *exc: object) -> None:
            self.pool.close()
            self.pool.join()

    return SimpleNamespace(ThreadPoolExecutor=Pool)


def pebble_threads() -> SimpleNamespace:
    """Pebble's ThreadPool behind submit(); its futures are standard ones."""
    try:
        from pebble import ThreadPool
    except ImportError as why:
        raise NotInstalled(f"pebble: {why}") from why

    class Pool:
        def __init__(self, workers: int) -> None:
            self.pool = ThreadPool(max_workers=workers)

        def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
            return self.pool.schedule(fn, args=args)

        def map(self, fn: Callable[..., Any], items: Any) -> Any:
            return self.pool.map(fn, items).result()

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *exc: object) -> None:
            self.pool.close()
            self.pool.join()

    return SimpleNamespace(ThreadPoolExecutor=Pool)


LOADERS = {
    "std": standard,
    "control": standard,
    "cfutures": cfutures,
    "mp.ThreadPool": multiprocessing_threads,
    "pebble": pebble_threads,
    "floor": SimpleNamespace,
}
PEERS = ("mp.ThreadPool", "pebble")


def load(name: str, kind: str) -> SimpleNamespace:
    """The names of one implementation of a kind of row; see registry.Row.

    NotInstalled says why it cannot be had.
    """
    if kind in peers.COLUMNS:
        return peers.load(name, kind)
    loaders = {"threads": LOADERS, "processes": proc_impls.LOADERS,
               "pool": pool_impls.LOADERS, "queue": queue_impls.LOADERS}[kind]
    return loaders[name]()


def gil_enabled() -> bool:
    """Whether this process runs with the GIL now (an import can bring it back)."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()
