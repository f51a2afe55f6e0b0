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
    # The last one: the worker would begin one that is left.
    queued[-1].add_done_callback(lambda f: go.set())
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


# --- while a thread is being started ----------------------------------------------------

@pytest.fixture(params=["__init__", "start"])
def at_start(request, monkeypatch):
    """Have a function called whenever a thread of a pool "P" is being made or started."""
    original = getattr(threading.Thread, request.param)

    def set_function(function):
        def step(thread, *args, **options):
            name = thread.name if request.param == "start" else options.get("name")
            if name and name.startswith("P_"):
                function()
            original(thread, *args, **options)
        monkeypatch.setattr(threading.Thread, request.param, step)
    return set_function


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_waits_for_a_thread_that_a_submit_is_starting(pool, gate, at_start):
    go, reached, futures, left = gate(), gate(), [], []
    executor = pool(1, "P")
    at_start(lambda: reached.set() or go.wait(GUARD))

    def close():
        executor.shutdown()
        left.extend(f for f in futures if not f.done())
        left.extend(t for t in executor._threads if t.is_alive())
        left.append("closed")

    submitter = in_thread(lambda: futures.append(executor.submit(int)))
    assert reached.wait(GUARD)
    closer = in_thread(close)
    assert parked(closer)
    assert left == []
    go.set()
    closer.join(GUARD)
    submitter.join(GUARD)
    assert left == ["closed"]
    # It may have been refused: then its submit() raised.
    assert len(futures) <= 1 and len(executor._threads) == 1


@ours("there submit() waits for the other one to start its thread")
@pytest.mark.parametrize("fails", [False, True])
def test_waits_for_what_relies_on_a_thread_that_is_being_started(
        pool, gate, at_start, fails):
    """The pool is full with a thread that is not there yet, and may never be."""
    go, reached, outcomes = gate(), gate(), []
    executor = pool(1, "P")

    def slow():
        reached.set()
        go.wait(GUARD)
        if fails:
            raise RuntimeError("no more threads")

    def submit():
        try:
            executor.submit(int)
        except RuntimeError as error:
            outcomes.append(str(error))

    def close():
        executor.shutdown()
        outcomes.append(future.done())

    at_start(slow)
    submitter = in_thread(submit)
    assert reached.wait(GUARD)
    future = executor.submit(add, 1)
    closer = in_thread(close)
    assert parked(closer)
    assert outcomes == []
    go.set()
    closer.join(GUARD)
    submitter.join(GUARD)
    if fails:
        assert sorted(map(str, outcomes)) == ["True", "no more threads"]
        assert str(future.exception(0)) == "no more threads"
    else:
        assert True in outcomes
        assert future.result(0) == 2


@ours("there it deadlocks")
@pytest.mark.parametrize("number", [1, 2])
def test_from_a_signal_handler_or_finalizer_while_threads_are_started(
        pool, at_start, number):
    """It does not wait for itself, nor do two of them for each other."""
    executor = pool(2, "P")
    together = threading.Barrier(number)
    at_start(lambda: together.wait(GUARD) is not None and executor.shutdown())
    refused = []

    def submit():
        try:
            executor.submit(int)
        except RuntimeError as error:
            refused.append(str(error))

    threads = [in_thread(submit) for _ in range(number)]
    for thread in threads:
        thread.join(GUARD)
        assert not thread.is_alive()
    assert all("after shutdown" in text for text in refused)
    executor.shutdown()
    assert not any(t.is_alive() for t in executor._threads)


@ours("it is a method of ours")
def test_a_subclass_that_starts_no_threads_is_shut_down(cf):
    class Still(cf.ThreadPoolExecutor):
        def _spawn(self, number):
            return True

    executor = Still(1)
    future = executor.submit(int)
    executor.shutdown()
    assert not future.done()
    executor.shutdown(cancel_futures=True)
    assert future.cancelled()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError])
def test_a_thread_that_was_not_made_does_not_count(pool, monkeypatch, kind):
    """Ctrl-C before start(): the next submit() starts a thread."""
    executor = pool(1)

    def interrupted(*args, **kwargs):
        raise kind

    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "__init__", interrupted)
        with pytest.raises(kind):
            executor.submit(int)
    assert executor.submit(add, 1).result(GUARD) == 2
    assert len(executor._threads) == 1


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
