"""multiprocessing.Pool, and the pool of threads beside it."""
from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.pool import ThreadPool
from typing import Any

from meter import Skip

from .contract import ApplyPool

DISTRIBUTION = None
ADVICE = "`apply_async`, `apply`; `map`, which chooses its chunks itself"
PATIENCE = 3.0  # seconds without a result after which it will not come


class Processes(ApplyPool):
    start: Callable[[int], Any] = staticmethod(multiprocessing.Pool)

    def __init__(self, workers: int) -> None:
        self.pool = self.start(workers)

    def outcomes(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> dict[int, Any]:
        """The task that died is never heard of: nobody knows when to go on without it."""
        came = {}
        results = [self.pool.apply_async(fn, (item,)) for item in items]
        for i, result in enumerate(results):
            try:
                came[i] = result.get(PATIENCE)
            except multiprocessing.TimeoutError:
                continue
        if len(came) < len(items):
            self.pool.terminate()   # join() would wait for ever, too
            self.pool.join()
            raise Skip(f"never: get() of the fatal task hangs; {len(came)} results came")
        return came

    def close(self) -> None:
        self.pool.close()
        self.pool.join()


class Threads(Processes):
    start = ThreadPool
