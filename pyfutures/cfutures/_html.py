"""How a future looks in Jupyter.

The colours are translucent or the text's own, so that they do in a light theme and in
a dark one.  Everything that comes from the program is escaped and shortened.
"""
from __future__ import annotations

import html
import reprlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfutures._base import Future

__all__ = ["future_repr_html"]

# The badge's background for each state, as red, green, blue.
_COLOURS = {
    "pending": "128,128,128",
    "running": "33,150,243",
    "finished": "76,175,80",
    "failed": "244,67,54",
    "cancelled": "255,152,0",
}
_MESSAGE_LENGTH = 300

_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = _shorten.maxlong = 120


def future_repr_html(future: Future[Any]) -> str:
    """Return a line of HTML: state, worker, time, and what came of it.

    Does not wait, and does not fail if an object's repr() does.
    """
    state, outcome = _state_of(future)
    parts = [
        f'<span style="padding:1px 8px;border-radius:9px;font-weight:600;'
        f'background:rgba({_COLOURS[state]},.25);border:1px solid rgb({_COLOURS[state]})">'
        f'{state}</span>']
    worker = future._worker_name()
    if worker is not None:
        parts.append(f'<span style="opacity:.75">{html.escape(worker)}</span>')
    elapsed = future._elapsed()
    if elapsed is not None:
        parts.append(f'<span style="opacity:.75">{_duration(elapsed)}</span>')
    if outcome:
        parts.append(outcome)
    return ('<div class="cfutures-future" style="display:flex;flex-wrap:wrap;gap:.6em;'
            'align-items:baseline;font-family:monospace">'
            f'<span>{html.escape(type(future).__name__)}</span>{"".join(parts)}</div>')


def _state_of(future: Future[Any]) -> tuple[str, str]:
    """The word for the badge, and the result or exception as HTML ("" if none)."""
    # One look at all: the future may be done between two questions.
    done, cancelled, result, exception = future._get_snapshot()
    if cancelled:
        return "cancelled", ""
    if not done:
        return "running" if future.running() else "pending", ""
    if exception is not None:
        message = _clip(_safely(str, exception))
        text = html.escape(type(exception).__name__)
        return "failed", f'<b>{text}</b>' + (f'<span>{html.escape(message)}</span>'
                                            if message else "")
    return "finished", f'<code>{html.escape(_clip(_safely(_shorten.repr, result)))}</code>'


def _safely(describe: Any, value: object) -> str:
    try:
        return str(describe(value))
    except Exception as error:
        return f"<{type(value).__name__}: its repr() raised {type(error).__name__}>"


def _clip(text: str) -> str:
    return text if len(text) <= _MESSAGE_LENGTH else text[:_MESSAGE_LENGTH - 1] + "…"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
