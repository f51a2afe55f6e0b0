"""Many empty tasks at once: submit all, then take all results; and map."""
from __future__ import annotations

from types import SimpleNamespace

from meter import Meter, Sample
from registry import row

from rows.tasks import echo

WORKERS = (1, 2, 4)


@row(cases=[{"workers": w, "n": 20_000} for w in WORKERS],
     quick=[{"workers": w, "n": 20_000} for w in WORKERS],
     pins=("none", "1", "2"), peers=True)
def thr_burst(lib: SimpleNamespace, meter: Meter, *, workers: int, n: int) -> Sample:
    """submit() n empty tasks, then result() of each in order; µs a task.

    One caller. The futures are freed inside the timed part, the pool is
    started before and shut down after it.
    """
    items = list(range(n))
    with lib.ThreadPoolExecutor(workers) as pool:
        submit = pool.submit

        def body(some: list[int]) -> list[int]:
            futures = [submit(echo, item) for item in some]
            return [future.result() for future in futures]

        return meter.per_item(body, items, lambda got: got == items)


@row(cases=[{"workers": w, "n": 200_000} for w in WORKERS], quick=[])
def thr_burst_big(lib: SimpleNamespace, meter: Meter, *, workers: int, n: int) -> Sample:
    """The same with 200,000 tasks: a long queue, many objects for the collector."""
    return thr_burst(lib, meter, workers=workers, n=n)


@row(cases=[{"workers": 2, "n": 20_000}], pins=("none", "1", "2"),
     peers=True)
def thr_map(lib: SimpleNamespace, meter: Meter, *, workers: int, n: int) -> Sample:
    """list(pool.map(empty task, n items)); µs an item."""
    items = list(range(n))
    with lib.ThreadPoolExecutor(workers) as pool:
        return meter.per_item(lambda some: list(pool.map(echo, some)), items,
                              lambda got: got == items)
