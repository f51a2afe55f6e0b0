"""The CPU time of this process and of every process that came from it."""
from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

_libc = ctypes.CDLL(None)


def descendants() -> list[int]:
    """The process ids of our children, their children, and so on, as they are now."""
    children: dict[int, list[int]] = {}
    for pid, parent, _, _ in _processes():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    ahead = [os.getpid()]
    while ahead:
        born = children.get(ahead.pop(), [])
        found += born
        ahead += born
    return found


def group_members(group: int) -> list[int]:
    """The process ids of a process group, without those that only wait to be reaped."""
    return [pid for pid, _, pgrp, state in _processes() if pgrp == group and state != "Z"]


def _processes() -> Iterator[tuple[int, int, int, str]]:
    """All processes there are: id, parent's id, group's id, state."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="ascii", errors="replace")
            except (FileNotFoundError, ProcessLookupError):     # it has ended meanwhile
                continue
            state, parent, group = stat.rpartition(")")[2].split()[:3]  # names have blanks
            yield int(entry.name), int(parent), int(group), state


def cpu_of(pid: int) -> float | None:
    """CPU seconds of all threads of a process, to the nanosecond; None if it is gone."""
    clock = ctypes.c_int()
    if _libc.clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        return None
    try:
        return time.clock_gettime(clock.value)
    except OSError:
        return None


def cpu_seconds() -> float:
    """CPU seconds of this process, its living descendants and those it has waited for.

    Times of processes that a fork server started and waited for are lost when they end.
    """
    living = sum(cpu_of(pid) or 0.0 for pid in descendants())
    waited = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + waited.ru_utime + waited.ru_stime + living


def wake_ups(pid: int | str) -> int:
    """How often the threads of a process ("self": this one) slept and were woken so far."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total
