"""mpire: WorkerPool with workers that are kept."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpire import WorkerPool

from .contract import ApplyPool

DISTRIBUTION = "mpire"
ADVICE = ("`WorkerPool(keep_alive=True)`; `apply_async`; `map`, which chooses its chunks "
          "itself; `use_dill=True` for closures")


class Processes(ApplyPool):
    options: dict[str, Any] = {}

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pool = self._start()

    def _start(self, **more: Any) -> WorkerPool:
        return WorkerPool(n_jobs=self.workers, keep_alive=True, **self.options, **more)

    def outcomes(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> dict[int, Any]:
        came = {}
        try:
            results = [self.pool.apply_async(fn, (item,)) for item in items]
            for i, result in enumerate(results):
                came[i] = result.get()
        except RuntimeError as why:     # what it raises when a worker died
            self.pool.terminate()
            self.pool = self._start()
            self.note = f"the pool ended ({str(why).splitlines()[0]}) and was made anew"
        return came

    def for_closures(self) -> None:
        """Start again with the pickler its documentation names for them."""
        self.close()
        self.pool = self._start(use_dill=True)

    def close(self) -> None:
        self.pool.stop_and_join()


class Threads(Processes):
    options = {"start_method": "threading"}
