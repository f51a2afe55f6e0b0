"""map(): order, chunks, laziness, timeouts, and what is left when it is given up."""
import itertools
import os
import weakref

import proc_tasks as tasks
import pytest
from testkit import GUARD, eventually, stdlib_from, stdlib_with_gil

CHUNKS = [1, 2, 3, 7, 64, 1000]


@pytest.mark.parametrize("chunksize", CHUNKS)
def test_results_are_in_order(shared, chunksize):
    results = shared.map(tasks.add, range(100), range(100, 200), chunksize=chunksize)
    assert list(results) == [100 + 2 * n for n in range(100)]


def test_default_chunksize(shared):
    assert list(shared.map(tasks.isprime, range(20))) == [tasks.isprime(n) for n in range(20)]


@pytest.mark.parametrize("chunksize", CHUNKS)
def test_shortest_iterable_decides(shared, chunksize):
    results = shared.map(tasks.add, range(5), itertools.count(10), chunksize=chunksize)
    assert list(results) == [10, 12, 14, 16, 18]


@pytest.mark.parametrize("chunksize", [1, 5])
def test_nothing_to_do(shared, chunksize):
    assert list(shared.map(tasks.add, [], chunksize=chunksize)) == []
    assert list(shared.map(tasks.add, chunksize=chunksize)) == []


@pytest.mark.parametrize("chunksize", [0, -1, -100])
def test_chunksize_must_be_positive_and_that_is_said_at_once(shared, chunksize):
    with pytest.raises(ValueError, match=r"^chunksize must be >= 1\.$"):
        shared.map(tasks.add, range(3), chunksize=chunksize)


@pytest.mark.parametrize("chunksize", [1, 4])
def test_failure_comes_in_its_turn_and_ends_the_iteration(cf, shared, chunksize):
    results = shared.map(divmod, [4, 6, 8, 9, 1, 5, 5], [2, 3, 4, 3, 0, 5, 5],
                         chunksize=chunksize)
    got = [next(results) for _ in range(4)]
    assert got == [(2, 0), (2, 0), (2, 0), (3, 0)]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert "ZeroDivisionError" in str(caught.value.__cause__)
    assert list(results) == []


def test_argument_that_does_not_pickle(shared):
    results = shared.map(tasks.add, [1, tasks.make_lock(), 3])
    assert next(results) == 2
    with pytest.raises(TypeError, match="cannot pickle"):
        next(results)
    assert shared.submit(tasks.add, 1).result(GUARD) == 2


def test_iterable_that_fails(shared):
    def numbers():
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(shared.map(tasks.add, numbers()))
    assert shared.submit(tasks.add, 1).result(GUARD) == 2


def test_tasks_are_submitted_before_the_first_result_is_asked_for(procs, door):
    executor, gate = procs(), door()
    results = executor.map(tasks.pid_at, [gate.path] * 2)
    workers = {pid for pid, _ in gate.entered(2)}
    gate.open()
    assert set(results) == workers


def test_the_input_is_read_at_the_call(shared):
    source = iter(range(10))
    results = shared.map(tasks.add, source)
    assert list(source) == []
    assert list(results) == list(range(1, 11))


@pytest.mark.parametrize("chunksize", [1, 3])
def test_timeout(procs, door, chunksize):
    executor, gate = procs(), door()
    results = executor.map(tasks.wait_at, [gate.path] * 2, timeout=0.05)
    with pytest.raises(TimeoutError):
        next(results)
    gate.open()
    assert executor.submit(tasks.add, 1).result(GUARD) == 2


@pytest.mark.parametrize("timeout", [None, GUARD, 1e6])
def test_time_enough(shared, timeout):
    assert list(shared.map(tasks.add, range(20), timeout=timeout)) == list(range(1, 21))


def test_timeout_counts_from_the_call(procs, door):
    executor, gate = procs(1), door()
    results = executor.map(tasks.wait_at, [gate.path], timeout=0)
    with pytest.raises(TimeoutError):
        next(results)
    gate.open()


def test_giving_up_cancels_the_rest(cf, procs, door):
    """What no worker has begun is not done any more."""
    executor, gate = procs(1), door()
    results = executor.map(tasks.call, [tasks.add] + [tasks.wait_at] * 60,
                           [1] + [gate.path] * 60)
    assert next(results) == 2
    gate.entered()
    results.close()
    gate.open()
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
    # The standard library has some handed out, which are beyond recall.
    assert len(gate.latecomers()) <= (0 if cf.implementation == "cfutures" else 10)
    with pytest.raises(StopIteration):
        next(results)


def test_dropping_the_iterator_cancels_the_rest(cf, procs, door):
    executor, gate = procs(1), door()
    results = executor.map(tasks.call, [tasks.add] + [tasks.wait_at] * 60,
                           [1] + [gate.path] * 60)
    assert next(results) == 2
    gate.entered()
    del results
    gate.open()
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
    assert len(gate.latecomers()) <= (0 if cf.implementation == "cfutures" else 10)


@stdlib_with_gil("a result is freed when the thread that unpickled it wakes: with the next one")
def test_results_are_let_go_of_as_they_are_read(shared):
    """The iterator keeps no result that it has given."""
    alive = []
    for result in shared.map(tasks.track_and_return, range(20)):
        alive.append(weakref.ref(result))
        del result
        assert eventually(lambda: sum(r() is not None for r in alive) == 0)


# --- buffersize -------------------------------------------------------------------------

LAZY = (3, 14, "map(buffersize=) is new there")


@stdlib_from(*LAZY)
@pytest.mark.parametrize("buffersize", [0, -1])
def test_buffersize_must_be_positive(shared, buffersize):
    with pytest.raises(ValueError, match="buffersize must be None or > 0"):
        shared.map(tasks.add, range(3), buffersize=buffersize)


@stdlib_from(*LAZY)
@pytest.mark.parametrize("buffersize", ["3", 1.5])
def test_buffersize_is_a_number(shared, buffersize):
    with pytest.raises(TypeError, match="buffersize must be an integer or None"):
        shared.map(tasks.add, range(3), buffersize=buffersize)


@stdlib_from(*LAZY)
@pytest.mark.parametrize("buffersize", [1, 2, 5, 100, None])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_results_with_a_buffer(shared, buffersize, chunksize):
    results = shared.map(tasks.add, range(30), buffersize=buffersize, chunksize=chunksize)
    assert list(results) == list(range(1, 31))


@stdlib_from(*LAZY)
def test_buffersize_limits_how_far_ahead_the_input_is_read(shared):
    source = iter(range(100))
    results = shared.map(tasks.add, source, buffersize=4)
    assert next(source) == 4
    assert next(results) == 1
    assert next(source) == 6
    results.close()


@stdlib_from(*LAZY)
def test_endless_input(shared):
    results = shared.map(tasks.add, itertools.count(), buffersize=3)
    assert list(itertools.islice(results, 50)) == list(range(1, 51))
    results.close()


# --- work for several workers -----------------------------------------------------------

def test_all_workers_take_part(procs, door):
    executor, gate = procs(3), door()
    results = executor.map(tasks.pid_at, [gate.path] * 3)
    came = {pid for pid, _ in gate.entered(3)}
    gate.open()
    assert set(results) == came and len(came) == 3 and os.getpid() not in came


def test_two_maps_at_once(shared):
    left = shared.map(tasks.add, range(100))
    right = shared.map(tasks.add, range(100, 200), chunksize=7)
    assert [(a, b) for a, b in zip(left, right, strict=True)] == [
        (n + 1, n + 101) for n in range(100)]


def test_results_are_in_order_whoever_is_done_first(shared):
    waits = [0.05, 0, 0.02, 0, 0, 0.01] * 4
    assert list(shared.map(tasks.sleep_and_return, waits, range(24))) == list(range(24))
