"""Runs cases: every measurement in a fresh process, the implementations in turn."""
from __future__ import annotations

import compileall
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import family
from floors import BINARY
from machine import Bystanders
from registry import POOLS, Case

HERE = Path(__file__).resolve().parent
GRACE = 3       # seconds for helpers (a fork server) to end after the measured process
DISTURBED = 10  # percent of the CPUs' time used by others during a measurement


@dataclass
class Settings:
    """How a run is made: `runs` processes for each figure; seconds of warm-up and of
    measured time; the implementations in the order they take turns; for each kind of row,
    the other libraries; the kinds of row that the second implementation cannot do; how
    many seconds in all to spend on waiting for others to be quiet, and on measuring
    again; after how many seconds a measurement counts as hung; who takes part in the first
    round only; for how many seconds rounds after the first go on."""

    runs: int
    warm_up: float
    enough: float
    sides: list[str]
    peers: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    patience: float = 0.0
    hang: float = 150.0
    once: tuple[str, ...] = ()
    seconds: float = float("inf")


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
    if case.row.sides != POOLS:
        return list(case.row.sides)
    sides = settings.sides[:1] if case.row.kind in settings.missing else settings.sides
    return sides + (settings.peers.get(case.row.kind, []) if case.row.peers else [])


def run(cases: list[Case], settings: Settings, say: Any) -> tuple[list[Result], bool]:
    """Measure all cases; `say(text)` is told about the progress.

    The rounds are outermost: a disturbance of some seconds hits one run of a few
    rows, not all runs of one row. An interrupt ends the run with what there is;
    the second value is false then.
    """
    results = [Result(case) for case in cases]
    until = time.monotonic() + settings.seconds
    total = settings.runs * sum(len(implementations(case, settings)) for case in cases)
    done = 0
    _compile_python()
    with compiled_floors():
        try:
            for turn in range(settings.runs):
                for result in results:
                    for impl in implementations(result.case, settings):
                        if turn > 0 and (impl in settings.once
                                         or time.monotonic() > until):
                            continue
                        done += 1
                        say(f"{done}/{total} {result.case.key} {impl}")
                        if impl not in result.skipped:
                            _measure_in_peace(result, impl, settings)
        except KeyboardInterrupt:
            return results, False
    return results, True


def _compile_python() -> None:
    """Write the bytecode of cfutures and of what measures it, as pip does for what it installs.

    Else each process, and each worker that is spawned, compiles them where a checkout is
    measured and PYTHONDONTWRITEBYTECODE is set.
    """
    spec = importlib.util.find_spec("cfutures")
    folders = [*(spec.submodule_search_locations or ())] if spec else []
    for folder in (*folders, HERE):
        if not compileall.compile_dir(folder, quiet=2):
            print(f"{folder}: not all compiled; imports and spawn are slower", file=sys.stderr)


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
        status, output, errors = _run_child(json.dumps(job), settings.hang)
    except Hung as why:
        result.failures.append(f"{impl}: hung for {settings.hang:g} s")
        result.skipped[impl] = "hung"
        print(f"\n{case.key} {impl} hung:\n{why}", file=sys.stderr)
        return
    except LeftBehind as why:
        result.failures.append(f"{impl}: {why}")
        return
    if status != 0:
        reason = errors.strip().rpartition("\n")[2] or f"exit {status}"
        result.failures.append(f"{impl}: {reason}")
        return
    answer = json.loads(output.splitlines()[-1])
    if "skip" in answer:
        result.skipped[impl] = answer["skip"]
    else:
        result.samples.setdefault(impl, []).append(answer["sample"])
        result.gil[impl] = answer["gil"]


class Hung(Exception):
    """A measurement did not end; the text is what its threads were doing."""


class LeftBehind(Exception):
    """A measurement left processes running."""


def _run_child(job: str, hang: float) -> tuple[int, str, str]:
    """Run child.py in a process group of its own; its status, output and errors.

    Files, not pipes: a worker that outlives the child would hold a pipe open. No process
    of the group is left when this returns or raises.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(HERE / "child.py"), job],
            stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True)
        try:
            child.wait(hang)
            if not _group_ends(child.pid):
                raise LeftBehind("left processes behind")
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)       # faulthandler says where it was
            with suppress(subprocess.TimeoutExpired):   # SIGKILL is next
                child.wait(GRACE)
            raise Hung(_text(errors)) from None
        finally:
            _kill_group(child.pid)
            child.wait()
        return child.returncode, _text(output), _text(errors)


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _group_ends(group: int) -> bool:
    """Whether all processes of a group have ended, or do so in a moment."""
    until = time.monotonic() + GRACE
    while family.group_members(group):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass    # nobody is left, as it should be


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
