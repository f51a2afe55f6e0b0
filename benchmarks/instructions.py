"""Instructions a task costs, and where: `make instructions`.

    python benchmarks/instructions.py [--json FILE]

Valgrind's callgrind counts what caller, worker and interpreter execute for two numbers of
tasks; the difference, divided by the difference of the numbers, is what a task
costs. That does not depend on the machine's speed or on who else uses it, so that figures
of different days can be compared. Without valgrind nothing is counted, and that is said.
"""
from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

FEW, MANY = 1000, 5000      # tasks
HANG = 120                  # seconds; callgrind makes everything fifty times slower
TOP = 6                     # functions of the C core that are named
# A part of an object file's name -> what it is called.
OBJECTS = {"_core.": "cfutures' C core", "_pickle.": "pickle", "python": "interpreter",
           "libc": "C library", "libpthread": "C library", "ld-": "C library"}


def behind_a_waiting_worker(pool: Any, n: int) -> list[int]:
    """Empty tasks that all wait when the only worker begins: nobody spins for the next."""
    from rows.tasks import echo

    reader, writer = os.pipe()
    with pool:
        pool.submit(os.read, reader, 1)
        futures = [pool.submit(echo, i) for i in range(n)]
        os.write(writer, b"x")
        futures[-1].result()
        return [future.result() for future in futures]


def threads(n: int) -> list[int]:
    """Empty tasks of a thread."""
    from cfutures import ThreadPoolExecutor

    return behind_a_waiting_worker(ThreadPoolExecutor(1), n)


def processes(n: int) -> list[int]:
    """The same with a worker that is a process; its instructions count as well."""
    from cfutures import ProcessPoolExecutor

    context = multiprocessing.get_context("fork")
    return behind_a_waiting_worker(ProcessPoolExecutor(1, mp_context=context), n)


def queue(n: int) -> list[int]:
    """Items through a Queue and back out, in one process: codec, shared memory, order."""
    from cfutures import Queue

    line = Queue()
    for i in range(n):
        line.put(i)
    return [line.get() for _ in range(n)]


WORK: dict[str, Callable[[int], list[int]]] = {"threads": threads, "processes": processes,
                                               "queue": queue}
WHAT = {"threads": "a task of a thread pool: submit, run, result",
        "processes": "a task of a process pool: submit, run, result",
        "queue": "an int through a Queue: put, get"}


def count(valgrind: str, kind: str, n: int) -> Counter[tuple[str, str]]:
    """Instructions of one run of some WORK, by object file and function."""
    with tempfile.TemporaryDirectory() as where:
        ended = subprocess.run(
            # What it has to say: of a system call that it does not know (pidfd_open in 3.19).
            [valgrind, "--tool=callgrind", "-q", f"--log-file={where}/%p.log",
             f"--callgrind-out-file={where}/%p.out",
             sys.executable, __file__, "--work", kind, str(n)],
            check=False, timeout=HANG, stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0"})
        if ended.returncode != 0:
            logs = "".join(path.read_text() for path in Path(where).glob("*.log"))
            raise RuntimeError(f"valgrind: exit status {ended.returncode}\n{logs}")
        total: Counter[tuple[str, str]] = Counter()
        for path in Path(where).glob("*.out"):
            total += read(path.read_text(encoding="utf-8", errors="replace"))
    return total


def read(text: str) -> Counter[tuple[str, str]]:
    """What each function executed itself, from a file of callgrind."""
    names: dict[tuple[str, str], str] = {}
    costs: Counter[tuple[str, str]] = Counter()
    where = {"ob": "", "fn": ""}
    inclusive = False       # the next line is what a call cost: it counts in the callee
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key in ("ob", "fn", "cob", "cfn"):
            number, _, name = value.partition(" ")
            place = key[-2:]
            if name:
                names[place, number] = name
            if key == place:
                where[place] = names[place, number]
        elif key == "calls":
            inclusive = True
        elif line[:1] in "0123456789+-*" and line:
            if not inclusive:
                costs[where["ob"], where["fn"]] += int(line.split()[1])
            inclusive = False
    return costs


def object_name(path: str) -> str:
    """What an object file is called in the table."""
    base = Path(path).name
    return next((name for part, name in OBJECTS.items() if part in base), "others")


def measure(valgrind: str, kind: str) -> dict[str, Any]:
    """Instructions a task: "total", "parts" by object, "core": the dearest functions."""
    few, many = (count(valgrind, kind, n) for n in (FEW, MANY))
    parts: Counter[str] = Counter()
    core: Counter[str] = Counter()
    for where, cost in many.items():
        each = (cost - few[where]) / (MANY - FEW)
        name = object_name(where[0])
        parts[name] += each
        if name == OBJECTS["_core."]:
            core[where[1].partition("'")[0]] += each
    return {"total": sum(parts.values()), "parts": dict(parts.most_common()),
            "core": dict(core.most_common(TOP))}


def all_kinds() -> dict[str, dict[str, Any]] | None:
    """For each piece of WORK; None without valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return None
    return {kind: measure(valgrind, kind) for kind in WORK}


def show(found: dict[str, dict[str, Any]]) -> None:
    for kind, one in found.items():
        print(f"{WHAT[kind]}: {one['total']:,.0f} instructions: "
              + ", ".join(f"{name} {cost:,.0f}" for name, cost in one["parts"].items()
                          if cost >= 1))
        print("    of the core: "
              + ", ".join(f"{name} {cost:,.0f}" for name, cost in one["core"].items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the figures")
    parser.add_argument("--work", nargs=2, metavar=("KIND", "N"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        n = int(args.work[1])
        return 0 if WORK[args.work[0]](n) == list(range(n)) else 1
    found = all_kinds()
    if found is None:
        print("no valgrind: instructions are not counted")
        return 0
    show(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
