"""wait(), as_completed() and callbacks over 10,000 futures, done or to be done."""
from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from meter import Meter, Sample
from registry import row

from rows.tasks import echo

N = 10_000
PINS = ("none", "1")
PATIENCE = 30   # seconds for callbacks that run after wait() returned


@row(cases=[{"n": N}], pins=PINS)
def wait_done(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """wait() over n futures that are all done; µs a future."""
    with lib.ThreadPoolExecutor(2) as pool:
        futures = _finished(pool, n)
        return meter.per_item(lib.wait, futures,
                              lambda got: len(got.done) == n and not got.not_done)


@row(cases=[{"n": N}], pins=PINS)
def as_completed_done(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """A loop over as_completed() of n futures that are all done; µs a future."""
    with lib.ThreadPoolExecutor(2) as pool:
        futures = _finished(pool, n)
        return meter.per_item(lambda some: list(lib.as_completed(some)), futures,
                              lambda got: len(got) == n == len(set(got)))


@row(cases=[{"n": N}], pins=PINS)
def wait_pending(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """submit() n empty tasks, then wait() for all; µs a task."""
    items = list(range(n))
    with lib.ThreadPoolExecutor(2) as pool:
        submit = pool.submit

        def body(some: list[int]) -> Any:
            return lib.wait([submit(echo, item) for item in some])

        return meter.per_item(body, items, lambda got: not got.not_done and _sum(got.done, n))


@row(cases=[{"n": N}], pins=PINS)
def as_completed_pending(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """submit() n empty tasks, then take the results in as_completed() order; µs a task."""
    items = list(range(n))
    with lib.ThreadPoolExecutor(2) as pool:
        submit = pool.submit

        def body(some: list[int]) -> list[int]:
            futures = [submit(echo, item) for item in some]
            return [future.result() for future in lib.as_completed(futures)]

        return meter.per_item(body, items, lambda got: sorted(got) == items)


@row(cases=[{"n": N}], pins=PINS)
def done_callback(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """submit() and add_done_callback() n times, then wait() for all; µs a task.

    One callback for all, a C function (list.append), so that what is measured is not the
    callback. wait() may return before the last callbacks have run; they are waited for
    and checked outside the timed part.
    """
    items = list(range(n))
    called: list[Any] = []
    note = called.append
    with lib.ThreadPoolExecutor(2) as pool:
        submit = pool.submit

        def body(some: list[int]) -> Any:
            futures = []
            for item in some:
                future = submit(echo, item)
                future.add_done_callback(note)
                futures.append(future)
            return lib.wait(futures)

        def check(got: Any) -> bool:
            deadline = time.monotonic() + PATIENCE
            while len(called) < n and time.monotonic() < deadline:
                time.sleep(0)
            good = not got.not_done and set(called) == got.done and len(called) == n
            called.clear()
            return good and _sum(got.done, n)

        def warm(some: list[int]) -> None:
            body(some)
            called.clear()

        # Rounds of the warm-up may leave callbacks on their way: empty it, then begin.
        meter.warm_up(warm, items[:1000])
        pool.submit(echo, 0).result()
        time.sleep(0.02)
        called.clear()
        return Meter(0, meter.enough).per_item(body, items, check)


def _finished(pool: Any, n: int) -> list[Any]:
    futures = [pool.submit(echo, item) for item in range(n)]
    for future in futures:
        future.result()
    return futures


def _sum(done: Any, n: int) -> bool:
    return sum(future.result() for future in done) == n * (n - 1) // 2
