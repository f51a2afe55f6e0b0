"""How an executor looks in Jupyter: its workers, and what became of its tasks."""
from __future__ import annotations

import sys
from typing import Any, NamedTuple

from cfutures._html import COLOURS, badge, bar, clip, escape, faint, line

__all__ = ["Counts", "executor_repr_html", "live_executors", "pools_html", "pools_text"]

# Seconds of work from which on "so many a second" means something: the clock that they
# are measured by ticks some hundred times a second.
_ENOUGH = 0.05
_NONE = "There is no live pool."


class Counts(NamedTuple):
    """What an executor has done, as of now; each figure was read at another moment."""

    workers: int        # that there are
    queued: int         # tasks that wait
    running: int
    done: int           # tasks that returned
    failed: int
    cancelled: int
    active: float       # seconds in which some worker was not asleep

    def throughput(self) -> float | None:
        """Tasks ended for each second in which the pool was at work, if that was long
        enough to say."""
        if self.active < _ENOUGH:
            return None
        return (self.done + self.failed) / self.active


def executor_repr_html(executor: Any) -> str | None:
    """Return HTML: the pool's state, workers, tasks by state, throughput.

    None for an executor that is none of ours and does not count, or whose __init__() was not
    called.  Does not wait.
    """
    if not (hasattr(executor, "_counts") and hasattr(executor, "_max_workers")):
        return None
    counts = Counts(*executor._counts())
    broken = executor._broken
    state = "broken" if broken else "shut down" if executor._shutdown else "open"
    head = [f"<b>{escape(type(executor).__name__)}</b>"]
    name = getattr(executor, "_thread_name_prefix", "")
    if name and name != type(executor).__name__:
        head.append(faint(clip(str(name), 100)))
    head += [badge(state), f"<span>workers {counts.workers} of {executor._max_workers}</span>"]
    rate = counts.throughput()
    if rate is not None:
        head.append(faint(_rate(rate)))
    shares = {"done": counts.done, "failed": counts.failed, "cancelled": counts.cancelled,
              "running": counts.running, "queued": counts.queued}
    tasks = [_figure(state, shares[state])
             for state in ("queued", "running", "done", "failed", "cancelled")]
    reason = [f"<span>{escape(clip(str(broken)))}</span>"] if broken else []
    return (f'<div class="cfutures-executor">{line("pool", head)}{bar(shares)}'
            f'{line("tasks", tasks)}{line("reason", reason) if reason else ""}</div>')


def _figure(state: str, count: int) -> str:
    dot = (f'<span style="display:inline-block;width:.6em;height:.6em;border-radius:50%;'
           f'background:rgb({COLOURS[state]})"></span>')
    faded = "" if count else ' style="opacity:.75"'
    return f"<span{faded}>{dot} {state} {count:,}</span>"


def _rate(rate: float) -> str:
    if rate >= 100:
        return f"{rate:,.0f} tasks/s"
    return f"{rate:.1f} tasks/s" if rate >= 1 else f"{60 * rate:.1f} tasks/min"


def live_executors() -> list[Any]:
    """The thread pools, then the process pools, that were not collected, oldest first."""
    from cfutures import thread

    registers = [thread._executors]
    process = sys.modules.get("cfutures.process")   # who has no process pools need not load it
    if process is not None:
        registers.append(process._executors)
    # valuerefs() is one step: other threads may make pools meanwhile.
    return [executor for register in registers for ref in register.valuerefs()
            if (executor := ref()) is not None]


def pools_text() -> str:
    """Return a line of text for every live pool, for a terminal."""
    lines = []
    for executor in live_executors():
        counts = Counts(*executor._counts())
        name = getattr(executor, "_thread_name_prefix", type(executor).__name__)
        lines.append(
            f"{name}: workers {counts.workers} of {executor._max_workers}, "
            f"queued {counts.queued}, running {counts.running}, done {counts.done}, "
            f"failed {counts.failed}, cancelled {counts.cancelled}")
    return "\n".join(lines) or _NONE


def pools_html() -> str:
    """Return HTML that shows every live pool."""
    shown = [page for executor in live_executors()
             if (page := executor_repr_html(executor)) is not None]
    if not shown:
        return line("pools", [_NONE])
    return "".join(f'<div style="margin-bottom:.5em">{page}</div>' for page in shown)
