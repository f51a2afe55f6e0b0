"""Executor.map: eager, in order, closing it cancels the rest; buffersize makes it lazy."""
import gc
import itertools
import threading
import time
import weakref

import pytest
from testkit import GUARD, Thing, add, boom, eventually, freed, stdlib_from

buffersize = stdlib_from(3, 14, "map() has no buffersize before")


def test_results_in_order(pool):
    executor = pool(3)
    assert list(executor.map(pow, range(10), range(10))) == [n**n for n in range(10)]
    assert list(executor.map(str, "abc")) == ["a", "b", "c"]
    assert list(executor.map(add, range(1000))) == list(range(1, 1001))


def test_stops_at_the_shortest_iterable(pool):
    assert list(pool(1).map(add, [1, 2, 3], itertools.count())) == [1, 3, 5]
    assert list(pool(1).map(add, [], itertools.count())) == []


def test_without_iterables(pool):
    assert list(pool(1).map(add)) == []


@pytest.mark.parametrize("chunksize", [1, 3, 1000, 0, -5, None, "ignored"])
def test_chunksize_is_ignored(pool, chunksize):
    assert list(pool(2).map(add, range(5), chunksize=chunksize)) == [1, 2, 3, 4, 5]


def test_submits_everything_before_the_first_result(pool, gate):
    go, pulled = gate(), []

    def numbers():
        for n in range(10):
            pulled.append(n)
            yield n

    executor = pool(1)
    executor.submit(go.wait, GUARD)
    results = executor.map(add, numbers())
    assert pulled == list(range(10))
    go.set()
    assert list(results) == list(range(1, 11))


def test_tasks_run_though_nobody_looks_at_the_results(pool):
    executor, seen = pool(2), []
    executor.map(seen.append, range(20))
    executor.shutdown()
    assert sorted(seen) == list(range(20))


def test_it_is_an_iterator(pool):
    results = pool(1).map(add, [1, 2])
    assert iter(results) is results
    assert [next(results), next(results)] == [2, 3]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(results)


def test_exception_of_a_task_is_raised_in_its_place(pool):
    results = pool(2).map(divmod, [5, 5, 5, 5], [2, 3, 0, 5])
    assert next(results) == (2, 1)
    assert next(results) == (1, 2)
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_exception_cancels_what_has_not_begun(pool, gate):
    go = gate()

    def work(n):
        if n == 0:
            raise LookupError("first")
        go.wait(GUARD)
        ran.append(n)

    ran, executor = [], pool(1)
    results = executor.map(work, range(10))
    with pytest.raises(LookupError):
        next(results)
    go.set()
    executor.shutdown()
    assert set(ran) <= {1}


@pytest.mark.parametrize("where", ["first", "later"])
def test_exception_of_an_iterable_is_raised_at_the_call(pool, where):
    def numbers():
        if where == "later":
            yield 1
        raise LookupError("iterable")

    executor = pool(1)
    with pytest.raises(LookupError, match="iterable"):
        executor.map(add, numbers())
    assert executor.submit(add, 1).result(GUARD) == 2


def test_iterable_that_is_none_is_raised_at_the_call(pool):
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        pool(1).map(add, 5)


def test_map_after_shutdown(pool):
    executor = pool(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        executor.map(add, [1])
    assert list(executor.map(add, [])) == []


# --- closing and dropping ---------------------------------------------------------------

class Rest:
    """A map whose first task has ended, whose second runs, and whose others are queued."""

    def __init__(self, pool, gate, **options):
        self.go, self.second = gate(), gate()
        self.ran, self.futures = [], []
        self.executor = pool(1)
        submit = self.executor.submit

        def remember(*args):
            self.futures.append(submit(*args))
            return self.futures[-1]

        self.executor.submit = remember
        self.results = self.executor.map(self.work, range(6), **options)

    def work(self, n):
        if n == 1:
            self.second.set()
            self.go.wait(GUARD)
        self.ran.append(n)
        return n

    def end(self):
        self.go.set()
        self.executor.shutdown()
        return self.ran


def test_closing_a_started_one_cancels_the_rest(pool, gate):
    rest = Rest(pool, gate)
    assert next(rest.results) == 0
    assert rest.second.wait(GUARD)
    rest.results.close()
    assert [f.cancelled() for f in rest.futures] == [False, False] + [True] * 4
    with pytest.raises(StopIteration):
        next(rest.results)
    assert rest.end() == [0, 1]


def test_dropping_a_started_one_cancels_the_rest(pool, gate):
    rest = Rest(pool, gate)
    assert next(rest.results) == 0
    assert rest.second.wait(GUARD)
    del rest.results
    gc.collect()
    assert [f.cancelled() for f in rest.futures] == [False, False] + [True] * 4
    assert rest.end() == [0, 1]


@pytest.mark.parametrize("how", ["close", "drop"])
def test_closing_one_that_was_never_started_cancels_nothing(pool, gate, how):
    rest = Rest(pool, gate)
    if how == "close":
        rest.results.close()
    del rest.results
    gc.collect()
    assert not any(f.cancelled() for f in rest.futures)
    assert rest.end() == list(range(6))


def test_timeout_cancels_the_rest_and_the_current_one(pool, gate):
    go = gate()
    executor, ran = pool(1), []
    executor.submit(go.wait, GUARD)
    results = executor.map(ran.append, range(5), timeout=0.01)
    with pytest.raises(TimeoutError) as caught:
        next(results)
    assert caught.value.args == ()
    with pytest.raises(StopIteration):
        next(results)
    go.set()
    executor.shutdown()
    assert ran == []


@pytest.mark.parametrize("timeout", [0, -1])
def test_timeout_that_is_over_at_once(pool, gate, timeout):
    go = gate()
    with pytest.raises(TimeoutError):
        next(pool(1).map(go.wait, [GUARD], timeout=timeout))


def test_finished_results_are_given_after_the_time_is_over(pool):
    executor = pool(1)
    results = executor.map(add, range(3), timeout=0)
    executor.submit(int).result(GUARD)
    assert list(results) == [1, 2, 3]


def test_the_clock_starts_at_the_call(pool, gate):
    go = gate()
    executor = pool(1)
    results = executor.map(go.wait, [GUARD], timeout=0.001)
    time.sleep(0.005)
    with pytest.raises(TimeoutError):
        next(results)


def test_timeout_none_and_long(pool):
    executor = pool(1)
    assert list(executor.map(add, [1], timeout=None)) == [2]
    assert list(executor.map(add, [1], timeout=GUARD)) == [2]


def test_timeout_is_checked_at_the_call(pool):
    with pytest.raises(TypeError):
        pool(1).map(add, [1], timeout="1")


def test_task_that_raises_timeout_error(pool):
    def work(n):
        raise TimeoutError("of the task")

    with pytest.raises(TimeoutError, match="of the task"):
        next(pool(1).map(work, [1], timeout=GUARD))


def test_cancelled_future_of_a_map(cf, pool, gate):
    rest = Rest(pool, gate)
    assert next(rest.results) == 0
    assert rest.second.wait(GUARD)
    rest.futures[2].cancel()
    rest.go.set()
    assert next(rest.results) == 1
    with pytest.raises(cf.CancelledError):
        next(rest.results)


def test_next_from_two_threads_at_once(pool, gate):
    go, errors, values = gate(), [], []

    def take():
        try:
            values.append(next(results))
        except ValueError as error:
            errors.append(str(error))

    results = pool(1).map(lambda n: go.wait(GUARD) and n, [1, 2])
    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    # Either both are served or one is told that the generator is busy.
    assert eventually(lambda: errors or not go.is_set())
    go.set()
    for thread in threads:
        thread.join(GUARD)
    assert len(errors) + len(values) == 2
    assert set(errors) <= {"generator already executing"}
    assert sorted(values) in ([1], [1, 2])


# --- references -------------------------------------------------------------------------

def test_no_reference_to_a_result_that_was_given(pool):
    for thing in pool(2).map(lambda n: Thing(), range(10)):
        reference = weakref.ref(thing)
        del thing
        assert freed(reference) or eventually(lambda r=reference: r() is None)


def test_iterator_does_not_keep_the_executor_alive(cf, gate):
    executor = cf.ThreadPoolExecutor(1)
    results = executor.map(add, [1, 2])
    reference = weakref.ref(executor)
    del executor
    assert freed(reference)
    assert list(results) == [2, 3]


# --- buffersize ---------------------------------------------------------------------------

@buffersize
@pytest.mark.parametrize("size", [1, 2, 4, 8, None])
def test_buffersize_gives_the_same_results(pool, size):
    executor = pool(2)
    assert list(executor.map(str, range(4), buffersize=size)) == ["0", "1", "2", "3"]
    assert list(executor.map(add, range(4), range(4), buffersize=size)) == [0, 2, 4, 6]
    assert list(executor.map(str, [], buffersize=size)) == []
    assert list(executor.map(str, buffersize=size)) == []


@buffersize
@pytest.mark.parametrize("size", ["foo", 2.0, [], b"1"])
def test_buffersize_must_be_an_integer(pool, size):
    with pytest.raises(TypeError, match=r"^buffersize must be an integer or None$"):
        pool(1).map(add, [1], buffersize=size)


@buffersize
@pytest.mark.parametrize("size", [0, -1, False, -2**70])
def test_buffersize_must_be_positive(pool, size):
    with pytest.raises(ValueError, match=r"^buffersize must be None or > 0$"):
        pool(1).map(add, [1], buffersize=size)


@buffersize
def test_buffersize_checks_before_it_pulls(pool):
    numbers = iter(range(3))
    with pytest.raises(ValueError):
        pool(1).map(add, numbers, buffersize=0)
    assert next(numbers) == 0


@buffersize
def test_buffersize_pulls_lazily(pool):
    pulled = []

    def numbers():
        for n in itertools.count():
            pulled.append(n)
            yield n

    results = pool(2).map(add, numbers(), buffersize=3)
    assert pulled == [0, 1, 2]
    for n in range(5):
        assert next(results) == n + 1
        assert pulled == list(range(4 + n))
    results.close()


@buffersize
def test_buffersize_larger_than_the_input(pool):
    numbers = iter(range(3))
    results = pool(1).map(add, numbers, buffersize=10**12)
    assert next(numbers, "empty") == "empty"
    assert list(results) == [1, 2, 3]


@buffersize
def test_buffersize_when_nobody_looks(pool):
    numbers, executor = iter(range(4)), pool(1)
    executor.map(str, numbers, buffersize=2)
    executor.shutdown()
    assert next(numbers) == 2


@buffersize
def test_buffersize_and_an_executor_that_is_gone(cf):
    executor, numbers = cf.ThreadPoolExecutor(1), iter(range(10))
    results = executor.map(add, numbers, buffersize=3)
    reference = weakref.ref(executor)
    del executor
    assert freed(reference)
    assert list(results) == [1, 2, 3]
    assert next(numbers) == 3


@buffersize
def test_buffersize_after_shutdown(pool):
    executor = pool(1)
    results = executor.map(add, range(10), buffersize=2)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        next(results)


@buffersize
def test_buffersize_and_an_iterable_that_fails_later(pool):
    def numbers():
        yield 1
        yield 2
        raise LookupError("later")

    results = pool(1).map(add, numbers(), buffersize=2)
    with pytest.raises(LookupError, match="later"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


@buffersize
def test_buffersize_closing_cancels_the_rest(pool, gate):
    rest = Rest(pool, gate, buffersize=4)
    assert next(rest.results) == 0
    assert rest.second.wait(GUARD)
    assert len(rest.futures) == 5
    rest.results.close()
    assert [f.cancelled() for f in rest.futures] == [False, False, True, True, True]
    assert rest.end() == [0, 1]


@buffersize
def test_buffersize_with_timeout(pool, gate):
    go = gate()
    results = pool(1).map(go.wait, itertools.repeat(GUARD), buffersize=2, timeout=0.01)
    with pytest.raises(TimeoutError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


@buffersize
def test_buffersize_uses_submit_of_the_instance(pool):
    executor, calls = pool(1), []
    original = executor.submit

    def submit(fn, *args):
        calls.append(args)
        return original(fn, *args)

    executor.submit = submit
    results = executor.map(add, itertools.count(), buffersize=2)
    assert calls == [(0,), (1,)]
    assert next(results) == 1
    assert calls == [(0,), (1,), (2,)]
    results.close()


@buffersize
def test_buffersize_with_a_failing_task(pool):
    results = pool(1).map(boom, ["a", "b", "c"], buffersize=1)
    with pytest.raises(ValueError, match=r"^a$"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
