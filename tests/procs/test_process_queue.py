"""What waits: in any number, cancelled exactly, behind nobody, dropped without a trace."""
import gc
import threading

import proc_tasks as tasks
import pytest
from testkit import GUARD, eventually, ours

SLOW = "the standard library does it too, in tens of seconds"
MIB = 1 << 20


def blocked(executor, door, count):
    """Have `count` tasks wait at a door; their futures."""
    gate = door()
    futures = [executor.submit(tasks.wait_at, gate.path, n) for n in range(count)]
    gate.entered(count)
    return gate, futures


# --- cancel -----------------------------------------------------------------------------

def test_cancel_what_has_not_begun(procs, door):
    executor = procs(2)
    gate, running = blocked(executor, door, 2)
    queued = [executor.submit(tasks.add, n) for n in range(50)]
    cancelled = [future for future in queued if future.cancel()]
    assert not any(future.cancel() for future in running)
    # A test of CPython's asks for as much.
    assert len(cancelled) > 20
    gate.open()
    for future in queued:
        if future in cancelled:
            assert future.cancelled() and future.done()
        else:
            assert future.result(GUARD)


@ours("there max_workers + 1 tasks are beyond recall before a worker has begun them")
def test_cancel_succeeds_until_a_worker_has_begun(cf, procs, door):
    executor = procs(2)
    gate = door()
    futures = [executor.submit(tasks.wait_at, gate.path, n) for n in range(50)]
    gate.entered(2)
    running = [future for future in futures if not future.cancel()]
    assert running == futures[:2]
    assert all(f.cancelled() and not f.running() for f in futures[2:])
    gate.open()
    assert [f.result(GUARD) for f in running] == [0, 1]
    assert cf.wait(futures, GUARD).not_done == set()
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
    assert gate.latecomers() == []


def test_cancelled_futures_tell_their_callbacks_once(procs, door):
    executor, called = procs(1), []
    gate, _ = blocked(executor, door, 1)
    queued = [executor.submit(tasks.add, n) for n in range(30)]
    for future in queued:
        future.add_done_callback(called.append)
    cancelled = [future for future in reversed(queued) if future.cancel()]
    assert called == cancelled and cancelled
    assert all(future.cancel() for future in cancelled)
    gate.open()
    assert eventually(lambda: len(called) == 30)
    assert sorted(map(id, called)) == sorted(map(id, queued))


def test_wait_for_cancelled_futures(cf, procs, door):
    """They are reported as done once the pool has passed over them."""
    executor = procs(1)
    gate, running = blocked(executor, door, 1)
    queued = [executor.submit(tasks.add, n) for n in range(30)]
    for future in queued:
        future.cancel()
    gate.open()
    assert cf.wait(running + queued, GUARD).not_done == set()
    assert set(cf.as_completed(queued, GUARD)) == set(queued)


def test_cancel_in_the_middle_of_the_queue(procs, door):
    executor = procs(1)
    gate, _ = blocked(executor, door, 1)
    queued = [executor.submit(tasks.add, n) for n in range(60)]
    cancelled = {n for n in range(10, 60, 3) if queued[n].cancel()}
    assert cancelled == set(range(10, 60, 3))
    gate.open()
    for n, future in enumerate(queued):
        if n in cancelled:
            assert future.cancelled()
        else:
            assert future.result(GUARD) == n + 1


def test_cancel_everything_again_and_again(procs, door):
    """Slots of cancelled tasks are used again."""
    executor = procs(1)
    gate, _ = blocked(executor, door, 1)
    for _ in range(20):
        futures = [executor.submit(tasks.add, n) for n in range(100)]
        assert sum(f.cancel() for f in futures) >= 95
    last = executor.submit(tasks.add, 1)
    gate.open()
    assert last.result(GUARD) == 2


def test_cancel_races_with_the_workers(shared):
    """Cancelled or done, never both, never neither."""
    for _ in range(30):
        futures = [shared.submit(tasks.add, n) for n in range(40)]
        cancelled = [f.cancel() for f in reversed(futures)][::-1]
        for n, future in enumerate(futures):
            if cancelled[n]:
                assert future.cancelled()
            else:
                assert future.result(GUARD) == n + 1


# --- many -------------------------------------------------------------------------------

def test_one_long_task_does_not_hold_up_short_ones(cf, procs, door):
    executor = procs(2)
    gate, (long,) = blocked(executor, door, 1)
    short = [executor.submit(tasks.add, n) for n in range(300)]
    assert cf.wait(short, GUARD).not_done == set()
    assert not long.done()
    gate.open()
    assert long.result(GUARD) == 0


def test_long_tasks_among_short_ones(cf, procs, door):
    """Wherever in the queue they stand, two of three workers blocked."""
    executor, gate = procs(3), door()
    long, short = [], []
    for n in range(200):
        short.append(executor.submit(tasks.add, n))
        if n in (50, 51):
            long.append(executor.submit(tasks.wait_at, gate.path))
    gate.entered(2)
    assert cf.wait(short, GUARD).not_done == set()
    assert not any(future.done() for future in long)
    gate.open()


def test_tasks_are_begun_in_order(procs, door):
    executor, gate = procs(1), door()
    futures = [executor.submit(tasks.wait_at, gate.path, n) for n in range(20)]
    gate.entered()
    gate.open()
    assert [f.result(GUARD) for f in futures] == list(range(20))
    assert [int(tag) for _, tag in gate.latecomers()] == list(range(1, 20))


def test_thousands_of_tasks(shared):
    futures = [shared.submit(tasks.add, n) for n in range(3000)]
    assert [f.result(GUARD) for f in futures] == list(range(1, 3001))


@ours(SLOW)
def test_two_hundred_thousand_queued_tasks(cf, procs, door):
    executor = procs(1)
    gate, _ = blocked(executor, door, 1)
    futures = [executor.submit(tasks.add, n) for n in range(200_000)]
    assert not futures[0].running() and not futures[-1].done()
    # Some from everywhere; the others are all done.
    cancelled = set(range(0, 200_000, 1000))
    assert all(futures[n].cancel() for n in cancelled)
    gate.open()
    for n, future in enumerate(futures):
        if n not in cancelled:
            assert future.result(GUARD) == n + 1


@ours(SLOW)
def test_many_queued_tasks_that_are_pickled(cf, procs, door):
    """Each of them has a message that does not fit in a slot."""
    executor = procs(1)
    gate, _ = blocked(executor, door, 1)
    futures = [executor.submit(tasks.echo, {"n": n, "text": "x" * 300}) for n in range(20_000)]
    gate.open()
    assert [f.result(GUARD)["n"] for f in futures] == list(range(20_000))


@ours(SLOW)
def test_shutdown_with_many_queued_tasks(cf, procs, door):
    executor = procs(1)
    gate, running = blocked(executor, door, 1)
    futures = [executor.submit(tasks.add, n) for n in range(50_000)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(f.cancelled() for f in futures)
    gate.open()
    assert running[0].result(GUARD) == 0


@ours("there the pool keeps nothing that a dropped future could leak")
def test_a_hundred_thousand_dropped_futures(cf, procs, used_memory):
    """Their slots and messages are used again."""
    executor = procs(2)
    used = []
    for _ in range(4):
        for n in range(25_000):
            executor.submit(tasks.add, n)
        assert executor.submit(tasks.add, 1).result(GUARD) == 2
        used.append(used_memory())
    # All at once they might need one slot each; afterwards no more than that again.
    assert used[3] <= used[0] + 8 * MIB


@ours("there the pool keeps nothing that a dropped future could leak")
def test_dropped_futures_with_large_results(cf, procs, used_memory):
    """300 MiB pass by unread; nothing of it stays."""
    executor = procs(2)
    for _ in range(300):
        executor.submit(bytes, MIB)
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
    gc.collect()
    assert eventually(lambda: used_memory() < 150 * MIB), used_memory()


@ours("there the pool keeps nothing that a dropped future could leak")
def test_futures_dropped_before_between_and_after(cf, procs, door):
    """Dropped while queued, while running, when done, when cancelled: all are forgotten."""
    executor = procs(1)
    gate, running = blocked(executor, door, 1)
    queued = [executor.submit(tasks.add, n) for n in range(100)]
    cancelled = [executor.submit(tasks.add, n) for n in range(100)]
    assert all(f.cancel() for f in cancelled)
    del queued, running, cancelled
    gc.collect()
    gate.open()
    finished = [executor.submit(tasks.add, n) for n in range(100)]
    assert finished[-1].result(GUARD) == 100
    del finished
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
    assert eventually(lambda: len(executor._pending_work_items) == 0)


def test_results_nobody_reads_do_not_keep_the_pool_from_ending(procs):
    executor = procs(2)
    for n in range(500):
        executor.submit(tasks.add, n)
    executor.shutdown()


@pytest.mark.parametrize("workers", [1, 3])
def test_submitting_while_workers_come_and_go_to_sleep(procs, workers):
    """Short bursts with pauses between: no task may wait for the next one."""
    executor = procs(workers)
    pause = threading.Event()
    for burst in range(60):
        futures = [executor.submit(tasks.add, n) for n in range(burst % 5 + 1)]
        assert [f.result(GUARD) for f in futures] == list(range(1, burst % 5 + 2))
        pause.wait(0.0005 * (burst % 7))
