"""Exercise 3.1: a number for every day, asked for with eight threads."""


def solve(futures, days, fetch, workers=8):
    """Return {day: mean temperature}; fetch(day) gives (record, attempts)."""

    def mean_temperature(day):
        record, _ = fetch(day)
        hours = record["hours"]
        return round(sum(hour["temperature"] for hour in hours) / len(hours), 2)

    # The number of workers is the limit: a thread has one request at a time.
    with futures.ThreadPoolExecutor(max_workers=workers) as e:
        return dict(zip(days, e.map(mean_temperature, days), strict=True))
