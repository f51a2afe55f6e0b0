"""A pool's beginning and end, and what it costs while it has nothing to do."""
from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from meter import Meter, Sample, verify
from registry import FLOOR, row

from rows.tasks import echo

SETTLE = 0.1    # seconds for workers to fall asleep after their last task


@row(cases=[{"n": 200}], unit="µs/pool", pins=("none", "1"), quick_pins=("none",))
def thr_startup(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """Make a pool of 2, run one empty task, leave the with block; µs a pool."""
    def one(item: int) -> Any:
        with lib.ThreadPoolExecutor(2) as pool:
            return pool.submit(echo, item).result()

    items = list(range(n))
    return meter.per_item(lambda some: [one(item) for item in some[:n]], items,
                          lambda got: got == items)


@row(cases=[{"seconds": 2.0}], quick=[{"seconds": 0.5}], unit="ms CPU")
def idle_cpu(lib: SimpleNamespace, meter: Meter, *, seconds: float) -> Sample:
    """CPU time of the process while a pool of 4 rests and the caller sleeps; ms.

    All four workers have run tasks before. Next to floor_idle_cpu, which has no pool.
    """
    with lib.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(echo, item) for item in range(10_000)]
        verify([f.result() for f in futures] == list(range(10_000)), "wrong result")
        return _asleep(seconds)


@row(cases=[{"seconds": 2.0}], quick=[{"seconds": 0.5}], unit="ms CPU", sides=FLOOR)
def floor_idle_cpu(lib: SimpleNamespace, meter: Meter, *, seconds: float) -> Sample:
    """The same sleep in a process without a pool."""
    return _asleep(seconds)


def _asleep(seconds: float) -> Sample:
    time.sleep(SETTLE)
    cpu = time.process_time()
    time.sleep(seconds)
    used = (time.process_time() - cpu) * 1e3
    return Sample(value=used, items=1)
