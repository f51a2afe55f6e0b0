"""Exercise 3: a number for every pair, one pair a task."""

from itertools import combinations


def solve(futures, series, correlate, workers=2):
    """Return {(a, b): correlate(series[a], series[b])} for every pair of names a < b."""
    with futures.ThreadPoolExecutor(max_workers=workers) as e:
        started = {(a, b): e.submit(correlate, series[a], series[b])
                   for a, b in combinations(sorted(series), 2)}
        return {pair: future.result() for pair, future in started.items()}
