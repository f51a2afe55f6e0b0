"""What the HTML of futures, executors and progress lines is made of.

The colours are translucent or the text's own, so that they do in a light theme, in a
dark one and on a plain page; styles are in the elements, since a page that a notebook is
exported to has no style sheet of ours.  Everything that comes from the program is escaped
and shortened.
"""
from __future__ import annotations

import html
import reprlib
from collections.abc import Callable

__all__ = [
    "COLOURS", "badge", "bar", "clip", "duration", "escape", "faint", "line", "safely",
    "shorten"]

#: Red, green, blue, for each state.
COLOURS = {
    "pending": "128,128,128",
    "queued": "128,128,128",
    "running": "33,150,243",
    "finished": "76,175,80",
    "done": "76,175,80",
    "failed": "244,67,54",
    "cancelled": "255,152,0",
    "open": "76,175,80",
    "shut down": "128,128,128",
    "broken": "244,67,54",
}
_FONT = "font-family:var(--jp-code-font-family,monospace);font-size:13px;line-height:1.5"
_LENGTH = 300

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 120
#: repr() of a value, in about a line.
shorten: Callable[[object], str] = _repr.repr


def escape(text: str) -> str:
    """The text as HTML; half characters, which cannot be sent, are shown as codes."""
    return html.escape(text.encode("utf-8", "backslashreplace").decode())


def safely(describe: Callable[[object], str], value: object) -> str:
    """``describe(value)``, or words about why there is none."""
    try:
        return str(describe(value))
    except Exception as error:
        return f"<{type(value).__name__}: its repr() raised {type(error).__name__}>"


def clip(text: str, length: int = _LENGTH) -> str:
    """At most so many characters of the text."""
    return text if len(text) <= length else text[:length - 1] + "…"


def duration(seconds: float) -> str:
    """A duration as people write it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def badge(state: str) -> str:
    """The state as a word with its colour behind it."""
    colour = COLOURS[state]
    return (f'<span style="padding:0 8px;border-radius:9px;font-weight:600;white-space:nowrap;'
            f'background:rgba({colour},.25);border:1px solid rgb({colour})">{state}</span>')


def faint(text: str) -> str:
    """Words that are not the first thing to read."""
    return f'<span style="opacity:.75">{escape(text)}</span>'


def line(kind: str, parts: list[str]) -> str:
    """Parts side by side, which wrap where the page is narrow."""
    return (f'<div class="cfutures-{kind}" style="display:flex;flex-wrap:wrap;gap:0 .8em;'
            f'align-items:baseline;{_FONT}">{"".join(parts)}</div>')


def bar(shares: dict[str, int]) -> str:
    """A bar of coloured parts, as long as there are many of each state; "" if of none."""
    total = sum(shares.values())
    if not total:
        return ""
    parts = "".join(
        f'<div style="width:{100 * count / total:.2f}%;background:rgb({COLOURS[state]})"></div>'
        for state, count in shares.items() if count)
    return ('<div style="display:flex;height:6px;width:100%;max-width:480px;margin:3px 0;'
            'border-radius:3px;overflow:hidden;background:rgba(128,128,128,.25)">'
            f'{parts}</div>')
