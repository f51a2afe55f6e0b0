"""Races on single futures: one winner, everybody told, every callback once."""
import itertools
import threading
import time

import pytest
from testkit import GUARD, ours


class Crew:
    """Threads that carry out functions at the same moment, many times over.

    They spin up to the start, so that they are really close together.
    """

    def __init__(self, size):
        self.go = threading.Barrier(size + 1)
        self.done = threading.Barrier(size + 1)
        self.jobs = [None] * size
        self.errors = []
        self.threads = [threading.Thread(target=self.work, args=(n,)) for n in range(size)]
        for thread in self.threads:
            thread.start()

    def work(self, number):
        while True:
            self.go.wait(GUARD)
            job = self.jobs[number]
            if job is None:
                return
            try:
                job()
            except BaseException as error:
                self.errors.append(error)
            self.done.wait(GUARD)

    def run(self, *jobs):
        self.jobs = list(jobs)
        self.go.wait(GUARD)
        self.done.wait(GUARD)
        assert not self.errors, self.errors

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.jobs = [None] * len(self.jobs)
        if error[0] is None:
            self.go.wait(GUARD)
        else:
            self.go.abort()
            self.done.abort()
        for thread in self.threads:
            thread.join(GUARD)


def rounds(seconds):
    """Numbers until the time is over."""
    end = time.monotonic() + seconds
    for n in itertools.count():
        if time.monotonic() > end:
            return
        yield n


def touch(future):
    """Have the lazily made attributes made."""
    return future._condition, future._waiters, future._done_callbacks


def attempts(cf, future, won):
    """Ways to end a future; the one that works notes its name."""
    def set_result():
        try:
            future.set_result("result")
            won.append("result")
        except cf.InvalidStateError:
            pass

    def set_exception():
        try:
            future.set_exception(ValueError("exception"))
            won.append("exception")
        except cf.InvalidStateError:
            pass

    def cancel():
        if future.cancel():
            won.append("cancel")

    return [set_result, set_exception, cancel]


@pytest.mark.parametrize("touched", ["plain", "emulated"])
def test_one_wins(cf, rng, stress_seconds, touched):
    """set_result, set_exception and cancel at once, with waiters of every kind."""
    with Crew(6) as crew:
        for _ in rounds(stress_seconds):
            future, won, seen, called = cf.Future(), [], [], []
            if touched == "emulated":
                touch(future)
            early = rng.randrange(3)
            for n in range(early):
                future.add_done_callback(lambda f, n=n, called=called: called.append(n))

            def ask(future=future, seen=seen):
                try:
                    seen.append(future.result(GUARD))
                except ValueError as error:
                    seen.append(str(error))
                except cf.CancelledError:
                    seen.append("cancel")

            def late(future=future, called=called):
                future.add_done_callback(lambda f: called.append("late"))

            def look(future=future):
                while not future.done():
                    repr(future), future.running(), future.cancelled()
                    time.sleep(0)

            crew.run(*attempts(cf, future, won), ask, late, look)
            assert len(set(won)) == 1 and (len(won) == 1 or won[0] == "cancel"), won
            assert seen == won[:1]
            assert called.count("late") == 1
            assert [c for c in called if c != "late"] == list(range(early))


@pytest.mark.parametrize("how", ["set_result", "cancel"])
def test_callbacks_added_while_the_future_ends(cf, rng, stress_seconds, how):
    """Each exactly once, whether it came before or after."""
    with Crew(4) as crew:
        for _ in rounds(stress_seconds):
            future, called = cf.Future(), []

            def add_some(base, future=future, called=called):
                def work():
                    for n in range(5):
                        future.add_done_callback(lambda f, n=n: called.append(base + n))
                return work

            def end(future=future):
                future.set_result(1) if how == "set_result" else future.cancel()

            crew.run(add_some(0), add_some(10), add_some(20), end)
            assert sorted(called) == [b + n for b in (0, 10, 20) for n in range(5)]


@ours("the list is the standard library's own there")
def test_callbacks_added_while_somebody_asks_for_the_list(cf, stress_seconds):
    with Crew(4) as crew:
        for _ in rounds(stress_seconds):
            future, called = cf.Future(), []

            def add_some(future=future, called=called):
                for _ in range(5):
                    future.add_done_callback(called.append)

            def look(future=future):
                for _ in range(3):
                    touch(future)

            crew.run(add_some, look, look, lambda future=future: future.set_result(1))
            assert len(called) == 5


def test_claim_against_cancel(cf, stress_seconds):
    with Crew(3) as crew:
        for _ in rounds(stress_seconds):
            future, claimed, cancelled = cf.Future(), [], []

            def claim(future=future, claimed=claimed):
                try:
                    claimed.append(future.set_running_or_notify_cancel())
                except RuntimeError:
                    claimed.append("unexpected")

            def cancel(future=future, cancelled=cancelled):
                cancelled.append(future.cancel())

            crew.run(claim, cancel, cancel)
            assert claimed[0] is not cancelled[0] and cancelled[0] is cancelled[1]
            assert future.running() is claimed[0]


@pytest.mark.parametrize("return_when", ["ALL_COMPLETED", "FIRST_COMPLETED",
                                         "FIRST_EXCEPTION"])
def test_wait_while_futures_end(cf, rng, stress_seconds, return_when):
    with Crew(4) as crew:
        for _ in rounds(stress_seconds):
            futures = [cf.Future() for _ in range(6)]
            outcomes = []

            def wait(futures=futures, outcomes=outcomes):
                outcomes.append(cf.wait(futures, GUARD, return_when))

            def end(some):
                def work():
                    for number, future in enumerate(some):
                        if number == 1:
                            future.set_exception(ValueError())
                        elif number == 2:
                            future.cancel()
                            future.set_running_or_notify_cancel()
                        else:
                            future.set_result(number)
                return work

            crew.run(wait, wait, end(futures[:3]), end(futures[3:]))
            for done, not_done in outcomes:
                assert done | not_done == set(futures) and not done & not_done
                assert done if return_when != "ALL_COMPLETED" else not not_done
                if return_when == "FIRST_EXCEPTION" and not_done:
                    assert any(not f.cancelled() and f.exception() for f in done)


def test_as_completed_while_futures_end(cf, rng, stress_seconds):
    """The iterator may be freed the moment the last future is given out."""
    with Crew(4) as crew:
        for _ in rounds(stress_seconds):
            size = rng.choice((1, 1, 2, 4, 20))
            futures = [cf.Future() for _ in range(2 * size)]
            seen = []

            def iterate(futures=futures, seen=seen):
                seen.append(list(cf.as_completed(futures, GUARD)))

            def end(some):
                def work():
                    for future in some:
                        future.set_result(None)
                return work

            crew.run(iterate, iterate, end(futures[:size]), end(futures[size:]))
            for order in seen:
                assert len(order) == len(set(order)) == 2 * size


def test_as_completed_that_is_closed_while_futures_end(cf, rng, stress_seconds):
    with Crew(3) as crew:
        for _ in rounds(stress_seconds):
            futures = [cf.Future() for _ in range(8)]
            stop = rng.randrange(8)

            def iterate(futures=futures, stop=stop):
                ready = cf.as_completed(futures, GUARD)
                for count, _ in enumerate(ready):
                    if count >= stop:
                        break
                ready.close()

            def hasty(futures=futures):
                try:
                    list(cf.as_completed(futures, 0))
                except TimeoutError:
                    pass

            def end(futures=futures):
                for future in futures:
                    future.set_result(None)

            crew.run(iterate, hasty, end)
            assert all(f._waiters == [] for f in futures)


def test_timeouts_race_with_results(cf, rng, stress_seconds):
    """A wait that ends at the moment of the result says one thing or the other."""
    with Crew(3) as crew:
        for _ in rounds(stress_seconds):
            future, outcomes = cf.Future(), []
            timeout = rng.choice((0, 1e-6, 1e-5, 5e-5, 1e-4, 5e-4))

            def ask(future=future, outcomes=outcomes, timeout=timeout):
                try:
                    outcomes.append(future.result(timeout))
                except TimeoutError:
                    outcomes.append("timeout")

            def wait(future=future, outcomes=outcomes, timeout=timeout):
                done, _ = cf.wait([future], timeout, cf.FIRST_COMPLETED)
                outcomes.append("result" if done else "timeout")

            def end(future=future, timeout=timeout):
                finish = time.perf_counter() + timeout
                while time.perf_counter() < finish:
                    pass
                future.set_result("result")

            crew.run(ask, wait, end)
            assert set(outcomes) <= {"result", "timeout"} and len(outcomes) == 2
            assert future.result(0) == "result"


@ours("mixes both implementations")
def test_mixed_futures_while_they_end(cf, rng, stress_seconds):
    import concurrent.futures as standard
    with Crew(4) as crew:
        for _ in rounds(stress_seconds):
            futures = [rng.choice((cf, standard)).Future() for _ in range(6)]
            seen = []

            def wait(module, futures=futures, seen=seen):
                return lambda: seen.append(module.wait(futures, GUARD).done)

            def iterate(module, futures=futures, seen=seen):
                return lambda: seen.append(set(module.as_completed(futures, GUARD)))

            def end(some):
                def work():
                    for future in some:
                        future.set_result(None)
                return work

            first = rng.choice((wait, iterate))
            crew.run(first(cf), first(standard), end(futures[:3]), end(futures[3:]))
            assert seen == [set(futures)] * 2
            assert all(f._waiters == [] for f in futures)


def test_private_attributes_under_fire(cf, stress_seconds):
    """Reading and setting the lazily made attributes while the future ends: no crash."""
    with Crew(4) as crew:
        for _ in rounds(stress_seconds):
            future = cf.Future()

            def read(future=future):
                for _ in range(3):
                    (future._state, future._result, future._exception, future._waiters,
                     future._done_callbacks, future._condition, repr(future))

            def write(future=future):
                future._done_callbacks = [str]
                future._waiters = []
                future.colour = "red"

            def end(future=future):
                future.set_result(object())

            crew.run(read, read, write, end)
            assert future.done()


def test_future_dropped_by_all_at_once(cf, stress_seconds):
    with Crew(3) as crew:
        for _ in rounds(stress_seconds):
            box = [cf.Future()]
            box *= 3

            def settle(box=box):
                future = box.pop()
                try:
                    future.set_result(object())
                except cf.InvalidStateError:
                    pass

            def ask(box=box):
                box.pop().result(GUARD)

            def call(box=box):
                box.pop().add_done_callback(id)

            crew.run(settle, ask, call)
