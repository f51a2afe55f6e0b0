"""Exercise 5.1: try again, and wait longer each time."""

import random
import time


def retry(function, item, first_wait, tries=4, worth_it=(ConnectionError, TimeoutError)):
    """function(item), tried up to `tries` times; first_wait in seconds.

    Raises the last error, or at once one that no further attempt would cure.
    """
    for attempt in range(tries):
        try:
            return function(item)
        except worth_it:
            if attempt == tries - 1:
                raise
        # Doubled each time; and by chance, so that those who failed together part.
        time.sleep(first_wait * 2**attempt * random.uniform(0.5, 1))


def solve(futures, ask, items, first_wait, workers=8):
    """Return {item: answer} for all items that have one."""
    with futures.ThreadPoolExecutor(max_workers=workers) as e:
        started = {item: e.submit(retry, ask, item, first_wait) for item in items}
        return {item: future.result() for item, future in started.items()
                if future.exception() is None}
