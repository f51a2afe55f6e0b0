"""Draw what a task costs, from the JSON files of runs of run.py: the picture of the README.

    python benchmarks/run.py --quick --json run.json
    python benchmarks/picture.py run.json docs/overhead.svg

Needs matplotlib.  A figure that the runs do not have is left out; nothing is typed in.
"""
from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

# What is drawn: the words for it, the row and which of its cases.
BARS = [
    ("threads: submit, then result", "thr_burst", {"workers": 2}, "none"),
    ("threads: map", "thr_map", {"workers": 2}, "none"),
    ("threads: one at a time", "thr_pingpong", {}, "none"),
    ("processes: submit, then result", "proc_burst", {"data": "simple", "workers": 2}, "none"),
    ("processes: a small list", "proc_burst", {"data": "lists", "workers": 2}, "none"),
    ("processes: map", "proc_map", {"chunksize": 1}, "none"),
    ("processes: one at a time", "proc_pingpong", {"data": "simple"}, "none"),
    ("processes: an array of 8 MB there", "proc_big",
     {"what": "array", "size": "8M", "way": "argument"}, "none"),
]
IN_MICROSECONDS = {"µs": 1.0, "ms": 1e3, "s": 1e6}
SIDES = {"std": ("concurrent.futures", "#9aa0a6"), "cfutures": ("cfutures", "#1f77b4")}


def median(row: dict[str, Any], side: str) -> float | None:
    """Microseconds a task, or None if that side was not measured."""
    values = [sample["value"] for sample in row["samples"].get(side, ())]
    unit = row["unit"].split("/")[0].split()[0]
    return statistics.median(values) * IN_MICROSECONDS[unit] if values else None


def find(rows: list[dict[str, Any]], name: str, params: dict[str, Any],
         pin: str) -> dict[str, Any] | None:
    """The first row of that name whose parameters include these."""
    for row in rows:
        if (row["row"] == name and row["pin"] == pin
                and row["params"].items() >= params.items()):
            return row
    return None


def spoken(microseconds: float) -> str:
    """A duration in the unit that suits it."""
    if microseconds < 1000:
        return f"{microseconds:.2g} µs" if microseconds < 10 else f"{microseconds:.0f} µs"
    return f"{microseconds / 1000:.3g} ms"


def draw(runs: list[dict[str, Any]], target: Path) -> int:
    """Write the picture; returns the number of pairs of bars."""
    rows = [row for run in runs for row in run["rows"]]
    pairs = []
    for words, name, params, pin in BARS:
        row = find(rows, name, params, pin)
        times = {side: median(row, side) for side in SIDES} if row is not None else {}
        if times and all(times.values()):
            pairs.append((words, times))
    if not pairs:
        return 0
    machine = runs[0]["machine"]
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(pairs) + 1.4), layout="constrained")
    for place, (_, times) in enumerate(pairs):
        for offset, (side, (_, colour)) in zip((-0.2, 0.2), SIDES.items(), strict=True):
            axes.barh(place + offset, times[side], 0.38, color=colour)
            axes.text(times[side] * 1.08, place + offset, spoken(times[side]),
                      va="center", fontsize=8)
        ratio = times["std"] / times["cfutures"]
        axes.text(1.01, place, f"{ratio:.0f} times", transform=axes.get_yaxis_transform(),
                  va="center", weight="bold")
    axes.set_yticks(range(len(pairs)), [words for words, _ in pairs])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(right=axes.get_xlim()[1] * 5)
    axes.set_xlabel("microseconds a task (less is better; the axis is logarithmic)")
    axes.set_title("What a task costs", loc="left")
    for label, colour in SIDES.values():
        axes.barh(0, 0, color=colour, label=label)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(f"CPython {machine['python']}, {machine['cpus']} CPUs, Linux "
                     f"{machine['kernel'].split('-')[0]}; medians", fontsize=7, x=0.99,
                     ha="right")
    figure.savefig(target, metadata={"Date": None})
    return len(pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN.json")
    parser.add_argument("target", type=Path, metavar="PICTURE.svg")
    args = parser.parse_args()
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in args.runs]
    count = draw(runs, args.target)
    print(f"{count} pairs of bars in {args.target}" if count
          else "none of the figures of the picture are in these runs")
    return 0 if count else 1


if __name__ == "__main__":
    raise SystemExit(main())
