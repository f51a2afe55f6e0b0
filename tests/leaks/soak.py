"""A program that makes and ends pools of one kind, again and again, and says what it uses.

    python soak.py KIND LIFETIMES [METHOD]

KIND: a function below; METHOD: how processes are started.  Prints a JSON object: what the
process used after the first lifetimes ("before") and after the others ("after").
"""
import ctypes
import gc
import json
import multiprocessing
import os
import sys
import threading
import time

import cfutures

#: Lifetimes after which all is there that stays: imports, free lists, arenas of malloc.
WARM_UP = 10
GUARD = 60
PAYLOAD = bytes(200_000)


def add(a, b=1):
    return a + b


def boom(*args):
    raise ValueError("boom", *args)


def die():
    os._exit(1)


class Idle:
    """An initializer's owner."""

    def prepare(self):
        pass


class Owner(Idle):
    """Refers to its executor, and the executor to it."""

    def __init__(self, kind, *args, **options):
        self.executor = kind(*args, initializer=self.prepare, **options)

    def __reduce__(self):
        # Where the initializer is pickled: the executor cannot be.
        return Idle, ()


def use(executor):
    """Each of an executor's operations, with results, exceptions and what is cancelled."""
    futures = [executor.submit(add, n, b=2) for n in range(20)]
    futures += [executor.submit(boom, n) for n in range(3)]
    futures.append(executor.submit(len, PAYLOAD))
    futures.append(executor.submit(bytes, len(PAYLOAD)))
    futures[0].add_done_callback(lambda future: future.result())
    cfutures.wait(futures[:5], GUARD)
    assert len(list(cfutures.as_completed(futures, GUARD))) == len(futures)
    assert len(futures[-1].result()) == futures[-2].result()
    assert list(executor.map(add, range(30), chunksize=7)) == list(range(1, 31))
    for value in executor.map(add, range(30)):      # and left early
        if value == 5:
            break
    assert futures[21].exception() is not None
    for future in [executor.submit(time.sleep, 0) for _ in range(10)]:
        future.cancel()
    executor.submit(add, PAYLOAD, PAYLOAD)      # a result that nobody takes


def threads(method):
    owner = Owner(cfutures.ThreadPoolExecutor, 2)
    with owner.executor as executor:
        use(executor)
        # The standard library's view of a future, which is made when somebody looks.
        future = executor.submit(add, 1, 2)
        assert [future._condition, future._waiters, future._done_callbacks]
        assert future.result(GUARD) == 3


def processes(method):
    context = multiprocessing.get_context(method)
    owner = Owner(cfutures.ProcessPoolExecutor, 2, mp_context=context, on_crash="replace")
    with owner.executor as executor:
        use(executor)
        assert isinstance(executor.submit(die).exception(GUARD), cfutures.BrokenExecutor)
        scale = 3
        assert executor.submit(lambda n: n * scale, 2).result(GUARD) == 6


def pool(method):
    with cfutures.Pool(2, context=multiprocessing.get_context(method)) as pool:
        assert pool.map(add, range(20)) == list(range(1, 21))
        assert sorted(pool.imap_unordered(add, range(20))) == list(range(1, 21))
        assert pool.apply_async(len, (PAYLOAD,)).get(GUARD) == len(PAYLOAD)
        pool.map_async(boom, range(3)).wait(GUARD)


def queue(method):
    queue = cfutures.Queue()
    for item in (1, "text", PAYLOAD, [PAYLOAD, {"k": (1, 2)}]):
        queue.put(item)
        assert queue.get(timeout=GUARD) == item
    process = multiprocessing.get_context(method).Process(target=queue.put, args=(PAYLOAD,))
    process.start()
    assert queue.get(timeout=GUARD) == PAYLOAD
    process.join(GUARD)
    process.close()
    queue.put(PAYLOAD)          # and left in it


class _Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]


def malloced():
    """Bytes that were taken from malloc and not freed; 0 where glibc does not tell."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _Mallinfo
    info = mallinfo()
    return info.uordblks + info.hblkhd


def usage():
    """What this process has now."""
    gc.collect()
    with open("/proc/self/maps", encoding="utf-8") as file:
        mappings = file.read().splitlines()
    with open("/proc/self/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "python threads": threading.active_count(),
        "processes": len(multiprocessing.active_children()),
        "shared mappings": sum("/memfd:" in line or "/dev/shm" in line for line in mappings),
        "mappings": len(mappings),
        "objects": sys.getallocatedblocks(),
        "malloc": malloced(),
        "resident": resident,
    }


#: What has to be as it was; threads and processes that end may still be there for a moment.
EXACT = ("descriptors", "threads", "python threads", "processes", "shared mappings")


def is_settled(now):
    """No process of a pool runs, and no thread is on its way out (Python has forgotten it)."""
    return now["processes"] == 0 and now["threads"] == now["python threads"]


def at_rest(like=None):
    """usage(), when nothing is left that is about to end, or after GUARD seconds."""
    end = time.monotonic() + GUARD
    while True:
        now = usage()
        if is_settled(now) if like is None else all(now[key] <= like[key] for key in EXACT):
            return now
        if time.monotonic() > end:
            return now
        time.sleep(0.05)


def main(kind, lifetimes, method="fork"):
    live = globals()[kind]
    for _ in range(WARM_UP):
        live(method)
    before = at_rest()
    for _ in range(int(lifetimes)):
        live(method)
    print(json.dumps({"before": before, "after": at_rest(like=before)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
