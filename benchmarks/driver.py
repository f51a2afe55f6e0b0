"""Runs cases: every measurement in a fresh process, the implementations in turn."""
from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from floors import BINARY
from machine import Bystanders
from registry import Case

HERE = Path(__file__).resolve().parent
HANG = 300      # seconds after which a measurement counts as hung
DISTURBED = 10  # percent of the CPUs' time used by others during a measurement


@dataclass
class Settings:
    """How a run is made: `runs` processes for each figure; seconds of warm-up and of
    measured time; the implementations in the order they take turns; how many seconds in
    all to spend on waiting for others to be quiet, and on measuring again."""

    runs: int
    warm_up: float
    enough: float
    sides: list[str]
    peers: list[str] = field(default_factory=list)
    patience: float = 0.0


@dataclass
class Result:
    """The samples of one case: implementation -> one dict a process, in run order."""

    case: Case
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    gil: dict[str, bool] = field(default_factory=dict)


def cpus_for(pin: str) -> list[int] | None:
    """The CPUs a pinning means here: [] for no pinning, None if there are too few.

    The highest ones of those we may use: interrupts prefer the lowest.
    """
    if pin == "none":
        return []
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[-int(pin):] if len(allowed) >= int(pin) else None


def implementations(case: Case, settings: Settings) -> list[str]:
    """Who takes turns in this case."""
    if case.row.is_floor:
        return ["floor"]
    return settings.sides + (settings.peers if case.row.peers else [])


def run(cases: list[Case], settings: Settings, say: Any) -> tuple[list[Result], bool]:
    """Measure all cases; `say(text)` is told about the progress.

    The rounds are outermost: a disturbance of some seconds hits one run of a few
    rows, not all runs of one row. An interrupt ends the run with what there is;
    the second value is false then.
    """
    results = [Result(case) for case in cases]
    total = settings.runs * sum(len(implementations(case, settings)) for case in cases)
    done = 0
    with compiled_floors():
        try:
            for _ in range(settings.runs):
                for result in results:
                    for impl in implementations(result.case, settings):
                        done += 1
                        say(f"{done}/{total} {result.case.key} {impl}")
                        if impl not in result.skipped:
                            _measure_in_peace(result, impl, settings)
        except KeyboardInterrupt:
            return results, False
    return results, True


def _measure_in_peace(result: Result, impl: str, settings: Settings) -> None:
    """Measure; again if others disturbed it and there is patience left.

    What decides is how much CPU time others used, never the figure that came out; the
    last try counts whatever happened, and each sample says how disturbed it was.
    """
    while True:
        _wait_for_peace(settings)
        bystanders, start = Bystanders(), time.monotonic()
        before = len(result.samples.get(impl, []))
        _measure(result, impl, settings)
        share = bystanders.share()
        if len(result.samples.get(impl, [])) == before or share is None:
            return
        result.samples[impl][-1]["others"] = share["others"] + share["stolen"]
        if result.samples[impl][-1]["others"] <= DISTURBED or settings.patience <= 0:
            return
        settings.patience -= time.monotonic() - start
        result.samples[impl].pop()


def _wait_for_peace(settings: Settings) -> None:
    """Return when others were quiet for a moment, or patience is used up."""
    while settings.patience > 0:
        bystanders, start = Bystanders(), time.monotonic()
        time.sleep(0.2)
        share = bystanders.share()
        if share is None or share["others"] + share["stolen"] <= DISTURBED:
            return
        time.sleep(0.5)
        settings.patience -= time.monotonic() - start


def _measure(result: Result, impl: str, settings: Settings) -> None:
    """Start child.py once and file what it says."""
    case = result.case
    cpus = cpus_for(case.pin)
    if cpus is None:
        result.skipped[impl] = f"fewer than {case.pin} CPUs"
        return
    job = {"row": case.row.name, "params": dict(case.params), "impl": impl, "cpus": cpus,
           "warm_up": settings.warm_up, "enough": settings.enough}
    try:
        child = subprocess.run([sys.executable, str(HERE / "child.py"), json.dumps(job)],
                               capture_output=True, text=True, timeout=HANG)
    except subprocess.TimeoutExpired:
        result.failures.append(f"{impl}: hung for {HANG} s")
        result.skipped[impl] = "hung"
        return
    if child.returncode != 0:
        reason = child.stderr.strip().rpartition("\n")[2] or f"exit {child.returncode}"
        result.failures.append(f"{impl}: {reason}")
        return
    answer = json.loads(child.stdout.splitlines()[-1])
    if "skip" in answer:
        result.skipped[impl] = answer["skip"]
    else:
        result.samples.setdefault(impl, []).append(answer["sample"])
        result.gil[impl] = answer["gil"]


@contextmanager
def compiled_floors() -> Iterator[None]:
    """Compile floors.c for the length of a run, into a directory that goes away.

    Without a compiler the rows that need it are skipped and say so.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    with tempfile.TemporaryDirectory() as where:
        target = str(Path(where) / "floors.so")
        if compiler and shutil.which(compiler[0]):
            made = subprocess.run([*compiler, "-std=gnu11", "-O2", "-shared", "-fPIC",
                                   "-pthread", str(HERE / "floors.c"), "-o", target])
            if made.returncode == 0:
                os.environ[BINARY] = target
        try:
            yield
        finally:
            os.environ.pop(BINARY, None)
