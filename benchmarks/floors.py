"""Floors: what bounds any thread pool, measured in the same run as the pools.

Those of process pools are in proc_floors.py.

No pool has to reach them, but none can go far below, and the distance says how
much is left to win. The unit is µs of wall time.
"""
from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

from meter import Meter, Sample, Skip
from registry import FLOOR, row
from rows.tasks import echo

N = 20_000
BINARY = "BENCHMARK_FLOORS"     # environment variable: the path of the compiled floors.c
SLEEP, SPIN, YIELD = range(3)


class Small:
    """A small object, as a future would be if it cost nothing else."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


@row(cases=[{"n": N}], unit="µs/item", pins=("none", "1"), sides=FLOOR)
def floor_object_loop(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """A Python loop that calls the empty task and keeps a list [result] for each item.

    The floor of submit+result: a caller who runs the tasks itself and makes one
    small object, built by the interpreter, for each.
    """
    def body(some: list[int]) -> list[Any]:
        kept = [[echo(item)] for item in some]
        return [small[0] for small in kept]

    items = list(range(n))
    return meter.per_item(body, items, lambda got: got == items)


@row(cases=[{"n": N}], unit="µs/item", sides=FLOOR)
def floor_class_loop(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """The same with an instance of a Python class with one slot instead of the list."""
    def body(some: list[int]) -> list[Any]:
        kept = [Small(echo(item)) for item in some]
        return [small.value for small in kept]

    items = list(range(n))
    return meter.per_item(body, items, lambda got: got == items)


@row(cases=[{"n": N}], unit="µs/item", sides=FLOOR)
def floor_c_call(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """list(map(empty task, items)): C calls a Python function, nothing else."""
    items = list(range(n))
    return meter.per_item(lambda some: list(map(echo, some)), items, lambda got: got == items)


@row(cases=[{"n": N}], unit="µs/item", sides=FLOOR)
def floor_set(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """set(list of n objects): wait() must return a set, so it cannot be faster."""
    items = [Small(i) for i in range(n)]
    return meter.per_item(set, items, lambda got: len(got) == n)


@row(cases=[{"n": N}], unit="µs/item", pins=("none", "1"), sides=FLOOR)
def floor_queue(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """Append to a deque under a lock, then popleft under it, in one thread; a queue's cost."""
    lock = threading.Lock()
    queue: deque[int] = deque()

    def body(some: list[int]) -> list[int]:
        for item in some:
            with lock:
                queue.append(item)
        taken = []
        for _ in some:
            with lock:
                taken.append(queue.popleft())
        return taken

    items = list(range(n))
    return meter.per_item(body, items, lambda got: got == items)


@row(cases=[{"n": N}], unit="µs/pair", sides=FLOOR)
def floor_gil(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """Release and retake the GIL, nobody else wanting it, in a C loop.

    A free-threaded build detaches and attaches its thread state instead.
    """
    function = ctypes.PyDLL(_compiled()).gil_pairs
    function.argtypes, function.restype = [ctypes.c_long], ctypes.c_long
    return meter.per_item(lambda some: function(len(some)), range(n), lambda got: got == n)


@row(cases=[{"how": "lock"}, {"how": "simplequeue"}, {"how": "event"}],
     quick=[{"how": "lock"}], unit="µs/trip", pins=("none", "1", "2"),
     quick_pins=("none", "1"), sides=FLOOR)
def floor_python_pingpong(lib: SimpleNamespace, meter: Meter, *, how: str) -> Sample:
    """Two Python threads hand a token to and fro, by locks, SimpleQueues or Events.

    A round trip with two hand-offs of the GIL: the floor of a pool written in Python.
    """
    mine, yours = (_TOKENS[how]() for _ in range(2))

    def play(trips: range) -> int:
        done = 0

        def partner() -> None:
            for _ in trips:
                yours.take()
                mine.give()

        other = threading.Thread(target=partner)
        other.start()
        for _ in trips:
            yours.give()
            mine.take()
            done += 1
        other.join()
        return done

    return meter.per_item(play, range(2000), lambda got: got == 2000)


class _LockToken:
    def __init__(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self.give, self.take = lock.release, lock.acquire


class _QueueToken:
    def __init__(self) -> None:
        queue: SimpleQueue[None] = SimpleQueue()
        self.give, self.take = (lambda: queue.put(None)), queue.get


class _EventToken:
    def __init__(self) -> None:
        event = threading.Event()
        self.give = event.set

        def take() -> None:
            event.wait()
            event.clear()
        self.take = take


_TOKENS = {"lock": _LockToken, "simplequeue": _QueueToken, "event": _EventToken}


@row(unit="µs/trip", pins=("none", "1", "2"), quick_pins=("none", "1"), sides=FLOOR)
def floor_futex(lib: SimpleNamespace, meter: Meter) -> Sample:
    """Two C threads, one futex word each, a round trip: both always fall asleep.

    The floor of submit→result one at a time for a pool that sleeps and does not spin.
    Where there are two CPUs the system may still put both threads on one.
    """
    return c_pingpong(meter, SLEEP, 5000)


@row(unit="µs/trip", sides=FLOOR)
def floor_futex_apart(lib: SimpleNamespace, meter: Meter) -> Sample:
    """The same with the threads nailed to a CPU each: every wake-up crosses over."""
    return c_pingpong(meter, SLEEP, 2000, *two_cpus())


@row(unit="µs/trip", sides=FLOOR)
def floor_spin_apart(lib: SimpleNamespace, meter: Meter) -> Sample:
    """The same, spinning on the words: what two CPUs need to see each other's writes."""
    return c_pingpong(meter, SPIN, 20_000, *two_cpus())


@row(unit="µs/trip", pins=("none", "1"), sides=FLOOR)
def floor_yield(lib: SimpleNamespace, meter: Meter) -> Sample:
    """The same, spinning with sched_yield(): what a polite spin can reach on one CPU."""
    return c_pingpong(meter, YIELD, 5000)


def two_cpus() -> list[int]:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Skip("needs two CPUs")
    return allowed[-2:]


def c_pingpong(meter: Meter, how: int, trips: int, here: int = -1, there: int = -1, *,
               function: str = "pingpong") -> Sample:
    """Time one of the two games of floors.c."""
    play = getattr(ctypes.CDLL(_compiled()), function)
    play.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    play.restype = ctypes.c_long
    return meter.per_item(lambda some: play(len(some), how, here, there), range(trips),
                          lambda got: got == trips)


def _compiled() -> str:
    """The path of floors.c as a shared library, made by the driver once a run."""
    binary = os.environ.get(BINARY)
    if not binary:
        raise Skip("no C compiler to build floors.c with (set CC)")
    return binary


@row(cases=[{"n": 200}], unit="µs/thread", pins=("none", "1"), quick_pins=("none",),
     sides=FLOOR)
def floor_thread(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """threading.Thread(target=…), start() and join(): the floor of a pool's first task."""
    def one(item: int) -> int:
        got: list[int] = []
        thread = threading.Thread(target=got.append, args=(item,))
        thread.start()
        thread.join()
        return got[0]

    items = list(range(n))
    return meter.per_item(lambda some: [one(item) for item in some], items,
                          lambda got: got == items)
