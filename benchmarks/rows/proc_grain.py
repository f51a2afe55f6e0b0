"""Tasks that compute: how near two workers come to half of the time; one long task."""
from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from meter import Meter, Sample, Skip, verify
from registry import proc_floor, proc_row

from rows import proc_pool
from rows.tasks import echo

GRAINS = [{"us": us} for us in (4, 49, 490, 5000)]     # a task's length in microseconds
MOST = 10_000       # tasks a round
ROUND = 0.5         # seconds of computing in a round, unless that is too many tasks
LONG = 1.0          # seconds


def count(steps: int) -> int:
    """The task: pure Python, as long as `steps` says."""
    total = 0
    for step in range(steps):
        total += step & 3
    return total


@proc_row(cases=GRAINS, quick=[{"us": 49}, {"us": 490}], unit="x ideal",
          pins=("2",), quick_pins=("2",))
def proc_grain(lib: SimpleNamespace, meter: Meter, *, us: int) -> Sample:
    """Pure-Python tasks of so many µs on 2 workers, each pinned to a CPU, against ideal.

    1 is ideal: half of the time of the same loop in this process, measured before and
    after each round. submit() all, then result() of each; the caller is not pinned and
    shares the two CPUs. floor_grain is the same without a pool. Extras, µs: "task", the loop's;
    "each", the pool's.
    """
    with proc_pool.make(lib, 2, initializer=take_a_cpu, initargs=(_cpus(),)) as pool:
        submit = pool.submit

        def together(n: int, steps: int) -> list[int]:
            futures = [submit(count, steps) for _ in range(n)]
            return [future.result() for future in futures]

        return _against_ideal(meter, us, together)


@proc_floor(cases=GRAINS, quick=[{"us": 490}], unit="x ideal", pins=("2",),
            quick_pins=("2",))
def floor_grain(lib: SimpleNamespace, meter: Meter, *, us: int) -> Sample:
    """The same with no pool: two pinned processes that run half of the tasks each.

    More than 1 here is what two CPUs lose when both are busy (shared caches, hyperthreads).
    """
    with proc_pool.make(_standard(), 2, initializer=take_a_cpu,
                        initargs=(_cpus(),)) as pool:
        def together(n: int, steps: int) -> list[int]:
            halves = [pool.submit(count_all, n // 2, steps) for _ in range(2)]
            return [one for half in halves for one in half.result()]

        return _against_ideal(meter, us, together)


def count_all(n: int, steps: int) -> list[int]:
    """Many tasks as one."""
    return [count(steps) for _ in range(n)]


def _standard() -> SimpleNamespace:
    import proc_impls
    return proc_impls.standard()


def _cpus() -> Any:
    """A queue of the two CPUs, one for each worker to take."""
    import multiprocessing

    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Skip("needs two CPUs")
    queue = multiprocessing.get_context("fork").SimpleQueue()
    for cpu in allowed[-2:]:
        queue.put(cpu)
    return queue


def take_a_cpu(queue: Any) -> None:
    """An initializer: pin this worker to the next CPU of the queue."""
    os.sched_setaffinity(0, [queue.get()])


def _against_ideal(meter: Meter, us: int,
                   together: Callable[[int, int], list[int]]) -> Sample:
    steps = steps_for(us)
    n = max(2, min(MOST, int(ROUND * 1e6 / us)) // 2 * 2)
    right = [count(steps)] * n
    meter.warm_up(functools.partial(together, max(2, n // 10)), steps)
    turns = meter.in_turn(lambda: [count(steps) for _ in range(n)],
                          functools.partial(together, n, steps), lambda got: got == right)
    return turns.sample(turns.together / (turns.alone / 2), n, task=turns.alone,
                        each=turns.together)


def steps_for(us: int) -> int:
    """How many steps make a task of so many microseconds on this machine, now."""
    trial = 20_000
    best = min(_serial(1, trial) for _ in range(20))
    return max(1, round(us * 1e-6 / best * trial))


def _serial(n: int, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(n):
        count(steps)
    return time.perf_counter() - start


@proc_row(cases=[{"n": 2000}])
def proc_long(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """n empty tasks after one that sleeps for 1 s, with 2 workers; µs a short task.

    From the first submit until all short ones are there. A pool that gives out tasks
    ahead leaves some waiting behind the long one, and takes a second. Extra "after":
    1 if the long one was done before the last short one.
    """
    items = list(range(n))
    with proc_pool.make(lib, 2) as pool:
        submit = pool.submit
        meter.warm_up(lambda some: [f.result() for f in [submit(echo, i) for i in some]],
                      items[:200])
        cpu, start = meter.cpu(), time.perf_counter()
        long = submit(rest, LONG)
        futures = [submit(echo, item) for item in items]
        got = [future.result() for future in futures]
        wall = time.perf_counter() - start
        cpu = meter.cpu() - cpu
        verify(got == items, "wrong result")
        verify(long.result() == LONG, "wrong result of the long task")
    return Sample(value=wall / n * 1e6, wall=wall / n * 1e6, cpu=cpu / n * 1e6, items=n,
                  extra={"after": float(wall >= LONG)})


def rest(seconds: float) -> float:
    """The long task: it leaves the CPUs to the others."""
    time.sleep(seconds)
    return seconds
