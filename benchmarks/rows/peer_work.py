"""Many libraries, tasks that compute: how much faster two workers are than a loop."""
from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from meter import Meter, Sample, Skip
from registry import peer_row, peer_thread_row, proc_floor

from rows import proc_pool
from rows.proc_grain import count, steps_for

ROUND = 0.3         # seconds of computing in a round, unless that is too many tasks
MOST = 1000         # tasks a round
NUMBERS = 100_000   # in the array of the NumPy task


@peer_row(cases=[{"us": us} for us in (10, 100, 1000)], unit="x serial", better="more")
def peer_grain(lib: SimpleNamespace, meter: Meter, *, us: int) -> Sample:
    """Pure-Python tasks of so many µs, each handed over by itself, on 2 workers.

    How many times faster than the same loop in this process, measured before and after
    each round: 2 is the most there is, below 1 the loop is better. Extra "task": µs.
    """
    return _pool_speed_up(lib, meter, count, steps_for(us), us)


@peer_row(cases=[{"ms": 20}], unit="x serial", better="more")
def peer_python(lib: SimpleNamespace, meter: Meter, *, ms: int) -> Sample:
    """The same with tasks of so many ms: what nobody's overhead should spoil."""
    return _pool_speed_up(lib, meter, count, steps_for(ms * 1000), ms * 1000)


@peer_row(unit="x serial", better="more")
def peer_numpy(lib: SimpleNamespace, meter: Meter) -> Sample:
    """The same with a NumPy task of about 1 ms: a seed in, a number out."""
    return _numpy_speed_up(meter, lib)


@peer_thread_row(cases=[{"ms": 20}], unit="x serial", better="more")
def peer_thr_python(lib: SimpleNamespace, meter: Meter, **params: Any) -> Sample:
    """peer_python with threads: with a GIL there is nothing to win, and something to lose."""
    return peer_python(lib, meter, **params)


@peer_thread_row(unit="x serial", better="more")
def peer_thr_numpy(lib: SimpleNamespace, meter: Meter) -> Sample:
    """peer_numpy with threads: NumPy lets go of the GIL."""
    return _numpy_speed_up(meter, lib)


@proc_floor(cases=[{"us": us} for us in (10, 100, 1000, 20_000)], unit="x serial",
            better="more")
def floor_two_processes(lib: SimpleNamespace, meter: Meter, *, us: int) -> Sample:
    """peer_grain with no tasks at all: two processes that run half of the loop each.

    Less than 2 is what two CPUs lose when both are busy.
    """
    import proc_impls

    with proc_pool.make(proc_impls.standard(), 2) as pool:
        def halves(fn: Callable[[int], int], items: list[int]) -> list[int]:
            half = len(items) // 2
            jobs = [pool.submit(loop, fn, part) for part in (items[:half], items[half:])]
            return [one for job in jobs for one in job.result()]

        return speed_up(meter, halves, count, [steps_for(us)] * _tasks(us))


def loop(fn: Callable[[int], Any], items: list[int]) -> list[Any]:
    """Many tasks as one."""
    return [fn(item) for item in items]


def numbers(seed: int) -> float:
    """The NumPy task."""
    import numpy

    drawn = numpy.random.default_rng(seed).random(NUMBERS)
    return float(numpy.sqrt(drawn * drawn + 1.0).sum())


def _numpy_speed_up(meter: Meter, lib: SimpleNamespace) -> Sample:
    try:
        numbers(0)
    except ImportError as why:
        raise Skip(str(why)) from why
    with lib.pool(2) as pool:
        return speed_up(meter, pool.each, numbers, list(range(200)))


def _pool_speed_up(lib: SimpleNamespace, meter: Meter, fn: Callable[[int], int], steps: int,
                   us: int) -> Sample:
    with lib.pool(2) as pool:
        return speed_up(meter, pool.each, fn, [steps] * _tasks(us))


def _tasks(us: int) -> int:
    return max(8, min(MOST, int(ROUND * 1e6 / us)) // 2 * 2)


def speed_up(meter: Meter, each: Callable[[Callable[[int], Any], list[int]], list[Any]],
             fn: Callable[[int], Any], items: list[int]) -> Sample:
    """Time the loop and `each(fn, items)` in turn over the same items."""
    right = loop(fn, items)
    meter.warm_up(functools.partial(each, fn), items[:max(4, len(items) // 10)])
    turns = meter.in_turn(lambda: loop(fn, items), lambda: each(fn, items),
                          lambda got: got == right)
    return turns.sample(turns.alone / turns.together, len(items), task=turns.alone)
