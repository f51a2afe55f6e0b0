"""add_done_callback: once each, in order, in the thread that settles the future."""
import itertools
import operator
import threading

import pytest
from testkit import GUARD, ours


def settle(future, how):
    """Bring a pending future to an end in one of three ways."""
    if how == "result":
        future.set_result(1)
    elif how == "exception":
        future.set_exception(ValueError("x"))
    else:
        future.cancel()


WAYS = pytest.mark.parametrize("how", ["result", "exception", "cancel"])


@WAYS
def test_callbacks_run_once_in_order_with_the_future(cf, how):
    future, calls = cf.Future(), []
    for number in range(5):
        assert future.add_done_callback(lambda f, n=number: calls.append((n, f))) is None
    assert calls == []
    settle(future, how)
    assert calls == [(n, future) for n in range(5)]
    future.cancel()
    if how == "cancel":
        future.set_running_or_notify_cancel()
    assert len(calls) == 5


@WAYS
def test_callback_added_late_runs_at_once_in_this_thread(cf, how):
    future, calls = cf.Future(), []
    settle(future, how)
    future.add_done_callback(lambda f: calls.append((f, threading.current_thread())))
    assert calls == [(future, threading.current_thread())]


def test_the_same_callback_twice_is_called_twice(cf):
    future, calls = cf.Future(), []
    future.add_done_callback(calls.append)
    future.add_done_callback(calls.append)
    future.set_result(0)
    assert calls == [future, future]


def test_callback_may_be_any_callable(cf):
    class Callable:
        def __call__(self, future):
            calls.append(future)

    class Owner:
        def method(self, future):
            calls.append(future)

    future, calls = cf.Future(), []
    for callback in (Callable(), Owner().method, calls.append, operator.methodcaller("done")):
        future.add_done_callback(callback)
    future.set_result(None)
    assert calls == [future] * 3


def test_callback_sees_the_future_done(cf):
    future, seen = cf.Future(), []
    future.add_done_callback(lambda f: seen.append((f.done(), f.result(), repr(f))))
    future.set_result(9)
    assert seen == [(True, 9, repr(future))]


def test_callback_added_inside_a_callback_runs_at_once(cf):
    future, calls = cf.Future(), []

    def outer(f):
        calls.append("outer begins")
        f.add_done_callback(lambda g: calls.append("inner"))
        calls.append("outer ends")

    future.add_done_callback(outer)
    future.add_done_callback(lambda f: calls.append("second"))
    future.set_result(None)
    assert calls == ["outer begins", "inner", "outer ends", "second"]


def test_callback_that_fails_does_not_stop_the_others(cf, caplog):
    future, calls = cf.Future(), []
    future.add_done_callback(lambda f: 1 / 0)
    future.add_done_callback(calls.append)
    future.set_result(None)
    assert calls == [future]
    assert future.result() is None
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_base_exception_of_a_callback_reaches_the_caller(cf, kind):
    def stop(f):
        raise kind("stop")

    future = cf.Future()
    future.add_done_callback(stop)
    with pytest.raises(kind):
        future.set_result(5)
    assert future.result() == 5

    late = cf.Future()
    late.set_result(6)
    with pytest.raises(kind):
        late.add_done_callback(stop)

    cancelled = cf.Future()
    cancelled.add_done_callback(stop)
    with pytest.raises(kind):
        cancelled.cancel()
    assert cancelled.cancelled()


def test_callback_of_a_task_runs_in_the_worker(cf, pool, gate):
    go, ran = gate(), gate()
    where = []

    def note(f):
        where.append((threading.current_thread(), f.result()))
        ran.set()

    future = pool(1).submit(lambda: go.wait(GUARD) and threading.current_thread())
    future.add_done_callback(note)
    go.set()
    assert ran.wait(GUARD)
    assert where == [(future.result(), future.result())]


def test_callback_of_a_cancelled_task_runs_in_the_cancelling_thread(cf, pool, gate):
    go = gate()
    executor = pool(1)
    executor.submit(go.wait, GUARD)
    future = executor.submit(int)
    where = []
    future.add_done_callback(lambda f: where.append(threading.current_thread()))
    assert future.cancel()
    assert where == [threading.current_thread()]


@ours("there the worker thread dies and the tasks behind it hang")
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_base_exception_of_a_callback_does_not_end_the_worker(cf, pool, gate, kind, caplog):
    go = gate()

    def stop(f):
        raise kind("in a callback")

    executor = pool(1)
    future = executor.submit(go.wait, GUARD)
    future.add_done_callback(stop)
    go.set()
    assert future.result(GUARD) is True
    assert executor.submit(int, "7").result(GUARD) == 7
    assert len(executor._threads) == 1


def test_callback_may_submit_and_wait_for_another_task(cf, pool, gate):
    go, ran = gate(), gate()
    executor, results = pool(2), []

    def more(f):
        results.append(executor.submit(operator.add, f.result(), 1).result(GUARD))
        ran.set()

    future = executor.submit(lambda: go.wait(GUARD) and 1)
    future.add_done_callback(more)
    go.set()
    assert ran.wait(GUARD)
    assert results == [2]


def test_waiters_are_woken_before_callbacks_end(cf, gate):
    """A callback that never returns must not hold up result() elsewhere."""
    go = gate()
    future = cf.Future()
    future.add_done_callback(lambda f: go.wait(GUARD))
    setter = threading.Thread(target=future.set_result, args=(3,))
    setter.start()
    assert future.result(GUARD) == 3
    assert cf.wait([future], GUARD).done == {future}
    go.set()
    setter.join(GUARD)


def test_callback_may_wait_for_its_own_future(cf):
    future, seen = cf.Future(), []

    def ask(f):
        seen.append(cf.wait([f], timeout=GUARD).done == {f})
        seen.append(next(cf.as_completed([f], timeout=GUARD)) is f)
        seen.append(f.result(timeout=GUARD))

    future.add_done_callback(ask)
    future.set_result("own")
    assert seen == [True, True, "own"]


def test_a_thousand_callbacks(cf):
    future, calls = cf.Future(), []
    for number in range(1000):
        future.add_done_callback(lambda f, n=number: calls.append(n))
    future.set_result(None)
    assert calls == list(range(1000))


def test_callback_that_drops_the_last_reference_to_the_future(cf):
    box = [cf.Future()]
    box[0].add_done_callback(lambda f: box.clear())
    box[0].add_done_callback(lambda f: box.append(f.result()))
    box[0].set_result("kept")
    assert box == ["kept"]


def test_callbacks_of_a_deep_chain(cf):
    """Each future settles the next one in its callback."""
    futures = [cf.Future() for _ in range(50)]
    for this, following in itertools.pairwise(futures):
        this.add_done_callback(lambda f, g=following: g.set_result(f.result() + 1))
    futures[0].set_result(0)
    assert futures[-1].result(0) == 49
