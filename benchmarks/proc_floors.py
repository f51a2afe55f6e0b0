"""Floors: what bounds any pool of processes, measured in the same run as the pools."""
from __future__ import annotations

import ctypes
import functools
import mmap
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

from floors import SLEEP, SPIN, YIELD, c_pingpong, two_cpus
from meter import STAMPS, Meter, Sample, Skip, verify
from registry import proc_floor
from rows.proc_big import size_of
from rows.proc_frames import frame
from rows.proc_small import add, dictionary
from rows.tasks import echo

N = 5000

processes = functools.partial(c_pingpong, function="pingpong_processes")


@proc_floor(unit="µs/trip", pins=("none", "1"), quick_pins=("none", "1"))
def floor_proc_futex(lib: SimpleNamespace, meter: Meter) -> Sample:
    """Two C processes, one futex word each in shared memory, a round trip: both sleep.

    The floor of submit→result one at a time for a pool that sleeps and does not spin.
    """
    return processes(meter, SLEEP, 5000)


@proc_floor(unit="µs/trip")
def floor_proc_futex_apart(lib: SimpleNamespace, meter: Meter) -> Sample:
    """The same with the processes nailed to a CPU each: every wake-up crosses over."""
    return processes(meter, SLEEP, 2000, *two_cpus())


@proc_floor(unit="µs/trip")
def floor_proc_spin_apart(lib: SimpleNamespace, meter: Meter) -> Sample:
    """The same, spinning on the words: what two CPUs need to see each other's writes."""
    return processes(meter, SPIN, 20_000, *two_cpus())


@proc_floor(unit="µs/trip", pins=("1",), quick_pins=("1",))
def floor_proc_yield(lib: SimpleNamespace, meter: Meter) -> Sample:
    """The same, spinning with sched_yield(): what a polite spin can reach on one CPU."""
    return processes(meter, YIELD, 5000)


@proc_floor(unit="µs/trip", pins=("none", "1"))
def floor_proc_pipe(lib: SimpleNamespace, meter: Meter) -> Sample:
    """A pickled call through multiprocessing.Pipe to a bare worker loop, and its result.

    A round trip in Python without queues, threads and futures.
    """
    import multiprocessing

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    worker = context.Process(target=serve, args=(theirs,))
    worker.start()
    theirs.close()

    def play(trips: range) -> int:
        right = 0
        for i in trips:
            ours.send((echo, (i,), {}))
            right += ours.recv() == i
        return right

    try:
        return meter.per_item(play, range(2000), lambda got: got == 2000)
    finally:
        ours.send(None)
        worker.join()


def serve(connection: Any) -> None:
    """Answer calls until there is none."""
    while (call := connection.recv()) is not None:
        fn, args, kwargs = call
        connection.send(fn(*args, **kwargs))


def _calls() -> dict[str, Callable[[], Any]]:
    return {
        "simple": lambda: (echo, (1,), {}),
        "pickled": lambda: (echo, ({1},), {}),
        "args": lambda: ({1},),
        "dict": lambda: (add, dictionary(), {}),
        "frame": lambda: (echo, (frame(1),), {}),
    }


@proc_floor(cases=[{"data": name} for name in _calls()], unit="µs/call")
def floor_pickle(lib: SimpleNamespace, meter: Meter, *, data: str) -> Sample:
    """pickle.loads(pickle.dumps(call, protocol 5)) in one process.

    A call is (function, arguments, {}): of proc_burst data=simple and data=pickled, of
    proc_dict, of proc_frames. "args" are the arguments of the pickled one alone.
    """
    call = _calls()[data]()
    dumps, loads = pickle.dumps, pickle.loads

    def body(some: range) -> Any:
        for _ in some:
            got = loads(dumps(call, 5))
        return got

    def check(got: Any) -> bool:
        if data == "frame":
            return bool(got[1][0].equals(call[1][0]))
        return bool(got == call)

    n = 200 if data == "frame" else N
    return meter.per_item(body, range(n), check)


@proc_floor(unit="µs/function")
def floor_cloudpickle(lib: SimpleNamespace, meter: Meter) -> Sample:
    """cloudpickle.dumps() of a small closure, and loads(): once for each submit, this is
    what a function by value would cost."""
    try:
        import cloudpickle
    except ImportError as why:
        raise Skip(str(why)) from why
    zero = 0

    def body(some: range) -> Any:
        for _ in some:
            got = pickle.loads(cloudpickle.dumps(lambda item: item + zero))
        return got

    return meter.per_item(body, range(500), lambda got: got(3) == 3)


@proc_floor(cases=[{"size": size, "pages": pages} for size in ("64K", "8M", "80M")
                   for pages in ("reused", "fresh")],
            quick=[{"size": "8M", "pages": "reused"}, {"size": "80M", "pages": "reused"},
                   {"size": "80M", "pages": "fresh"}], unit="ms/copy")
def floor_memcpy(lib: SimpleNamespace, meter: Meter, *, size: str, pages: str) -> Sample:
    """memcpy of so much into shared memory, from sources taken in turn as transfers take
    them (one alone might stay in the caches); median ms.

    "reused" pages were written to before; "fresh" ones, of a new memory file each time,
    were not: the kernel has to find and clear them.
    """
    length = size_of(size)
    sources = _sources(length)
    target = _memory(length)

    def prepare(turn: int) -> Callable[[], Any]:
        nonlocal target
        if pages == "fresh":
            target = _memory(length)
        return _copier(target, sources[turn % STAMPS], length)

    return meter.move(lambda copy: copy(), lambda turn, got: _check_copy(
        target, sources[turn % STAMPS], length), prepare)


def _sources(length: int) -> list[bytes]:
    return [os.urandom(4096) * (length // 4096 + 1) for _ in range(STAMPS)]


def _check_copy(copy: mmap.mmap | bytes, source: bytes, length: int) -> None:
    middle = slice(length // 2, length // 2 + 9)
    verify(copy[middle] == source[middle]
           and copy[length - 9:length] == source[length - 9:length], "wrong copy")


def _memory(length: int) -> mmap.mmap:
    """A mapping of a new memory file; nothing of it is there yet."""
    file = os.memfd_create("floor", os.MFD_CLOEXEC)
    try:
        os.ftruncate(file, length)
        return mmap.mmap(file, length)
    finally:
        os.close(file)


def _copier(target: mmap.mmap, source: bytes, length: int) -> Callable[[], Any]:
    # The address outlives the object it was asked of; the caller keeps the mapping.
    where = ctypes.addressof(ctypes.c_char.from_buffer(target))
    memmove = ctypes.memmove
    return lambda: memmove(where, source, length)


@proc_floor(cases=[{"size": size} for size in ("64K", "8M", "80M")], quick=[{"size": "80M"}],
            unit="ms/copy")
def floor_bytes(lib: SimpleNamespace, meter: Meter, *, size: str) -> Sample:
    """memcpy into reused shared memory, then a new bytes object of it; median ms.

    What a bytes object costs that goes through shared memory, one copy after the other.
    The bytes object is dropped outside of the time; the C library decides whether the next
    one gets its pages or fresh ones.
    """
    length = size_of(size)
    sources = _sources(length)
    target = _memory(length)
    copies = [_copier(target, source, length) for source in sources]

    def there_and_out(turn: int) -> bytes:
        copies[turn % STAMPS]()
        return target[:length]

    return meter.move(there_and_out, lambda turn, got: _check_copy(
        got, sources[turn % STAMPS], length))


@proc_floor(cases=[{"n": 50}], unit="ms/process")
def floor_proc_fork(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """os.fork(), the child leaves at once, os.waitpid(); ms."""
    def body(some: range) -> int:
        good = 0
        for _ in some:
            pid = os.fork()
            if pid == 0:
                os._exit(7)
            good += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        return good

    sample = meter.per_item(body, range(n), lambda got: got == n)
    sample.value /= 1e3
    return sample


@proc_floor(cases=[{"n": 30}], quick=[{"n": 15}], unit="ms/pool")
def floor_proc_start(lib: SimpleNamespace, meter: Meter, *, n: int) -> Sample:
    """Start two forked multiprocessing.Process, until one has written a byte; median ms.

    No pool whose workers are these can give its first result sooner.
    """
    context = multiprocessing.get_context("fork")
    reader, writer = os.pipe()
    walls = []
    for _ in range(n + 1):      # the first one warms up
        start = time.perf_counter()
        pair = [context.Process(target=os.write, args=(writer, b"x")) for _ in range(2)]
        for process in pair:
            process.start()
        got = os.read(reader, 1)
        walls.append(time.perf_counter() - start)
        verify(got + os.read(reader, 1) == b"xx", "wrong bytes")
        for process in pair:
            process.join()
    os.close(reader)
    os.close(writer)
    wall = median(walls[1:])
    return Sample(value=wall * 1e3, wall=wall * 1e6, items=n)
