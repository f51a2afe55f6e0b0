"""Measure cfutures beside other libraries: `make bench-peers`, or this with --help.

The same work on each, in turn in one run; the floors; how the cost grows. Saves JSON. With
--page the tables go into docs/performance.md, and the pictures beside it.
"""
from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import driver
import instructions
import machine
import peer_cases
import peers
import run
import summary

DOCS = Path(__file__).resolve().parent.parent / "docs"
SLOW = ("dask", "ray")      # take seconds to begin: a single process for each of their figures
HANG = 120


def options(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="one process a figure, smaller sizes")
    add("--runs", type=int, metavar="N", help="processes a figure (default 3; quick 1)")
    add("--minutes", type=float, default=8, metavar="M",
        help="how long to go on with a second and third process for each figure (default 8)")
    add("--without", metavar="NAMES", default="",
        help='libraries to leave out, by commas: "ray,dask"')
    add("--rows", metavar="TEXTS",
        help="only rows whose name and parameters contain one of these, by commas")
    add("--json", type=Path, metavar="PATH", help="where to save (default benchmarks/results/)")
    add("--page", action="store_true", help="write the tables and pictures into docs/")
    add("--no-instructions", action="store_true", help="do not count them with valgrind")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 1 for a wrong result or crash of ours, 2 with nothing to run."""
    chosen = options(argv)
    texts = chosen.rows.split(",") if chosen.rows else [""]
    compared, growing = ([case for case in cases if any(text in case.key for text in texts)]
                         for cases in (peer_cases.compared(chosen.quick),
                                       peer_cases.scaling(chosen.quick)))
    if not compared + growing:
        print("no row matches", file=sys.stderr)
        return 2
    without = {*chosen.without.split(","), *peer_cases.SIDES}
    settings = driver.Settings(
        runs=chosen.runs or (1 if chosen.quick else 3), warm_up=0.1, enough=0.1,
        sides=list(peer_cases.SIDES), hang=HANG, once=SLOW, seconds=chosen.minutes * 60,
        peers={kind: [name for name in names if name not in without]
               for kind, names in peers.COLUMNS.items()})
    facts = machine.facts()
    bystanders, started = machine.Bystanders(), time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)   # keeps what there is, too
    # Once: that a curve is smooth shows that its points are right.
    results, complete = driver.run(growing, replace(settings, runs=1), run.progress)
    if complete:
        beside, complete = driver.run(compared, settings, run.progress)
        results = beside + results
    run.progress("")
    facts["seconds"] = time.monotonic() - started
    facts["loadavg_end"] = os.getloadavg()
    facts["bystanders"] = bystanders.share()
    saved: dict[str, Any] = {
        "format": 1, "machine": facts, "settings": vars(settings), "sides": settings.sides,
        "peers": {kind: peers.facts(kind) for kind in peers.COLUMNS},
        "rows": [summary.as_json(one, settings.sides) for one in results],
        "instructions": None if chosen.no_instructions else instructions.all_kinds(),
    }
    run.closing(facts, results)
    run.save(saved, chosen.json)

    import peer_page  # here, so that a mistake in it does not cost the run
    print(peer_page.markdown(saved))
    if chosen.page:
        import plots
        peer_page.put(saved, DOCS / "performance.md")
        plots.draw_all(saved, DOCS)
    failures = [f"{one.case.key} {why}" for one in results for why in one.failures]
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    ours = [one for one in results
            if one.failures and any(why.startswith("cfutures") for why in one.failures)]
    return 130 if not complete else 1 if ours else 0


if __name__ == "__main__":
    sys.exit(main())
