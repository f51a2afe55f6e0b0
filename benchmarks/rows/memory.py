"""What a pending future weighs."""
from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

from meter import Meter, Sample, verify
from registry import row

from rows.tasks import echo


@row(cases=[{"n": 100_000}], quick=[{"n": 30_000}], unit="bytes/future")
def thr_mem(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """Growth of the resident set by n submits behind a blocked worker; bytes a task.

    Everything a pending task costs: future, queue entry, locks, allocator overhead. The
    list that holds the futures exists before, the task and its argument are shared.
    No warm-up: memory that an earlier burst left free would make it look smaller.
    Extra "blocks": objects of Python's allocator a task (sys.getallocatedblocks);
    "malloc": bytes a task got from the C allocator (mallinfo2, glibc only). Python's own
    arenas are in neither malloc figure, so the two do not add up to the resident set.
    """
    gate, started = threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        gate.wait()

    futures: list = [None] * n
    with lib.ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(block)
            started.wait()
            gc.collect()
            before, blocks, malloc = resident(), sys.getallocatedblocks(), c_bytes()
            for i in range(n):
                futures[i] = pool.submit(echo, n)
            gc.collect()
            grown = resident() - before
            blocks = sys.getallocatedblocks() - blocks
            malloc = c_bytes() - malloc
            verify(not any(future.done() for future in futures), "a task was not pending")
        finally:
            gate.set()
        verify(all(future.result() == n for future in futures), "wrong result")
    return Sample(value=grown / n, items=n,
                  extra={"blocks": blocks / n, "malloc": malloc / n})


def resident() -> int:
    """Bytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class _MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
        "uordblks", "fordblks", "keepcost")]


def c_bytes() -> int:
    """Bytes that malloc has handed out, small and mapped; 0 without glibc 2.33."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return 0
    mallinfo2.restype = _MallInfo
    info = mallinfo2()
    return info.uordblks + info.hblkhd
