"""Random work from several threads on several pools: nothing is lost, nothing twice."""
import collections
import itertools
import logging
import threading
import time

import pytest
from testkit import GUARD, add, in_threads, ours


class Count:
    """Counts calls, from any thread."""

    def __init__(self):
        self.numbers = collections.deque()

    def __call__(self, future):
        self.numbers.append(None)

    def __len__(self):
        return len(self.numbers)


def pause(rng):
    """Nothing, a few microseconds awake, or asleep for a while."""
    kind = rng.random()
    if kind < 0.5:
        return
    if kind < 0.9:
        end = time.perf_counter() + rng.choice((1e-6, 5e-6, 2e-5, 5e-5, 1e-4, 3e-4))
        while time.perf_counter() < end:
            pass
    else:
        time.sleep(rng.choice((0, 1e-5, 1e-4, 1e-3)))


def failing(n):
    raise ValueError(n)


def test_random_work(cf, rng, stress_seconds):
    """Submits, cancels, waits, callbacks and as_completed from four threads at once."""
    pools = [cf.ThreadPoolExecutor(rng.randint(1, 8)) for _ in range(3)]
    end = time.monotonic() + stress_seconds

    def player(rng):
        def work():
            while time.monotonic() < end:
                play(rng)
        return work

    def play(rng):
        pool = rng.choice(pools)
        count, futures, expected = Count(), [], []
        for n in range(rng.choice((1, 1, 2, 5, 30, 200))):
            kind = rng.randrange(6)
            if kind == 0:
                future, value = pool.submit(int, str(n)), n
            elif kind == 1:
                future, value = pool.submit(add, n, b=2), n + 2
            elif kind == 2:
                future, value = pool.submit(failing, n), ValueError
            elif kind == 3:
                future, value = pool.submit(dict, a=n), {"a": n}
            elif kind == 4:
                future, value = pool.submit(time.sleep, 0), None
            else:
                future, value = pool.submit(max, n, 1, 2, 3, 4), max(n, 4)
            futures.append(future)
            expected.append(value)
            if rng.random() < 0.3:
                future.add_done_callback(count)
                expected[-1] = (value,)
            if rng.random() < 0.1:
                pause(rng)
        cancelled = {f for f in futures if rng.random() < 0.1 and f.cancel()}
        settle(rng, futures)
        for future, value in zip(futures, expected, strict=True):
            if isinstance(value, tuple):
                (value,) = value
            if future in cancelled:
                assert future.cancelled()
            elif value is ValueError:
                assert isinstance(future.exception(GUARD), ValueError)
            else:
                assert future.result(GUARD) == value
        called = sum(isinstance(value, tuple) for value in expected)
        # A worker wakes those who wait before it calls back.
        deadline = time.monotonic() + GUARD
        while len(count) < called and time.monotonic() < deadline:
            time.sleep(0)
        assert len(count) == called

    def settle(rng, futures):
        how = rng.randrange(5)
        if how == 0:
            assert cf.wait(futures, GUARD).not_done == set()
        elif how == 1:
            assert set(cf.as_completed(futures, GUARD)) == set(futures)
        elif how == 2:
            left = set(futures)
            while left:
                done, left = cf.wait(left, GUARD, cf.FIRST_COMPLETED)
                assert done
        elif how == 3:
            cf.wait(futures, GUARD, cf.FIRST_EXCEPTION)
        else:
            pause(rng)

    seeds = [type(rng)(rng.random()) for _ in range(4)]
    try:
        in_threads([player(seed) for seed in seeds])
    finally:
        for pool in pools:
            pool.shutdown()
    assert all(p._work_queue.qsize() <= 1 for p in pools)


def test_one_at_a_time_with_pauses(cf, rng, stress_seconds):
    """The worker is caught going to sleep, asleep and spinning: no wake-up may be lost."""
    end = time.monotonic() + stress_seconds
    with cf.ThreadPoolExecutor(1) as executor:
        for n in itertools.count():
            assert executor.submit(add, n).result(GUARD) == n + 1
            if time.monotonic() > end:
                break
            pause(rng)
    assert len(executor._threads) == 1


def test_bursts_with_pauses(cf, rng, stress_seconds):
    """Tasks that need all workers at once: each burst must wake every one of them."""
    size = rng.randint(2, 4)
    meeting = threading.Barrier(size)
    end = time.monotonic() + stress_seconds
    with cf.ThreadPoolExecutor(size) as executor:
        while time.monotonic() < end:
            futures = [executor.submit(meeting.wait, GUARD) for _ in range(size)]
            assert sorted(f.result(GUARD) for f in futures) == list(range(size))
            pause(rng)


def test_new_pools_that_need_every_thread(cf, rng, stress_seconds):
    """Growing: an idle worker that has just taken a task does not count as idle."""
    end = time.monotonic() + stress_seconds
    while time.monotonic() < end:
        size = rng.randint(2, 4)
        meeting = threading.Barrier(size)
        with cf.ThreadPoolExecutor(size) as executor:
            for _ in range(rng.randrange(3)):
                executor.submit(int).result(GUARD)
                pause(rng)
            futures = [executor.submit(meeting.wait, GUARD) for _ in range(size)]
            assert sorted(f.result(GUARD) for f in futures) == list(range(size))


def test_producers_outnumber_workers(cf, rng, stress_seconds):
    end = time.monotonic() + stress_seconds
    with cf.ThreadPoolExecutor(rng.randint(1, 3)) as executor:
        def produce():
            while time.monotonic() < end:
                for future in [executor.submit(int, "4") for _ in range(20)]:
                    assert future.result(GUARD) == 4
        in_threads([produce] * 6)


@pytest.mark.parametrize("callable_kind", ["python", "builtin"])
def test_order_of_one_worker(cf, rng, stress_seconds, callable_kind):
    """First in, first out, for each thread that submits."""
    seen, count = [], itertools.count()
    end = time.monotonic() + stress_seconds
    with cf.ThreadPoolExecutor(1) as executor:
        task = seen.append if callable_kind == "builtin" else (lambda item: seen.append(item))

        def produce(rng):
            def work():
                me = next(count)
                for n in itertools.count():
                    executor.submit(task, (me, n))
                    if rng.random() < 0.01:
                        pause(rng)
                    if n % 100 == 0 and time.monotonic() > end:
                        return
            return work

        in_threads([produce(type(rng)(rng.random())) for _ in range(3)])
    latest = {}
    for me, n in seen:
        assert n == latest.get(me, -1) + 1
        latest[me] = n


def test_pools_come_and_go(cf, rng, stress_seconds):
    """Created, used, shut down in every way, or dropped, from two threads."""
    end = time.monotonic() + stress_seconds
    ran, submitted = collections.deque(), collections.deque()

    def live(rng):
        def work():
            while time.monotonic() < end:
                executor = cf.ThreadPoolExecutor(rng.randint(1, 4))
                futures = [executor.submit(ran.append, 0) for _ in range(rng.randrange(6))]
                pause(rng)
                how = rng.randrange(4)
                if how == 0:
                    executor.shutdown()
                    assert all(f.done() for f in futures)
                elif how == 1:
                    executor.shutdown(wait=False)
                elif how == 2:
                    executor.shutdown(wait=bool(rng.randrange(2)), cancel_futures=True)
                del executor
                submitted.extend(f for f in futures if not f.cancelled())
        return work

    in_threads([live(type(rng)(rng.random())) for _ in range(2)])
    for future in submitted:
        assert future.exception(GUARD) is None
    assert len(ran) == len(submitted)


def test_shutdown_races_with_submit(cf, rng, stress_seconds):
    """A future that submit() returned is done or cancelled in the end, never forgotten."""
    end = time.monotonic() + stress_seconds
    while time.monotonic() < end:
        executor = cf.ThreadPoolExecutor(rng.randint(1, 3))
        cancel = bool(rng.randrange(2))
        for future in submit_until_closed(executor, cancel, type(rng)(rng.random())):
            try:
                assert future.result(GUARD) == 0
            except cf.CancelledError:
                assert cancel


def submit_until_closed(executor, cancel, rng):
    """The futures that two threads got while a third one shut the pool down."""
    futures, begin = collections.deque(), threading.Barrier(3)

    def submit():
        begin.wait(GUARD)
        try:
            while True:
                futures.append(executor.submit(int))
        except RuntimeError as error:
            assert "shutdown" in str(error)

    def close():
        begin.wait(GUARD)
        pause(rng)
        executor.shutdown(wait=True, cancel_futures=cancel)
        left.extend(t.name for t in list(executor._threads) if t.is_alive())

    left = []
    in_threads([submit, submit, close])
    left.extend(t.name for t in executor._threads if t.is_alive())
    assert not left, "threads that shutdown() did not wait for"
    return futures


def test_dropping_races_with_work(cf, rng, stress_seconds):
    """Futures outlive executors, executors outlive futures."""
    end = time.monotonic() + stress_seconds
    while time.monotonic() < end:
        executor = cf.ThreadPoolExecutor(2)
        keep = [executor.submit(add, n) for n in range(rng.randrange(10))]
        for _ in range(rng.randrange(10)):
            executor.submit(object)
        if rng.randrange(2):
            pause(rng)
        del executor
        assert [f.result(GUARD) for f in keep] == list(range(1, 1 + len(keep)))


def test_map_from_several_threads(cf, rng, stress_seconds):
    end = time.monotonic() + stress_seconds
    with cf.ThreadPoolExecutor(3) as executor:
        def work(rng):
            def loop():
                while time.monotonic() < end:
                    n = rng.randrange(60)
                    results = executor.map(add, range(n))
                    if rng.randrange(3) and n:
                        # Left in the middle: what is not begun is cancelled.
                        for _ in itertools.islice(results, rng.randrange(n)):
                            pass
                        results.close()
                    else:
                        assert list(results) == list(range(1, n + 1))
            return loop
        in_threads([work(type(rng)(rng.random())) for _ in range(3)])
        assert executor.submit(int, "5").result(GUARD) == 5


@ours("there a worker dies of a future that was settled behind its back")
@pytest.mark.parametrize("how", ["set_result", "set_exception", "cancel"])
def test_futures_settled_behind_the_pools_back(cf, stress_seconds, how, caplog):
    """The task runs or it does not; function and arguments are freed once either way."""
    caplog.set_level(logging.CRITICAL + 1, logger="concurrent.futures")

    class Function:
        def __call__(self, *args):
            return len(args)

    def settle(future):
        try:
            if how == "set_result":
                future.set_result("settled")
            elif how == "set_exception":
                future.set_exception(LookupError())
            else:
                future.cancel()
        except cf.InvalidStateError:
            pass

    end = time.monotonic() + stress_seconds
    with cf.ThreadPoolExecutor(2) as executor:
        while time.monotonic() < end:
            futures = []
            for _ in range(20):
                futures.append(executor.submit(Function(), [1], [2], [3], [4], [5]))
                settle(futures[-1])
            for future in futures:
                try:
                    assert future.result(GUARD) in (5, "settled")
                except (LookupError, cf.CancelledError):
                    assert how != "set_result"
        assert executor.submit(add, 1).result(GUARD) == 2
