"""Pebble: schedule() and map()."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pebble import ProcessExpired, ProcessPool, ThreadPool

from .contract import CHUNK, Pool

DISTRIBUTION = "Pebble"
ADVICE = "`ProcessPool`, `schedule`; `map` with a `chunksize`"


class Processes(Pool):
    start: Callable[..., Any] = ProcessPool
    chunks: dict[str, int] = {"chunksize": CHUNK}

    def __init__(self, workers: int) -> None:
        self.pool = self.start(max_workers=workers)

    def each(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        schedule = self.pool.schedule
        futures = [schedule(fn, args=(item,)) for item in items]
        return [future.result() for future in futures]

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return list(self.pool.map(fn, items, **self.chunks).result())

    def one(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.pool.schedule(fn, args=args).result()

    def outcomes(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> dict[int, Any]:
        came = {}
        futures = [self.pool.schedule(fn, args=(item,)) for item in items]
        for i, future in enumerate(futures):
            try:
                came[i] = future.result()
            except ProcessExpired:
                self.note = "ProcessExpired"
        return came

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


class Threads(Processes):
    start = ThreadPool
    chunks = {}
