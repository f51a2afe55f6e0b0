"""From the JSON of run_peers.py to the part of docs/performance.md about other libraries."""
from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instructions import WHAT
from tables import number

BEGIN = "<!-- written by make bench-peers, from here -->"
END = "<!-- to here -->"
Found = dict[str, Any]

# Row and parameters -> what the table calls it, with the unit.
PROCESS_ROWS: list[tuple[str, dict[str, Any], str]] = [
    ("peer_empty", {}, "empty task, each by itself, µs"),
    ("peer_one", {}, "one at a time, µs"),
    ("peer_closure", {}, "a cell's closure, µs a task"),
    ("peer_map", {}, "map of {n:,} items, s"),
    ("peer_grain", {"us": 10}, "tasks of 10 µs, x serial"),
    ("peer_grain", {"us": 100}, "tasks of 100 µs, x serial"),
    ("peer_grain", {"us": 1000}, "tasks of 1 ms, x serial"),
    ("peer_python", {}, "pure Python, {ms} ms, x serial"),
    ("peer_numpy", {}, "NumPy, about 1 ms, x serial"),
    ("peer_array", {"way": "in", "kib": 64}, "array 64 KiB in, ms"),
    ("peer_array", {"way": "in", "kib": 8 << 10}, "array 8 MiB in, ms"),
    ("peer_array", {"way": "in", "kib": 80 << 10}, "array 80 MiB in, ms"),
    ("peer_array", {"way": "out", "kib": 64}, "array 64 KiB out, ms"),
    ("peer_array", {"way": "out", "kib": 8 << 10}, "array 8 MiB out, ms"),
    ("peer_array", {"way": "out", "kib": 80 << 10}, "array 80 MiB out, ms"),
    ("peer_start", {}, "start to first result, ms (and import)"),
    ("peer_crash", {}, "a crash: ms more (tasks lost)"),
    ("peer_memory", {}, "memory, MiB (processes)"),
]
THREAD_ROWS: list[tuple[str, dict[str, Any], str]] = [
    ("peer_thr_empty", {}, "empty task, each by itself, µs"),
    ("peer_thr_one", {}, "one at a time, µs"),
    ("peer_thr_map", {}, "map of {n:,} items, s"),
    ("peer_thr_python", {}, "pure Python, {ms} ms, x serial"),
    ("peer_thr_numpy", {}, "NumPy, about 1 ms, x serial"),
    ("peer_thr_start", {}, "start to first result, ms (and import)"),
]
# A figure in brackets behind the value: the extra's name.
BESIDE = {"peer_start": "import", "peer_thr_start": "import", "peer_crash": "lost",
          "peer_memory": "processes"}
MORE = ("peer_grain", "peer_python", "peer_numpy", "peer_thr_python", "peer_thr_numpy")

# A row, what it is called, and its floors: what, row, parameters, how many of the row's unit
# are one of the floor's.
Floor = tuple[str, str, dict[str, Any], float]
AGAINST: list[tuple[str, dict[str, Any], str, list[Floor]]] = [
    ("peer_thr_empty", {}, "threads: empty task, µs", [
        ("a Python loop that calls it and makes an object", "floor_object_loop", {}, 1),
        ("the GIL let go and retaken, nobody else there", "floor_gil", {}, 1)]),
    ("peer_thr_one", {}, "threads: one at a time, µs", [
        ("two spinning C threads, there and back", "floor_spin_apart", {}, 1),
        ("futex, there and back", "floor_futex_apart", {}, 1),
        ("two Python threads: with two hand-offs of the GIL", "floor_python_pingpong", {}, 1)]),
    ("peer_thr_map", {}, "threads: map, s", [
        ("`list(map())`", "floor_c_call", {}, 1.0)]),
    ("peer_thr_numpy", {}, "threads: NumPy, x serial", [
        ("two bare threads that hash", "floor_parallel", {}, 1)]),
    ("peer_thr_start", {}, "threads: start, ms", [
        ("a thread started and joined", "floor_thread", {}, 1e-3)]),
    ("peer_empty", {}, "processes: empty task, µs", [
        ("pickle and unpickle of the call", "floor_pickle", {}, 1)]),
    ("peer_one", {}, "processes: one at a time, µs", [
        ("two spinning C processes, there and back", "floor_proc_spin_apart", {}, 1),
        ("futex, there and back", "floor_proc_futex_apart", {}, 1)]),
    ("peer_closure", {}, "a cell's closure, µs", [
        ("cloudpickle of a closure, each time", "floor_cloudpickle", {}, 1)]),
    ("peer_map", {}, "processes: map, s", [
        ("`list(map())` in one process", "floor_c_call", {}, 1.0)]),
    *[("peer_grain", {"us": us}, f"tasks of {us} µs, x serial", [
        ("two bare processes, half of the loop each", "floor_two_processes", {"us": us}, 1.0)])
      for us in (10, 100, 1000)],
    ("peer_python", {}, "pure Python, x serial", [
        ("the same", "floor_two_processes", {"us": 20_000}, 1)]),
    *[("peer_array", {"way": way, "kib": kib}, f"array {size}B {way}, ms", [
        ("memcpy into reused pages", "floor_memcpy", {"size": size}, 1.0)])
      for way in ("in", "out")
      for kib, size in ((64, "64Ki"), (8 << 10, "8Mi"), (80 << 10, "80Mi"))],
    ("peer_start", {}, "processes: start, ms", [
        ("`fork()` and `waitpid()`", "floor_proc_fork", {}, 1)]),
    ("peer_crash", {}, "a crash, ms more", [
        ("`fork()` and `waitpid()`", "floor_proc_fork", {}, 1)]),
    ("peer_memory", {}, "memory, MiB", [
        ("this program and two forks that wait", "floor_memory", {}, 1)]),
]
# What grows, in what, the row, its fixed parameters.
GROWTH: list[tuple[str, str, str, dict[str, Any]]] = [
    ("threads: submit and result, µs a task", "n", "thr_burst", {"workers": 2}),
    ("processes: submit and result, µs a task", "n", "proc_burst", {"workers": 2}),
    ("`wait`, done futures, µs each", "n", "wait_done", {}),
    ("`as_completed`, done futures, µs each", "n", "as_completed_done", {}),
    ("threads: 10,000 tasks, µs a task", "workers", "thr_burst", {"n": 10_000}),
    ("processes: 10,000 tasks, µs a task", "workers", "proc_burst", {"n": 10_000}),
    ("array there and back, ms", "size", "proc_big", {}),
    ("the floor: one memcpy of as much, ms", "size", "floor_memcpy", {"pages": "reused"}),
    ("a floor: a loop that makes an object for each, µs", "n", "floor_object_loop", {}),
    ("a floor: `set()` of as many objects, µs each", "n", "floor_set", {}),
]


def rows_of(saved: Found, name: str, params: dict[str, Any]) -> list[Found]:
    """All cases of a row whose parameters include these."""
    return [row for row in saved["rows"]
            if row["row"] == name and row["params"].items() >= params.items()]


def markdown(saved: Found) -> str:
    """The whole part, between the two marks."""
    return "\n".join(line for part in (_head, _processes, _threads, _floors, _growth, _counted)
                     for line in part(saved))


def _head(saved: Found) -> Iterator[str]:
    facts = saved["machine"]
    yield f"""\
Measured {facts['date'][:10]} on {facts['cpus']} CPUs ({facts['cpu']}\
{', a shared virtual machine' if facts['hypervisor'] else ''}), Linux \
{facts['kernel'].split('-')[0]}, CPython {facts['python']}, by `make bench-peers`: each \
library does the same work in a fresh process, in turn with the others; \
{_processes_each(saved)} a figure, one for Dask and Ray, which take seconds to begin, and for \
how the cost grows. \
Others used {_others(saved):.0f} % of the CPUs meanwhile.
"""
    yield from _table(["", "version", "how it is used"], [
        [name, one.get("version", "") or "CPython's",
         one.get("advice") or f"not installed: {one['missing']}"]
        for name, one in saved["peers"]["peers"].items()])
    yield ""


def _processes_each(saved: Found) -> str:
    """How many processes the figures of cfutures beside others are of, in words."""
    counts = {len(row["samples"]["cfutures"]) for row in saved["rows"]
              if row["row"].startswith("peer_") and "cfutures" in row["samples"]}
    if max(counts, default=1) == 1:
        return "one process"
    return f"medians of {min(counts)} to {max(counts)} processes"


def _others(saved: Found) -> float:
    share = saved["machine"]["bystanders"] or {"others": 0.0, "stolen": 0.0}
    return float(share["others"] + share["stolen"])


def _processes(saved: Found) -> Iterator[str]:
    yield "### Processes, two workers\n"
    yield "![Some of this work with each library](peers.svg)\n"
    yield from _compared(saved, PROCESS_ROWS, list(saved["peers"]["peers"]))
    yield """
"x serial": how many times faster than a loop in one process; 2 is the most there is, below
1 the loop is better. "Each by itself" hands every call over alone, except joblib, which
always makes batches; "map" is what each documentation advises for so many calls: chunks for
all but cfutures, which needs none. "A crash": of 100 tasks that sleep 5 ms one kills its
worker; how much longer it takes until all others have their results, those that were lost
handed over again. "Start" is of the first pool of a program, by each library's own start
method. "Memory" is of the program and all its processes.
"""


def _threads(saved: Found) -> Iterator[str]:
    yield "### Threads, two workers\n"
    yield from _compared(saved, THREAD_ROWS, list(saved["peers"]["peer-threads"]))
    yield ""


def _compared(saved: Found, rows: list[tuple[str, dict[str, Any], str]],
              names: list[str]) -> Iterator[str]:
    """A table with a column a library; what cannot be done is a note."""
    notes: dict[str, int] = {}
    lines = []
    for name, params, title in rows:
        for row in rows_of(saved, name, params)[:1]:
            medians = {each: row["median"][each] for each in names if each in row["median"]}
            better = max if name in MORE else min
            best = better(medians.values()) if medians else None
            cells = [_cell(row, each, notes, best) for each in names]
            lines.append([title.format(**row["params"]), *cells])
    yield from _table(["", *names], lines)
    if notes:
        yield ""
        yield from (f"{at}. {note}" for note, at in notes.items())


def _cell(row: Found, name: str, notes: dict[str, int], best: float | None) -> str:
    value = row["median"].get(name)
    if value is None:
        failed = [why.partition(": ")[2] for why in row["failures"]
                  if why.startswith(f"{name}:")]
        why = row["skipped"].get(name) or "; ".join(failed[:1]) or "not measured in this run"
        return f"no [{_note(why, notes)}]"
    shown = number(value)
    if value == best:
        shown = f"**{shown}**"
    extra = BESIDE.get(row["row"])
    samples = row["samples"][name]
    if extra:
        middle = sorted(one["extra"][extra] for one in samples)[len(samples) // 2]
        shown += f" ({middle:.0f})"
    said = {one["note"] for one in samples} - {""}
    return shown + "".join(f" [{_note(text, notes)}]" for text in sorted(said))


def _note(text: str, notes: dict[str, int]) -> int:
    text = " ".join(text.split()).replace("|", "/").replace("<", "&lt;")[:200]
    return notes.setdefault(text, len(notes) + 1)


def _floors(saved: Found) -> Iterator[str]:
    yield "### Against the floors of the same run\n"
    lines = []
    for name, params, title, floors in AGAINST:
        ours = [row["median"].get("cfutures") for row in rows_of(saved, name, params)[:1]]
        for i, (what, floor, floor_params, scale) in enumerate(floors):
            found = [row["median"].get("floor") for row in
                     rows_of(saved, floor, floor_params)[:1]]
            if not ours or not found or ours[0] is None or found[0] is None:
                continue
            least = found[0] * scale
            if name in ("peer_map", "peer_thr_map"):    # µs an item -> seconds
                least *= rows_of(saved, name, params)[0]["params"]["n"] / 1e6
            ratio = least / ours[0] if name in MORE else ours[0] / least
            lines.append([title if i == 0 else "", number(ours[0]) if i == 0 else "", what,
                          number(least),
                          number(ratio) if ratio > 0 else ""])
    yield from _table(["cfutures", "", "floor", "", "times the floor"], lines)
    yield """
The last column is 1 where cfutures does no more than the floor, and below 1 where it does not
do what the floor does: functions travel once, small values are not pickled.
"""


def _growth(saved: Found) -> Iterator[str]:
    yield "### How the cost grows\n"
    yield "![Cost over the number of tasks, futures, workers and over the size](scaling.svg)\n"
    lines = []
    for title, over, name, fixed in GROWTH:
        sides = ("floor" if name.startswith("floor") else "cfutures", "std")
        ours, theirs = (curve(saved, name, fixed, over, side) for side in sides)
        if len(ours) < 2:
            continue
        shown = ", ".join(f"{short(x)}: {number(y)}" for x, y in ours)
        lines.append([title, over if over != "size" else "bytes", shown, growth(ours, over),
                      growth(theirs, over) if len(theirs) > 1 else ""])
    yield from _table(["", "over", "cfutures", "growth", "std's"], lines)
    yield """
"Growth" is the exponent of the whole cost, fitted over all points: 1 is linear, and the cost
of each stays the same. Over workers it is that of the cost of one task: 0 is no growth. What
no longer fits the caches costs more each, whatever is done with it: the floors, which are
linear in what they do, show by how much here.
"""


def curve(saved: Found, name: str, fixed: dict[str, Any], over: str,
          side: str) -> list[tuple[float, float]]:
    """Points (amount, figure) of one implementation, by amount."""
    points = {}
    for row in rows_of(saved, name, fixed):
        if side in row["median"] and over in row["params"]:
            amount = row["params"][over]
            points[size_of(amount) if over == "size" else amount] = row["median"][side]
    return sorted(points.items())


def size_of(size: str) -> int:
    from rows.proc_big import size_of as in_bytes

    return in_bytes(size)


def growth(points: list[tuple[float, float]], over: str) -> str:
    """The exponent of the whole cost; the figures of `n` are of one task."""
    each = [(math.log(x), math.log(y * x if over == "n" else y)) for x, y in points]
    mx, my = (sum(one[i] for one in each) / len(each) for i in (0, 1))
    slope = (sum((x - mx) * (y - my) for x, y in each)
             / sum((x - mx) ** 2 for x, _ in each))
    return f"{slope:.2f}".replace("-0.00", "0.00")


def short(x: float) -> str:
    """10^3 and 64 KiB as people write them."""
    for unit, size in (("M", 10**6), ("k", 10**3)):
        if x >= size:
            return f"{x / size:.3g}{unit}"
    return f"{x:g}"


def _counted(saved: Found) -> Iterator[str]:
    yield "### Instructions\n"
    found = saved["instructions"]
    if found is None:
        yield "Not counted in this run."
        return
    yield """\
`make instructions` counts them with callgrind; they do not depend on what else the machine
does, so that figures of different days can be compared. `.ci/run` prints them.
"""
    parts = list(dict.fromkeys(part for one in found.values() for part in one["parts"]
                               if one["parts"][part] >= 1))
    yield from _table(["instructions each", "all", *parts], [
        [WHAT[kind], f"{one['total']:,.0f}",
         *(f"{one['parts'].get(part, 0):,.0f}" for part in parts)]
        for kind, one in found.items()])
    yield ""
    for kind, one in found.items():
        yield (f"Of the C core, {kind}: "
               + ", ".join(f"`{name}` {cost:,.0f}" for name, cost in one["core"].items())
               + ".")


def _table(head: list[str], lines: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def put(saved: Found, page: Path) -> None:
    """Replace the part between the marks; ValueError if the page does not have them."""
    text = page.read_text(encoding="utf-8")
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    page.write_text(f"{text[:before]}\n\n{markdown(saved).rstrip()}\n\n{text[after:]}",
                    encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN.json")
    parser.add_argument("page", type=Path, nargs="?", help="default: print it")
    args = parser.parse_args()
    saved = json.loads(args.run.read_text(encoding="utf-8"))
    if args.page:
        put(saved, args.page)
    else:
        print(markdown(saved))
    return 0


if __name__ == "__main__":
    sys.exit(main())
