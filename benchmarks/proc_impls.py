"""The implementations of process pools that are compared; impls.py has those of threads."""
from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any


class NotInstalled(Exception):
    """This implementation is not there."""


def standard() -> SimpleNamespace:
    """The standard library of the interpreter that runs this."""
    names = _names(concurrent.futures)
    names.may_hang = True       # with max_tasks_per_child, see proc_recycle
    return names


def cfutures() -> SimpleNamespace:
    """The project. Fails if what it gives is the standard library's own class."""
    try:
        import cfutures as module
        from cfutures import _core
    except ImportError as why:
        raise NotInstalled(f"cfutures: {why}") from why
    pool = module.ProcessPoolExecutor
    if pool is concurrent.futures.ProcessPoolExecutor:
        raise NotInstalled("cfutures.ProcessPoolExecutor is the standard library's own class")
    if not issubclass(pool, getattr(_core, "ProcessPool", ())):
        raise NotInstalled("cfutures.ProcessPoolExecutor has no native engine")
    return _names(module)


def _names(module: Any) -> SimpleNamespace:
    return SimpleNamespace(ProcessPoolExecutor=module.ProcessPoolExecutor,
                           wait=module.wait, as_completed=module.as_completed)


def multiprocessing_pool() -> SimpleNamespace:
    """multiprocessing.Pool behind the names of an executor.

    The wrapper adds one Python call a task, under 2 % of what it measures.
    """
    from multiprocessing.pool import ApplyResult

    ApplyResult.result = ApplyResult.get
    return SimpleNamespace(ProcessPoolExecutor=_Pool)


class _Pool:
    """multiprocessing.Pool, called as an executor is."""

    def __init__(self, workers: int, mp_context: Any, *,
                 initializer: Callable[..., Any] | None = None, initargs: tuple = (),
                 max_tasks_per_child: int | None = None) -> None:
        self.pool = mp_context.Pool(workers, initializer, initargs, max_tasks_per_child)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.pool.apply_async(fn, args)

    def map(self, fn: Callable[..., Any], items: Iterable[Any],
            chunksize: int | None = None) -> Any:
        return self.pool.map(fn, items, chunksize)

    def shutdown(self, wait: bool = True) -> None:
        self.pool.close()
        if wait:
            self.pool.join()

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()


LOADERS: dict[str, Callable[[], SimpleNamespace]] = {
    "std": standard,
    "control": standard,
    "cfutures": cfutures,
    "mp.Pool": multiprocessing_pool,
    "floor": SimpleNamespace,
}
PEERS = ("mp.Pool",)
