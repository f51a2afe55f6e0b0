"""result() and exception(): waiting, time-outs, and being woken."""
import threading
import time
from fractions import Fraction

import pytest
from testkit import GUARD, eventually, ours

QUESTION = pytest.mark.parametrize("question", ["result", "exception"])


@QUESTION
@pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.5, 1e-9, 0.01, False, float("nan"),
                                     -float("inf")])
def test_unfinished_future_times_out(cf, question, timeout):
    future = cf.Future()
    for _ in range(2):
        with pytest.raises(TimeoutError) as caught:
            getattr(future, question)(timeout)
        assert caught.value.args == ()
        future.set_running_or_notify_cancel() if not future.running() else None
    assert cf.TimeoutError is TimeoutError


@QUESTION
def test_timeout_is_not_early(cf, question):
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        getattr(cf.Future(), question)(timeout=0.05)
    assert time.monotonic() - begin >= 0.05


@QUESTION
def test_timeout_may_be_given_by_position_or_name(cf, question):
    future = cf.Future()
    future.set_result(None)
    ask = getattr(future, question)
    assert ask(1) is ask(timeout=1) is ask(None) is ask(timeout=None) is ask() is None


@QUESTION
@pytest.mark.parametrize("end", ["result", "exception", "cancel"])
def test_waiting_thread_is_woken(cf, question, end):
    future, begun, outcome = cf.Future(), threading.Event(), []
    error = ValueError("woken")

    def ask():
        begun.set()
        try:
            outcome.append(getattr(future, question)(GUARD))
        except BaseException as caught:
            outcome.append(caught)

    thread = threading.Thread(target=ask)
    thread.start()
    begun.wait(GUARD)
    if end == "result":
        future.set_result(8)
    elif end == "exception":
        future.set_exception(error)
    else:
        future.cancel()
    thread.join(GUARD)
    (seen,) = outcome
    if end == "cancel":
        assert isinstance(seen, cf.CancelledError)
    elif end == "exception":
        assert seen is error
    else:
        assert seen == (8 if question == "result" else None)


def test_many_threads_wait_for_one_future(cf):
    future, results = cf.Future(), []
    threads = [threading.Thread(target=lambda: results.append(future.result(GUARD)))
               for _ in range(16)]
    for thread in threads:
        thread.start()
    future.set_result("all")
    for thread in threads:
        thread.join(GUARD)
    assert results == ["all"] * 16


def test_some_time_out_and_the_others_are_still_woken(cf):
    future, results = cf.Future(), []

    def ask(timeout):
        try:
            results.append(future.result(timeout))
        except TimeoutError:
            results.append("timed out")

    threads = [threading.Thread(target=ask, args=(t,)) for t in (0.01, GUARD, 0.02, GUARD)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: results.count("timed out") == 2)
    future.set_result("woken")
    for thread in threads:
        thread.join(GUARD)
    assert sorted(results) == ["timed out", "timed out", "woken", "woken"]


def test_timeouts_that_are_other_numbers(cf):
    class Index:
        def __index__(self):
            return 0

        def __gt__(self, other):
            return 0 > other

    with pytest.raises(TimeoutError):
        cf.Future().result(Index())
    future = cf.Future()
    future.set_result(1)
    assert future.result(Fraction(1, 3)) == 1


@QUESTION
@pytest.mark.parametrize("timeout", ["1", [], object()])
def test_timeout_that_is_no_number_is_a_type_error_when_waiting(cf, question, timeout):
    with pytest.raises(TypeError):
        getattr(cf.Future(), question)(timeout)


@ours("an infinite timeout is an OverflowError there")
@pytest.mark.parametrize("timeout", [float("inf"), 1e300, 1e19, 1e10, 2**80])
def test_timeouts_without_end_wait(cf, timeout):
    future = cf.Future()
    timer = threading.Thread(target=future.set_result, args=(4,))
    timer.start()
    assert future.result(timeout) == 4
    timer.join(GUARD)
    pending = cf.Future()
    threading.Thread(target=pending.set_result, args=(5,)).start()
    assert cf.wait([pending], timeout).done == {pending}
    third = cf.Future()
    threading.Thread(target=third.set_result, args=(6,)).start()
    assert list(cf.as_completed([third], timeout)) == [third]


@QUESTION
def test_signal_free_wait_in_a_thread_that_is_not_main(cf, question):
    """Time-outs work in any thread."""
    seen = []

    def ask():
        try:
            getattr(cf.Future(), question)(0.01)
        except TimeoutError:
            seen.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(GUARD)
    assert seen == [True]


def test_result_of_a_task_that_waits_for_another_task(cf, pool):
    executor = pool(2)
    inner = executor.submit(time.sleep, 0.01)
    assert executor.submit(inner.result, GUARD).result(GUARD) is None
