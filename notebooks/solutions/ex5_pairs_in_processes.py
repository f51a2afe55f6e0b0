"""Exercise 5: a number for every pair, where each worker gets all series once."""

from itertools import combinations

# Of each worker process: this module is imported there, too.
known = {}


def remember(series, correlate):
    """The initializer: keep what all tasks of this worker need."""
    known.update(series=series, correlate=correlate)


def one_pair(a, b):
    """The task: only the two names travel."""
    return known["correlate"](known["series"][a], known["series"][b])


def solve(pool, series, correlate):
    """Return {(a, b): correlate(series[a], series[b])} for every pair of names a < b.

    pool(initializer=..., initargs=...) makes an executor with processes.
    """
    pairs = list(combinations(sorted(series), 2))
    with pool(initializer=remember, initargs=(series, correlate)) as e:
        firsts, seconds = zip(*pairs, strict=True)
        return dict(zip(pairs, e.map(one_pair, firsts, seconds), strict=True))
