"""The goals for pools of processes; goals.py has those for threads."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from goals import BOTH, Goal, Run

SAME = 1.1      # two measurements of the same thing differ by as much


def _over(row: str, pins: str = "none", **params: Any) -> Callable[[Run], float | None]:
    """How many times better than the standard library."""
    return lambda run: run.ratio(row, pins, **params)


def _at_least(text: str, need: float, measure: Callable[[Run], float | None]) -> Goal:
    return Goal(text, dict.fromkeys(BOTH, need), measure)


def _at_most(text: str, need: float, measure: Callable[[Run], float | None]) -> Goal:
    return Goal(text, dict.fromkeys(BOTH, need), measure, at_least=False)


def _over_floor(row: str, params: dict[str, Any], floor: str,
                floor_params: dict[str, Any]) -> Callable[[Run], float | None]:
    """Our median over that of a floor with parameters of its own."""
    def measure(run: Run) -> float | None:
        ours = run.value(row, **params)
        least = run.value(floor, impl="floor", **floor_params)
        return ours / least if ours is not None and least else None
    return measure


def _over_imported(fn: str) -> Callable[[Run], float | None]:
    """A function by value over an imported one, both ours."""
    return lambda run: run.value("proc_cell_over", fn=fn)


def _over_big_chunks(run: Run) -> float | None:
    """The standard library's map with chunksize 64, over ours with 1."""
    theirs = run.value("proc_map", impl=run.base, chunksize=64)
    ours = run.value("proc_map", chunksize=1)
    return theirs / ours if ours and theirs is not None else None


def _idle(run: Run) -> float | None:
    ours, none = run.value("proc_idle"), run.value("floor_proc_idle", impl="floor")
    return ours - none if ours is not None and none is not None else None


def _big() -> Iterator[Goal]:
    need = {("array", "8M"): 30, ("array", "80M"): 35, ("bytes", "8M"): 20,
            ("bytes", "80M"): 12}
    for way in ("argument", "result"):
        for (what, size), times in need.items():
            case = {"what": what, "way": way, "size": size}
            name = f"{size}B {what} as {way}"
            yield _at_least(f"{name}, warm", times, _over("proc_big", **case))
            if what == "array":
                yield _at_most(f"{name}, warm, over memcpy", 1.3,
                               _over_floor("proc_big", case, "floor_memcpy",
                                           {"size": size, "pages": "reused"}))
            yield _at_least(f"{name}, first of a pool", 5 if what == "array" else 1,
                            _over("proc_big_first", **case))


GOALS = (
    _at_least("processes: submit+result, simple", 200,
              _over("proc_burst", data="simple", workers=2)),
    _at_least("processes: submit+result, pickled", 35,
              _over("proc_burst", data="pickled", workers=2)),
    _at_most("the same, over pickle's dumps + loads", 1.3,
             _over_floor("proc_burst", {"data": "pickled", "workers": 2},
                         "floor_pickle", {"data": "pickled"})),
    _at_least("one at a time, two CPUs, simple", 100,
              _over("proc_pingpong", "2 none", data="simple")),
    _at_least("one at a time, two CPUs, pickled", 20,
              _over("proc_pingpong", "2 none", data="pickled")),
    _at_least("one at a time, one CPU, simple", 12,
              _over("proc_pingpong", "1", data="simple")),
    _at_least("one at a time, one CPU, pickled", 12,
              _over("proc_pingpong", "1", data="pickled")),
    _at_least("map, chunksize 1", 200, _over("proc_map", chunksize=1)),
    _at_least("map, chunksize 1, over std with 64", 1, _over_big_chunks),
    _at_most("a cell's function, over an imported one", SAME, _over_imported("plain")),
    _at_most("a closure, over an imported function", SAME, _over_imported("closure")),
    _at_least("dict of 100 ints and 200 characters", 10, _over("proc_dict", result="small")),
    _at_least("the same, and given back", 10, _over("proc_dict", result="same")),
    *_big(),
    _at_most("tasks of 49 µs on 2 pinned workers, over ideal", 1.15,
             lambda run: run.value("proc_grain", "2", us=49)),
    _at_least("start of 2 forked workers to first result", 1.8,
              _over("proc_startup", method="fork")),
    _at_least("memory of a queued task, times less", 6, _over("proc_mem")),
    _at_most("a resting pool's CPU, all processes, ms", 1.0, _idle),
)
