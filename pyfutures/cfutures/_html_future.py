"""How a future looks in Jupyter: one line, and the traceback of a failure folded away."""
from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from cfutures._html import badge, clip, duration, escape, faint, line, safely, shorten
from cfutures._unread import function_name

if TYPE_CHECKING:
    from cfutures._base import Future

__all__ = ["future_repr_html"]

_TRACEBACK_LENGTH = 6000


def future_repr_html(future: Future[Any]) -> str:
    """Return HTML: state, function, worker, times, and what came of it.

    Does not wait, and does not fail if an object's repr() does.
    """
    # One look at all: the future may be done between two questions.
    done, cancelled, result, exception = future._get_snapshot()
    if done:
        state = "cancelled" if cancelled else "finished" if exception is None else "failed"
    else:
        state = "running" if future.running() else "pending"
    parts = [f"<span>{escape(type(future).__name__)}</span>", badge(state),
             *_call_of(future)]
    if state == "failed":
        assert exception is not None
        # Whoever sees this has been told.
        future.exception()
        return line("future", parts) + _failure(exception)
    if state == "finished":
        parts.append(f"<code>{escape(clip(safely(shorten, result)))}</code>")
    return line("future", parts)


def _call_of(future: Future[Any]) -> list[str]:
    """What is known of the call: its function, its worker, its times."""
    function, pool, worker, queued, ran = future._trace()
    parts = []
    name = safely(lambda known: function_name(known) or "", function)
    if name:
        parts.append(f"<b>{escape(clip(name, 100))}()</b>")
    if pool is not None and worker is not None:
        parts.append(faint(_worker(pool, worker)))
    times = [f"{word} {_time(seconds)}" for word, seconds in
             (("queued", queued), ("ran", ran)) if seconds is not None]
    if times:
        parts.append(faint(", ".join(times)))
    return parts


def _time(seconds: float) -> str:
    # As coarse as the clock's tick: see _core.Future._trace().
    return "<10 ms" if seconds < 0.01 else duration(seconds)


def _worker(pool: int, worker: int) -> str:
    if pool < 0:
        return f"process {worker}"
    from cfutures import thread

    return clip(thread._worker_name(pool, worker), 100)


def _failure(exception: BaseException) -> str:
    """The exception, and when unfolded its traceback, of the worker's side too."""
    name = escape(type(exception).__name__)
    message = escape(clip(safely(str, exception)))
    summary = f"<b>{name}</b>" + (f"<span>: {message}</span>" if message else "")
    text = safely(_traceback, exception)
    if len(text) > _TRACEBACK_LENGTH:
        text = "…" + text[-_TRACEBACK_LENGTH:]
    return ('<details class="cfutures-error" style="margin-left:1em;'
            'font-family:var(--jp-code-font-family,monospace);font-size:13px">'
            f'<summary style="cursor:pointer">{summary}</summary>'
            '<pre style="margin:.3em 0 .3em 1em;white-space:pre-wrap;color:inherit;'
            f'background:transparent">{escape(text)}</pre></details>')


def _traceback(exception: object) -> str:
    assert isinstance(exception, BaseException)
    remote = getattr(exception.__cause__, "tb", None)
    if isinstance(remote, str):
        # What a process sent as a text, between quotes, says it all.
        return remote.strip().strip("\"'").strip()
    return "".join(traceback.format_exception(exception)).rstrip()
