"""Measure cfutures against the standard library: `python benchmarks/run.py --help`.

Prints tables and saves everything as JSON. README.md says how to read them.
"""
from __future__ import annotations

import argparse
import datetime
import inspect
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import driver
import goals
import impls
import machine
import pool_goals
import proc_goals
import proc_impls
import queue_goals
import queue_impls
import registry
import summary
import tables

RESULTS = Path(__file__).resolve().parent / "results"


def options(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true",
        help="fewer runs, rows and sizes: some minutes, for a first look")
    add("--rows", metavar="PATTERN",
        help='part of a row\'s name and parameters, or a shell pattern; several by commas: '
             '"thr_map,workers=1"')
    add("--only", choices=("threads", "processes", "pool", "queue"),
        help="only the rows about executors of threads, of processes, about Pool or queues")
    add("--runs", type=int, metavar="N", help="processes a figure (default 5; quick 3)")
    add("--pin", choices=("none", "1", "2", "all"), default="all",
        help="only the measurements that are not pinned, pinned to one CPU, to two")
    add("--json", type=Path, metavar="PATH", help="where to save (default benchmarks/results/)")
    add("--compare", type=Path, metavar="OLD.json", help="show the change since that run")
    add("--peers", action="store_true",
        help="also other thread pools: multiprocessing's, and Pebble's if it is installed")
    add("--control", action="store_true",
        help="the standard library on both sides: how far from 1 this machine's noise is")
    add("--patience", type=float, default=0, metavar="SECONDS",
        help="on a busy machine: wait for others to be quiet and measure again what they "
             "disturbed, spending at most so long on it")
    add("--check-goals", action="store_true", help="exit with 1 if a measured goal is not met")
    add("--list", action="store_true", help="say what each row measures, and end")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 1 for a wrong result or crash, 2 without anything to run."""
    chosen = options(argv)
    cases = registry.select(chosen.rows, quick=chosen.quick, pin=chosen.pin,
                            only=chosen.only)
    if chosen.list:
        describe(cases)
        return 0
    if not cases:
        print("no row matches; see --list", file=sys.stderr)
        return 2
    old = json.loads(chosen.compare.read_text(encoding="utf-8")) if chosen.compare else None
    settings = driver.Settings(
        runs=chosen.runs or (3 if chosen.quick else 5),
        warm_up=0.1 if chosen.quick else 0.3, enough=0.05 if chosen.quick else 0.2,
        sides=["std", "control" if chosen.control else "cfutures"],
        # multiprocessing.Pool is always there, and what many compare with.
        peers={"threads": installed_peers() if chosen.peers else [],
               "processes": list(proc_impls.PEERS), "queue": list(queue_impls.PEERS)},
        patience=chosen.patience)
    settings.missing = not_there(cases, settings.sides[1])
    if "threads" in settings.missing:
        print(f"{settings.missing['threads']}\n"
              "(make bench builds it; --control needs no cfutures)", file=sys.stderr)
        return 2

    facts = machine.facts()
    tables.machine(facts, settings)
    for kind, why in settings.missing.items():
        print(f"NOTE: rows about {kind} are not measured with {settings.sides[1]}: {why}")
    bystanders = machine.Bystanders()
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)   # keeps what there is, too
    results, complete = driver.run(cases, settings, progress)
    progress("")
    facts["seconds"] = time.monotonic() - started
    facts["loadavg_end"] = os.getloadavg()
    facts["bystanders"] = bystanders.share()

    wanted = (*goals.GOALS, *proc_goals.GOALS, *pool_goals.GOALS, *queue_goals.GOALS)
    verdicts = goals.judge(wanted, results, *settings.sides, machine.python_tag())
    tables.rows(results, settings)
    tables.floors(results)
    for kind, names in settings.peers.items():
        tables.peers(results, kind, settings.sides, names)
    tables.goals(verdicts, machine.python_tag(), settings.sides)
    saved = as_json(facts, settings, results, verdicts)
    if old is not None:
        tables.comparison(old, saved)
    closing(facts, results)
    save(saved, chosen.json)

    failures = [f"{one.case.key} {why}" for one in results for why in one.failures]
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    if not complete:
        print("INTERRUPTED: what is shown is what there was", file=sys.stderr)
        return 130
    missed = [one for one in verdicts if one.met is False]
    return 1 if failures or (chosen.check_goals and missed) else 0


def describe(cases: list[registry.Case]) -> None:
    """Every row's docstring, with its unit and cases."""
    for row in dict.fromkeys(case.row for case in cases):
        print(f"{row.name} [{row.unit}, {row.better} is better]")
        for case in cases:
            if case.row is row:
                print(f"    {case.key}")
        print("\n".join("  " + line for line in inspect.getdoc(row.run).splitlines()) + "\n")


def not_there(cases: list[registry.Case], name: str) -> dict[str, str]:
    """For which kinds of the chosen rows this implementation cannot be had, and why."""
    missing = {}
    for kind in sorted({case.row.kind for case in cases if not case.row.is_floor}):
        try:
            impls.load(name, kind)
        except impls.NotInstalled as why:
            missing[kind] = str(why)
    return missing


def installed_peers() -> list[str]:
    """The other libraries' thread pools that can be measured here."""
    found = []
    for name in impls.PEERS:
        try:
            impls.load(name, "threads")
        except impls.NotInstalled as why:
            print(f"peer left out: {why}", file=sys.stderr)
        else:
            found.append(name)
    return found


def progress(text: str) -> None:
    """One line that overwrites itself, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:90]}", end="", file=sys.stderr, flush=True)


def closing(facts: dict[str, Any], results: list[driver.Result]) -> None:
    """How long it took, and how alone we were."""
    samples = [one for result in results for each in result.samples.values() for one in each]
    disturbed = sum(one.get("others", 0) > driver.DISTURBED for one in samples)
    if disturbed:
        print(f"\nDISTURBED: during {disturbed} of {len(samples)} measurements others used "
              f"more than {driver.DISTURBED} % of the CPUs.", end="")
    print(f"\n{facts['seconds']:.0f} s; load at the end {facts['loadavg_end'][0]:.2f}", end="")
    share = facts["bystanders"]
    if share:
        print(f"; other processes used {share['others']:.0f} % of the CPUs, "
              f"the hypervisor took {share['stolen']:.0f} %", end="")
    print()


def as_json(facts: dict[str, Any], settings: driver.Settings, results: list[driver.Result],
            verdicts: list[goals.Verdict]) -> dict[str, Any]:
    """All that a run found out."""
    return {
        "format": 1,
        "machine": facts,
        "sides": settings.sides,
        "settings": vars(settings),
        "rows": [summary.as_json(one, settings.sides) for one in results],
        "goals": [{"goal": one.goal.text, "column": one.column, "needed": one.needed,
                   "measured": one.measured, "met": one.met} for one in verdicts],
    }


def save(found: dict[str, Any], path: Path | None) -> None:
    """Write the results file; the default name has date, time and interpreter."""
    if path is None:
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        path = RESULTS / f"{now}-{machine.python_tag()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"saved {path}")


if __name__ == "__main__":
    sys.exit(main())
