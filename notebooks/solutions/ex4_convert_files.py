"""Exercise 4: convert all files with map, in processes."""

import multiprocessing


def solve(futures, paths, convert, workers=2):
    """Convert every file; convert(path) gives (symbol, rows).  Returns {symbol: rows}."""
    # Without mp_context it is the start method that this Python prefers.
    fork = multiprocessing.get_context("fork")
    with futures.ProcessPoolExecutor(max_workers=workers, mp_context=fork) as e:
        return dict(e.map(convert, paths))
