"""Megabytes to a worker and back: what a transfer costs next to a memcpy."""
from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

from meter import STAMPS, Meter, Sample, Skip, verify
from registry import proc_row

from rows import proc_pool
from rows.tasks import echo

POOLS = 3       # fresh pools of which the first transfer is timed
# 64K is 64 KiB; 8M and 80M are megabytes, 8Mi are mebibytes.
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "K": 1 << 10, "M": 10**6}

WARM = [{"what": what, "way": way, "size": size} for what in ("bytes", "array")
        for way in ("argument", "result", "both") for size in ("64K", "8M", "80M")]
FIRST = [case for case in WARM if case["way"] != "both" and case["size"] != "64K"]


@proc_row(cases=WARM, unit="ms/transfer",
          quick=[case for case in FIRST if case["size"] == "80M"]
          + [{"what": "array", "way": "argument", "size": "8M"},
             {"what": "array", "way": "result", "size": "8M"}])
def proc_big(lib: SimpleNamespace, meter: Meter, *, what: str, way: str, size: str) -> Sample:
    """One bytes object or NumPy array to the one worker, from it, or both; median ms.

    In a pool that has moved as much before. The time is that of submit().result(); the
    result of the round before is freed outside of it. In each round the worker, or the
    caller, looks at the ends and the middle of what came, and at all of it at last.
    """
    payloads = _payloads(what, size)
    with proc_pool.make(lib, 1) as pool:
        transfer = _transfers(pool, what, size, payloads)[way]
        sample = meter.move(lambda turn: transfer(turn % STAMPS),
                            lambda turn, got: _check(way, got, payloads[turn % STAMPS]))
        _check_all(pool, way, transfer, payloads)
    return sample


@proc_row(cases=FIRST, unit="ms/transfer",
          quick=[case for case in FIRST if case["size"] == "80M" and case["way"] == "argument"])
def proc_big_first(lib: SimpleNamespace, meter: Meter, *, what: str, way: str,
                   size: str) -> Sample:
    """The first such transfer of a pool whose worker has run small tasks; median ms.

    Cold pages: none of the pool's memory has been touched. A fresh pool for each of three
    transfers. What is sent exists before the pool.
    """
    payloads = _payloads(what, size)
    walls = []
    cpu = 0.0
    for i in range(POOLS):
        with proc_pool.make(lib, 1) as pool:
            verify([pool.submit(echo, j).result() for j in range(50)] == list(range(50)),
                   "wrong result")
            transfer = _transfers(pool, what, size, payloads)[way]
            before = meter.cpu()
            start = time.perf_counter()
            got = transfer(i % STAMPS)
            walls.append(time.perf_counter() - start)
            cpu += meter.cpu() - before
            _check(way, got, payloads[i % STAMPS])
            if way == "result":
                verify(checksum(got) == checksum(payloads[i % STAMPS]), "damaged")
            del got
    wall = median(walls)
    return Sample(value=wall * 1e3, wall=wall * 1e6, cpu=cpu / POOLS * 1e6, items=POOLS)


def _payloads(what: str, size: str) -> list[Any]:
    return [payload(what, size_of(size), stamp) for stamp in range(STAMPS)]


def _transfers(pool: Any, what: str, size: str,
               payloads: list[Any]) -> dict[str, Callable[[int], Any]]:
    """By name of the way: a function of the stamp that does it and returns what came."""
    return {
        "argument": lambda stamp: pool.submit(look, payloads[stamp]).result(),
        "result": lambda stamp: pool.submit(payload, what, size_of(size), stamp).result(),
        "both": lambda stamp: pool.submit(echo, payloads[stamp]).result(),
    }


def _check(way: str, got: Any, sent: Any) -> None:
    verify((got if way == "argument" else look(got)) == look(sent), f"wrong {way}")


def _check_all(pool: Any, way: str, transfer: Callable[[int], Any],
               payloads: list[Any]) -> None:
    """Each byte, once; and that an array that came can be written to."""
    for stamp, sent in enumerate(payloads):
        right = checksum(sent)
        if way == "argument":
            verify(pool.submit(checksum, sent).result() == right, "damaged argument")
        else:
            got = transfer(stamp)
            verify(type(got) is type(sent) and checksum(got) == right, "damaged result")
            if not isinstance(got, bytes):
                got[0] = 5
                verify(got[0] == 5, "the array that came is not writable")


def size_of(size: str) -> int:
    """Bytes: "64K" is 64 KiB, "8M" is 8,000,000 bytes."""
    number = size.rstrip("KMi")
    return int(number) * UNITS[size[len(number):]]


@functools.cache
def payload(what: str, size: int, stamp: int) -> Any:
    """So many bytes, different for each stamp: bytes, or an array of float64.

    Kept in each process that asks for it: as a task, it costs no more than its result.
    """
    if what == "bytes":
        pattern = bytes((i + 17 * stamp) % 251 for i in range(251))
        return (pattern * (size // 251 + 1))[:size]
    try:
        import numpy
    except ImportError as why:
        raise Skip(str(why)) from why
    return numpy.arange(stamp, size // 8 + stamp, dtype="float64")


def look(data: Any) -> int:
    """A task that looks at both ends and the middle, whatever the size."""
    middle = len(data) // 2
    return len(data) + int(data[0]) + 3 * int(data[middle]) + 7 * int(data[-1])


def checksum(data: Any) -> int:
    """A task that looks at every byte."""
    return zlib.crc32(data)
