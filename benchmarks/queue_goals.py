"""The goals for queues between processes, against multiprocessing.Queue."""
from __future__ import annotations

from goals import BOTH, Goal


def _times(text: str, need: float, row: str, **params: object) -> Goal:
    return Goal(text, dict.fromkeys(BOTH, need), lambda run: run.ratio(row, "none", **params))


GOALS = (
    _times("queue there and back, small items", 4, "queue_pingpong", data="int", n=2000),
    _times("queue one way, small items", 8, "queue_stream", data="int", n=20_000),
    _times("queue one way, pickled items", 4, "queue_stream", data="pickled", n=20_000),
    _times("queue, an array of 8 MB", 8, "queue_big", what="array", size="8M"),
)
