"""Pools of processes begin, end, replace their workers, and rest."""
from __future__ import annotations

import os
import signal
import time
from statistics import median
from types import SimpleNamespace
from typing import Any

import family
from meter import GaveUp, Meter, Sample, verify
from registry import proc_floor, proc_row

from rows import proc_pool
from rows.tasks import echo

METHODS = [{"method": "fork", "n": 30}, {"method": "forkserver", "n": 8},
           {"method": "spawn", "n": 3}]
PATIENCE = 20   # seconds without a result after which a pool hangs
SETTLE = 0.2    # seconds for workers to fall asleep after their last task


@proc_row(cases=METHODS, quick=[{"method": "fork", "n": 15}, {"method": "spawn", "n": 2}],
          unit="ms/pool")
def proc_startup(lib: SimpleNamespace, meter: Meter, *, method: str, n: int) -> Sample:
    """Make a pool of 2 and have the result of one empty task; median ms.

    The pool is shut down outside of this time. A pool before the first warms up: modules
    that are imported once, the fork server.
    """
    return _lives(lib, meter, method, n)[0]


@proc_row(cases=METHODS, quick=[{"method": "fork", "n": 15}], unit="ms/pool")
def proc_shutdown(lib: SimpleNamespace, meter: Meter, *, method: str, n: int) -> Sample:
    """shutdown(wait=True) of a pool of 2 that has run some tasks; median ms.

    For multiprocessing.Pool: close() and join().
    """
    return _lives(lib, meter, method, n)[1]


def _lives(lib: SimpleNamespace, meter: Meter, method: str, n: int) -> list[Sample]:
    """The samples of n beginnings and n ends."""
    _life(lib, meter, method, 0)
    walls_and_cpus = [_life(lib, meter, method, i) for i in range(n)]
    samples = []
    for phase in range(2):
        wall = median(life[phase][0] for life in walls_and_cpus)
        cpu = median(life[phase][1] for life in walls_and_cpus)
        samples.append(Sample(value=wall * 1e3, wall=wall * 1e6, cpu=cpu * 1e6, items=n))
    return samples


def _life(lib: SimpleNamespace, meter: Meter, method: str,
          i: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Seconds of wall and CPU of a pool's beginning, and of its end."""
    cpu, start = meter.cpu(), time.perf_counter()
    pool = proc_pool.make(lib, 2, method)
    got = pool.submit(echo, i).result()
    begin = time.perf_counter() - start, meter.cpu() - cpu
    verify(got == i, "wrong result")
    futures = [pool.submit(echo, item) for item in range(100)]
    verify([future.result() for future in futures] == list(range(100)), "wrong results")
    cpu, start = meter.cpu(), time.perf_counter()
    pool.shutdown()
    return begin, (time.perf_counter() - start, meter.cpu() - cpu)


@proc_row(cases=[{"method": "forkserver", "each": 5, "n": 60},
                 {"method": "spawn", "each": 5, "n": 30}],
          quick=[{"method": "forkserver", "each": 5, "n": 40}], unit="ms/worker")
def proc_recycle(lib: SimpleNamespace, meter: Meter, *, method: str, each: int,
                 n: int) -> Sample:
    """n empty tasks, 2 workers, a new worker after every `each` (max_tasks_per_child).

    The wall time over the number of workers used up, ms: mostly the start of a process.
    The method is never fork: executors do not allow it. The standard library's pool can
    lose count of its workers here and hang (seen on 3.11 and 3.13); it is left out then.
    """
    items = list(range(n))
    pool = proc_pool.make(lib, 2, method, max_tasks_per_child=each)
    verify(pool.submit(echo, 7).result() == 7, "wrong result")  # the server is running
    cpu, start = meter.cpu(), time.perf_counter()
    futures = [pool.submit(who, item) for item in items]
    try:
        got = [future.result(PATIENCE) for future in futures]
    except TimeoutError as why:
        if not getattr(lib, "may_hang", False):
            raise
        _kill_family()
        done = sum(future.done() for future in futures)
        raise GaveUp(f"hung after {done} of {n} results: no new worker came") from why
    wall = time.perf_counter() - start
    cpu = meter.cpu() - cpu
    pool.shutdown()
    verify([item for item, _ in got] == items, "wrong result")
    ran = [pid for _, pid in got]
    verify(all(ran.count(pid) <= each for pid in ran), "a worker ran too many tasks")
    used = n / each
    return Sample(value=wall / used * 1e3, wall=wall / n * 1e6, cpu=cpu / n * 1e6, items=n,
                  extra={"workers": len(set(ran))})


def _kill_family() -> None:
    """Leave nothing behind but this process."""
    for pid in family.descendants():
        os.kill(pid, signal.SIGKILL)


def who(item: Any) -> tuple[Any, int]:
    """A task that says which process ran it."""
    return item, os.getpid()


@proc_row(cases=[{"seconds": 2.0}], quick=[{"seconds": 0.5}], unit="ms CPU")
def proc_idle(lib: SimpleNamespace, meter: Meter, *, seconds: float) -> Sample:
    """CPU time of caller and workers together while a pool of 2 rests; ms.

    The workers have run 2,000 tasks before. Extras: "wake-ups" of all threads in that
    time, "worst", the CPU ms of the busiest worker. Next to floor_proc_idle: no pool.
    """
    with proc_pool.make(lib, 2) as pool:
        futures = [pool.submit(echo, item) for item in range(2000)]
        verify([f.result() for f in futures] == list(range(2000)), "wrong result")
        return _at_rest(seconds)


@proc_floor(cases=[{"seconds": 2.0}], quick=[{"seconds": 0.5}], unit="ms CPU")
def floor_proc_idle(lib: SimpleNamespace, meter: Meter, *, seconds: float) -> Sample:
    """The same sleep, and the same reading of clocks, in a process without a pool."""
    return _at_rest(seconds)


def _at_rest(seconds: float) -> Sample:
    time.sleep(SETTLE)
    workers = family.descendants()
    woken = sum(map(family.wake_ups, ["self", *workers]))
    before = _used(workers)
    mine = time.process_time()      # last here and first there: reading clocks costs, too
    time.sleep(seconds)
    mine = time.process_time() - mine
    spent = [(b - a) * 1e3 for a, b in zip(before, _used(workers), strict=True)]
    woken = sum(map(family.wake_ups, ["self", *workers])) - woken
    return Sample(value=mine * 1e3 + sum(spent), items=1 + len(workers), extra={
        "worst": max(spent, default=0.0), "wake-ups": woken})


def _used(workers: list[int]) -> list[float]:
    """CPU seconds of each worker so far."""
    found = [family.cpu_of(pid) for pid in workers]
    verify(None not in found, "a worker ended while it should rest")
    return [seconds for seconds in found if seconds is not None]
