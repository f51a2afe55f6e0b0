"""joblib: one Parallel object, used as a context manager so that its workers are kept."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import BrokenProcessPool

from .contract import Pool

DISTRIBUTION = "joblib"
ADVICE = ("`with Parallel(n_jobs=2) as parallel`, which puts short calls into batches by "
          "itself, also where others make a task of each; large arrays by its memory maps")


class Processes(Pool):
    prefer = "processes"

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.parallel = self._start()

    def _start(self) -> Any:
        return Parallel(n_jobs=self.workers, prefer=self.prefer).__enter__()

    def each(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return self.parallel(delayed(fn)(item) for item in items)

    map = each

    def one(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.parallel([delayed(fn)(*args)])[0]

    def outcomes(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> dict[int, Any]:
        try:
            return dict(enumerate(self.each(fn, items)))
        except BrokenProcessPool:
            self.parallel.__exit__(None, None, None)
            self.parallel = self._start()
            self.note = "the call raised and gave no result; its pool was made anew"
            return {}

    def close(self) -> None:
        self.parallel.__exit__(None, None, None)


class Threads(Processes):
    prefer = "threads"
