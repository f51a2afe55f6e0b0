"""The page that leads to all results of a run: index.html beside them."""

from __future__ import annotations

import html
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import lecture_tools

STYLE = """
:root { color-scheme: light dark; --line: #8884; --bad: #c62828; --good: #2e7d32; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #81c784; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto;
       padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { text-align: left; padding: .3em .9em .3em 0; border-bottom: 1px solid var(--line);
         vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.ok { color: var(--good); } .failed { color: var(--bad); font-weight: bold; }
pre { overflow-x: auto; padding: .8em; border: 1px solid var(--line); font-size: 13px; }
"""


class Result(Protocol):
    """What the page needs to know of one run of one notebook."""

    notebook: str
    title: str
    engine: str
    cells: int
    seconds: float
    error: str
    failed_cell: str
    html: Path | None


def write_index(runs: Sequence[Result], out: Path, size: str) -> Path:
    """Write out/index.html about these runs; return its path.

    Pages that an earlier run left in out are linked, too, below the table.
    """
    failed = [run for run in runs if run.error]
    summary = f"{len(runs) - len(failed)} of {len(runs)} runs without an error"
    parts = [f"<p>{summary}. Size “{_text(size)}”, Python {platform.python_version()}, "
             f"{lecture_tools.cores()} processors.</p>",
             _table(["lecture", "run on", "result", "cells", "seconds", "to read", "to open"],
                    [_row(run, out) for run in runs])]
    if failed:
        parts.append("<h2>What failed</h2>")
        parts += [f"<h3>{_text(run.title)}, on {_text(run.engine)}</h3>{_where(run, out)}"
                  f"<pre>{_text(run.error)}</pre>" for run in failed]
    known = {run.html for run in runs}
    older = [page for page in sorted(out.glob("*/[0-9][0-9]_*.html")) if page not in known]
    if older:
        parts.append("<h2>From an earlier run</h2><ul>" + "".join(
            f"<li>{_link(page, out, f'{page.stem}, on {page.parent.name}')}</li>"
            for page in older) + "</ul>")
    out.mkdir(parents=True, exist_ok=True)
    index = out / "index.html"
    index.write_text(
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'><title>The lectures</title>"
        f"<style>{STYLE}</style></head>\n<body><h1>The lectures</h1>\n"
        + "\n".join(parts) + "\n</body></html>\n", encoding="utf-8")
    return index


def _row(run: Result, out: Path) -> list[str]:
    state = "failed" if run.error else "ok"
    links = ["", ""] if run.html is None else [
        _link(run.html, out, "page"), _link(run.html.with_suffix(".ipynb"), out, "notebook")]
    return [_text(f"{run.notebook[:2]} {run.title}"), _text(run.engine),
            f"<span class='{state}'>{state}</span>", str(run.cells), f"{run.seconds:.1f}",
            *links]


def _where(run: Result, out: Path) -> str:
    """A link to the cell that failed, if there is a page that shows it."""
    if run.html is None or not run.failed_cell:
        return ""
    return f"<p>{_link(run.html, out, 'to the cell', f'#cell-id={run.failed_cell}')}</p>"


def _link(page: Path, out: Path, text: str, anchor: str = "") -> str:
    target = Path(os.path.relpath(page, out)).as_posix() + anchor
    return f"<a href='{_text(target)}'>{_text(text)}</a>"


def _table(headings: list[str], rows: Iterable[list[str]]) -> str:
    """headings are text, rows are HTML; the fourth and fifth column hold numbers."""
    styles = [" class='number'" if name in ("cells", "seconds") else "" for name in headings]

    def line(tag: str, cells: list[str]) -> str:
        return "<tr>" + "".join(f"<{tag}{style}>{cell}</{tag}>"
                                for style, cell in zip(styles, cells, strict=True)) + "</tr>"

    return (f"<table><thead>{line('th', headings)}</thead>\n<tbody>"
            + "\n".join(line("td", row) for row in rows) + "</tbody></table>")


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
