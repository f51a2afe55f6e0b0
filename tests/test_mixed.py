"""Futures of both implementations in one call, to either implementation's functions."""
import concurrent.futures as standard
import threading

import pytest
import testkit
from test_wait import in_thread
from testkit import GUARD, parked

pytestmark = pytest.mark.ours("mixes cfutures with the standard library")


@pytest.fixture(params=["stdlib", "cfutures"])
def calls(request):
    """Whose wait() and as_completed() are called."""
    return testkit.load(request.param)


@pytest.fixture
def mixed(cf):
    """Four fresh futures: ours, theirs, ours, theirs."""
    return [cf.Future(), standard.Future(), cf.Future(), standard.Future()]


ORDERS = pytest.mark.parametrize(
    "order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2)], ids=lambda o: "".join(map(str, o)))


def test_ours_are_instances_of_theirs(cf):
    assert isinstance(cf.Future(), standard.Future)
    assert issubclass(cf.ThreadPoolExecutor, standard.ThreadPoolExecutor)
    assert issubclass(cf.ThreadPoolExecutor, standard.Executor)
    assert issubclass(cf.Executor, standard.Executor)
    assert issubclass(cf.ThreadPoolExecutor, cf.Executor)
    with cf.ThreadPoolExecutor(1) as executor:
        assert isinstance(executor, standard.ThreadPoolExecutor)
        assert isinstance(executor.submit(int), standard.Future)


def test_exceptions_are_theirs(cf):
    for name in ("CancelledError", "TimeoutError", "InvalidStateError", "BrokenExecutor"):
        assert issubclass(getattr(cf, name), getattr(standard, name))
    assert cf.TimeoutError is TimeoutError
    assert issubclass(cf.BrokenThreadPool, standard.thread.BrokenThreadPool)
    with pytest.raises(standard.CancelledError):
        future = cf.Future()
        future.cancel()
        future.result()


def test_wait_on_done_ones(calls, mixed):
    for future in mixed:
        future.set_result(0)
    assert calls.wait(mixed) == (set(mixed), set())
    assert set(calls.as_completed(mixed)) == set(mixed)


def test_wait_times_out(calls, mixed):
    mixed[0].set_result(0)
    mixed[1].set_result(0)
    assert calls.wait(mixed, 0.01) == (set(mixed[:2]), set(mixed[2:]))
    assert all(f._waiters == [] for f in mixed)
    with pytest.raises(TimeoutError, match=r"^2 \(of 4\) futures unfinished$"):
        list(calls.as_completed(mixed, 0.01))
    assert all(f._waiters == [] for f in mixed)


@ORDERS
def test_wait_for_all(calls, mixed, order):
    thread = in_thread(calls.wait, mixed, GUARD)
    assert parked(thread)
    for number in order:
        assert thread.is_alive()
        mixed[number].set_result(number)
    thread.join(GUARD)
    assert thread.outcome == (set(mixed), set())
    assert all(f._waiters == [] for f in mixed)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("end", ["result", "exception", "cancel"])
def test_wait_for_the_first(calls, mixed, number, end):
    thread = in_thread(calls.wait, mixed, GUARD, calls.FIRST_COMPLETED)
    assert parked(thread)
    future = mixed[number]
    if end == "result":
        future.set_result(0)
    elif end == "exception":
        future.set_exception(ValueError())
    else:
        future.cancel()
        future.set_running_or_notify_cancel()
    thread.join(GUARD)
    assert thread.outcome == ({future}, set(mixed) - {future})
    assert all(f._waiters == [] for f in mixed)


@pytest.mark.parametrize("number", range(4))
def test_wait_for_the_first_exception(calls, mixed, number):
    thread = in_thread(calls.wait, mixed, GUARD, calls.FIRST_EXCEPTION)
    assert parked(thread)
    other = mixed[number ^ 1]
    other.set_result(0)
    mixed[number].set_exception(ValueError())
    thread.join(GUARD)
    assert thread.outcome == ({other, mixed[number]}, set(mixed) - {other, mixed[number]})


@ORDERS
def test_as_completed_in_order(calls, mixed, order):
    ready = calls.as_completed(mixed, GUARD)
    seen = []
    thread = in_thread(lambda: seen.append(next(ready)))
    assert parked(thread)
    mixed[order[0]].set_result(0)
    thread.join(GUARD)
    for number in order[1:]:
        mixed[number].set_result(0)
    seen.extend(ready)
    assert seen == [mixed[n] for n in order]
    assert all(f._waiters == [] for f in mixed)


def test_as_completed_in_order_when_next_is_called_between(calls, mixed):
    mixed[3].set_result(0)
    ready = calls.as_completed(mixed, GUARD)
    assert next(ready) is mixed[3]
    for number in (1, 0, 2):
        mixed[number].set_result(0)
        assert next(ready) is mixed[number]


def test_duplicates(calls, mixed):
    for future in mixed:
        future.set_result(0)
    assert calls.wait(mixed * 3) == (set(mixed), set())
    assert len(list(calls.as_completed(mixed * 3))) == 4


def test_concurrently_in_both_implementations(cf, mixed):
    implementations = [testkit.load(name) for name in testkit.PACKAGES]
    threads = []
    for functions in implementations * 3:
        threads.append(in_thread(functions.wait, mixed, GUARD))
        threads.append(in_thread(lambda f=functions: set(f.as_completed(mixed, GUARD))))
    setters = [threading.Thread(target=f.set_result, args=(0,)) for f in mixed]
    for setter in setters:
        setter.start()
    for thread in [*setters, *threads]:
        thread.join(GUARD)
    assert [t.outcome for t in threads] == [(set(mixed), set()), set(mixed)] * 6
    assert all(f._waiters == [] for f in mixed)


def test_pools_of_both_in_one_call(cf, calls):
    with cf.ThreadPoolExecutor(2) as ours, standard.ThreadPoolExecutor(2) as theirs:
        for _ in range(20):
            futures = [e.submit(int, n) for n in range(10) for e in (ours, theirs)]
            assert calls.wait(futures, GUARD) == (set(futures), set())
            futures = [e.submit(int, n) for n in range(10) for e in (ours, theirs)]
            assert set(calls.as_completed(futures, GUARD)) == set(futures)


def test_a_thousand_of_each(cf, calls):
    with cf.ThreadPoolExecutor(2) as ours, standard.ThreadPoolExecutor(2) as theirs:
        futures = [e.submit(int, n) for n in range(1000) for e in (ours, theirs)]
        assert sum(1 for _ in calls.as_completed(futures, GUARD)) == 2000


def test_their_future_settled_by_our_task(cf):
    with cf.ThreadPoolExecutor(1) as executor:
        future = standard.Future()
        executor.submit(future.set_result, 5)
        assert cf.wait([future], GUARD).done == {future}
        assert future.result(GUARD) == 5


def test_any_object_with_the_right_attributes_will_do(cf):
    """wait() asks for attributes, not for a class: futures of other libraries have them."""
    class Foreign:
        def __init__(self):
            self._condition = threading.Condition()
            self._state = "PENDING"
            self._waiters = []

        def cancelled(self):
            return False

        def exception(self, timeout=None):
            return None

        def finish(self):
            with self._condition:
                self._state = "FINISHED"
                for waiter in self._waiters:
                    waiter.add_result(self)

    for functions in map(testkit.load, testkit.PACKAGES):
        foreign, own = Foreign(), cf.Future()
        thread = in_thread(functions.wait, [foreign, own], GUARD)
        assert parked(thread)
        own.set_result(1)
        foreign.finish()
        thread.join(GUARD)
        assert thread.outcome == ({foreign, own}, set())
        assert foreign._waiters == [] == own._waiters


def test_our_subclass_with_a_condition_of_its_own(cf):
    """A subclass may replace the condition; standard functions then use that one."""
    class Shared(cf.Future):
        pass

    one, two = Shared(), Shared()
    one._condition = two._condition = threading.Condition()
    thread = in_thread(standard.wait, [one, two], GUARD)
    assert parked(thread)
    one.set_result(1)
    two.set_result(2)
    thread.join(GUARD)
    assert thread.outcome == ({one, two}, set())
