"""Many libraries, NumPy arrays to a worker and back."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from meter import STAMPS, Meter, Sample, verify
from registry import peer_row

from rows.proc_big import look, payload

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

    def prepare(turn: int) -> tuple[int, Any]:
        stamp = turn % STAMPS
        return stamp, payloads[stamp].copy() if way == "in" else None

    def check(turn: int, got: Any) -> None:
        verify((got if way == "in" else look(got)) == rights[turn % STAMPS], f"wrong {way}")

    with lib.pool(2) as pool:
        def transfer(given: tuple[int, Any]) -> Any:
            stamp, fresh = given
            return pool.one(give, kib, stamp) if fresh is None else pool.one(look, fresh)

        # Both workers are to have made the results before the clock counts.
        pool.each(make, [kib] * 8)
        return meter.move(transfer, check, prepare)


def make(kib: int) -> int:
    """A task that makes what `give` gives, and returns nothing large."""
    return sum(look(give(kib, stamp)) for stamp in range(STAMPS))


def give(kib: int, stamp: int) -> Any:
    """A task that costs no more than its result, from the second time on."""
    return payload("array", kib << 10, stamp)
