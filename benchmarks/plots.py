"""Draw the pictures of docs/performance.md from the JSON of run_peers.py.

    python benchmarks/plots.py run.json docs

Needs matplotlib. A figure that the run does not have is left out; nothing is typed in.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from peer_page import GROWTH, curve, rows_of, short
from tables import number

OURS, THEIRS = "#1f77b4", "#9aa0a6"
COLOURS = {"cfutures": OURS, "std": THEIRS, "floor": "#d08030"}
# The panels of peers.svg: row, parameters, title, unit.
PANELS: list[tuple[str, dict[str, Any], str, str]] = [
    ("peer_empty", {}, "An empty task, each by itself", "µs"),
    ("peer_map", {}, "A map of {n:,} items", "s"),
    ("peer_array", {"way": "in", "kib": 8 << 10}, "An array of 8 MiB to a worker", "ms"),
    ("peer_start", {}, "Start of a pool to its first result", "ms"),
]
# The panels of scaling.svg: title, axis, unit, the lines as (row, name); see GROWTH.
LINES: list[tuple[str, str, str, list[tuple[int, str]]]] = [
    ("Tasks", "tasks", "µs a task", [(0, "threads"), (1, "processes"), (8, "a loop")]),
    ("Futures waited for", "futures", "µs a future",
     [(2, "wait"), (3, "as_completed"), (9, "set()")]),
    ("Workers", "workers", "µs a task", [(4, "threads"), (5, "processes")]),
    ("An array there and back", "bytes", "ms", [(6, "processes"), (7, "memcpy")]),
]


def draw_all(saved: dict[str, Any], folder: Path) -> None:
    """Write peers.svg and scaling.svg."""
    plt.rcParams.update({"font.size": 8, "axes.spines.top": False,
                         "axes.spines.right": False, "svg.fonttype": "none",
                         "svg.hashsalt": "cfutures", "axes.titlesize": 9,
                         "axes.titlelocation": "left"})
    bars(saved, folder / "peers.svg")
    curves(saved, folder / "scaling.svg")


def bars(saved: dict[str, Any], target: Path) -> None:
    """What some of the work costs with each library."""
    figure, panels = plt.subplots(2, 2, figsize=(8, 5.2), layout="constrained")
    for axes, (name, params, title, unit) in zip(panels.flat, PANELS, strict=True):
        for row in rows_of(saved, name, params)[:1]:
            names = [each for each in saved["peers"]["peers"] if each in row["median"]]
            values = [row["median"][each] for each in names]
            if not values:
                continue    # nobody could
            axes.barh(names, values, 0.7,
                      color=[OURS if each == "cfutures" else THEIRS for each in names])
            for place, value in enumerate(values):
                axes.text(value * 1.1, place, number(value), va="center")
            axes.set_xscale("log")
            axes.set_xlim(min(values) / 3, max(values) * 4)
            axes.invert_yaxis()
            axes.minorticks_off()
            axes.set_title(f"{title.format(**row['params'])}, {unit}")
    _save(figure, saved, target, "less is better; the axes are logarithmic")


def curves(saved: dict[str, Any], target: Path) -> None:
    """How the cost grows: flat where it is of each, linear where it is of bytes."""
    figure, panels = plt.subplots(2, 2, figsize=(8, 5.2), layout="constrained")
    for axes, (title, label, unit, lines) in zip(panels.flat, LINES, strict=True):
        for style, (index, name) in zip(("-", "--", ":"), lines, strict=False):
            _, over, row, fixed = GROWTH[index]
            for side, colour in COLOURS.items():
                points = curve(saved, row, fixed, over, side)
                if points:
                    axes.plot(*zip(*points, strict=True), style, marker="o", markersize=3,
                              color=colour, label=f"{side}, {name}")
        axes.set_xscale("log", base=2 if label == "workers" else 10)
        if label == "workers":
            axes.xaxis.set_major_formatter(lambda x, _: short(x))
        axes.set_yscale("log")
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom / 1.5, top * 20)       # room for the legend
        axes.set_title(f"{title}: {unit}")
        axes.set_xlabel(label)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False, ncols=2, fontsize=7, loc="upper left")
    _save(figure, saved, target, "less is better; all axes are logarithmic")


def _save(figure: Any, saved: dict[str, Any], target: Path, remark: str) -> None:
    facts = saved["machine"]
    figure.supxlabel(f"{remark}; CPython {facts['python']}, {facts['cpus']} CPUs, Linux "
                     f"{facts['kernel'].split('-')[0]}; medians", fontsize=7, x=0.99,
                     ha="right")
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN.json")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    draw_all(json.loads(args.run.read_text(encoding="utf-8")), args.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
