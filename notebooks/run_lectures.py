"""Run the lecture notebooks end to end, on cfutures, on the standard library, or both.

    python notebooks/run_lectures.py --size small --engine both

Makes the data, runs every notebooks/NN_*.ipynb in a kernel of this interpreter, leaves
HTML and the executed notebook in notebooks/out/<engine>/ with an index page above them,
and prints what was found.  The exit status is 1 if a cell failed, which is shown, or if
the data could not be made.  The notebooks themselves are not changed.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import lecture_data
import lecture_index
import lecture_tools
import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
CELL_TIMEOUT = 600      # seconds after which a cell is taken to hang

# What --engine writes into the cell tagged "engine", as a reader would by hand.
IMPORTS = {"stdlib": "import concurrent.futures as futures",
           "cfutures": "import cfutures as futures"}
MODULES = {"stdlib": lecture_tools.STANDARD, "cfutures": lecture_tools.OURS}


@dataclass
class Run:
    """What came of one notebook on one engine."""

    notebook: str
    engine: str
    cells: int = 0
    seconds: float = 0.0
    error: str = ""
    failed_cell: str = ""       # its id
    title: str = ""
    html: Path | None = None
    measured: dict = field(default_factory=dict)


class _ThisInterpreter(KernelSpecManager):
    """Names one kernel: the running interpreter, whatever kernels are registered."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR",
                "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def set_line(notebook: NotebookNode, tag: str, line: str, pattern: str) -> None:
    """Replace, in the cell with this tag, the one line that matches pattern.

    Raises ValueError if there is not exactly one such cell and line.
    """
    cells = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]
    if len(cells) == 1:
        cells[0].source, count = re.subn(pattern, line, cells[0].source, flags=re.MULTILINE)
        if count == 1:
            return
    raise ValueError(f"want one cell tagged {tag!r} with one line like {pattern!r}")


def prepare(path: Path, engine: str, size: str) -> NotebookNode:
    """The notebook as a reader would have it after choosing engine and size."""
    notebook = nbformat.read(path, as_version=4)
    set_line(notebook, "engine", IMPORTS[engine], r"^import \S+ as futures$")
    set_line(notebook, "size", f'SIZE = "{size}"', r'^SIZE = ".*"$')
    return notebook


def title_of(notebook: NotebookNode) -> str:
    """The first heading, or ""."""
    found = re.search(r"^# (.+)$", "\n".join(
        cell.source for cell in notebook.cells if cell.cell_type == "markdown"), re.MULTILINE)
    return found[1] if found else ""


def execute(notebook: NotebookNode, times: int) -> tuple[str, str]:
    """Run all cells, each `times` times, in place.

    Return the text of the first error and the id of its cell; two empty strings if all
    went well.
    """
    cell = None
    specs = _ThisInterpreter()
    client = NotebookClient(
        notebook, km=AsyncKernelManager(kernel_spec_manager=specs, kernel_name="python3"),
        timeout=CELL_TIMEOUT, resources={"metadata": {"path": str(HERE)}},
        coalesce_streams=True)      # a progress bar is one line, as it is on the screen
    # A reader's own IPython start-up files must not decide what the lecture shows.
    with tempfile.TemporaryDirectory() as profile:
        env = {**os.environ, "IPYTHONDIR": profile, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        env.pop("MPLBACKEND", None)     # the figures belong in the notebook
        try:
            with client.setup_kernel(env=env):
                for index, cell in enumerate(notebook.cells):
                    for _ in range(times if cell.cell_type == "code" else 0):
                        client.execute_cell(cell, index)
                client.set_widgets_metadata()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            # Tracebacks come coloured for a notebook; this one goes to a terminal or a log.
            text = re.sub(r"\x1b\[[0-9;]*m", "", f"{type(error).__name__}: {error}")
            return text, cell.id if cell is not None else ""
    return "", ""


def find_measurements(notebook: NotebookNode) -> dict:
    """What the notebook's closing table left in its output (the last one counts)."""
    found: dict = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found = output.get("data", {}).get(lecture_tools.MIMETYPE, found)
    return found


def write(notebook: NotebookNode, out: Path, name: str) -> Path:
    """Leave the executed notebook and its HTML in out; return the HTML's path."""
    out.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, out / f"{name}.ipynb")
    body, _ = HTMLExporter().from_notebook_node(
        notebook, resources={"metadata": {"name": name}})
    # The page must open at once where there is no internet; the lectures need no scripts.
    body = re.sub(r'<script\s+src="https?://[^>]*>\s*</script>', "", body)
    page = out / f"{name}.html"
    page.write_text(body, encoding="utf-8")
    return page


def run(path: Path, engine: str, size: str, out: Path, times: int) -> Run:
    """Run one notebook on one engine, write what came of it, and report."""
    result = Run(path.stem, engine, title=path.stem)
    try:
        notebook = prepare(path, engine, size)
    except ValueError as error:
        result.error = f"{path.name}: {error}"
        return result
    result.cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    started = time.perf_counter()
    result.title = title_of(notebook) or path.stem
    result.error, result.failed_cell = execute(notebook, times)
    result.seconds = time.perf_counter() - started
    result.measured = find_measurements(notebook)
    if not result.error and not result.measured:
        result.error = "the notebook has no closing table"
    result.html = write(notebook, out / engine, path.stem)
    return result


def text_table(headings: list[str], rows: list[list[str]]) -> str:
    """Columns of text, the first left-aligned."""
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    lines = [headings, ["-" * width for width in widths], *rows]
    return "\n".join("  ".join(
        cell.rjust(width) if i else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines)


def report(runs: list[Run]) -> str:
    """The tables: one line a run, then every measurement of every run."""
    times, seconds = lecture_tools.times, lecture_tools.seconds
    heads, details = [], []
    for one in runs:
        ratios = []
        for row in one.measured.get("rows", []):
            wall = row["wall"]
            single, mine = wall.get("sequential"), wall.get(MODULES[one.engine])
            if single and mine and row["ideal"]:
                ratios.append(times(single / mine))
            details.append([row["label"], one.engine, seconds(single), *(
                seconds(wall.get(name)) for name in MODULES.values()), *(
                times(single / wall[name] if single and name in wall else None)
                for name in MODULES.values()), times(row["ideal"])])
        heads.append([one.notebook, one.engine, str(one.cells), f"{one.seconds:.1f}",
                      "failed" if one.error else "ok", " ".join(ratios)])
    # The same measurement on both engines, one line below the other.
    order = {label: place for place, label in reversed(
        [(place, row[0]) for place, row in enumerate(details)])}
    details.sort(key=lambda row: order[row[0]])
    parts = [text_table(["notebook", "engine", "cells", "seconds", "result",
                         "speed-ups found (in the order below)"], heads)]
    if details:
        parts.append(text_table(["what was measured", "run on", "sequential", *MODULES,
                                 *("speed-up " + name for name in MODULES), "ideal"], details)
                     + "\n\nEvery run measures both engines in turn; 'run on' is the one that"
                       "\nthe rest of the notebook used.")
    return "\n\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=lecture_data.SIZES, default="small")
    parser.add_argument("--engine", choices=[*IMPORTS, "both"], default="both")
    parser.add_argument("--only", metavar="NAME", default="",
                        help="run only the notebooks whose file name begins with NAME")
    parser.add_argument("--out", type=Path, default=HERE / "out", metavar="DIR")
    parser.add_argument("--twice", action="store_true",
                        help="run every cell two times, to see that it can be run again")
    args = parser.parse_args()

    paths = sorted(path for path in HERE.glob("[0-9][0-9]_*.ipynb")
                   if path.stem.startswith(args.only))
    if not paths:
        parser.error(f"no notebook begins with {args.only!r}")
    try:
        lecture_data.make(args.size)
    except lecture_data.DataError as error:
        print(error, file=sys.stderr)
        return 1
    engines = list(IMPORTS) if args.engine == "both" else [args.engine]
    runs = []
    for path in paths:
        for engine in engines:
            print(f"running {path.stem} on {engine} ...", file=sys.stderr, flush=True)
            runs.append(run(path, engine, args.size, args.out, 2 if args.twice else 1))
            if runs[-1].error:
                print(runs[-1].error, file=sys.stderr)
    print(report(runs))
    print(f"\nTo read: {lecture_index.write_index(runs, args.out, args.size)}")
    return 1 if any(one.error for one in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
