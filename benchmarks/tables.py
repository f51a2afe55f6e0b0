"""Prints results: the rows, the floors, the peers, the goals, a comparison."""
from __future__ import annotations

from typing import Any

import summary
from driver import Result, Settings
from goals import Verdict
from summary import Spread

WIDTH = 48


def number(x: float) -> str:
    """Three significant digits, never an exponent."""
    if x == 0:
        return "0"
    if abs(x) >= 100:
        return f"{x:,.0f}"
    return f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}" if abs(x) >= 1 else f"{x:.3f}"


def spread(found: Spread | None) -> str:
    """Median and, in brackets, minimum and maximum."""
    if found is None:
        return "-"
    return f"{number(found.median)} ({number(found.min)}..{number(found.max)})"


def machine(facts: dict[str, Any], settings: Settings) -> None:
    """The head of the output: where and how this was measured."""
    gil = "free-threaded" if facts["free_threaded"] else "GIL"
    print(f"{facts['cpu']}, {facts['cpus']} CPUs, may use {facts['affinity']}"
          f"{', virtual machine' if facts['hypervisor'] else ''}; Linux {facts['kernel']}")
    print(f"CPython {facts['python']} ({gil}; {facts['compiler']}; {facts['build']})")
    print(f"cfutures {facts['cfutures']} at {facts['commit']}; {facts['date']}; load "
          + " ".join(f"{x:.2f}" for x in facts["loadavg"]))
    print(f"{settings.runs} processes a figure, {' and '.join(settings.sides)} in turn; "
          f"{settings.warm_up} s warm-up; garbage collector on; results verified")
    if facts["loadavg"][0] > 0.5:
        print("NOTE: the machine was not idle at the start; see the spread.")


def rows(results: list[Result], settings: Settings) -> None:
    """Implementations side by side; wall (or the row's unit), CPU and ratio."""
    base, new = settings.sides
    if all(one.case.row.is_floor for one in results):
        return
    print(f"\n{'row':{WIDTH}} pin  {'unit':12} {base:>24} {new:>24} {'times better':>22}"
          f"  {'CPU ' + base + '/' + new:>18}")
    for one in results:
        if one.case.row.is_floor:
            continue
        left, right = summary.value(one, base), summary.value(one, new)
        cpus = [summary.cpu(one, impl) for impl in (base, new)]
        shown = " / ".join(number(each.median) if each else "-" for each in cpus)
        print(f"{one.case.label:{WIDTH}} {one.case.pin:4} {one.case.row.unit:12} "
              f"{spread(left):>24} {spread(right):>24} "
              f"{spread(summary.ratio(one, base, new)):>22}  {shown:>18}{_remarks(one)}")


def floors(results: list[Result]) -> None:
    """What no implementation can go far below, measured in this run."""
    found = [one for one in results if one.case.row.is_floor]
    if not found:
        return
    print(f"\n{'floor':{WIDTH}} pin  {'unit':12} {'median (min..max)':>24}  {'CPU':>8}")
    for one in found:
        cpu = summary.cpu(one, "floor")
        print(f"{one.case.label:{WIDTH}} {one.case.pin:4} {one.case.row.unit:12} "
              f"{spread(summary.value(one, 'floor')):>24}  "
              f"{number(cpu.median) if cpu else '-':>8}{_remarks(one)}")


def peers(results: list[Result], kind: str, sides: list[str], names: list[str]) -> None:
    """Other libraries, in the rows of this kind that make sense for them."""
    shown = [one for one in results if one.case.row.peers and one.case.row.kind == kind]
    if not names or not shown:
        return
    columns = [*sides, *names]
    print(f"\n{'peers of ' + kind:{WIDTH}} pin  {'unit':12} "
          + " ".join(f"{each:>24}" for each in columns))
    for one in shown:
        print(f"{one.case.label:{WIDTH}} {one.case.pin:4} {one.case.row.unit:12} "
              + " ".join(f"{spread(summary.value(one, each)):>24}" for each in columns))


def goals(verdicts: list[Verdict], tag: str, sides: list[str]) -> None:
    """Met or not met, as measured, for the interpreter that ran; other columns beside."""
    measured = [one for one in verdicts if one.measured is not None]
    if not measured:
        return
    print(f"\n{'goal (' + sides[1] + ' to ' + sides[0] + ')':52} {'3.11':>7} {'3.13':>7} "
          f"{'3.13t':>7} {'measured':>9}")
    for one in measured:
        sign = "≥" if one.goal.at_least else "≤"
        columns = " ".join(f"{_needed(sign, one.goal.need.get(each)):>7}"
                           for each in ("3.11", "3.13", "3.13t"))
        met = {True: "met", False: "NOT MET", None: "no goal here"}[one.met]
        print(f"{one.goal.text:52} {columns} {number(one.measured):>9}  {met}")
    if len(measured) < len(verdicts):
        print(f"{len(verdicts) - len(measured)} goals were not measured in this run.")
    column = verdicts[0].column
    if column != tag:
        print(f"CPython {tag} has no goals of its own: judged by those of {column}.")


def _needed(sign: str, need: float | None) -> str:
    return "-" if need is None else f"{sign}{need:g}"


def _remarks(one: Result) -> str:
    """Whatever makes this line less than the whole truth."""
    text = [f"{impl} skipped: {why}" for impl, why in one.skipped.items()]
    text += [f"FAILED: {why}" for why in one.failures]
    return "  " + "; ".join(text) if text else ""


def comparison(old: dict[str, Any], new: dict[str, Any]) -> None:
    """This run against an earlier results file: our figures, and the base's as a control.

    A change of ours counts where the two runs' ranges do not touch, and where the
    base, which did not change, stayed where it was.
    """
    base, ours = new["sides"]
    before = {one["key"]: one for one in old["rows"]}
    title = f"against {old['machine']['date'][:16]} {old['machine']['commit']}"
    for fact in ("cpu", "python", "free_threaded", "affinity"):
        if old["machine"][fact] != new["machine"][fact]:
            print(f"NOTE: not the same {fact}: {old['machine'][fact]}")
    drifted = base + " changed"
    print(f"\n{title:{WIDTH}} pin  {'then':>10} {'now':>10} {'change':>8}   {drifted:>12}")
    for row in new["rows"]:
        then = before.get(row["key"])
        impl = "floor" if ours not in row["samples"] else ours
        if then is None or not (row["samples"].get(impl) and then["samples"].get(impl)):
            continue
        a, b = (Spread.of(s["value"] for s in each["samples"][impl]) for each in (then, row))
        control = [each["median"].get(base) for each in (then, row)]
        drift = f"{control[1] / control[0] - 1:+.0%}" if all(control) else "-"
        apart = "  ranges apart" if a.max < b.min or b.max < a.min else ""
        change = f"{b.median / a.median - 1:+.0%}" if a.median else "-"
        print(f"{row['key'].rpartition(' pin=')[0]:{WIDTH}} {row['pin']:4} "
              f"{number(a.median):>10} {number(b.median):>10} {change:>8}   {drift:>12}{apart}")
