"""Many libraries, the same short tasks: at once, one at a time, a closure, a million."""
from __future__ import annotations

import pickle
import sys
from types import SimpleNamespace
from typing import Any

from meter import Meter, Sample, Skip
from registry import peer_row, peer_thread_row

from rows.tasks import echo

# What a cell of a notebook defines, and what it gives back: a closure that reads a global.
CELL = """
step = 1

def cell_adder(zero):
    return lambda item: item + zero + step - 1
"""


@peer_row(cases=[{"n": 2000}])
def peer_empty(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """n empty tasks, each handed over by itself, then all results; 2 workers; µs a task."""
    items = list(range(n))
    with lib.pool(2) as pool:
        return meter.per_item(lambda some: pool.each(echo, some), items,
                              lambda got: got == items)


@peer_row(cases=[{"n": 100}], unit="µs/call")
def peer_one(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """An empty task and its result, one at a time without a pause; 2 workers; µs a call."""
    items = list(range(n))
    with lib.pool(2) as pool:
        return meter.per_item(lambda some: [pool.one(echo, item) for item in some], items,
                              lambda got: got == items)


@peer_row(cases=[{"n": 1_000_000}], quick=[{"n": 100_000}], unit="s")
def peer_map(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """A map of the empty task over n ints as the library advises for so many; seconds."""
    items = list(range(n))
    with lib.pool(2) as pool:
        sample = meter.per_item(lambda some: pool.map(echo, some), items,
                                lambda got: got == items)
    sample.value *= n / 1e6
    return sample


@peer_row(cases=[{"n": 1000}])
def peer_closure(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """The same as peer_empty with a closure that a notebook's cell made; µs a task."""
    main = sys.modules["__main__"]
    exec(compile(CELL, "<cell>", "exec"), vars(main))
    closure = main.cell_adder(0)
    items = list(range(n))
    with lib.pool(2) as pool:
        if hasattr(pool, "for_closures"):
            pool.for_closures()
        try:
            pool.each(closure, items[:1])
        except (pickle.PicklingError, AttributeError) as why:
            raise Skip(str(why)) from why
        return meter.per_item(lambda some: pool.each(closure, some), items,
                              lambda got: got == items)


@peer_thread_row(cases=[{"n": 2000}])
def peer_thr_empty(lib: SimpleNamespace, meter: Meter, **params: Any) -> Sample:
    """peer_empty with threads."""
    return peer_empty(lib, meter, **params)


@peer_thread_row(cases=[{"n": 500}], unit="µs/call")
def peer_thr_one(lib: SimpleNamespace, meter: Meter, **params: Any) -> Sample:
    """peer_one with threads."""
    return peer_one(lib, meter, **params)


@peer_thread_row(cases=[{"n": 100_000}], unit="s")
def peer_thr_map(lib: SimpleNamespace, meter: Meter, **params: Any) -> Sample:
    """peer_map with threads."""
    return peer_map(lib, meter, **params)
