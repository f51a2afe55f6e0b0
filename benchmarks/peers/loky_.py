"""loky: the reusable executor."""
from __future__ import annotations

from typing import Any

from loky import get_reusable_executor

from .contract import ExecutorPool

DISTRIBUTION = "loky"
ADVICE = "`get_reusable_executor(max_workers=2)`; `submit`, `map` with a `chunksize`"


class Processes(ExecutorPool):
    def start(self) -> Any:
        # It gives the living one, or a new one if that broke.
        return get_reusable_executor(max_workers=self.workers)
