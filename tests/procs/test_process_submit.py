"""submit(): arguments and results arrive as they were sent, exceptions with their story."""
import collections
import concurrent.futures
import datetime
import decimal
import enum
import fractions
import functools
import math
import operator
import os
import pathlib
import threading
import traceback
import types
import uuid

import proc_tasks as tasks
import pytest
from testkit import GUARD, eventually, ours


class Colour(enum.Enum):
    RED = 1


Pair = collections.namedtuple("Pair", "left right")

VALUES = [
    None, True, False, Ellipsis, NotImplemented,
    0, 1, -1, 255, 256, 2**31 - 1, 2**31, -2**31 - 1, 2**62, 2**63 - 1, 2**63, -2**63,
    -2**63 - 1, 2**64, 10**100, -10**100,
    0.0, -0.0, 1.5, 1e308, 5e-324, math.inf, -math.inf, 1j, -0j, complex(math.inf, 2),
    "", "a", "\0", "straße", "日本", "\U0001f600", "\ud800", "x" * 71, "x" * 72, "x" * 73,
    "é" * 300, "x" * 70_000, "\U0001f600" * 20_000,
    b"", b"\0", b"bytes", bytes(range(256)), b"x" * 72, b"x" * 70_000,
    bytearray(b"bytearray"), bytearray(),
    (), (1,), (1, (2, (3,))), ("a", b"a", 1, 1.0, None, True), (1,) * 30,
    [], [1, "two", [3.0, None]], list(range(1000)), {}, {"a": 1, 2: [3], None: ()},
    set(), {1, "a"}, frozenset({1, 2}), range(3, 30, 4),
    dict.fromkeys(range(100), "y" * 2),
    decimal.Decimal("1.10"), fractions.Fraction(1, 3), Colour.RED,
    datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
    datetime.timedelta(days=1), pathlib.PurePosixPath("/a/b"), uuid.UUID(int=5),
    collections.OrderedDict(b=1, a=2), collections.deque([1, 2], maxlen=5),
    collections.Counter("aab"), types.SimpleNamespace(a=1),
    tasks.MyInt(5), tasks.MyStr("s"), tasks.MyBytes(b"b"), tasks.MyList([1]),
    tasks.MyDict(a=1), tasks.Point(3), tasks.Point(tasks.Point(4)),
    int, tasks.Point, tasks.add, len, slice,
]


def test_arguments_and_results_are_what_they_were(shared):
    """Value, exact type and text, in both directions."""
    sent = [(value, shared.submit(tasks.describe, value), shared.submit(tasks.echo, value))
            for value in VALUES]
    for value, described, echoed in sent:
        result = echoed.result(GUARD)
        assert type(result) is type(value)
        if isinstance(value, complex | float):
            assert repr(result) == repr(value)
        else:
            assert result == value
        # Sets have an order of their own in each process, NaN is not here.
        if not isinstance(value, set | frozenset):
            assert described.result(GUARD) == tasks.describe(value)


def test_not_a_number(shared):
    assert math.isnan(shared.submit(tasks.echo, math.nan).result(GUARD))


def test_pair_defined_in_a_test_module(shared):
    assert shared.submit(tasks.echo, Pair(1, [2])).result(GUARD) == Pair(1, [2])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 9, 20, 300])
def test_any_number_of_arguments(shared, count):
    numbers = tuple(range(count))
    assert shared.submit(tasks.everything, *numbers).result(GUARD) == (numbers, {})
    named = {f"k{n}": n for n in numbers}
    assert shared.submit(tasks.everything, *numbers, **named).result(GUARD) == (numbers, named)
    assert list(shared.submit(tasks.keywords, **named).result(GUARD)) == list(named)


def test_keywords_that_submit_itself_might_want(shared):
    named = {"self": 1, "fn": 2, "timeout": 3, "args": 4}
    assert shared.submit(tasks.keywords, **named).result(GUARD) == named


@pytest.mark.parametrize(("value", "message"), [((), "argument"), ((), "positional")])
def test_submit_needs_a_function(shared, value, message):
    with pytest.raises(TypeError, match=message):
        shared.submit(*value)


def test_something_that_cannot_be_called_fails_in_its_future(shared):
    error = shared.submit(5).exception(GUARD)
    assert isinstance(error, TypeError) and str(error) == "'int' object is not callable"
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        shared.submit(tasks.add).result(GUARD)


@pytest.mark.parametrize(("function", "arguments", "expected"), [
    (len, ([1, 2],), 2),
    (str.upper, ("a",), "A"),
    ("abc".upper, (), "ABC"),
    ([3, 1].index, (1,), 1),
    (math.sqrt, (4,), 2.0),
    (int.from_bytes, (b"\1\0", "big"), 256),
    (tasks.Point(3).moved, (4,), tasks.Point(7)),
    (tasks.Point.at, (4,), tasks.Point(4)),
    (tasks.Point.half, (4,), 2.0),
    (tasks.Point(3), (4,), 7),
    (tasks.Point, (4,), tasks.Point(4)),
    (operator.itemgetter(1), ("ab",), "b"),
    (operator.attrgetter("x"), (tasks.Point(8),), 8),
    (functools.partial(tasks.add, 1), (5,), 6),
    (functools.partial(tasks.add, b=2), (5,), 7),
    (tasks.partial_add, (5,), 15),
    (os.path.join, ("a", "b"), "a/b"),
], ids=repr)
def test_kinds_of_callables(shared, function, arguments, expected):
    assert shared.submit(function, *arguments).result(GUARD) == expected


def test_callable_object_is_sent_as_it_is_now(shared):
    """Not as it was when it was first submitted."""
    point = tasks.Point(1)
    partial = functools.partial(tasks.everything, seen := [])
    assert shared.submit(point, 1).result(GUARD) == 2
    assert shared.submit(partial).result(GUARD) == (([],), {})
    point.x = 10
    seen.append("new")
    assert shared.submit(point, 1).result(GUARD) == 11
    assert shared.submit(point.moved, 1).result(GUARD) == tasks.Point(11)
    assert shared.submit(partial).result(GUARD) == ((["new"],), {})


def test_arguments_are_sent_as_they_are_now(shared):
    things = []
    futures = []
    for n in range(50):
        things.append(n)
        futures.append(shared.submit(tasks.echo, things))
    # The standard library pickles later, but before the task runs.
    cf_now = [f.result(GUARD) for f in futures]
    assert [r[:n + 1] for n, r in enumerate(cf_now)] == [
        list(range(n + 1)) for n in range(50)]


@ours("there the arguments are pickled at some later time")
def test_change_after_submit_does_not_reach_the_task(cf, procs, door):
    executor, gate = procs(1), door()
    executor.submit(tasks.wait_at, gate.path)
    gate.entered()
    things = ["as submitted"]
    futures = [executor.submit(tasks.echo, things) for _ in range(20)]
    things.append("too late")
    gate.open()
    assert [f.result(GUARD) for f in futures] == [["as submitted"]] * 20


def test_one_object_twice_is_one_object_there(shared):
    for value in ([1], {"a": 1}, tasks.Point(1), "some text", "x" * 100_000, b"some bytes",
                  b"x" * 100_000, (1, [2]), bytearray(70_000)):
        assert shared.submit(tasks.same, value, value).result(GUARD) is True, value
        assert shared.submit(tasks.same, a=value, b=value).result(GUARD) is True, value
        first, second = shared.submit(tasks.twice, value).result(GUARD)
        assert first is second


def test_equal_objects_stay_two(shared):
    for left, right in (([1], [1]), ({}, {}), (tasks.Point(1), tasks.Point(1))):
        assert shared.submit(tasks.same, left, right).result(GUARD) is False


def test_object_that_contains_itself(shared):
    ring = [1]
    ring.append(ring)
    result = shared.submit(tasks.echo, ring).result(GUARD)
    assert result[0] == 1 and result[1] is result


def test_result_is_the_same_object_each_time(shared):
    future = shared.submit(tasks.echo, [1, 2])
    assert future.result(GUARD) is future.result(GUARD)
    failed = shared.submit(tasks.boom)
    assert failed.exception(GUARD) is failed.exception(GUARD)


def test_states_of_a_future(procs, door):
    executor, gate = procs(1), door()
    future = executor.submit(tasks.wait_at, gate.path, "through")
    gate.entered()
    assert eventually(future.running)
    assert not future.done() and not future.cancelled() and not future.cancel()
    assert "state=running" in repr(future)
    with pytest.raises(TimeoutError):
        future.result(0)
    with pytest.raises(TimeoutError):
        future.exception(0.001)
    gate.open()
    assert future.result(GUARD) == "through"
    assert future.done() and not future.running() and not future.cancel()
    assert "state=finished returned str" in repr(future)
    failed = executor.submit(tasks.boom)
    assert isinstance(failed.exception(GUARD), ValueError)
    assert "state=finished raised ValueError" in repr(failed)


def test_future_and_executor_are_of_the_standard_types(cf, shared):
    future = shared.submit(int)
    assert isinstance(future, cf.Future) and isinstance(future, concurrent.futures.Future)
    assert isinstance(shared, cf.Executor)
    assert isinstance(shared, concurrent.futures.Executor)
    assert isinstance(shared, concurrent.futures.ProcessPoolExecutor)
    future.result(GUARD)


def test_where_a_task_runs(shared, method):
    here = shared.submit(tasks.whereabouts).result(GUARD)
    assert here["pid"] != os.getpid() and here["pid"] in shared._processes
    assert here["daemon"] is False and here["main thread"] is True
    assert shared._processes[here["pid"]].name == here["name"]
    if method != "forkserver":
        assert here["parent"] == os.getpid()


def test_submit_from_several_threads(shared):
    results = {}

    def play(number):
        futures = [shared.submit(tasks.add, number * 1000, n) for n in range(100)]
        results[number] = [f.result(GUARD) for f in futures]

    threads = [threading.Thread(target=play, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert results == {n: [n * 1000 + k for k in range(100)] for n in range(6)}


def test_one_future_read_by_several_threads(shared):
    """The result is decoded once, and everybody has the same object."""
    for _ in range(20):
        future, results = shared.submit(tasks.echo, [1, {"a": "b"}]), []

        def read(future=future, results=results):
            results.append(future.result(GUARD))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD)
        assert results == [[1, {"a": "b"}]] * 4
        assert all(result is results[0] for result in results)


def test_pools_inside_workers(cf, procs, method):
    executor = procs(1)
    outer, inner = executor.submit(tasks.nested, cf.implementation, method).result(2 * GUARD)
    assert outer in executor._processes
    assert inner not in (outer, os.getpid())


# --- exceptions -------------------------------------------------------------------------

def test_exception_arrives_with_the_remote_traceback_as_its_cause(cf, shared):
    error = shared.submit(tasks.boom, "over there").exception(GUARD)
    assert type(error) is ValueError and error.args == ("over there",)
    assert type(error.__cause__) is cf.process._RemoteTraceback
    text = str(error.__cause__)
    assert text == error.__cause__.tb
    assert text.startswith('\n"""\nTraceback (most recent call last):\n')
    assert text.endswith('ValueError: over there\n"""')
    assert "raise ValueError(text)  # a remote line" in text
    assert "in boom" in text and "proc_tasks.py" in text
    assert error.__traceback__ is None


def test_raised_exception_shows_both_tracebacks(shared):
    future = shared.submit(tasks.boom)
    with pytest.raises(ValueError, match="boom") as caught:
        future.result(GUARD)
    assert caught.value is future.exception()
    text = "".join(traceback.format_exception(caught.value))
    assert "# a remote line" in text
    assert "The above exception was the direct cause of the following exception" in text
    assert "in test_raised_exception_shows_both_tracebacks" in text


def test_chained_exceptions_are_told(shared):
    error = shared.submit(tasks.raise_chained).exception(GUARD)
    assert type(error) is OSError and error.args == ("the second",)
    text = str(error.__cause__)
    assert "KeyError: 'the first'" in text and "OSError: the second" in text


@pytest.mark.parametrize("error", [
    SystemExit(3), SystemExit(), KeyboardInterrupt(), GeneratorExit("g"), StopIteration(5),
    tasks.Singular("m", 12), OSError(2, "No such file", "name"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), KeyError("k"), RecursionError(),
    AssertionError(), MemoryError("m"), ExceptionGroup("g", [ValueError(1), OSError(2)]),
    BaseExceptionGroup("b", [KeyboardInterrupt()]), concurrent.futures.CancelledError("c"),
    TimeoutError("t"),
], ids=lambda error: type(error).__name__)
def test_any_exception_is_the_task_s_and_not_the_worker_s(shared, error):
    before = set(shared._processes)
    future = shared.submit(tasks.raise_it, error)
    result = future.exception(GUARD)
    assert type(result) is type(error) and str(result) == str(error)
    if not isinstance(error, BaseExceptionGroup):
        assert result.args == error.args
    assert vars(result).keys() >= vars(error).keys()
    assert not future.cancelled() and future.done()
    assert shared.submit(tasks.add, 1).result(GUARD) == 2
    assert set(shared._processes) == before


@ours("older standard libraries take a falsy exception for none")
def test_falsy_exception_is_an_exception(cf, shared):
    future = shared.submit(tasks.raise_it, tasks.Falsy("f"))
    with pytest.raises(tasks.Falsy):
        future.result(GUARD)
    assert type(future.exception()) is tasks.Falsy


def test_exception_keeps_its_attributes_and_notes(shared):
    error = tasks.Singular("message", 12)
    error.extra = {"more": 1}
    error.add_note("a note")
    result = shared.submit(tasks.raise_it, error).exception(GUARD)
    assert (result.code, result.seen, result.extra) == (12, ["here"], {"more": 1})
    assert result.__notes__ == ["a note"]


def test_exception_as_an_ordinary_result(shared):
    result = shared.submit(tasks.echo, ValueError("not raised")).result(GUARD)
    assert type(result) is ValueError and result.args == ("not raised",)
    assert result.__cause__ is None


def test_recursion_error_of_a_task(shared):
    error = shared.submit(tasks.call, _endless).exception(GUARD)
    assert isinstance(error, RecursionError)


def _endless():
    return _endless()


# --- callbacks --------------------------------------------------------------------------

def test_callbacks_are_called_once_in_order_while_nobody_waits(procs, door):
    executor, gate, seen, over = procs(1), door(), [], threading.Event()
    future = executor.submit(tasks.wait_at, gate.path, "x")
    for number in range(5):
        future.add_done_callback(lambda f, n=number: seen.append((n, f is future, f.done())))
    future.add_done_callback(lambda f: over.set())
    gate.entered()
    assert seen == []
    gate.open()
    assert over.wait(GUARD)
    assert seen == [(n, True, True) for n in range(5)]
    future.add_done_callback(lambda f: seen.append("at once"))
    assert seen[5:] == ["at once"]
    assert future.result() == "x"


def test_callback_of_a_future_that_nobody_holds(shared):
    seen, over = [], threading.Event()

    def note(future):
        seen.append(future.result())
        over.set()

    shared.submit(tasks.add, 4).add_done_callback(note)
    assert over.wait(GUARD)
    assert seen == [5]


def test_callback_of_a_failure(shared):
    seen, over = [], threading.Event()
    future = shared.submit(tasks.boom)
    future.add_done_callback(lambda f: (seen.append(f.exception()), over.set()))
    assert over.wait(GUARD)
    assert isinstance(seen[0], ValueError)


def test_callback_that_fails_is_logged_and_hurts_nobody(shared, caplog):
    over = threading.Event()

    def fail(future):
        raise LookupError("in a callback")

    future = shared.submit(tasks.slow_pid)
    future.add_done_callback(fail)
    future.add_done_callback(lambda f: over.set())
    assert over.wait(GUARD)
    assert "exception calling callback for <Future" in caplog.text
    assert "in a callback" in caplog.text
    assert shared.submit(tasks.add, 1).result(GUARD) == 2


def test_callback_may_submit(shared):
    """A chain of tasks, each submitted by the callback of the one before."""
    over, numbers = threading.Event(), []

    def next_one(future):
        numbers.append(future.result())
        if len(numbers) < 50:
            shared.submit(tasks.add, len(numbers)).add_done_callback(next_one)
        else:
            over.set()

    shared.submit(tasks.add, 0).add_done_callback(next_one)
    assert over.wait(GUARD)
    assert numbers == list(range(1, 51))


def test_many_callbacks_all_come(shared):
    """Thousands of completions that nobody but the callbacks looks at."""
    count, over = [], threading.Event()

    def note(future):
        count.append(future.result())
        if len(count) == 2000:
            over.set()

    for n in range(2000):
        shared.submit(tasks.add, n).add_done_callback(note)
    assert over.wait(2 * GUARD)
    assert sorted(count) == list(range(1, 2001))


def test_slow_callback_does_not_keep_others_from_their_results(shared):
    inside, go = threading.Event(), threading.Event()
    future = shared.submit(tasks.slow_pid)
    future.add_done_callback(lambda f: (inside.set(), go.wait(GUARD)))
    try:
        assert inside.wait(GUARD)
        assert future.done()
    finally:
        go.set()


@ours("there results pass through the thread that calls callbacks")
def test_blocked_callback_does_not_keep_others_from_their_results_at_all(cf, shared):
    inside, go = threading.Event(), threading.Event()
    try:
        shared.submit(tasks.slow_pid).add_done_callback(
            lambda f: (inside.set(), go.wait(GUARD)))
        assert inside.wait(GUARD)
        assert [shared.submit(tasks.add, n).result(GUARD) for n in range(5)] == [1, 2, 3, 4, 5]
    finally:
        go.set()


def test_done_is_seen_without_waiting(shared):
    """Polling done() must come to an end, though nobody waits."""
    future = shared.submit(tasks.slow_pid)
    assert eventually(future.done)
    assert future.result(0) in shared._processes
