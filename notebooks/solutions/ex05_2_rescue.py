"""Exercise 5.2: results of tasks of which some raise and some crash their process."""

from concurrent.futures import BrokenExecutor


def solve(make_pool, function, items, *args, tries=3):
    """Return {item: result}, "error" or "crash" where `tries` attempts were in vain."""
    outcome = {}
    waiting = list(items)
    for _ in range(tries):
        outcome.update(attempt(make_pool, function, waiting, *args))
        waiting = [item for item in waiting if isinstance(outcome[item], BaseException)]
    return {item: answer if item not in waiting else
            "crash" if isinstance(answer, BrokenExecutor) else "error"
            for item, answer in outcome.items()}


def attempt(make_pool, function, items, *args):
    """One attempt at each item: {item: its result or its own exception}."""
    outcome, suspects = together(make_pool, function, items, *args)
    # The pool broke, and with it fell who did nothing: alone, each shows what it is.
    for item in suspects:
        outcome.update(together(make_pool, function, [item], *args)[0])
    return outcome


def together(make_pool, function, items, *args):
    """Run the items in one pool: ({item: result or exception}, items nobody can judge)."""
    started = {}
    with make_pool() as e:
        try:
            for item in items:
                started[item] = e.submit(function, item, *args)
        except BrokenExecutor:
            pass    # the pool is broken already; the rest are suspects, too
        outcome = {item: future.exception() or future.result()
                   for item, future in started.items()}
        try:
            e.submit(abs, 0)
        except BrokenExecutor:
            return outcome, [item for item in items
                             if isinstance(outcome.get(item), BrokenExecutor)
                             or item not in outcome]
    return outcome, []
