"""Many libraries, NumPy arrays to a worker and back."""
from __future__ import annotations

import time
from statistics import median
from types import SimpleNamespace
from typing import Any

from meter import Meter, Sample, verify
from registry import peer_row

from rows.proc_big import LEAST, STAMPS, look, payload

SIZES = (64, 8 << 10, 80 << 10)     # KiB


@peer_row(cases=[{"way": way, "kib": kib} for way in ("in", "out") for kib in SIZES],
          unit="ms/transfer")
def peer_array(lib: SimpleNamespace, meter: Meter, *, way: str, kib: int) -> Sample:
    """An array of so many KiB as argument ("in") or result ("out"), 2 workers; median ms.

    In a pool that has moved as much before. An argument is a new array each time, copied
    outside of the time: a library that keeps what it has sent has to send it again. Either
    side looks at both ends and the middle of what came.
    """
    payloads = [payload("array", kib << 10, stamp) for stamp in range(STAMPS)]
    rights = [look(one) for one in payloads]
    walls: list[float] = []
    with lib.pool(2) as pool:
        def transfer(turn: int) -> float:
            stamp = turn % STAMPS
            fresh = payloads[stamp].copy()
            start = time.perf_counter()
            got = pool.one(look, fresh) if way == "in" else pool.one(give, kib, stamp)
            wall = time.perf_counter() - start
            verify((got if way == "in" else look(got)) == rights[stamp], f"wrong {way}")
            return wall

        # Both workers are to have made the results before the clock counts.
        pool.each(make, [kib] * 8)
        until = time.perf_counter() + meter.warm_up_seconds
        turn = 0
        while turn < STAMPS or time.perf_counter() < until:
            transfer(turn)
            turn += 1
        while len(walls) < LEAST or sum(walls) < meter.enough:
            walls.append(transfer(turn))
            turn += 1
    wall = median(walls)
    return Sample(value=wall * 1e3, wall=wall * 1e6, items=len(walls))


def make(kib: int) -> int:
    """A task that makes what `give` gives, and returns nothing large."""
    return sum(look(give(kib, stamp)) for stamp in range(STAMPS))


def give(kib: int, stamp: int) -> Any:
    """A task that costs no more than its result, from the second time on."""
    return payload("array", kib << 10, stamp)
