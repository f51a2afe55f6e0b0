"""From samples to figures: medians, spreads, ratios. No printing."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from driver import Result


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of several processes' figures."""

    median: float
    min: float
    max: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        return cls(median(ordered), ordered[0], ordered[-1], len(ordered))


def value(result: Result, impl: str) -> Spread | None:
    """The spread of one implementation's value; None if it was not measured."""
    samples = result.samples.get(impl)
    return Spread.of(one["value"] for one in samples) if samples else None


def cpu(result: Result, impl: str) -> Spread | None:
    """The same of the process CPU time an item, in µs."""
    times = [one["cpu"] for one in result.samples.get(impl, []) if one["cpu"] is not None]
    return Spread.of(times) if times else None


def ratio(result: Result, base: str, new: str) -> Spread | None:
    """How many times better `new` is than `base`; above 1 is better.

    `median` is the ratio of the two medians; `min` and `max` are of the pairs that ran
    one after the other. None if either is missing or the figure is zero.
    """
    old, now = value(result, base), value(result, new)
    if old is None or now is None:
        return None
    pairs = [(a["value"], b["value"]) for a, b in
             zip(result.samples[base], result.samples[new], strict=False)]
    if result.case.row.better == "more":
        pairs = [(b, a) for a, b in pairs]
        top, bottom = now.median, old.median
    else:
        top, bottom = old.median, now.median
    if bottom <= 0 or any(b <= 0 for _, b in pairs):
        return None
    each = sorted(a / b for a, b in pairs)
    return Spread(top / bottom, each[0], each[-1], len(each))


def as_json(result: Result, sides: list[str]) -> dict[str, Any]:
    """One case with its samples and figures, for the results file."""
    base, new = sides
    found = {
        "key": result.case.key,
        "row": result.case.row.name,
        "params": dict(result.case.params),
        "pin": result.case.pin,
        "unit": result.case.row.unit,
        "better": result.case.row.better,
        "samples": result.samples,
        "skipped": result.skipped,
        "failures": result.failures,
        "gil": result.gil,
        "median": {impl: value(result, impl).median for impl in result.samples},
    }
    times = ratio(result, base, new)
    if times is not None:
        found["ratio"] = {"median": times.median, "min": times.min, "max": times.max}
    return found
