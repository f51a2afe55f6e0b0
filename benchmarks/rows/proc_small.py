"""Small tasks in processes: many at once, one at a time, map, a small dictionary."""
from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from meter import Meter, Sample
from registry import proc_row

from rows import proc_pool
from rows.tasks import echo

SIMPLE, LISTS, PICKLED = {"data": "simple"}, {"data": "lists"}, {"data": "pickled"}

# "simple" is an int in and out; "lists" a list of it; "pickled" a set, which cfutures does
# not write in its own way, so that it goes through general pickling.
DRESS: dict[str, Callable[[int], Any]] = {
    "simple": int, "lists": lambda i: [i], "pickled": lambda i: {i}}


@proc_row(cases=[{**data, "workers": w, "n": 20_000}
                 for data in (SIMPLE, LISTS, PICKLED) for w in (1, 2)],
          quick=[{**data, "workers": 2, "n": 20_000} for data in (SIMPLE, PICKLED)],
          pins=("none", "1"))
def proc_burst(lib: SimpleNamespace, meter: Meter, *, data: str, workers: int,
               n: int) -> Sample:
    """submit() n empty tasks, then result() of each in order; µs a task.

    One caller. The futures are freed inside the timed part; the pool is started before
    and shut down after it.
    """
    items = [DRESS[data](i) for i in range(n)]
    with proc_pool.make(lib, workers) as pool:
        submit = pool.submit

        def body(some: list[Any]) -> list[Any]:
            futures = [submit(echo, item) for item in some]
            return [future.result() for future in futures]

        return meter.per_item(body, items, lambda got: got == items)


@proc_row(cases=[{"n": 10_000}], peers=False)
def proc_as_completed(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """submit() n empty tasks, then take the results in as_completed() order; µs a task."""
    items = list(range(n))
    with proc_pool.make(lib, 2) as pool:
        submit = pool.submit

        def body(some: list[int]) -> list[int]:
            futures = [submit(echo, item) for item in some]
            return [future.result() for future in lib.as_completed(futures)]

        return meter.per_item(body, items, lambda got: sorted(got) == items)


@proc_row(cases=[{**data, "n": 2000} for data in (SIMPLE, PICKLED)],
          pins=("none", "1", "2"), quick_pins=("none", "1"))
def proc_pingpong(lib: SimpleNamespace, meter: Meter, *, data: str, n: int) -> Sample:
    """submit(empty task).result(), one at a time without a pause; µs a round trip."""
    items = [DRESS[data](i) for i in range(n)]
    with proc_pool.make(lib, 1) as pool:
        submit = pool.submit
        return meter.per_item(lambda some: [submit(echo, item).result() for item in some],
                              items, lambda got: got == items)


@proc_row(cases=[{"chunksize": size, "n": 20_000} for size in (1, 64, "default")],
          pins=("none", "1"))
def proc_map(lib: SimpleNamespace, meter: Meter, *, chunksize: int | str, n: int) -> Sample:
    """list(pool.map(empty task, n items)) with 2 workers; µs an item.

    "default" does not pass a chunksize: 1 for executors, a guess for multiprocessing.Pool.
    """
    items = list(range(n))
    options = {} if chunksize == "default" else {"chunksize": chunksize}
    with proc_pool.make(lib, 2) as pool:
        return meter.per_item(lambda some: list(pool.map(echo, some, **options)), items,
                              lambda got: got == items)


@proc_row(cases=[{"result": "small", "n": 5000}, {"result": "same", "n": 5000}])
def proc_dict(lib: SimpleNamespace, meter: Meter, *, result: str, n: int) -> Sample:
    """A dict of 100 ints and 200 characters as arguments, submit and result; µs a task.

    2 workers. "small": the task returns a number; "same": the dict and the string.
    """
    numbers, text = dictionary()
    task = {"small": add, "same": both}[result]
    expected = task(numbers, text)
    items = [numbers] * n
    with proc_pool.make(lib, 2) as pool:
        submit = pool.submit

        def body(some: list[dict[int, int]]) -> list[Any]:
            futures = [submit(task, item, text) for item in some]
            return [future.result() for future in futures]

        return meter.per_item(body, items, lambda got: got == [expected] * n)


def dictionary() -> tuple[dict[int, int], str]:
    """The arguments of proc_dict."""
    return {i: i * 1000 for i in range(100)}, "0123456789" * 20


def add(numbers: dict[int, int], text: str) -> int:
    """A task that looks at everything it was given."""
    return sum(numbers.values()) + len(text)


def both(numbers: dict[int, int], text: str) -> tuple[dict[int, int], str]:
    """A task that gives back what it was given."""
    return numbers, text
