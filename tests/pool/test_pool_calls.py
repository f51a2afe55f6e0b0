"""The methods of a Pool: what they return and raise, on both implementations."""
import multiprocessing
import multiprocessing.pool
import os
import threading

import pool_tasks as tasks
import pytest
from testkit import GUARD, eventually, ours


class Said(Exception):
    """What an iterable of a test raises."""


def saying(good):
    """Yields `good` numbers, then raises."""
    yield from range(good)
    raise Said("when")


# ---- one call ----


def test_apply_calls_with_arguments_and_keywords(shared):
    assert shared.apply(tasks.add, (1,), {"b": 5}) == 6
    assert shared.apply(tasks.add, [1]) == 2


def test_apply_raises_what_the_function_raises(shared):
    with pytest.raises(KeyError) as caught:
        shared.apply(tasks.fail, (7,))
    assert caught.value.args == (7,)


def test_an_exception_has_the_remote_traceback_as_its_cause(shared, kind):
    with pytest.raises(KeyError) as caught:
        shared.map(tasks.fail, [7], chunksize=1)
    cause = caught.value.__cause__
    if kind == "threads":
        assert cause is None
    else:
        assert type(cause) is multiprocessing.pool.RemoteTraceback
        assert "raise KeyError(*args)" in cause.tb


def test_async_result_before_and_after(shared, door):
    result = shared.apply_async(door.task, (door.path, "tag"))
    door.entered()
    assert not result.ready()
    with pytest.raises(ValueError, match=r"^<.*AsyncResult|ApplyResult.*> not ready$"):
        result.successful()
    result.wait(0.01)
    assert not result.ready()
    door.open()
    assert result.get(GUARD) == "tag"
    assert result.ready() and result.successful()
    assert result.get() == "tag"


def test_get_can_be_asked_again_after_a_timeout(shared, lib, door):
    result = shared.apply_async(door.task, (door.path, "tag"))
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    with pytest.raises(lib.TimeoutError):
        result.get(timeout=0)
    door.open()
    assert result.get(GUARD) == "tag"


@ours("multiprocessing's TimeoutError is not Python's")
def test_a_timeout_is_a_builtin_timeout_error(shared, door):
    result = shared.map_async(door.task, [door.path])
    with pytest.raises(TimeoutError):
        result.get(0.01)
    results = shared.imap(door.task, [door.path])
    with pytest.raises(TimeoutError):
        results.next(0.01)
    door.open()
    assert result.get(GUARD) == [None]
    assert results.next(GUARD) is None


def test_failed_result_is_ready_and_not_successful(shared):
    result = shared.apply_async(tasks.fail)
    result.wait(GUARD)
    assert result.ready() and not result.successful()
    with pytest.raises(KeyError) as first:
        result.get()
    with pytest.raises(KeyError) as second:
        result.get()
    assert first.value is second.value


def test_callbacks_have_been_called_when_get_returns(shared):
    for _ in range(20):
        called = []
        result = shared.apply_async(tasks.double, (4,), callback=called.append,
                                    error_callback=called.append)
        assert result.get(GUARD) == 8
        assert called == [8]
        result = shared.apply_async(tasks.fail, (4,), callback=called.append,
                                    error_callback=called.append)
        with pytest.raises(KeyError):
            result.get(GUARD)
        assert len(called) == 2 and type(called[1]) is KeyError


def test_what_cannot_be_pickled_fails_its_own_result(shared, kind):
    if kind == "threads":
        assert isinstance(shared.apply(tasks.unpicklable), tasks.Unpicklable)
        return
    with pytest.raises(RuntimeError, match="cannot be pickled"):
        shared.apply(tasks.double, (tasks.Unpicklable(),))
    with pytest.raises(RuntimeError, match="cannot be pickled"):
        shared.map(tasks.double, [1, tasks.Unpicklable(), 3])
    with pytest.raises((RuntimeError, multiprocessing.pool.MaybeEncodingError),
                       match="cannot be pickled"):
        shared.apply(tasks.unpicklable)
    assert shared.map(tasks.double, range(10)) == list(range(0, 20, 2))


# ---- a call for each item ----


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
def test_map_is_in_order(shared, chunksize):
    expected = [2 * x for x in range(500)]
    assert shared.map(tasks.double, range(500), chunksize) == expected
    assert shared.map(tasks.double, list(range(500)), chunksize) == expected
    assert shared.map(tasks.double, (x for x in range(500)), chunksize) == expected
    assert shared.map_async(tasks.double, range(500), chunksize).get(GUARD) == expected
    assert list(shared.imap(tasks.double, range(500), chunksize or 1)) == expected
    assert sorted(shared.imap_unordered(tasks.double, range(500), chunksize or 1)) == expected


@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_starmap_unpacks(shared, chunksize):
    pairs = [(x, 10) for x in range(100)]
    expected = [x + 10 for x in range(100)]
    assert shared.starmap(tasks.add, pairs, chunksize) == expected
    assert shared.starmap(tasks.add, iter(pairs), chunksize) == expected
    assert shared.starmap_async(tasks.add, pairs, chunksize).get(GUARD) == expected
    assert shared.starmap(tasks.add, [[1], (1, 2)], chunksize) == [2, 3]


@pytest.mark.parametrize("items", [[], (), {}, set(), "", range(0), iter(())],
                         ids=lambda items: type(items).__name__)
def test_nothing_gives_nothing(shared, items):
    assert shared.map(tasks.double, items) == []
    assert shared.map_async(tasks.double, items, chunksize=3).get(GUARD) == []
    assert shared.starmap(tasks.add, items) == []
    assert list(shared.imap(tasks.double, items)) == []
    assert list(shared.imap_unordered(tasks.double, items, 2)) == []


def test_items_of_all_kinds_of_iterables(shared):
    assert shared.map(tasks.double, "ab", 2) == ["aa", "bb"]
    assert shared.map(tasks.double, {1: 2, 3: 4}, 2) == [2, 6]
    assert shared.map(tasks.double, b"ab") == [194, 196]
    with pytest.raises(TypeError, match="not iterable"):
        shared.map(tasks.double, 5)


def test_rows_of_an_array_are_its_items(shared):
    np = pytest.importorskip("numpy", reason="needs NumPy")
    table = np.arange(60.0).reshape(20, 3)
    for chunksize in (None, 1, 6):
        rows = shared.map(tasks.double, table, chunksize)
        assert [type(row) for row in rows] == [np.ndarray] * 20
        assert np.array_equal(rows, 2 * table)
    numbers = shared.map(tasks.double, np.arange(50), 7)
    assert {type(number) for number in numbers} == {np.dtype(int).type}
    assert numbers == list(range(0, 100, 2))


def test_map_raises_when_all_calls_are_done(shared, door):
    result = shared.map_async(door.task, [door.path, "/nowhere/at/all"], 1)
    door.entered()
    assert not result.ready()
    door.open()
    with pytest.raises(FileNotFoundError):
        result.get(GUARD)
    assert not result.successful()
    with pytest.raises(FileNotFoundError):
        result.get()


@pytest.mark.parametrize("chunksize", [None, 1, 2])
def test_an_error_in_the_middle_of_map(shared, chunksize):
    with pytest.raises(ValueError) as caught:
        shared.map(tasks.fail_at_3, range(10), chunksize)
    assert caught.value.args == (3,)
    assert shared.map(tasks.double, [1]) == [2]


def test_map_callbacks_are_called_once(shared):
    called = []
    result = shared.map_async(tasks.double, range(100), 7, called.append, called.append)
    assert result.get(GUARD) == called[0] == list(range(0, 200, 2))
    assert len(called) == 1
    result = shared.map_async(tasks.fail, range(10), 2, called.append, called.append)
    with pytest.raises(KeyError):
        result.get(GUARD)
    assert len(called) == 2 and type(called[1]) is KeyError
    result = shared.starmap_async(tasks.add, [(1, 2)], None, called.append)
    result.wait(GUARD)
    assert result.ready() and called[2] == [3]


@ours("multiprocessing does not call it for an empty list")
def test_callback_of_an_empty_map(shared):
    called = []
    result = shared.map_async(tasks.double, [], callback=called.append)
    assert result.get(GUARD) == [] and called == [[]]


def test_a_result_is_the_same_list_each_time(shared):
    result = shared.map_async(tasks.double, range(10))
    assert result.get(GUARD) is result.get()


def test_what_the_iterable_raises(shared):
    with pytest.raises(Said):
        shared.map(tasks.double, saying(5))
    for chunksize in (1, 4):
        results = shared.imap(tasks.double, saying(10), chunksize)
        # Of a chunk that was not full nothing is left.
        expected = [2 * x for x in range(10 // chunksize * chunksize)]
        assert [next(results) for _ in expected] == expected
        with pytest.raises(Said) as caught:
            next(results)
        assert caught.value.__cause__ is None
    found = []
    with pytest.raises(Said):
        found.extend(shared.imap_unordered(tasks.double, saying(10)))
    assert set(found) <= set(range(0, 20, 2))


@ours("multiprocessing does not look, and returns a list of None")
@pytest.mark.parametrize("chunksize", [0, -1])
def test_map_refuses_a_chunksize_below_one(shared, chunksize):
    with pytest.raises(ValueError, match=r"^Chunksize must be 1\+, not"):
        shared.map(tasks.double, [1], chunksize)


@pytest.mark.parametrize("chunksize", [0, -1])
def test_imap_refuses_a_chunksize_below_one(shared, chunksize):
    for method in (shared.imap, shared.imap_unordered):
        with pytest.raises(ValueError, match=f"^Chunksize must be 1\\+, not {chunksize}$"):
            method(tasks.double, [1], chunksize)


# ---- imap ----


def test_results_come_while_the_iterable_waits(shared):
    """The consumer of the first result is what the iterable waits for."""
    for method in (shared.imap, shared.imap_unordered):
        go_on = threading.Event()

        def items(go_on=go_on):
            yield 1
            assert go_on.wait(GUARD)
            yield 2

        results = method(tasks.double, items())
        assert results.next(GUARD) == 2
        go_on.set()
        assert results.next(GUARD) == 4
        with pytest.raises(StopIteration):
            results.next(GUARD)
        with pytest.raises(StopIteration):
            next(results)


@ours("there one thread feeds all calls, in turn")
def test_a_waiting_iterable_does_not_keep_others_waiting(shared):
    go_on = threading.Event()
    results = shared.imap(tasks.double, (x for x in [1] if go_on.wait(GUARD)))
    assert shared.map(tasks.double, range(100)) == list(range(0, 200, 2))
    assert list(shared.imap(tasks.double, range(100))) == list(range(0, 200, 2))
    go_on.set()
    assert list(results) == [2]


def test_next_can_be_asked_again_after_a_timeout(shared, door):
    results = shared.imap(door.task, [door.path])
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.01)
    door.open()
    assert results.next(GUARD) is None
    with pytest.raises(StopIteration):
        results.next(0.01)


def test_unordered_results_come_as_they_are_done(shared, door):
    def items():
        yield door.path
        door.entered()
        yield "/nowhere/at/all"

    results = shared.imap_unordered(door.task, items())
    with pytest.raises(FileNotFoundError):
        results.next(GUARD)
    door.open()
    assert results.next(GUARD) is None


def test_iteration_goes_on_after_an_error(shared):
    results = shared.imap(tasks.fail_at_3, range(6))
    found = []
    for _ in range(6):
        try:
            found.append(next(results))
        except ValueError as error:
            found.append(error.args)
    assert found == [0, 1, 2, (3,), 4, 5]
    assert list(results) == []


@ours("there one of the threads gets a TimeoutError")
def test_two_threads_share_an_iterator(shared):
    results = shared.imap(tasks.double, range(400))
    found = []
    threads = [threading.Thread(target=lambda: found.extend(results)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert sorted(found) == list(range(0, 800, 2))


def test_a_dropped_iterator_still_has_its_tasks_run(shared, kind, tmp_path):
    path = str(tmp_path / "written")
    shared.imap(tasks.write, (path for _ in range(300)))
    shared.imap_unordered(tasks.write, [path] * 300)
    assert eventually(lambda: os.path.exists(path) and os.path.getsize(path) == 600 * 8)


@ours("there the pipe decides how far ahead it looks")
def test_an_endless_iterable_is_not_run_far_ahead_of_the_workers(make, kind, door):
    pool = make(kind, 2)
    taken = []

    def items():
        while True:
            taken.append(None)
            yield door.path

    results = pool.imap(door.task, items())
    door.entered(2)
    # Two run, as many wait, and one item is in the hands of who puts it in.
    assert len(taken) <= 5
    door.open()
    for _ in range(50):
        results.next(GUARD)


def test_something_with_a_state_is_the_same_in_a_chunk_only(shared, kind):
    """As its pickle; threads share the thing itself."""
    if kind != "threads":
        assert shared.map(tasks.Counter(), range(4), 2) == [1, 2, 1, 2]
        assert shared.map(tasks.Counter(), range(4), 1) == [1, 1, 1, 1]
        assert list(shared.imap(tasks.Counter(), range(4))) == [1, 1, 1, 1]
    else:
        assert sorted(shared.map(tasks.Counter(), range(4), 2)) == [1, 2, 3, 4]
