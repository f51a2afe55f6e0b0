"""A steady trickle of tasks, slower than the pool: a wake-up for each."""
from __future__ import annotations

import ctypes
import threading
import time
from types import SimpleNamespace

from meter import Meter, Sample, verify
from registry import row

PERIOD = 20e-6  # seconds from one submit to the next

# Lets go of the GIL on every Python; os.sched_yield does not before 3.13, and
# time.sleep(0) can take the kernel's timer slack, 50 µs.
give_way = ctypes.CDLL(None).sched_yield


@row(cases=[{"n": 10_000}], quick=[{"n": 4000}], pins=("none", "1", "2"))
def thr_trickle(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """A submit() every 20 µs; median µs from the submit to the task's first line.

    Between submits the caller polls the clock and gives GIL and CPU away, over and over.
    A caller that falls behind goes on at once (extra "behind": percent of submits that
    were a period late). Extra "submit": mean µs spent inside submit(). The CPU column
    is the process's, the caller's polling included.
    """
    clock = time.perf_counter

    def began(sent: float) -> tuple[float, int]:
        return clock() - sent, threading.get_ident()

    with lib.ThreadPoolExecutor(2) as pool:
        submit = pool.submit

        def trickle(count: int) -> tuple[list, float, int]:
            futures = []
            inside = 0.0
            behind = 0
            due = clock()
            for _ in range(count):
                while (now := clock()) < due:
                    give_way()
                behind += now > due + PERIOD
                due = max(due, now - PERIOD) + PERIOD
                futures.append(submit(began, now))
                inside += clock() - now
            return [future.result() for future in futures], inside, behind

        meter.warm_up(trickle, 500)
        before, cpu = clock(), time.process_time()
        got, inside, behind = trickle(n)
        wall, cpu = clock() - before, time.process_time() - cpu
    delays = sorted(delay for delay, _ in got)
    verify(len(got) == n, "a task is missing")
    verify(all(who != threading.get_ident() for _, who in got), "a task ran in the caller")
    verify(delays[0] > 0, "a task began before its submit")
    middle = delays[n // 2] * 1e6
    return Sample(value=middle, wall=wall / n * 1e6, cpu=cpu / n * 1e6, items=n,
                  extra={"submit": inside / n * 1e6, "behind": behind / n * 100,
                         "p90": delays[n * 9 // 10] * 1e6, "max": delays[-1] * 1e6})
