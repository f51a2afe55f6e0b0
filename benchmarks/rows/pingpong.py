"""One task at a time: how long from submit() to its result."""
from __future__ import annotations

import threading
import time
from types import SimpleNamespace

from meter import Meter, Sample
from registry import row

from rows.tasks import echo

WORK = 200e-6   # seconds of Python between two trips
SLEEP = 1e-3


@row(cases=[{"n": 5000}], pins=("none", "1", "2"), quick_pins=("none", "1"), peers=True)
def thr_pingpong(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """submit(empty task).result(), one at a time without a pause; µs a round trip."""
    items = list(range(n))
    with lib.ThreadPoolExecutor(1) as pool:
        submit = pool.submit
        return meter.per_item(lambda some: [submit(echo, item).result() for item in some],
                              items, lambda got: got == items)


@row(cases=[{"n": 600}], quick=[{"n": 300}], pins=("none", "1", "2"))
def thr_pingpong_work(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """A round trip after the caller ran 0.2 ms of Python; median µs.

    The worker has had time to fall asleep, and the GIL was never free meanwhile.
    The CPU column includes the 200 µs.
    """
    def work() -> None:
        until = time.perf_counter() + WORK
        while time.perf_counter() < until:
            pass

    return _trips(lib, meter, work, n)


@row(cases=[{"n": 150}], quick=[{"n": 80}], pins=("none", "1", "2"))
def thr_pingpong_sleep(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """A round trip after the caller slept 1 ms; median µs.

    Everybody sleeps and the CPUs may have gone idle: mostly the kernel's wake-up.
    """
    return _trips(lib, meter, lambda: time.sleep(SLEEP), n)


@row(cases=[{"n": 40}], quick=[])
def thr_busy_gil(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """A round trip while another thread runs pure Python without end; median µs.

    Report only, no goal: whoever waits for the GIL waits for the switch interval
    (5 ms), in every implementation.
    """
    stop = False

    def burn() -> None:
        while not stop:
            pass

    burner = threading.Thread(target=burn)
    burner.start()
    try:
        return _trips(lib, meter, lambda: None, n)
    finally:
        stop = True
        burner.join()


def _trips(lib: SimpleNamespace, meter: Meter, pause: object, n: int) -> Sample:
    with lib.ThreadPoolExecutor(1) as pool:
        submit = pool.submit
        return meter.latency(lambda i: submit(echo, i).result(), pause, n,
                             lambda i, got: got == i)
