"""Many libraries: how long until the first result, a crash, what a pool weighs."""
from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import family
from meter import Meter, Sample, verify
from registry import peer_row, peer_thread_row, proc_floor

from rows.tasks import echo

TASKS = 100
PAUSE = 0.005       # seconds that each task of the crash row takes
FATAL = 50          # the task that kills its worker
TRIES = 5


@peer_row(unit="ms")
def peer_start(lib: SimpleNamespace, meter: Meter) -> Sample:
    """The first pool of a program, 2 workers: made, one empty task, its result; ms.

    Extra "import": ms to import the library before, which for parts of the standard library
    has been done by the program that measures.
    """
    start = time.perf_counter()
    with lib.pool(2) as pool:
        got = pool.one(echo, 7)
        wall = time.perf_counter() - start
        verify(got == 7, "wrong result")
    return Sample(value=wall * 1e3, wall=wall * 1e6, items=1, extra={"import": lib.import_ms})


@peer_thread_row(unit="ms")
def peer_thr_start(lib: SimpleNamespace, meter: Meter) -> Sample:
    """peer_start with threads."""
    return peer_start(lib, meter)


@peer_row(unit="ms")
def peer_crash(lib: SimpleNamespace, meter: Meter) -> Sample:
    """100 tasks that sleep 5 ms, 2 workers; number 50 kills its worker with SIGKILL.

    What that costs, in ms: until the caller has all other results, having handed over
    again what was lost, less the same without the crash. Extra "lost": how many of the
    other 99 had to be handed over again.
    """
    with lib.pool(2) as pool:
        pool.each(rest, range(10))
        start = time.perf_counter()
        verify(pool.each(rest, range(TASKS)) == list(range(TASKS)), "wrong result")
        calm = time.perf_counter() - start

        start = time.perf_counter()
        came = pool.outcomes(risk, range(TASKS))
        verify(FATAL not in came, "the fatal task had a result")
        missing = lost = sorted(set(range(TASKS)) - set(came) - {FATAL})
        for _ in range(TRIES):
            if not missing:
                break
            came.update(zip(missing, pool.each(rest, missing), strict=True))
            missing = sorted(set(range(TASKS)) - set(came) - {FATAL})
        wall = time.perf_counter() - start
        verify(not missing and all(came[i] == i for i in came), "wrong result")
        return Sample(value=(wall - calm) * 1e3, wall=wall * 1e6, items=TASKS,
                      extra={"lost": len(lost)}, note=pool.note)


def rest(item: int) -> int:
    """A task that takes its time and leaves the CPUs to the others."""
    time.sleep(PAUSE)
    return item


def risk(item: int) -> int:
    """The same, but one of them dies."""
    if item == FATAL:
        os.kill(os.getpid(), signal.SIGKILL)
    return rest(item)


@peer_row(unit="MiB")
def peer_memory(lib: SimpleNamespace, meter: Meter) -> Sample:
    """Memory of the program and all its processes after 1,000 empty tasks, 2 workers; MiB.

    Proportional set sizes: a page that several share counts once. Extra "processes".
    """
    items = list(range(1000))
    with lib.pool(2) as pool:
        verify(pool.each(echo, items) == items, "wrong result")
        return _weigh()


@proc_floor(unit="MiB")
def floor_memory(lib: SimpleNamespace, meter: Meter) -> Sample:
    """The same of this program with two forked processes that only wait."""
    context = multiprocessing.get_context("fork")
    gate = context.Event()
    waiting = [context.Process(target=gate.wait) for _ in range(2)]
    for process in waiting:
        process.start()
    try:
        return _weigh()
    finally:
        gate.set()
        for process in waiting:
            process.join()


def _weigh() -> Sample:
    pids = [os.getpid(), *family.descendants()]
    sizes = [_proportional(pid) for pid in pids]
    return Sample(value=sum(sizes) / 2**20, items=len(pids),
                  extra={"processes": float(len(pids))})


def _proportional(pid: int) -> int:
    """Bytes; 0 of a process that has just ended."""
    found: Any = 0
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in lines:
        if line.startswith("Pss:"):
            found = int(line.split()[1]) << 10
    return found
