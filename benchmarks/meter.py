"""The clock of a measurement: warm-up, wall and CPU time, verified results."""
from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

SMALL = 1000    # items of one warm-up round
STAMPS = 2      # large things taken in turn, so that no stale one can pass
LEAST = 5       # large things moved, however long that takes


class WrongResult(AssertionError):
    """What was measured did not compute the right thing: the run fails."""


class Skip(Exception):
    """This measurement cannot be made here; the text says why."""


class GaveUp(Exception):
    """An implementation that is known for it hangs; the text says where."""


@dataclass
class Sample:
    """What one process found out.

    `value` is in the row's unit. `wall` and `cpu` are microseconds per item, of
    the clock and of all processes (all their threads); None where they say nothing.
    `items` counts what was measured, `extra` has further figures by name; `note` says
    what a figure alone does not.
    """

    value: float
    wall: float | None = None
    cpu: float | None = None
    items: int = 0
    extra: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Turns:
    """Seconds that the same work took alone and together, in turn, and CPU of the latter."""

    alone: float = 0.0
    together: float = 0.0
    cpu: float = 0.0
    rounds: int = 0

    def sample(self, value: float, items: int, **extra: float) -> Sample:
        """A sample of rounds of so many items; `extra` in seconds for all, told as µs each."""
        done = self.rounds * items
        return Sample(value=value, wall=self.together / done * 1e6, cpu=self.cpu / done * 1e6,
                      items=done,
                      extra={name: all_ / done * 1e6 for name, all_ in extra.items()})


def verify(condition: bool, what: str) -> None:
    """Fail the whole run unless `condition`: a fast wrong answer is worth nothing."""
    if not condition:
        raise WrongResult(what)


class Meter:
    """Times a body; made once a process with the driver's settings.

    `warm_up` and `enough` are seconds: how long to run before the clock counts, and
    how much measured time makes a sample. The garbage collector stays on: what
    it costs is part of what a task costs. `cpu()` gives CPU seconds: of this process,
    unless the row is about several.
    """

    def __init__(self, warm_up: float = 0.3, enough: float = 0.2,
                 cpu: Callable[[], float] = time.process_time) -> None:
        self.warm_up_seconds = warm_up
        self.enough = enough
        self.cpu = cpu

    def warm_up(self, body: Callable[[Any], Any], items: Any) -> None:
        """Run the body until the threads are started and sit on their CPUs.

        Schedulers of virtual machines keep threads that just began on one CPU
        for a while; without this, the first tenths of a second are another benchmark.
        """
        until = time.perf_counter() + self.warm_up_seconds
        while time.perf_counter() < until:
            body(items)

    def per_item(self, body: Callable[[Any], Any], items: Sequence[Any],
                 check: Callable[[Any], bool]) -> Sample:
        """Mean time an item of `body(items)`, over as many rounds as make `enough`.

        The mean, not the median: a round that met the garbage collector counts. What
        the body drops (its futures) is freed inside the timed part; its return
        value is freed outside and given to `check`, which fails the run if not true.
        """
        self.warm_up(body, items[:SMALL])
        verify(gc.isenabled(), "the garbage collector is off")
        wall = cpu = 0.0
        rounds = 0
        while wall < self.enough:
            cpu_before = self.cpu()
            before = time.perf_counter()
            got = body(items)
            after = time.perf_counter()
            cpu += self.cpu() - cpu_before
            wall += after - before
            rounds += 1
            verify(check(got), f"wrong result in round {rounds}")
            del got
        count = rounds * len(items)
        return Sample(value=wall / count * 1e6, wall=wall / count * 1e6,
                      cpu=cpu / count * 1e6, items=count)

    def in_turn(self, alone: Callable[[], Any], together: Callable[[], Any],
                check: Callable[[Any], bool]) -> Turns:
        """Time `together()`, and `alone()` before and after it (half of each counts).

        As many rounds as make `enough` of it; `check` is given what both return.
        """
        turns = Turns()
        while turns.together < self.enough:
            turns.alone += self._alone(alone, check) / 2
            cpu, start = self.cpu(), time.perf_counter()
            got = together()
            turns.together += time.perf_counter() - start
            turns.cpu += self.cpu() - cpu
            turns.alone += self._alone(alone, check) / 2
            turns.rounds += 1
            verify(check(got), f"wrong result in round {turns.rounds}")
        return turns

    @staticmethod
    def _alone(alone: Callable[[], Any], check: Callable[[Any], bool]) -> float:
        start = time.perf_counter()
        got = alone()
        seconds = time.perf_counter() - start
        verify(check(got), "wrong result of the loop")
        return seconds

    def move(self, move: Callable[[Any], Any], check: Callable[[int, Any], None],
             prepare: Callable[[int], Any] = lambda turn: turn) -> Sample:
        """Median milliseconds of `move(prepare(turn))`, each timed by itself: for large things.

        `turn` counts from 0. `prepare`, and `check(turn, got)`, which fails the run if it
        raises, are outside of the time; so is freeing what was moved.
        """
        def once(turn: int) -> float:
            given = prepare(turn)
            start = time.perf_counter()
            got = move(given)
            wall = time.perf_counter() - start
            check(turn, got)
            return wall

        turn = 0
        until = time.perf_counter() + self.warm_up_seconds
        while turn < STAMPS or time.perf_counter() < until:
            once(turn)
            turn += 1
        walls: list[float] = []
        cpu = self.cpu()
        while len(walls) < LEAST or sum(walls) < self.enough:
            walls.append(once(turn))
            turn += 1
        cpu = self.cpu() - cpu
        middle = median(walls)
        return Sample(value=middle * 1e3, wall=middle * 1e6, cpu=cpu / len(walls) * 1e6,
                      items=len(walls),
                      extra={"min": min(walls) * 1e3, "max": max(walls) * 1e3})

    def latency(self, trip: Callable[[int], Any], pause: Callable[[], Any], n: int,
                check: Callable[[int, Any], bool]) -> Sample:
        """Median wall time of `trip(i)`, each after a `pause()` that is not counted.

        The CPU figure is the whole process's over everything, pauses included: a
        pool that spins while the caller pauses shows there.
        """
        until = time.perf_counter() + self.warm_up_seconds
        while time.perf_counter() < until:
            pause()
            trip(0)
        walls = []
        cpu = self.cpu()
        for i in range(n):
            pause()
            before = time.perf_counter()
            got = trip(i)
            walls.append(time.perf_counter() - before)
            verify(check(i, got), f"wrong result in trip {i}")
        cpu = self.cpu() - cpu
        walls.sort()
        middle = walls[n // 2] * 1e6
        return Sample(value=middle, wall=middle, cpu=cpu / n * 1e6, items=n,
                      extra={"mean": sum(walls) / n * 1e6, "p10": walls[n // 10] * 1e6,
                             "p90": walls[n * 9 // 10] * 1e6, "max": walls[-1] * 1e6})
