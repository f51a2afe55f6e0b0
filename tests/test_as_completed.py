"""as_completed(): lazy, in order of completion, without keeping references."""
import gc
import re
import threading
import time
import weakref

import pytest
from test_wait import cancelled, failed, finished
from testkit import GUARD, Thing, freed, parked


def test_yields_in_order_of_completion(cf):
    futures = [cf.Future() for _ in range(4)]
    ready = cf.as_completed(futures)
    order = [2, 0, 3, 1]
    seen = []
    first = threading.Thread(target=lambda: seen.append(next(ready)))
    first.start()
    assert parked(first)
    futures[order[0]].set_result(0)
    first.join(GUARD)
    for number in order[1:]:
        futures[number].set_result(0)
        seen.append(next(ready))
    assert seen == [futures[n] for n in order]
    with pytest.raises(StopIteration):
        next(ready)
    assert all(f._waiters == [] for f in futures)


def test_several_that_end_together_keep_their_order(cf):
    futures = [cf.Future() for _ in range(5)]
    first = finished(cf)
    ready = cf.as_completed([first, *futures])
    assert next(ready) is first
    for number in (3, 1, 4, 0, 2):
        futures[number].set_result(number)
    assert [f.result() for f in ready] == [3, 1, 4, 0, 2]


def test_finished_ones_come_first_and_without_waiting(cf):
    futures = [finished(cf), cf.Future(), failed(cf), cancelled(cf)]
    ready = cf.as_completed(futures)
    seen = {next(ready) for _ in range(3)}
    assert seen == {futures[0], futures[2], futures[3]}
    futures[1].set_result(0)
    assert list(ready) == [futures[1]]


def test_duplicates_are_yielded_once(cf):
    done = finished(cf)
    assert list(cf.as_completed([done] * 5)) == [done]
    pending = cf.Future()
    ready = cf.as_completed([pending, done, pending])
    assert next(ready) is done
    pending.set_result(0)
    assert list(ready) == [pending]


@pytest.mark.parametrize("kind", [list, set, iter, tuple, dict.fromkeys])
def test_any_iterable_will_do(cf, kind):
    futures = [finished(cf) for _ in range(3)]
    assert set(cf.as_completed(kind(futures))) == set(futures)


def test_nothing(cf):
    assert list(cf.as_completed([])) == []
    assert list(cf.as_completed([], timeout=0)) == []
    assert list(cf.as_completed(iter(()), timeout=-1)) == []


def test_does_nothing_before_the_first_next(cf):
    pulled = []

    def futures():
        pulled.append(True)
        yield future

    future = cf.Future()
    ready = cf.as_completed(futures())
    assert pulled == [] and future._waiters == []
    future.set_result(0)
    assert next(ready) is future
    assert pulled == [True]


@pytest.mark.parametrize("arguments, error", [
    ((None,), TypeError), ((5,), TypeError), (([5],), AttributeError),
    (([[]],), TypeError), (([], "soon"), TypeError)])
def test_arguments_are_not_looked_at_before_the_first_next(cf, arguments, error):
    ready = cf.as_completed(*arguments)
    with pytest.raises(error):
        next(ready)
    with pytest.raises(StopIteration):
        next(ready)


def test_the_clock_starts_at_the_first_next(cf):
    future = cf.Future()
    ready = cf.as_completed([future], timeout=0)
    time.sleep(0.001)
    future.set_result(0)
    assert next(ready) is future


def test_it_is_an_iterator_with_close(cf):
    future = cf.Future()
    done = finished(cf)
    ready = cf.as_completed([future, done])
    assert iter(ready) is ready
    assert next(ready) is done
    ready.close()
    assert future._waiters == []
    with pytest.raises(StopIteration):
        next(ready)
    ready.close()


def test_closing_before_the_start(cf):
    ready = cf.as_completed([cf.Future()])
    ready.close()
    with pytest.raises(StopIteration):
        next(ready)


def test_dropping_the_iterator_unregisters_it(cf):
    future, done = cf.Future(), finished(cf)
    ready = cf.as_completed([future, done])
    next(ready)
    del ready
    gc.collect()
    assert future._waiters == []
    future.set_result(1)


@pytest.mark.parametrize("timeout", [0, -1, 0.01, 1e-9])
def test_timeout_says_how_many_are_unfinished(cf, timeout):
    futures = [finished(cf), cf.Future(), failed(cf), cf.Future()]
    ready = cf.as_completed(futures, timeout)
    assert {next(ready), next(ready)} == {futures[0], futures[2]}
    with pytest.raises(TimeoutError, match=re.escape("2 (of 4) futures unfinished")):
        next(ready)
    with pytest.raises(StopIteration):
        next(ready)
    assert all(f._waiters == [] for f in futures)


def test_timeout_text_counts_duplicates_once(cf):
    future = cf.Future()
    with pytest.raises(TimeoutError) as caught:
        list(cf.as_completed([future, future], timeout=0))
    assert str(caught.value) == "1 (of 1) futures unfinished"


def test_timeout_covers_the_whole_iteration(cf):
    futures = [cf.Future() for _ in range(3)]
    ready = cf.as_completed(futures, timeout=0.05)
    futures[0].set_result(0)
    assert next(ready) is futures[0]
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=re.escape("2 (of 3) futures unfinished")):
        next(ready)
    assert time.monotonic() - begin < GUARD


def test_finished_ones_are_yielded_even_after_the_time_is_over(cf):
    futures = [finished(cf) for _ in range(3)]
    assert set(cf.as_completed(futures, timeout=-1)) == set(futures)


def test_future_that_ends_after_the_deadline_but_before_next(cf):
    """What is done when next() is called may be told; it must not be lost or hang."""
    done, pending = finished(cf), cf.Future()
    ready = cf.as_completed([done, pending], timeout=0.001)
    assert next(ready) is done
    pending.set_result(0)
    time.sleep(0.005)
    try:
        assert next(ready) is pending
    except TimeoutError as error:
        assert str(error) == "1 (of 2) futures unfinished"


def test_cancelled_is_yielded_only_when_notified(cf):
    future = cf.Future()
    future.cancel()
    with pytest.raises(TimeoutError):
        list(cf.as_completed([future], timeout=0))
    future.set_running_or_notify_cancel()
    assert list(cf.as_completed([future], timeout=0)) == [future]


def test_cancelled_while_waiting(cf):
    future, seen = cf.Future(), []
    thread = threading.Thread(
        target=lambda: seen.extend(cf.as_completed([future], GUARD)))
    thread.start()
    assert parked(thread)
    future.cancel()
    assert seen == []
    future.set_running_or_notify_cancel()
    thread.join(GUARD)
    assert seen == [future]


def test_no_reference_to_a_yielded_future(cf):
    enabled = gc.isenabled()
    gc.disable()
    try:
        futures = [finished(cf, Thing()) for _ in range(4)] + [cf.Future() for _ in range(4)]
        late = [weakref.ref(f) for f in futures[4:]]
        ready = cf.as_completed(futures)
        for count in range(8):
            if count >= 4:
                late[count - 4]().set_result(Thing())
            future = next(ready)
            futures.clear()
            references = weakref.ref(future), weakref.ref(future.result())
            del future
            assert all(freed(reference) for reference in references)
    finally:
        if enabled:
            gc.enable()


def test_a_list_given_is_not_changed(cf):
    futures = [finished(cf) for _ in range(3)]
    copy = list(futures)
    list(cf.as_completed(futures))
    assert futures == copy


def test_two_iterators_over_the_same_futures(cf):
    futures = [cf.Future() for _ in range(3)]
    done = finished(cf)
    one, two = cf.as_completed([done, *futures]), cf.as_completed([*futures, done])
    assert next(one) is next(two) is done
    for future in reversed(futures):
        future.set_result(0)
    assert list(one) == list(two) == futures[::-1]


def test_iterators_nested(cf, pool):
    executor = pool(2)
    outer = [executor.submit(int) for _ in range(5)]
    count = 0
    for future in cf.as_completed(outer, GUARD):
        inner = [executor.submit(int) for _ in range(5)]
        count += sum(1 for _ in cf.as_completed([future, *inner], GUARD))
    assert count == 30


def test_pool_of_tasks_in_the_order_they_end(cf, pool, gate):
    executor = pool(3)
    gates = [gate() for _ in range(3)]
    futures = [executor.submit(g.wait, GUARD) for g in gates]
    ready = cf.as_completed(futures, GUARD)
    for number in (1, 2, 0):
        gates[number].set()
        assert next(ready) is futures[number]


def test_thousands_from_a_running_pool(cf, pool):
    executor = pool(2)
    futures = {executor.submit(int, n): n for n in range(3000)}
    seen = [futures[f] for f in cf.as_completed(futures, GUARD)]
    assert sorted(seen) == list(range(3000))
