"""Pool with multiprocessing's methods: map, imap, apply_async, apply, its start."""
from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from meter import Meter, Sample, verify
from registry import pool_row

from rows.tasks import echo

STARTS = 5


@pool_row(cases=[{"chunksize": "default", "n": 100_000}, {"chunksize": 100, "n": 100_000},
                 {"chunksize": 1, "n": 20_000}, {"chunksize": "default", "n": 500},
                 {"chunksize": "default", "n": 8}],
          quick=[{"chunksize": "default", "n": 100_000}, {"chunksize": 1, "n": 20_000}])
def pool_map(lib: SimpleNamespace, meter: Meter, *, chunksize: int | str, n: int) -> Sample:
    """map(empty task, list of n ints) with 2 workers; µs an item."""
    items = list(range(n))
    options = {} if chunksize == "default" else {"chunksize": chunksize}
    with lib.Pool(2) as pool:
        return meter.per_item(lambda some: pool.map(echo, some, **options), items,
                              lambda got: got == items)


@pool_row(cases=[{"method": method, "n": 20_000} for method in ("imap", "imap_unordered")])
def pool_imap(lib: SimpleNamespace, meter: Meter, *, method: str, n: int) -> Sample:
    """list(imap(empty task, generator of n ints)) with 2 workers; µs an item."""
    items = list(range(n))
    with lib.Pool(2) as pool:
        call = getattr(pool, method)
        return meter.per_item(lambda some: list(call(echo, (item for item in some))), items,
                              lambda got: sorted(got) == items)


@pool_row(cases=[{"callback": callback, "n": 10_000} for callback in (False, True)],
          quick=[{"callback": False, "n": 10_000}])
def pool_async(lib: SimpleNamespace, meter: Meter, *, callback: bool, n: int) -> Sample:
    """apply_async() of n empty tasks, then get() of each, with 2 workers; µs a task.

    "callback": with a function that is called with each result.
    """
    items = list(range(n))
    with lib.Pool(2) as pool:

        def body(some: list[int]) -> list[Any]:
            called: list[int] = []
            told = called.append if callback else None
            results = [pool.apply_async(echo, (item,), {}, told) for item in some]
            got = [result.get() for result in results]
            verify(len(called) == (len(some) if callback else 0), "callbacks")
            return got

        return meter.per_item(body, items, lambda got: got == items)


@pool_row(cases=[{"n": 1000}])
def pool_apply(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """apply(empty task), one at a time without a pause, with 1 worker; µs a call."""
    items = list(range(n))
    with lib.Pool(1) as pool:
        return meter.per_item(lambda some: [pool.apply(echo, (item,)) for item in some],
                              items, lambda got: got == items)


@pool_row(cases=[{"workers": 2}], unit="ms")
def pool_startup(lib: SimpleNamespace, meter: Meter, *, workers: int) -> Sample:
    """From Pool() by fork to its end, with one map in it; ms, the mean of five."""
    before = time.perf_counter()
    for _ in range(STARTS):
        with lib.Pool(workers) as pool:
            verify(pool.map(echo, range(workers), 1) == list(range(workers)), "map")
    value = (time.perf_counter() - before) / STARTS * 1e3
    return Sample(value=value, items=STARTS)
