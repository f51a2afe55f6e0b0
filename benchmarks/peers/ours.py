"""cfutures itself."""
from __future__ import annotations

from typing import Any

from cfutures import ProcessPoolExecutor, ThreadPoolExecutor

from .contract import ExecutorPool

DISTRIBUTION = "cfutures"
ADVICE = "`submit`, `map` without chunks; `on_crash=\"replace\"`"


class Processes(ExecutorPool):
    chunks = {}

    def start(self) -> Any:
        return ProcessPoolExecutor(self.workers, on_crash="replace")


class Threads(ExecutorPool):
    chunks = {}

    def start(self) -> Any:
        return ThreadPoolExecutor(self.workers)
