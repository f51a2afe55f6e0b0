"""The goals for Pool, against multiprocessing.Pool."""
from __future__ import annotations

from goals import BOTH, Goal


def _times(text: str, need: float, row: str, **params: object) -> Goal:
    return Goal(text, dict.fromkeys(BOTH, need), lambda run: run.ratio(row, "none", **params))


GOALS = (
    # Both send few large chunks: there is nothing left to win but the pickling.
    _times("Pool.map, default chunks", 1, "pool_map", chunksize="default", n=100_000),
    _times("Pool.map, chunksize 1", 15, "pool_map", chunksize=1, n=20_000),
    _times("Pool.map of a few items", 5, "pool_map", chunksize="default", n=8),
    _times("Pool.imap", 8, "pool_imap", method="imap", n=20_000),
    _times("Pool.imap_unordered", 8, "pool_imap", method="imap_unordered", n=20_000),
    _times("Pool.apply_async + get", 10, "pool_async", callback=False, n=10_000),
    _times("Pool.apply", 8, "pool_apply", n=1000),
)
