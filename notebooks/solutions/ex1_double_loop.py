"""Exercise 1: a double loop whose body is not the same for every pair."""


def solve(futures, n, slowadd, slowsub, workers=4):
    """Return {(i, j): i + j where i < j, i - j where i > j} for i, j below n."""
    started = {}
    with futures.ThreadPoolExecutor(max_workers=workers) as e:
        for i in range(n):
            for j in range(n):
                if i < j:
                    started[i, j] = e.submit(slowadd, i, j)
                elif i > j:
                    started[i, j] = e.submit(slowsub, i, j)
    # First start everything, then ask: asking inside the loop would wait each time.
    return {pair: future.result() for pair, future in started.items()}
