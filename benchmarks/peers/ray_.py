"""Ray on this machine only."""
from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

# Before it is imported: nothing is reported to anybody.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.exceptions import WorkerCrashedError

from .contract import CHUNK, Pool

DISTRIBUTION = "ray"
ADVICE = "`ray.init(num_cpus=2)`, `remote`, one `ray.get` of all; batches for short calls"


class Processes(Pool):
    def __init__(self, workers: int) -> None:
        self.folder = tempfile.mkdtemp(prefix="ray-")
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False,
                 logging_level="ERROR", _temp_dir=self.folder)
        self.remote: dict[Any, Any] = {}

    def _remote(self, fn: Callable[..., Any]) -> Any:
        """Declared once a function: doing it again for each call is what Ray warns of."""
        if fn not in self.remote:
            self.remote[fn] = ray.remote(fn)
        return self.remote[fn].remote

    def each(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        call = self._remote(fn)
        return ray.get([call(item) for item in items])

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        call = self._remote(batch)
        batches = [call(fn, items[i:i + CHUNK]) for i in range(0, len(items), CHUNK)]
        return [one for got in ray.get(batches) for one in got]

    def one(self, fn: Callable[..., Any], *args: Any) -> Any:
        return ray.get(self._remote(fn)(*args))

    def outcomes(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> dict[int, Any]:
        call = self._remote(fn)
        came = {}
        for i, reference in enumerate([call(item) for item in items]):
            try:
                came[i] = ray.get(reference)
            except WorkerCrashedError:
                self.note = "WorkerCrashedError, after it had killed four workers"
        return came

    def close(self) -> None:
        ray.shutdown()
        shutil.rmtree(self.folder)


def batch(fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Many short calls as one task."""
    return [fn(item) for item in items]
