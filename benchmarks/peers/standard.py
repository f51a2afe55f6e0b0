"""concurrent.futures of the interpreter."""
from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from .contract import ExecutorPool

DISTRIBUTION = None
ADVICE = ("`submit`; `map` with a large `chunksize` in processes, which its documentation "
          "advises for long iterables")


class Processes(ExecutorPool):
    def start(self) -> Any:
        return ProcessPoolExecutor(self.workers)


class Threads(ExecutorPool):
    chunks = {}     # ThreadPoolExecutor.map ignores it

    def start(self) -> Any:
        return ThreadPoolExecutor(self.workers)
