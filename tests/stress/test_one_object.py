"""Every public method of one future, one executor, one iterator, from many threads at once.

What they answer is checked as far as it does not depend on who was first; the rest of the test
is that nothing crashes, hangs, or is lost. Builds without a GIL are where this bites.
"""
import logging
import multiprocessing
import threading
import time

import pytest
from testkit import GUARD, add, ours

THREADS = 6


def hammer(rng, seconds, blows):
    """Call the functions of `blows`, each time a random one, from THREADS threads for a while.

    Each thread calls one at least. Raises the first exception of one.
    """
    end = time.monotonic() + seconds
    begin = threading.Barrier(THREADS)
    errors = []

    def work(rng):
        begin.wait(GUARD)
        try:
            while True:
                rng.choice(blows)()
                if errors or time.monotonic() > end:
                    return
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(type(rng)(rng.random()),))
               for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 2 * GUARD)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def test_one_future(cf, rng, stress_seconds, caplog):
    """All that can be asked of a future, while others are ending it."""
    # What is in an unexpected state for set_running_or_notify_cancel() is logged.
    caplog.set_level(logging.CRITICAL + 1, logger="concurrent.futures")
    end = time.monotonic() + stress_seconds
    while time.monotonic() < end:
        future, won, added, called = cf.Future(), [], [], []

        def ending(method, *args, future=future, won=won):
            def blow():
                try:
                    if getattr(future, method)(*args) is not False:
                        won.append(method)
                except cf.InvalidStateError:
                    pass
            return blow

        def ask(method, future=future):
            def blow():
                try:
                    getattr(future, method)(timeout=0)
                except (cf.TimeoutError, cf.CancelledError, LookupError):
                    pass
            return blow

        def claim(future=future):
            try:
                future.set_running_or_notify_cancel()
            except RuntimeError as error:
                assert "unexpected state" in str(error)

        def call_back(future=future, added=added, called=called):
            added.append(None)
            future.add_done_callback(called.append)

        def look(future=future):
            states = future.done(), future.running(), future.cancelled(), repr(future)
            assert states[1:3] != (True, True)
            if cf.implementation == "cfutures":
                future._repr_html_()

        def waiting(cf=cf, future=future):
            cf.wait([future], timeout=0)
            try:
                assert list(cf.as_completed([future], timeout=0)) == [future]
            except cf.TimeoutError:
                pass

        hammer(rng, min(0.1, stress_seconds), [
            look, claim, waiting, call_back, ask("result"), ask("exception"),
            ending("set_result", 1), ending("set_exception", LookupError()), ending("cancel")])
        if not future.done():
            ending("set_result", 1)()
        # cancel() is true again of what is cancelled.
        assert len(won) == 1 or set(won) <= {"cancel"}, won
        assert called == [future] * len(added)


def test_one_executor(cf, pool, rng, stress_seconds):
    """submit(), map(), and, on cfutures, what tells of it; then shutdown() from all at once."""
    executor = pool(3)
    submitted, ran = [], []     # lists, as itertools.count() loses some without a GIL

    def submit():
        submitted.append(executor.submit(ran.append, None))

    def submit_and_ask():
        assert executor.submit(add, 1, b=2).result(GUARD) == 3

    def submit_and_cancel():
        future = executor.submit(add, 1)
        assert future.cancel() or future.result(GUARD) == 2

    def map_all():
        assert list(executor.map(add, range(5))) == [1, 2, 3, 4, 5]

    def map_some():
        assert next(executor.map(add, range(5), timeout=GUARD)) == 1

    def tell():
        repr(executor), executor._work_queue.qsize(), len(executor._threads)
        if cf.implementation == "cfutures":
            executor._repr_html_()

    blows = [submit, submit_and_ask, submit_and_cancel, map_all, map_some, tell]
    hammer(rng, stress_seconds, blows)

    def close():
        executor.shutdown(wait=bool(rng.randrange(2)))

    def refused():
        try:
            submitted.append(executor.submit(ran.append, None))
        except RuntimeError as error:
            assert "shutdown" in str(error)

    hammer(rng, min(0.2, stress_seconds), [close, refused, tell])
    executor.shutdown()
    assert len(ran) == len(submitted)


@ours("it is about the engine; the standard library's process pools take long to do so much")
def test_one_process_executor(cf, rng, stress_seconds):
    """The same of a process pool, whose first submit() may come from any thread."""
    # Not fork: the threads of this test may hold locks, which a child would find taken.
    executor = cf.ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))

    def submit_and_ask():
        assert executor.submit(add, 1, b=2).result(GUARD) == 3

    def submit_and_cancel():
        future = executor.submit(add, 1)
        assert future.cancel() or future.result(GUARD) == 2

    def fail():
        assert isinstance(executor.submit(int, "x").exception(GUARD), ValueError)

    def map_all():
        assert list(executor.map(add, range(5), timeout=GUARD)) == [1, 2, 3, 4, 5]

    def map_chunks():
        assert list(executor.map(add, range(5), chunksize=2)) == [1, 2, 3, 4, 5]

    def tell():
        repr(executor), executor._repr_html_(), len(executor._pending_work_items)

    hammer(rng, stress_seconds,
           [submit_and_ask, submit_and_cancel, fail, map_all, map_chunks, tell])

    def close():
        executor.shutdown(wait=bool(rng.randrange(2)))

    def refused():
        try:
            assert executor.submit(add, 1).result(GUARD) == 2
        except RuntimeError as error:
            assert "shutdown" in str(error)

    hammer(rng, min(0.2, stress_seconds), [close, refused, tell])
    executor.shutdown()


@pytest.mark.parametrize("kind", ["map", "map ahead", "as_completed"])
@ours("there two threads in one generator raise ValueError, and may crash without a GIL")
def test_one_iterator(cf, rng, stress_seconds, kind):
    """next() of one iterator from many threads: each item once, or ValueError."""
    end = time.monotonic() + stress_seconds
    with cf.ThreadPoolExecutor(3) as executor:
        while time.monotonic() < end:
            count = rng.randrange(1, 300)
            if kind == "as_completed":
                futures = [executor.submit(add, n) for n in range(count)]
                iterator = cf.as_completed(futures, GUARD)
            else:
                ahead = {"buffersize": 4} if kind == "map ahead" else {}
                iterator = executor.map(add, range(count), timeout=GUARD, **ahead)
            seen, ended = [], threading.Event()

            def step(iterator=iterator, seen=seen, ended=ended):
                try:
                    seen.append(next(iterator))
                except StopIteration:
                    ended.set()
                except ValueError as error:
                    assert "already executing" in str(error)

            def drain(step=step, ended=ended):
                while not ended.is_set():
                    step()

            hammer(rng, 0, [drain])
            assert ended.is_set()
            if kind == "as_completed":
                assert len(seen) == count and set(seen) == set(futures)
            else:
                assert sorted(seen) == list(range(1, count + 1))


@ours("there two threads in one generator raise ValueError, and may crash without a GIL")
def test_one_map_closed_by_one_of_many(cf, rng, stress_seconds):
    """close() in the middle of next() of others: no result twice, and then the end."""
    end = time.monotonic() + stress_seconds
    with cf.ThreadPoolExecutor(2) as executor:
        while time.monotonic() < end:
            iterator, seen = executor.map(add, range(200)), []

            def step(iterator=iterator, seen=seen):
                try:
                    seen.append(next(iterator))
                except (StopIteration, cf.CancelledError):
                    pass
                except ValueError as error:
                    assert "already executing" in str(error)

            def close(iterator=iterator):
                try:
                    iterator.close()
                except ValueError as error:
                    assert "already executing" in str(error)

            hammer(rng, 0.02, [*[step] * 50, close])
            close()
            assert list(iterator) == []
            assert len(seen) == len(set(seen))
