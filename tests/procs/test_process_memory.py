"""Shared memory is used again, and goes back to the system; a pool at rest does nothing."""
import gc
import os
import time

import proc_tasks as tasks
import pytest
from prockit import run_program
from testkit import GUARD, eventually, ours

MIB = 1 << 20
SHARED = ours("there is no shared memory")


def blob(size, seed=1):
    """A bytearray that is not all zeros (those need no pages)."""
    return bytearray(bytes([seed % 255 + 1])) * size


def shrinks(used_memory, limit):
    """Whether there is less than that, given time."""
    return eventually(lambda: gc.collect() is not None and used_memory() < limit)


@SHARED
def test_results_that_are_dropped_are_used_again(cf, procs, used_memory):
    executor = procs(1)
    for seed in range(100):
        result = executor.submit(blob, 8 * MIB, seed).result(GUARD)
        assert result[0] == seed + 1
        del result
    # 800 MiB went by.
    assert used_memory() < 100 * MIB


@SHARED
def test_arguments_are_used_again(cf, procs, used_memory):
    executor = procs(1)
    data = blob(8 * MIB)
    for _ in range(100):
        assert executor.submit(len, data).result(GUARD) == len(data)
    assert used_memory() < 100 * MIB


@SHARED
def test_memory_returns_after_a_burst_of_results(cf, procs, used_memory):
    executor = procs(2)
    results = [f.result(GUARD) for f in
               [executor.submit(blob, 8 * MIB, n) for n in range(30)]]
    data = sum(map(len, results))
    # Whatever lies in shared memory is there as long as it is needed.
    assert [result[-1] for result in results] == [n + 1 for n in range(30)]
    del results
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
    assert shrinks(used_memory, data / 3), used_memory()
    assert executor.submit(blob, 8 * MIB).result(GUARD) == blob(8 * MIB)


@SHARED
def test_memory_returns_after_a_burst_of_arguments(cf, procs, door, used_memory):
    executor, gate = procs(1), door()
    executor.submit(tasks.wait_at, gate.path)
    gate.entered()
    data = blob(8 * MIB)
    futures = [executor.submit(len, data) for _ in range(30)]
    gate.open()
    assert [f.result(GUARD) for f in futures] == [len(data)] * 30
    del futures
    assert shrinks(used_memory, 80 * MIB), used_memory()


@SHARED
def test_memory_returns_after_a_burst_of_small_tasks(cf, procs, door, used_memory):
    executor, gate = procs(1), door()
    executor.submit(tasks.wait_at, gate.path)
    gate.entered()
    futures = [executor.submit(tasks.echo, {"text": "x" * 2000}) for _ in range(20_000)]
    peak = used_memory()
    assert peak > 30 * MIB
    gate.open()
    assert sum(len(f.result(GUARD)["text"]) for f in futures) == 20_000 * 2000
    del futures
    assert shrinks(used_memory, peak / 2), (peak, used_memory())


@SHARED
def test_what_a_worker_keeps_is_kept_and_then_given_back(cf, procs, used_memory):
    executor = procs(1)
    for seed in range(10):
        executor.submit(tasks.keep, blob(8 * MIB, seed)).result(GUARD)
    checksums = executor.submit(tasks.look_at_kept).result(GUARD)
    assert len(set(checksums)) == 10
    for _ in range(10):
        executor.submit(len, blob(8 * MIB, 99)).result(GUARD)
    assert executor.submit(tasks.look_at_kept).result(GUARD) == checksums
    executor.submit(tasks.drop_kept).result(GUARD)
    for _ in range(10):
        executor.submit(len, blob(8 * MIB, 99)).result(GUARD)
    assert shrinks(used_memory, 80 * MIB), used_memory()


@SHARED
def test_cancelled_arguments_are_given_back(cf, procs, door, used_memory):
    executor, gate = procs(1), door()
    executor.submit(tasks.wait_at, gate.path)
    gate.entered()
    for _ in range(30):
        assert executor.submit(len, blob(8 * MIB)).cancel()
    assert shrinks(used_memory, 100 * MIB), used_memory()
    gate.open()


@SHARED
@pytest.mark.timeout(180)
@pytest.mark.parametrize("limit", [256, 512], ids=lambda limit: f"{limit} MiB to spare")
def test_little_address_space(cf, method, limit):
    """There is less room than is wanted: what does not fit goes another way."""
    run_program(f"""
import resource
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + {limit} * 2**20, resource.RLIM_INFINITY))
with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
    for size in (1, 10**5, 10**6, 10**7):
        data = bytearray(b"x") * size
        kept = [executor.submit(tasks.echo, data).result(GUARD) for _ in range(3)]
        assert all(k == data for k in kept)
    futures = [executor.submit(tasks.add, n) for n in range(5000)]
    assert [f.result(GUARD) for f in futures] == list(range(1, 5001))
""", method=method)


@SHARED
def test_arena_full(cf, method):
    """Results are held until there is no more room for others: those are ordinary ones."""
    run_program("""
import resource
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 700 * 2**20, resource.RLIM_INFINITY))
with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
    data = [bytearray([n]) * 2**20 for n in range(100)]
    kept = [executor.submit(tasks.echo, d).result(GUARD) for d in data]
    assert kept == data
    futures = [executor.submit(tasks.echo, d) for d in data]
    assert [f.result(GUARD) for f in futures] == data
    assert kept == data
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
""", method=method, limit=60)


def test_a_pool_at_rest_uses_no_processor(procs):
    """Neither in the workers nor here; after work, when whatever spins has stopped."""
    executor = procs(2)
    assert sum(executor.map(tasks.add, range(200))) == sum(range(1, 201))
    time.sleep(0.3)
    before = cpu_seconds(executor)
    time.sleep(1)
    assert cpu_seconds(executor) - before < 0.2


def cpu_seconds(executor):
    ticks = 0
    for pid in [os.getpid(), *executor._processes]:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
