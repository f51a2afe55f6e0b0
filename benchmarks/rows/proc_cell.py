"""Functions that no worker can import: of __main__, of a notebook's cell, closures."""
from __future__ import annotations

import functools
import pickle
import sys
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

from meter import SMALL, Meter, Sample, Skip, verify
from registry import proc_row

from rows import proc_pool
from rows.tasks import echo

# Run in __main__, which is how a notebook defines what is in its cells.
CELL = """
step = 1
table = [1]

def cell_plain(item):
    return item

def cell_global(item):
    return cell_plain(item) + step - 1

def cell_list(item):
    return item + table[0] - 1
"""


@proc_row(cases=[{"fn": fn, "n": 10_000}
                 for fn in ("imported", "plain", "global", "list", "closure")],
          quick=[{"fn": fn, "n": 10_000} for fn in ("imported", "plain", "closure")])
def proc_cell(lib: SimpleNamespace, meter: Meter, *, fn: str, n: int) -> Sample:
    """A loop of n submits of one function, then the results; 2 workers; µs a task.

    "imported" from a module; the others can only travel by value: "plain", defined in
    __main__ as a cell of a notebook does; "global", one that calls another of the cell
    and reads a number; "list", one that reads a list, which could change in place;
    "closure". Extra "first": µs from its very first submit to the result, in a pool that
    has worked before.
    """
    function = _functions()[fn]
    items = list(range(n))
    with proc_pool.make(lib, 2) as pool:
        submit = pool.submit
        verify([submit(echo, i).result() for i in range(50)] == items[:50], "wrong result")
        start = time.perf_counter()
        try:
            verify(submit(function, 1).result() == 1, "wrong first result")
        except (pickle.PicklingError, AttributeError) as why:
            raise Skip(f"cannot send it: {why}") from why
        first = time.perf_counter() - start

        def body(some: list[int]) -> list[int]:
            futures = [submit(function, item) for item in some]
            return [future.result() for future in futures]

        sample = meter.per_item(body, items, lambda got: got == items)
    sample.extra["first"] = first * 1e6
    return sample


@proc_row(cases=[{"fn": fn, "n": 10_000} for fn in ("plain", "global", "list", "closure")],
          quick=[{"fn": fn, "n": 10_000} for fn in ("plain", "closure")],
          unit="x imported", sides=("cfutures",), peers=False)
def proc_cell_over(lib: SimpleNamespace, meter: Meter, *, fn: str, n: int) -> Sample:
    """The same, over an imported function: rounds of n of each, in turn, in one pool.

    In turn, for what a task costs differs by half between two processes, and from minute to
    minute; ratio of the medians of the rounds. "imported" over itself would be 1.
    """
    functions = echo, _functions()[fn]
    items = list(range(n))
    walls: tuple[list[float], list[float]] = ([], [])
    with proc_pool.make(lib, 2) as pool:
        submit = pool.submit

        def body(function: Callable[[int], int], some: list[int]) -> list[int]:
            futures = [submit(function, item) for item in some]
            return [future.result() for future in futures]

        for function in functions:
            meter.warm_up(functools.partial(body, function), items[:SMALL])
        while sum(walls[0]) < 2 * meter.enough:
            for function, wall in zip(functions, walls, strict=True):
                start = time.perf_counter()
                got = body(function, items)
                wall.append(time.perf_counter() - start)
                verify(got == items, "wrong result")
    imported, by_value = (median(wall) for wall in walls)
    return Sample(value=by_value / imported, wall=by_value / n * 1e6,
                  items=n * len(walls[1]), extra={"imported": imported / n * 1e6})


def _functions() -> dict[str, Callable[[Any], Any]]:
    main = sys.modules["__main__"]
    exec(compile(CELL, "<cell>", "exec"), vars(main))
    zero = 0
    return {"imported": echo, "plain": main.cell_plain, "global": main.cell_global,
            "list": main.cell_list, "closure": lambda item: item + zero}
