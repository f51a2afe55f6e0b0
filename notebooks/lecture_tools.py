"""What the lecture notebooks need besides the subject: clocks, tables, exercises.

A notebook makes one `Lab`.  `Lab.compare` times a piece of work sequentially and on
every executor module at hand, in turn, in one run; `Lab.closing_table` shows all that
was compared and leaves it, as JSON, in the notebook's output, where run_lectures.py
finds it.  Measuring a thing again replaces its row, so cells can be run again.
"""

from __future__ import annotations

import html
import importlib
import math
import operator
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

try:
    import resource
except ImportError:         # a system without it counts no worker processes
    resource = None

from IPython.display import HTML, Markdown, display

MIMETYPE = "application/vnd.cfutures.lecture+json"
STANDARD, OURS = "concurrent.futures", "cfutures"
ENOUGH, MOST_ROUNDS = 2.0, 9     # work is measured again until so many seconds, or rounds
SOLUTIONS = Path(__file__).resolve().parent / "solutions"

_TABLE = "style='border-collapse:collapse;margin:.4em 0'"
_CELL = "style='text-align:{};padding:.2em .8em;border-bottom:1px solid #ccc'"


def cores() -> int:
    """The processors this process may use (not: that the machine has)."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (
        os.cpu_count() or 1)


def load() -> float:
    """Processors that all programs of the machine asked for, on average, last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def gil_enabled() -> bool:
    """Whether only one thread at a time runs Python code in this interpreter."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def say(text: str) -> None:
    """Show Markdown text; for sentences that hold measured figures."""
    display(Markdown(text))


def table(headings: list[str], rows: list[list[object]], **bundle: object) -> None:
    """Show a table; columns of figures stand on the right.  bundle: more MIME types for it."""
    plain = "\n".join("  ".join(str(cell) for cell in row) for row in [headings, *rows])
    display({"text/html": _html_table(headings, rows), "text/plain": plain, **bundle}, raw=True)


def _html_table(headings: list[str], rows: list[list[object]]) -> str:
    figure = re.compile(r"[-\d]|$")
    styles = [_CELL.format("right" if i and all(figure.match(str(row[i])) for row in rows)
                           else "left") for i in range(len(headings))]

    def line(tag: str, cells: list[object]) -> str:
        return "<tr>" + "".join(f"<{tag} {style}>{html.escape(str(cell))}</{tag}>"
                                for style, cell in zip(styles, cells, strict=True)) + "</tr>"

    return (f"<table {_TABLE}><thead>{line('th', headings)}</thead><tbody>"
            + "".join(line("td", row) for row in rows) + "</tbody></table>")


def seconds(value: float | None) -> str:
    """A duration for reading, in the unit that suits it."""
    if value is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"


def times(value: float | None) -> str:
    """A ratio for reading: 2.00x."""
    return "-" if value is None else f"{value:.2f}x" if value >= 0.1 else f"{value:.2g}x"


def _cpu_seconds() -> float:
    """Processor time of this process, and of the processes it started that have ended."""
    spent = time.process_time()
    if resource is not None:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent += ended.ru_utime + ended.ru_stime
    return spent


class timed:
    """`with timed() as t:` then t.wall, t.cpu (seconds) and t.busy (cores at work).

    Worker processes count if they end within the block, as they do with their pool.
    """

    wall = cpu = 0.0

    def __enter__(self) -> timed:
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 where: TracebackType | None) -> None:
        self.wall = time.perf_counter() - self._wall
        self.cpu = _cpu_seconds() - self._cpu

    @property
    def busy(self) -> float:
        """Processors this process and its workers kept busy, on average."""
        return self.cpu / self.wall if self.wall else 0.0


@dataclass
class Measured:
    """One row of the closing table: wall seconds and busy cores, per way of running.

    The keys of wall and busy are "sequential" and the names of executor modules.
    """

    label: str
    ideal: float | None
    note: str
    wall: dict[str, float] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)

    def speedup(self, engine: str) -> float | None:
        """Sequential time over the engine's; None if one of them was not measured."""
        if engine not in self.wall or "sequential" not in self.wall:
            return None
        return self.wall["sequential"] / self.wall[engine]

    def impossible(self) -> bool:
        """Whether a speed-up is far above the ideal: then something disturbed the clock."""
        return self.ideal is not None and any(
            (self.speedup(way) or 0) > 1.25 * self.ideal for way in self.wall)


class Lab:
    """The measurements of one notebook, run on `futures` (a module like concurrent.futures)."""

    def __init__(self, futures: ModuleType) -> None:
        self.engine = futures.__name__
        self.engines: dict[str, ModuleType] = {}
        for name in (STANDARD, OURS):
            try:
                self.engines[name] = importlib.import_module(name)
            except ImportError:
                pass    # the lecture runs where only the standard library is installed
        self.engines[self.engine] = futures
        self.measured: dict[str, Measured] = {}

    def compare(self, label: str, parallel: Callable[[ModuleType], Any],
                sequential: Callable[[], Any] | None = None, *, ideal: float | None = None,
                note: str = "", show: bool = True, enough: float = ENOUGH,
                equal: Callable[[Any, Any], Any] = operator.eq) -> Measured:
        """Time sequential() and parallel(module) for every engine, in turn; keep and return.

        Short work is measured in several rounds, and of each way the shortest counts: the
        one that other programs disturbed least.  Times are in seconds.  `ideal` is the
        speed-up that could be had at best here.  After `enough` seconds no further round
        is begun, but there are two of short work.  What the functions return must be equal
        (arrays: equal=np.array_equal): an AssertionError says which engine answered
        otherwise.
        """
        ways: dict[str, Callable[[], Any]] = {} if sequential is None else {
            "sequential": sequential}
        for name, module in self.engines.items():
            ways[name] = lambda module=module: parallel(module)
        row = Measured(label, ideal, note)
        started, rounds = time.perf_counter(), 0
        # One more round also if the first was held up, which shows in two ways.
        while rounds == 0 or (rounds < MOST_ROUNDS and (
                time.perf_counter() - started < enough
                or (rounds < 2 and min(row.wall.values()) < ENOUGH)
                or (rounds < 3 and row.impossible()))):
            answers = {}
            for way, run in ways.items():
                with timed() as clock:
                    answers[way] = run()
                if clock.wall < row.wall.get(way, math.inf):
                    row.wall[way], row.busy[way] = clock.wall, clock.busy
            first = next(iter(answers))
            for way, answer in answers.items():
                assert equal(answer, answers[first]), (
                    f"{label}: {way} and {first} disagree")
            rounds += 1
        self.measured[label] = row
        if show:
            self.show(row)
        return row

    def show(self, *rows: Measured) -> None:
        """Show measurements in detail, one line for each way of running."""
        table(["what", "run", "time", "speed-up", "processors busy"],
              [[row.label if way == next(iter(row.wall)) else "", way, seconds(wall),
                times(row.speedup(way) if way != "sequential" else None),
                f"{row.busy[way]:.2f}"] for row in rows for way, wall in row.wall.items()])

    def closing_table(self) -> None:
        """Show everything that was compared, and leave it as JSON for the runner."""
        rows: list[list[object]] = []
        for row in self.measured.values():
            rows.append([row.label, seconds(row.wall.get("sequential")),
                         *(f"{seconds(row.wall.get(name))} ({times(row.speedup(name))})"
                           .replace(" ", "\u00a0") for name in (STANDARD, OURS)),
                         times(row.ideal), row.note])
        data = {"engine": self.engine, "cores": cores(), "gil": gil_enabled(),
                "python": sys.version.split()[0], "load": load(),
                "rows": [{"label": row.label, "ideal": row.ideal, "wall": row.wall,
                          "busy": row.busy} for row in self.measured.values()]}
        table(["what was measured", "sequential", f"{STANDARD} (speed-up)",
               f"{OURS} (speed-up)", "ideal speed-up", "remark"], rows, **{MIMETYPE: data})
        say(f"Python {data['python']}, GIL {'on' if data['gil'] else 'off'}, "
            f"{data['cores']} processors, load average {data['load']:.1f} "
            "(this notebook and all other programs together).")


def show_solution(name: str) -> None:
    """Show the source of solutions/<name>.py, folded away until the reader opens it."""
    source = (SOLUTIONS / f"{name}.py").read_text(encoding="utf-8")
    display(HTML("<details><summary><b>Solution</b> (try it yourself first)</summary>"
                 f"<pre>{html.escape(source)}</pre></details>"))


def check(mine: Mapping[Any, Any], expected: Mapping[Any, Any]) -> None:
    """Say whether an exercise's answer is right, or what is wrong with it; raises nothing."""
    if not mine:
        print("Nothing to check yet: fill the cell above and run both cells again.")
        return
    for key in expected:
        if key not in mine:
            print(f"Not yet: there is no entry for {key!r}.")
            return
        if mine[key] != expected[key]:
            print(f"Not yet: the entry for {key!r} is {mine[key]!r}, not {expected[key]!r}.")
            return
    extra = [key for key in mine if key not in expected]
    print(f"Not yet: {extra[0]!r} should not be there." if extra else "Right!")
