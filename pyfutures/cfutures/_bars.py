"""The pictures of progress(): tqdm's, a line of HTML, a line of text.

A bar is used by one thread at a time.
"""
from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from typing import Any, Protocol

from cfutures._html import bar as html_bar
from cfutures._html import duration, escape, line

__all__ = ["Bar", "make_bar"]


class Bar(Protocol):
    """What is shown; figures: how many have ended, of how many (None: unknown), how many of
    these failed and were cancelled."""

    def show(self, done: int, total: int | None, failed: int, cancelled: int) -> None:
        """Show these figures."""

    def close(self, done: int, total: int | None, failed: int, cancelled: int) -> None:
        """Show these figures, the last ones."""


def make_bar(total: int | None, desc: str) -> Bar:
    """The best bar that there is here, shown at once."""
    if _in_notebook() and importlib.util.find_spec("ipywidgets") is None:
        return _HtmlBar(total, desc)    # tqdm would warn, and print text
    try:
        tqdm = importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        return _HtmlBar(total, desc) if _in_notebook() else _TextBar(total, desc)
    return _TqdmBar(tqdm, total, desc)


def _in_notebook() -> bool:
    """Does this run in a kernel, whose front end shows HTML?"""
    ipython = sys.modules.get("IPython")
    shell: Any = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def _trouble(failed: int, cancelled: int) -> str:
    """Words for what did not go well; "" if all did."""
    return ", ".join(f"{count} {word}" for count, word in
                     ((failed, "failed"), (cancelled, "cancelled")) if count)


class _TqdmBar:
    def __init__(self, tqdm: Any, total: int | None, desc: str) -> None:
        self._bar = tqdm(total=total, desc=desc or None, unit="task", mininterval=0)

    def show(self, done: int, total: int | None, failed: int, cancelled: int) -> None:
        """See Bar."""
        self._figures(done, total, failed, cancelled)
        self._bar.refresh()

    def close(self, done: int, total: int | None, failed: int, cancelled: int) -> None:
        """See Bar."""
        self._figures(done, total, failed, cancelled)
        self._bar.refresh()
        self._bar.close()

    def _figures(self, done: int, total: int | None, failed: int, cancelled: int) -> None:
        self._bar.total = total
        self._bar.n = done
        self._bar.set_postfix_str(_trouble(failed, cancelled), refresh=False)


def _words(
    done: int, total: int | None, failed: int, cancelled: int, desc: str, seconds: float
) -> str:
    parts = [f"{done}/{'?' if total is None else total} tasks", duration(seconds)]
    if seconds > 0 and done:
        rate = done / seconds
        parts.append(f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.1f}/s")
    trouble = _trouble(failed, cancelled)
    return (f"{desc}: " if desc else "") + ", ".join(parts + [trouble] * bool(trouble))


class _HtmlBar:
    def __init__(self, total: int | None, desc: str) -> None:
        display: Any = importlib.import_module("IPython.display")
        self._desc = desc
        self._began = time.monotonic()
        self._handle = display.display(
            self._page(0, total, 0, 0), raw=True, display_id=True)

    def _page(
        self, done: int, total: int | None, failed: int, cancelled: int
    ) -> dict[str, str]:
        words = _words(done, total, failed, cancelled, self._desc,
                       time.monotonic() - self._began)
        shares = {"done": done - failed - cancelled, "failed": failed, "cancelled": cancelled,
                  "queued": max(0, (total or 0) - done)}
        html = line("progress", [f"<span>{escape(words)}</span>"]) + html_bar(shares)
        return {"text/html": html, "text/plain": words}

    def show(self, done: int, total: int | None, failed: int, cancelled: int) -> None:
        """See Bar."""
        self._handle.update(self._page(done, total, failed, cancelled), raw=True)

    close = show


class _TextBar:
    """On a terminal one line that changes; elsewhere one line at the end."""

    def __init__(self, total: int | None, desc: str) -> None:
        self._desc = desc
        self._began = time.monotonic()
        self._stream: Any = sys.stderr
        self._changes = bool(getattr(self._stream, "isatty", bool)())
        self._width = 0
        if self._changes:
            self.show(0, total, 0, 0)

    def show(self, done: int, total: int | None, failed: int, cancelled: int) -> None:
        """See Bar."""
        if self._changes:
            self._write(done, total, failed, cancelled, "")

    def close(self, done: int, total: int | None, failed: int, cancelled: int) -> None:
        """See Bar."""
        self._write(done, total, failed, cancelled, "\n")

    def _write(
        self, done: int, total: int | None, failed: int, cancelled: int, end: str
    ) -> None:
        if self._stream is None:        # a program without a standard error
            return
        words = _words(done, total, failed, cancelled, self._desc,
                       time.monotonic() - self._began)
        start = "\r" if self._changes else ""
        self._stream.write(f"{start}{words:<{self._width}}{end}")
        self._width = len(words)
        self._stream.flush()
