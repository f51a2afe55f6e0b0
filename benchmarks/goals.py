"""The goals the project has set itself, judged on the figures of one run.

Those for pools of threads are here, those for processes in proc_goals.py.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import summary
from driver import Result


@dataclass(frozen=True)
class Goal:
    """One line of the goals table.

    `need` maps an interpreter's column ("3.11", "3.13", "3.13t") to the figure
    demanded, absent where none is. `at_least` says its direction. `measure(results)`
    gives the figure, or None if this run did not measure it.
    """

    text: str
    need: dict[str, float]
    measure: Callable[[Run], float | None]
    at_least: bool = True


@dataclass(frozen=True)
class Verdict:
    """A goal with what was measured. `met` is None if nothing was, or nothing is due."""

    goal: Goal
    column: str
    needed: float | None
    measured: float | None

    @property
    def met(self) -> bool | None:
        if self.needed is None or self.measured is None:
            return None
        if self.goal.at_least:
            return self.measured >= self.needed
        return self.measured <= self.needed


class Run:
    """The results of one run, to be asked for figures by row, pinning and parameters."""

    def __init__(self, results: list[Result], base: str, new: str) -> None:
        self.results = results
        self.base, self.new = base, new

    def find(self, row: str, pins: str = "none", **params: object) -> Result | None:
        """The first measured case of this row; `pins` in order of preference, "2 none"."""
        for pin in pins.split():
            for one in self.results:
                if (one.case.row.name == row and one.case.pin == pin and one.samples
                        and dict(one.case.params).items() >= params.items()):
                    return one
        return None

    def ratio(self, row: str, pins: str = "none", **params: object) -> float | None:
        """Times better than the standard library."""
        found = self.find(row, pins, **params)
        times = summary.ratio(found, self.base, self.new) if found else None
        return times.median if times else None

    def value(self, row: str, pins: str = "none", impl: str | None = None,
              **params: object) -> float | None:
        """The median of one implementation, ours if not said."""
        found = self.find(row, pins, **params)
        spread = summary.value(found, impl or self.new) if found else None
        return spread.median if spread else None

    def over_floor(self, row: str, floor: str, pins: str, **params: object) -> float | None:
        """Our median over a floor's."""
        ours, least = self.value(row, pins, **params), self.value(floor, pins, impl="floor")
        return ours / least if ours is not None and least else None

    def slowest_on_one_cpu(self) -> float | None:
        """The worst ratio of all rows of threads pinned to one CPU."""
        times = [summary.ratio(one, self.base, self.new) for one in self.results
                 if one.case.pin == "1" and one.case.row.kind == "threads"
                 and not one.case.row.is_floor]
        return min((each.median for each in times if each), default=None)

    def idle(self) -> float | None:
        """CPU milliseconds of a resting pool, less those of a process without one."""
        ours, none = self.value("idle_cpu"), self.value("floor_idle_cpu", impl="floor")
        return ours - none if ours is not None and none is not None else None


def _burst(workers: int) -> Callable[[Run], float | None]:
    return lambda run: run.ratio("thr_burst", workers=workers, n=20_000)


BOTH = ("3.11", "3.13")
GOALS = (
    Goal("submit+result, 20,000 tasks, 1 worker", {"3.11": 40, "3.13": 20, "3.13t": 8},
         _burst(1)),
    Goal("submit+result, 20,000 tasks, 2 workers", {"3.11": 40, "3.13": 20, "3.13t": 8},
         _burst(2)),
    Goal("submit+result, 20,000 tasks, 4 workers", {"3.11": 40, "3.13": 20, "3.13t": 8},
         _burst(4)),
    Goal("map", {"3.11": 50, "3.13": 30}, lambda run: run.ratio("thr_map")),
    Goal("submit→result one at a time, two CPUs", dict.fromkeys(BOTH, 40),
         lambda run: run.ratio("thr_pingpong", "2 none")),
    Goal("submit→result one at a time, one CPU", dict.fromkeys(BOTH, 3.5),
         lambda run: run.ratio("thr_pingpong", "1")),
    Goal("wait, 10,000 done futures", {"3.11": 20, "3.13": 8},
         lambda run: run.ratio("wait_done")),
    Goal("as_completed, 10,000 done futures", {"3.11": 20, "3.13": 8},
         lambda run: run.ratio("as_completed_done")),
    Goal("submit + as_completed, 10,000", {"3.11": 40, "3.13": 20},
         lambda run: run.ratio("as_completed_pending")),
    Goal("submit + callback + wait, 10,000", {"3.11": 40, "3.13": 20},
         lambda run: run.ratio("done_callback")),
    Goal("memory of a pending future, times less", dict.fromkeys(BOTH, 10),
         lambda run: run.ratio("thr_mem")),
    Goal("sha256 of 64 KiB in 2 threads, over serial", dict.fromkeys(BOTH, 1.8),
         lambda run: run.value("thr_parallel", "none 2", kib=64)),
    Goal("a resting pool's CPU, ms in the idle row", dict.fromkeys((*BOTH, "3.13t"), 1.0),
         Run.idle, at_least=False),
    # 1, less what two measurements of the same thing differ by.
    Goal("slowest row pinned to one CPU, over std", dict.fromkeys((*BOTH, "3.13t"), 0.95),
         Run.slowest_on_one_cpu),
    Goal("submit+result, 2 workers, over floor_object_loop", dict.fromkeys(BOTH, 4),
         lambda run: run.over_floor("thr_burst", "floor_object_loop", "none", workers=2),
         at_least=False),
    Goal("one at a time on one CPU, over floor_futex", dict.fromkeys(BOTH, 1.3),
         lambda run: run.over_floor("thr_pingpong", "floor_futex", "1"), at_least=False),
)


def column_for(tag: str) -> str:
    """The column of an interpreter: its own where there is one, else the nearest.

    3.12 and everything after 3.13 are held to 3.13's goals.
    """
    if tag.endswith("t"):
        return "3.13t"
    return "3.11" if tag == "3.11" else "3.13"


def judge(goals: Sequence[Goal], results: list[Result], base: str, new: str,
          tag: str) -> list[Verdict]:
    """Every goal next to what this run measured."""
    run = Run(results, base, new)
    column = column_for(tag)
    return [Verdict(goal, column, goal.need.get(column), goal.measure(run)) for goal in goals]
