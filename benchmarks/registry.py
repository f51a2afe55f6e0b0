"""What a row of the benchmark is, and how rows are found.

A row is a function `row(lib, meter, **params) -> Sample` with the `@row` decorator.
It is called in a fresh process that measures nothing else. Its docstring says
what is timed, and is what `run.py --list` prints.
"""
from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

POOLS = ("std", "cfutures")
FLOOR = ("floor",)
APART = ("peers", "peer-threads")   # kinds that are measured by run_peers.py only


@dataclass(frozen=True, eq=False)
class Row:
    """A benchmark function and the settings it is run with.

    `cases` and `quick` are the parameter sets of a full and of a quick run; `pins`
    the CPU pinnings that say something about it. `unit` is printed; `better` says
    which direction is good: "less" or "more". `sides` are the implementations it
    compares, if not both; FLOOR for a figure that no implementation can go below. `peers`
    rows also make sense for other libraries' pools. `kind` is "threads", "processes",
    "pool", "queue", or "peers" or "peer-threads", about pools behind the names of peers/.
    """

    run: Callable[..., Any]
    cases: tuple[dict[str, Any], ...]
    quick: tuple[dict[str, Any], ...]
    unit: str
    better: str
    pins: tuple[str, ...]
    quick_pins: tuple[str, ...]
    sides: tuple[str, ...]
    peers: bool
    kind: str

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def is_floor(self) -> bool:
        return self.sides == FLOOR


@dataclass(frozen=True)
class Case:
    """One row with one parameter set and one pinning: a line of the table."""

    row: Row
    params: tuple[tuple[str, Any], ...]
    pin: str

    @property
    def label(self) -> str:
        return " ".join([self.row.name, *(f"{k}={v}" for k, v in self.params)])

    @property
    def key(self) -> str:
        return f"{self.label} pin={self.pin}"


ROWS: dict[str, Row] = {}


def row(*, cases: list[dict[str, Any]] | None = None,
        quick: list[dict[str, Any]] | None = None,
        unit: str = "µs/task", better: str = "less",
        pins: tuple[str, ...] = ("none",), quick_pins: tuple[str, ...] = ("none",),
        sides: tuple[str, ...] = POOLS, peers: bool = False,
        kind: str = "threads") -> Callable[..., Any]:
    """Register a function as a row; see `Row` for the meaning of the options."""
    full = tuple(cases if cases is not None else [{}])
    few = tuple(quick) if quick is not None else full

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        ROWS[run.__name__] = Row(run, full, few, unit, better, pins, quick_pins, sides, peers,
                                 kind)
        return run
    return register


def proc_row(**options: Any) -> Callable[..., Any]:
    """Register a row about process pools: `row` with the peers of those."""
    return row(**{"kind": "processes", "peers": True, **options})


def pool_row(**options: Any) -> Callable[..., Any]:
    """Register a row about pools with multiprocessing.Pool's methods."""
    return row(**{"kind": "pool", **options})


def queue_row(**options: Any) -> Callable[..., Any]:
    """Register a row about queues between processes."""
    return row(**{"kind": "queue", "peers": True, **options})


def peer_row(**options: Any) -> Callable[..., Any]:
    """Register a row about many libraries' pools of processes."""
    return row(**{"kind": "peers", "peers": True, **options})


def peer_thread_row(**options: Any) -> Callable[..., Any]:
    """Register a row about many libraries' pools of threads."""
    return row(**{"kind": "peer-threads", "peers": True, **options})


def proc_floor(**options: Any) -> Callable[..., Any]:
    """Register a floor of process pools."""
    return row(**{"kind": "processes", "sides": FLOOR, **options})


def load_rows() -> dict[str, Row]:
    """Import every file that has rows in it; returns name -> Row in table order."""
    import floors  # noqa: F401
    import proc_floors  # noqa: F401
    import rows  # noqa: F401
    return ROWS


def select(pattern: str | None, *, quick: bool, pin: str, only: str | None) -> list[Case]:
    """The cases of a run; `only` is a kind of row, None for all but those APART.

    `pattern` is a shell pattern or a plain part of the name, several separated by
    commas, matched against "thr_burst workers=1 n=20000"; None is everything.
    `pin` is "none", "1", "2" or "all".
    """
    chosen = []
    for one in load_rows().values():
        for params in one.quick if quick else one.cases:
            for each_pin in one.quick_pins if quick and pin == "all" else one.pins:
                case = Case(one, tuple(params.items()), each_pin)
                wanted = one.kind == only if only else one.kind not in APART
                if pin in ("all", each_pin) and wanted and _matches(case, pattern):
                    chosen.append(case)
    return chosen


def _matches(case: Case, pattern: str | None) -> bool:
    if pattern is None:
        return True
    return any(part in case.label or fnmatch.fnmatchcase(case.label, part)
               for part in pattern.split(","))
