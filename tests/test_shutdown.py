"""shutdown(), the with block, and executors that are dropped."""
import threading
import time

import pytest
from testkit import GUARD, add, eventually, ours, parked

AFTER = "^cannot schedule new futures after shutdown$"


def test_waits_for_everything_submitted(cf):
    executor = cf.ThreadPoolExecutor(2)
    futures = [executor.submit(time.sleep, 0.001) for _ in range(20)]
    assert executor.shutdown() is None
    assert all(f.done() and not f.cancelled() for f in futures)
    assert not any(t.is_alive() for t in executor._threads)


def test_submit_afterwards_is_refused(pool):
    executor = pool(1)
    executor.submit(int).result(GUARD)
    for wait in (False, True):
        executor.shutdown(wait=wait)
        with pytest.raises(RuntimeError, match=AFTER):
            executor.submit(int)


def test_shutdown_of_a_pool_that_was_never_used(pool):
    executor = pool(1)
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match=AFTER):
        executor.submit(int)


@pytest.mark.parametrize("wait", [0, None, "", []])
def test_wait_is_taken_for_its_truth(pool, gate, wait):
    go = gate()
    executor = pool(1)
    future = executor.submit(go.wait, GUARD)
    executor.shutdown(wait)
    assert not future.done()
    go.set()
    assert future.result(GUARD)


def test_without_waiting_the_work_goes_on(pool, gate):
    go = gate()
    executor = pool(1)
    futures = [executor.submit(go.wait, GUARD)] + [executor.submit(add, n) for n in range(9)]
    executor.shutdown(wait=False)
    assert not any(f.done() for f in futures)
    go.set()
    assert [f.result(GUARD) for f in futures[1:]] == list(range(1, 10))
    assert eventually(lambda: not any(t.is_alive() for t in executor._threads))


def test_twice_the_second_time_waiting(pool, gate):
    go = gate()
    executor = pool(1)
    future = executor.submit(go.wait, GUARD)
    executor.shutdown(wait=False)
    threading.Timer(0.01, go.set).start()
    executor.shutdown(wait=True)
    assert future.done()
    executor.shutdown()


def test_from_several_threads_at_once(pool, gate):
    go = gate()
    executor = pool(2)
    futures = [executor.submit(go.wait, GUARD) for _ in range(4)]
    threads = [threading.Thread(target=executor.shutdown) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert parked(threads[0])
    go.set()
    for thread in threads:
        thread.join(GUARD)
        assert not thread.is_alive()
    assert all(f.done() for f in futures)


def test_cancel_futures_cancels_what_has_not_begun(pool, gate):
    go, begun = gate(), gate()
    executor = pool(1)
    running = executor.submit(lambda: begun.set() or go.wait(GUARD))
    queued = [executor.submit(add, n) for n in range(10)]
    assert begun.wait(GUARD)
    called = []
    queued[4].add_done_callback(called.append)
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(f.cancelled() for f in queued)
    assert called == [queued[4]]
    assert running.running()
    go.set()
    assert running.result(GUARD) is True


def test_cancel_futures_and_wait(pool, gate):
    go, begun = gate(), gate()
    executor = pool(1)
    running = executor.submit(lambda: begun.set() or go.wait(GUARD))
    queued = [executor.submit(add, n) for n in range(10)]
    assert begun.wait(GUARD)
    queued[0].add_done_callback(lambda f: go.set())
    executor.shutdown(wait=True, cancel_futures=True)
    assert running.result(0) is True
    assert all(f.cancelled() for f in queued)


def test_cancel_futures_in_a_second_shutdown(pool, gate):
    go, begun = gate(), gate()
    executor = pool(1)
    executor.submit(lambda: begun.set() or go.wait(GUARD))
    queued = executor.submit(add, 1)
    assert begun.wait(GUARD)
    executor.shutdown(wait=False)
    assert not queued.cancelled()
    executor.shutdown(wait=False, cancel_futures=True)
    assert queued.cancelled()


def test_cancel_futures_leaves_finished_ones_alone(pool):
    executor = pool(1)
    future = executor.submit(add, 1)
    assert future.result(GUARD) == 2
    executor.shutdown(cancel_futures=True)
    assert future.result() == 2 and not future.cancelled()


def test_callback_of_a_cancelled_future_may_look_at_the_pool(pool, gate):
    """Callbacks run with none of the pool's locks held."""
    go, begun, seen = gate(), gate(), []
    executor = pool(1)
    executor.submit(lambda: begun.set() or go.wait(GUARD))
    queued = [executor.submit(add, 1) for _ in range(3)]
    assert begun.wait(GUARD)

    def look(future):
        seen.append((executor._work_queue.qsize() >= 0, len(executor._threads)))
        for other in queued:
            other.cancel()

    queued[0].add_done_callback(look)
    executor.shutdown(wait=False, cancel_futures=True)
    assert seen == [(True, 1)]


@ours("there a callback that submits during shutdown(cancel_futures=True) deadlocks")
def test_callback_of_a_cancelled_future_may_submit(pool, gate):
    go, begun, seen = gate(), gate(), []
    executor = pool(1)
    executor.submit(lambda: begun.set() or go.wait(GUARD))
    queued = executor.submit(add, 1)
    assert begun.wait(GUARD)

    def again(future):
        try:
            executor.submit(add, 1)
        except RuntimeError as error:
            seen.append(str(error))

    queued.add_done_callback(again)
    executor.shutdown(wait=False, cancel_futures=True)
    assert seen == ["cannot schedule new futures after shutdown"]


@ours("nobody notifies them there")
def test_cancelled_by_shutdown_is_cancelled_and_notified(pool, gate):
    go, begun = gate(), gate()
    executor = pool(1)
    executor.submit(lambda: begun.set() or go.wait(GUARD))
    queued = executor.submit(add, 1)
    earlier = executor.submit(add, 1)
    earlier.cancel()
    assert begun.wait(GUARD)
    executor.shutdown(wait=False, cancel_futures=True)
    assert queued._state == earlier._state == "CANCELLED_AND_NOTIFIED"


def test_from_inside_a_task(pool):
    executor = pool(1)
    first = executor.submit(executor.shutdown, wait=False)
    assert first.result(GUARD) is None
    with pytest.raises(RuntimeError, match=AFTER):
        executor.submit(int)


def test_waiting_shutdown_from_inside_a_task_is_an_error(pool):
    executor = pool(1)
    error = executor.submit(executor.shutdown).exception(GUARD)
    assert isinstance(error, RuntimeError)
    assert str(error) == "cannot join current thread"


def test_task_that_submits_after_shutdown_is_refused(pool, gate):
    go = gate()
    executor = pool(1)
    future = executor.submit(lambda: go.wait(GUARD) and executor.submit(int))
    executor.shutdown(wait=False)
    go.set()
    assert isinstance(future.exception(GUARD), RuntimeError)


def test_cancel_after_shutdown(pool, gate):
    go, begun = gate(), gate()
    executor = pool(1)
    executor.submit(lambda: begun.set() or go.wait(GUARD))
    queued = executor.submit(add, 1)
    assert begun.wait(GUARD)
    executor.shutdown(wait=False)
    assert queued.cancel()
    go.set()
    executor.shutdown()
    assert queued.cancelled()


# --- the with block ---------------------------------------------------------------------

def test_with_block_waits(cf):
    with cf.ThreadPoolExecutor(2) as executor:
        futures = [executor.submit(time.sleep, 0.001) for _ in range(10)]
    assert all(f.done() for f in futures)
    with pytest.raises(RuntimeError, match=AFTER):
        executor.submit(int)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, GeneratorExit])
def test_with_block_left_by_an_exception_waits_all_the_same(cf, kind):
    with pytest.raises(kind):
        with cf.ThreadPoolExecutor(1) as executor:
            futures = [executor.submit(time.sleep, 0.001) for _ in range(10)]
            raise kind("out")
    assert all(f.done() and not f.cancelled() for f in futures)


@ours("there it waits for every task that was queued")
def test_with_block_left_by_keyboard_interrupt_cancels_and_does_not_wait(cf, gate):
    go, begun = gate(), gate()
    with pytest.raises(KeyboardInterrupt):
        with cf.ThreadPoolExecutor(1) as executor:
            running = executor.submit(lambda: begun.set() or go.wait(GUARD))
            queued = [executor.submit(add, n) for n in range(10)]
            assert begun.wait(GUARD)
            raise KeyboardInterrupt
    assert running.running()
    assert all(f.cancelled() for f in queued)
    go.set()
    assert running.result(GUARD) is True
    executor.shutdown()


def test_with_block_of_a_pool_already_shut_down(cf):
    with cf.ThreadPoolExecutor(1) as executor:
        executor.submit(int)
        executor.shutdown()


def test_with_block_calls_shutdown_of_a_subclass(cf):
    class Mine(cf.ThreadPoolExecutor):
        calls = []

        def shutdown(self, wait=True, **options):
            self.calls.append(wait)
            super().shutdown(wait, **options)

    with Mine(1) as executor:
        executor.submit(int)
    assert executor.calls == [True]


def test_with_block_entered_twice(cf):
    executor = cf.ThreadPoolExecutor(1)
    with executor as first:
        with executor as second:
            assert first is second is executor
        with pytest.raises(RuntimeError, match=AFTER):
            executor.submit(int)


# --- dropped executors ------------------------------------------------------------------

def test_queued_work_of_a_dropped_executor_is_done(cf, gate):
    go = gate()
    executor = cf.ThreadPoolExecutor(2)
    futures = [executor.submit(go.wait, GUARD) for _ in range(2)]
    futures += [executor.submit(add, n) for n in range(20)]
    threads = list(executor._threads)
    del executor
    go.set()
    assert [f.result(GUARD) for f in futures[2:]] == list(range(1, 21))
    for thread in threads:
        thread.join(GUARD)
        assert not thread.is_alive()


def test_threads_of_a_dropped_idle_executor_end(cf):
    executor = cf.ThreadPoolExecutor(4)
    meeting = threading.Barrier(4)
    cf.wait([executor.submit(meeting.wait, GUARD) for _ in range(4)])
    threads = list(executor._threads)
    assert all(parked(t) for t in threads)
    del executor
    for thread in threads:
        thread.join(GUARD)
        assert not thread.is_alive()


def test_idle_threads_end_at_shutdown_without_waiting(cf):
    executor = cf.ThreadPoolExecutor(4)
    meeting = threading.Barrier(4)
    cf.wait([executor.submit(meeting.wait, GUARD) for _ in range(4)])
    assert all(parked(t) for t in executor._threads)
    executor.shutdown(wait=False)
    assert eventually(lambda: not any(t.is_alive() for t in executor._threads))


def test_hundreds_of_short_lived_pools(cf):
    for number in range(200):
        with cf.ThreadPoolExecutor(1 + number % 4) as executor:
            futures = [executor.submit(add, n) for n in range(number % 7)]
        assert [f.result(0) for f in futures] == list(range(1, 1 + number % 7))
