"""Exercise 6.1: ask several, take the first that answers, do not wait for the others."""


def solve(futures, ask, mirrors):
    """Return the first result of ask(*mirror) that is not an error.

    Raises the error that came last if there is no other.
    """
    # Not in a with block: its end would wait for the slowest.
    e = futures.ThreadPoolExecutor(max_workers=len(mirrors))
    try:
        for future in futures.as_completed([e.submit(ask, *mirror) for mirror in mirrors]):
            error = future.exception()
            if error is None:
                return future.result()
        raise error
    finally:
        e.shutdown(wait=False, cancel_futures=True)
