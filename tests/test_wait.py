"""wait(): the three conditions, time-outs, duplicates, what it returns."""
import threading
import time

import pytest
from testkit import GUARD, ours, parked


def finished(cf, value=None):
    future = cf.Future()
    future.set_result(value)
    return future


def failed(cf):
    future = cf.Future()
    future.set_exception(ValueError("failed"))
    return future


def cancelled(cf, notified=True):
    future = cf.Future()
    future.cancel()
    if notified:
        future.set_running_or_notify_cancel()
    return future


def in_thread(function, *args):
    """Start a thread that keeps what the function returns in `.outcome`."""
    class Thread(threading.Thread):
        outcome = None

        def run(self):
            self.outcome = function(*args)

    thread = Thread()
    thread.start()
    return thread


def test_returns_a_named_tuple_of_two_sets(cf):
    done, pending = finished(cf), cf.Future()
    outcome = cf.wait([done, pending], timeout=0)
    assert type(outcome).__name__ == "DoneAndNotDoneFutures"
    assert outcome._fields == ("done", "not_done")
    assert type(outcome.done) is set and type(outcome.not_done) is set
    assert outcome == ({done}, {pending})


@pytest.mark.parametrize("return_when", ["ALL_COMPLETED", "FIRST_COMPLETED",
                                         "FIRST_EXCEPTION"])
def test_nothing_to_wait_for(cf, return_when):
    assert cf.wait([], None, return_when) == (set(), set())
    assert cf.wait(iter(()), 0, return_when=return_when) == (set(), set())


@pytest.mark.parametrize("return_when", ["ALL_COMPLETED", "FIRST_COMPLETED",
                                         "FIRST_EXCEPTION"])
def test_everything_done_already(cf, return_when):
    futures = [finished(cf), failed(cf), cancelled(cf)]
    assert cf.wait(futures, None, return_when) == (set(futures), set())


@pytest.mark.parametrize("kind", [list, tuple, set, iter, dict.fromkeys, frozenset])
def test_any_iterable_will_do(cf, kind):
    futures = [finished(cf) for _ in range(3)]
    assert cf.wait(kind(futures)).done == set(futures)


def test_duplicates_are_returned_once(cf):
    done, pending = finished(cf), cf.Future()
    outcome = cf.wait([done, pending, done, pending], timeout=0)
    assert outcome == ({done}, {pending})
    thread = in_thread(cf.wait, [pending, pending, done], GUARD)
    pending.set_result(1)
    thread.join(GUARD)
    assert thread.outcome == ({done, pending}, set())


def test_cancelled_counts_only_when_notified(cf):
    told, untold = cancelled(cf), cancelled(cf, notified=False)
    assert cf.wait([told, untold], timeout=0) == ({told}, {untold})


@pytest.mark.parametrize("timeout", [0, -1, 0.01, float("-inf"), float("nan")])
def test_timeout(cf, timeout):
    done, pending = finished(cf), cf.Future()
    assert cf.wait([pending, done], timeout) == ({done}, {pending})
    assert pending._waiters == []


def test_timeout_is_not_early(cf):
    begin = time.monotonic()
    cf.wait([cf.Future()], timeout=0.05)
    assert time.monotonic() - begin >= 0.05


def test_all_completed_waits_for_the_last(cf):
    futures = [cf.Future() for _ in range(4)]
    thread = in_thread(cf.wait, futures, GUARD)
    assert parked(thread)
    futures[2].set_result(1)
    futures[0].set_exception(ValueError())
    futures[1].cancel()
    futures[1].set_running_or_notify_cancel()
    assert thread.is_alive()
    futures[3].set_result(2)
    thread.join(GUARD)
    assert thread.outcome == (set(futures), set())
    assert all(f._waiters == [] for f in futures)


@pytest.mark.parametrize("end", ["result", "exception", "cancel"])
def test_first_completed_returns_at_the_first_end_of_any_kind(cf, end):
    futures = [cf.Future() for _ in range(3)]
    thread = in_thread(cf.wait, futures, GUARD, cf.FIRST_COMPLETED)
    assert parked(thread)
    if end == "result":
        futures[1].set_result(0)
    elif end == "exception":
        futures[1].set_exception(ValueError())
    else:
        futures[1].cancel()
        futures[1].set_running_or_notify_cancel()
    thread.join(GUARD)
    assert thread.outcome == ({futures[1]}, {futures[0], futures[2]})
    assert all(f._waiters == [] for f in futures)


def test_first_completed_does_not_wait_if_one_is_done(cf):
    done, pending = finished(cf), cf.Future()
    assert cf.wait([pending, done], None, cf.FIRST_COMPLETED) == ({done}, {pending})


def test_first_exception_ignores_results(cf):
    futures = [cf.Future() for _ in range(4)]
    thread = in_thread(cf.wait, futures, GUARD, cf.FIRST_EXCEPTION)
    assert parked(thread)
    futures[0].set_result(1)
    futures[1].cancel()
    futures[1].set_running_or_notify_cancel()
    assert thread.is_alive()
    futures[2].set_exception(ValueError())
    thread.join(GUARD)
    assert thread.outcome == (set(futures[:3]), {futures[3]})


def test_first_exception_without_exceptions_waits_for_all(cf):
    futures = [cf.Future() for _ in range(3)]
    thread = in_thread(cf.wait, futures, GUARD, cf.FIRST_EXCEPTION)
    for future in futures:
        future.set_result(1)
    thread.join(GUARD)
    assert thread.outcome == (set(futures), set())


def test_first_exception_that_is_there_already(cf):
    bad, pending, gone = failed(cf), cf.Future(), cancelled(cf)
    assert cf.wait([pending, bad, gone], None, cf.FIRST_EXCEPTION) == ({bad, gone}, {pending})


def test_first_exception_is_not_ended_by_a_cancelled_one(cf):
    gone, pending = cancelled(cf), cf.Future()
    assert cf.wait([gone, pending], 0, cf.FIRST_EXCEPTION) == ({gone}, {pending})


def test_all_completed_does_not_stop_at_an_exception(cf):
    bad, pending = failed(cf), cf.Future()
    assert cf.wait([bad, pending], 0.001) == ({bad}, {pending})


def test_invalid_condition_is_an_error_only_if_something_is_pending(cf):
    done, pending = finished(cf), cf.Future()
    assert cf.wait([done], return_when="NEVER") == ({done}, set())
    with pytest.raises(ValueError, match=r"^Invalid return condition: 'NEVER'$"):
        cf.wait([done, pending], return_when="NEVER")
    with pytest.raises(ValueError, match=r"^Invalid return condition: None$"):
        cf.wait([pending], 0, None)
    assert pending._waiters == []


def test_condition_is_compared_by_value(cf):
    done, pending = finished(cf), cf.Future()
    spelled = "".join(["FIRST", "_COMPLETED"])
    assert cf.wait([done, pending], GUARD, spelled) == ({done}, {pending})


def test_futures_of_several_executors(cf, pool, gate):
    go = gate()
    futures = [pool(1).submit(go.wait, GUARD) for _ in range(3)]
    assert cf.wait(futures, 0).not_done == set(futures)
    go.set()
    assert cf.wait(futures, GUARD).done == set(futures)


def test_several_threads_wait_for_overlapping_futures(cf):
    futures = [cf.Future() for _ in range(6)]
    threads = [in_thread(cf.wait, futures[n:n + 3], GUARD) for n in range(4)]
    for future in futures:
        future.set_result(0)
    for thread in threads:
        thread.join(GUARD)
    assert [t.outcome for t in threads] == [(set(futures[n:n + 3]), set()) for n in range(4)]


def test_many_futures_of_a_running_pool(cf, pool):
    executor = pool(3)
    futures = [executor.submit(int) for _ in range(2000)]
    assert cf.wait(futures, GUARD) == (set(futures), set())
    assert cf.wait(futures, 0, cf.FIRST_EXCEPTION) == (set(futures), set())


def test_wait_over_ten_thousand_that_end_meanwhile(cf):
    futures = [cf.Future() for _ in range(10_000)]
    thread = in_thread(cf.wait, futures, GUARD)
    for future in futures:
        future.set_result(None)
    thread.join(GUARD)
    assert thread.outcome == (set(futures), set())


def test_subclass_with_its_own_hash_is_kept_in_sets(cf):
    class Same(cf.Future):
        def __eq__(self, other):
            return isinstance(other, Same)

        def __hash__(self):
            return 7

    one, two = Same(), Same()
    one.set_result(1)
    two.set_result(2)
    assert len(cf.wait([one, two]).done) == 1


def test_hash_that_fails_is_raised(cf):
    class Unhashable(cf.Future):
        __hash__ = None

    with pytest.raises(TypeError, match="unhashable"):
        cf.wait([Unhashable()])


def test_iterable_that_fails_is_raised(cf):
    def futures():
        yield finished(cf)
        raise LookupError("no more")

    with pytest.raises(LookupError):
        cf.wait(futures())


@ours("nobody notifies these futures there, and wait() hangs")
@pytest.mark.parametrize("return_when", ["ALL_COMPLETED", "FIRST_COMPLETED",
                                         "FIRST_EXCEPTION"])
def test_futures_cancelled_by_shutdown_are_done_for_wait(cf, pool, gate, return_when):
    go, begun = gate(), gate()
    executor = pool(1)
    running = executor.submit(lambda: begun.set() or go.wait(GUARD))
    queued = [executor.submit(int) for _ in range(3)]
    assert begun.wait(GUARD)
    waiting = in_thread(cf.wait, queued, GUARD, return_when)
    executor.shutdown(wait=False, cancel_futures=True)
    waiting.join(GUARD)
    assert waiting.outcome.done
    assert cf.wait(queued, GUARD, return_when) == (set(queued), set())
    assert set(cf.as_completed(queued, GUARD)) == set(queued)
    assert all(f.cancelled() for f in queued) and not running.done()
