"""Queues between processes: one way, there and back, many on both sides, megabytes."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from meter import STAMPS, Meter, Sample, verify
from queue_impls import FORK
from registry import queue_row

from rows.proc_big import look, payload, size_of

END = "end"
DRESS: dict[str, Callable[[int], Any]] = {
    "int": int, "lists": lambda i: [i, [i]], "pickled": lambda i: {i}}
BUNCH = 2000        # items that are on their way at most, in rows that go one way


@queue_row(cases=[{"data": data, "n": 2000} for data in DRESS], pins=("none", "1"),
           quick=[{"data": "int", "n": 2000}], quick_pins=("none",))
def queue_pingpong(lib: SimpleNamespace, meter: Meter, *, data: str, n: int) -> Sample:
    """An item to another process by one queue, and back by another; µs a round trip."""
    items = [DRESS[data](i) for i in range(n)]
    with _echo(lib, each=1) as (there, back):

        def body(some: list[Any]) -> list[Any]:
            got = []
            for item in some:
                there.put(item)
                got.append(back.get())
            return got

        return meter.per_item(body, items, lambda got: got == items)


@queue_row(cases=[{"data": data, "n": 20_000} for data in DRESS], pins=("none", "1"),
           quick=[{"data": "int", "n": 20_000}], quick_pins=("none",))
def queue_stream(lib: SimpleNamespace, meter: Meter, *, data: str, n: int) -> Sample:
    """n items to one process, which answers after each two thousand; µs an item."""
    items = [DRESS[data](i) for i in range(n)]
    with _echo(lib, each=BUNCH) as (there, back):

        def body(some: list[Any]) -> list[Any]:
            for start in range(0, len(some), BUNCH):
                bunch = some[start:start + BUNCH]
                for item in bunch:
                    there.put(item)
                for _ in range(len(bunch), BUNCH):      # of the warm-up, which is short
                    there.put(None)
                got = back.get()
            return got

        return meter.per_item(body, items, lambda got: got == items[-BUNCH:])


@queue_row(cases=[{"producers": 2, "consumers": 2, "bound": 100, "n": 10_000}])
def queue_many(lib: SimpleNamespace, meter: Meter, *, producers: int, consumers: int,
               bound: int, n: int) -> Sample:
    """n items by a bounded queue between several processes on each side; µs an item."""
    work, orders, results = lib.Queue(bound), [], lib.Queue()
    crew = []
    for _ in range(producers):
        orders.append(lib.Queue())
        crew.append(FORK.Process(target=_produce, args=(orders[-1], work, results)))
    crew += [FORK.Process(target=_consume, args=(work, results)) for _ in range(consumers)]
    for process in crew:
        process.start()
    items = list(range(n))

    def body(some: list[int]) -> int:
        each = len(some) // producers
        for number, order in enumerate(orders):
            order.put((some[number * each], each))
        for _ in orders:
            results.get()
        # A mark is answered with what its taker has got; another one may still have an item
        # in its hands that came before the mark.
        count = total = 0
        while count < len(some):
            work.put(END)
            more, their_sum = results.get()
            count += more
            total += their_sum
        return total

    try:
        return meter.per_item(body, items, lambda got: got == sum(items))
    finally:
        for order in orders:
            order.put(None)
        for process in crew[:producers]:
            process.join()
        for _ in range(consumers):
            work.put(None)
        for process in crew[producers:]:
            process.join()


@queue_row(cases=[{"what": what, "size": size} for what in ("bytes", "array")
                  for size in ("64K", "8M")],
           quick=[{"what": "array", "size": "8M"}], unit="ms/transfer")
def queue_big(lib: SimpleNamespace, meter: Meter, *, what: str, size: str) -> Sample:
    """One bytes object or NumPy array to another process, which looks at it; median ms.

    In queues that have moved as much before. The time ends when the answer, a number, is here.
    """
    payloads = [payload(what, size_of(size), stamp) for stamp in range(STAMPS)]
    there, back = lib.Queue(), lib.Queue()
    process = FORK.Process(target=_look, args=(there, back))
    process.start()

    def transfer(turn: int) -> int:
        there.put(payloads[turn % STAMPS])
        got: int = back.get()
        return got

    sample = meter.move(transfer, lambda turn, got: verify(
        got == look(payloads[turn % STAMPS]), "something else came"))
    there.put(None)
    process.join()
    return sample


# ---- what the other processes do ----


@contextmanager
def _echo(lib: SimpleNamespace, each: int) -> Iterator[tuple[Any, Any]]:
    """Two queues, and a process that sends back what comes: the last `each` at a time."""
    there, back = lib.Queue(), lib.Queue()
    process = FORK.Process(target=_answer, args=(there, back, each))
    process.start()
    try:
        yield there, back
    finally:
        there.put(END)
        process.join()


def _answer(there: Any, back: Any, each: int) -> None:
    get = there.get
    while True:
        got: list[Any] = []
        while len(got) < each:
            item = get()
            if item == END:
                return
            got.append(item)
        back.put(got if each > 1 else got[0])


def _produce(orders: Any, work: Any, results: Any) -> None:
    while (order := orders.get()) is not None:
        first, count = order
        for number in range(first, first + count):
            work.put(number)
        results.put(None)


def _consume(work: Any, results: Any) -> None:
    count = total = 0
    while (item := work.get()) is not None:
        if item == END:
            results.put((count, total))
            count = total = 0
        else:
            count += 1
            total += item


def _look(there: Any, back: Any) -> None:
    while (item := there.get()) is not None:
        back.put(look(item))
