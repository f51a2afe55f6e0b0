"""Work that lets go of the GIL: is it really done on both CPUs?"""
from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

from meter import Meter, Sample, Skip, verify
from registry import FLOOR, row

DISTINCT = 8    # different blocks; more would measure the memory, not the pool
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

        return speed_up(meter, together, kib)


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

    return speed_up(meter, together, kib)


def digest(block: bytes) -> bytes:
    """The task: the SHA-256 of one block."""
    return hashlib.sha256(block).digest()


def speed_up(meter: Meter, together: Callable[[list[bytes]], list[bytes]],
             kib: int) -> Sample:
    """Time the serial loop and `together` in turn over the same blocks."""
    if (os.cpu_count() or 1) < 2:
        raise Skip("one CPU")
    different = [os.urandom(kib << 10) for _ in range(DISTINCT)]
    expected = [digest(block) for block in different]
    count = max(64, (64 << 10) // kib // DISTINCT * DISTINCT)   # about 64 MiB
    blocks = different * (count // DISTINCT)
    right = expected * (count // DISTINCT)
    meter.warm_up(together, blocks[:max(16, 2048 // kib)])
    serial = parallel = cpu = 0.0
    rounds = 0
    while parallel < meter.enough:
        start = time.perf_counter()
        alone = [digest(block) for block in blocks]
        middle, cpu_middle = time.perf_counter(), time.process_time()
        got = together(blocks)
        end, cpu_end = time.perf_counter(), time.process_time()
        verify(alone == right and got == right, "wrong digest")
        serial += middle - start
        parallel += end - middle
        cpu += cpu_end - cpu_middle
        rounds += 1
    n = rounds * len(blocks)
    return Sample(value=serial / parallel, wall=parallel / n * 1e6, cpu=cpu / n * 1e6,
                  items=n, extra={"serial": serial / n * 1e6, "parallel": parallel / n * 1e6})
