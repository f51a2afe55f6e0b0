"""Work that lets go of the GIL, or has none to let go of: is it really done on both CPUs?"""
from __future__ import annotations

import hashlib
import os
import sysconfig
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from meter import Meter, Sample, Skip
from registry import FLOOR, row

DISTINCT = 8    # different blocks; more would measure the memory, not the pool
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
KIB = [{"kib": 4}, {"kib": 64}, {"kib": 512}]


@row(cases=KIB, quick=[{"kib": 64}], unit="x serial", better="more",
     pins=("none", "1", "2"))
def thr_parallel(lib: SimpleNamespace, meter: Meter, *, kib: int) -> Sample:
    """sha256 of blocks in 2 threads: how many times faster than the same loop serially.

    hashlib releases the GIL for each block. submit() all, then result() of each. Serial
    and parallel rounds alternate in the same process; extras "serial" and "parallel" are
    their µs a block. On one CPU the best possible is 1.
    """
    with lib.ThreadPoolExecutor(2) as pool:
        submit = pool.submit

        def together(blocks: list[bytes]) -> list[bytes]:
            futures = [submit(digest, block) for block in blocks]
            return [future.result() for future in futures]

        return speed_up_of_digests(meter, together, kib)


@row(cases=[{"loops": 100}, {"loops": 10_000}], quick=[{"loops": 10_000}], unit="x serial",
     better="more", pins=("none", "2"))
def thr_parallel_python(lib: SimpleNamespace, meter: Meter, *, loops: int) -> Sample:
    """Tasks that are loops in Python, without a GIL: as thr_parallel otherwise.

    A hundred rounds of the loop are some microseconds, which a task's own cost can be seen
    against; ten thousand show how far the interpreter itself lets threads go side by side.
    """
    if not FREE_THREADED:
        raise Skip("with a GIL, Python code of two threads takes turns")
    items = list(range(max(64, 200_000 // loops)))
    with lib.ThreadPoolExecutor(2) as pool:
        submit = pool.submit

        def together(numbers: list[int]) -> list[int]:
            futures = [submit(add_up, number, loops) for number in numbers]
            return [future.result() for future in futures]

        def alone(numbers: list[int]) -> list[int]:
            return [add_up(number, loops) for number in numbers]

        return speed_up(meter, together, alone, items, items[:16],
                        [number * loops + loops * (loops - 1) // 2 for number in items])


@row(cases=KIB, quick=[{"kib": 64}], unit="x serial", better="more", pins=("none", "2"),
     sides=FLOOR)
def floor_parallel(lib: SimpleNamespace, meter: Meter, *, kib: int) -> Sample:
    """The same with no pool: two bare threads, half of the blocks each, started once.

    The ceiling of thr_parallel on this machine, with the GIL taken back per block.
    """
    def together(blocks: list[bytes]) -> list[bytes]:
        half = len(blocks) // 2
        first: list[bytes] = []
        helper = threading.Thread(target=lambda: first.extend(map(digest, blocks[:half])))
        helper.start()
        second = [digest(block) for block in blocks[half:]]
        helper.join()
        return first + second

    return speed_up_of_digests(meter, together, kib)


def digest(block: bytes) -> bytes:
    """The task: the SHA-256 of one block."""
    return hashlib.sha256(block).digest()


def add_up(start: int, loops: int) -> int:
    """The task in Python: a sum in a loop."""
    total = 0
    for number in range(start, start + loops):
        total += number
    return total


def speed_up_of_digests(meter: Meter, together: Callable[[list[bytes]], list[bytes]],
                        kib: int) -> Sample:
    """speed_up() for the digests of about 64 MiB."""
    different = [os.urandom(kib << 10) for _ in range(DISTINCT)]
    expected = [digest(block) for block in different]
    count = max(64, (64 << 10) // kib // DISTINCT * DISTINCT)
    blocks = different * (count // DISTINCT)
    return speed_up(meter, together, lambda blocks: [digest(block) for block in blocks],
                    blocks, blocks[:max(16, 2048 // kib)], expected * (count // DISTINCT))


def speed_up(meter: Meter, together: Callable[[list[Any]], list[Any]],
             alone: Callable[[list[Any]], list[Any]], items: list[Any], some: list[Any],
             right: list[Any]) -> Sample:
    """Time the serial `alone` and `together` in turn over the same items.

    `some` items are for warming up, `right` is what both must return for all.
    """
    if (os.cpu_count() or 1) < 2:
        raise Skip("one CPU")
    meter.warm_up(together, some)
    turns = meter.in_turn(lambda: alone(items), lambda: together(items),
                          lambda got: got == right)
    return turns.sample(turns.alone / turns.together, len(items), serial=turns.alone,
                        parallel=turns.together)
