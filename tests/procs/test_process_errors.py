"""What cannot be pickled or unpickled fails its own future, and says why; the pool lives."""
import sys
import threading
import traceback
import types

import proc_tasks as tasks
import pytest
from testkit import GUARD, ours

BREAKS = ours("there the whole pool breaks")


def fine(executor):
    """The pool is as good as new."""
    assert not executor._broken
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
    assert list(executor.map(tasks.add, range(5))) == [1, 2, 3, 4, 5]


def told(error):
    """All that the user is shown of an exception."""
    return "".join(traceback.format_exception(error))


def test_argument_that_does_not_pickle(shared):
    error = shared.submit(tasks.echo, tasks.make_lock()).exception(GUARD)
    assert isinstance(error, TypeError) and "cannot pickle '_thread.lock' object" in str(error)
    fine(shared)


def test_keyword_argument_that_does_not_pickle(shared):
    error = shared.submit(tasks.keywords, a=1, b=tasks.make_lock()).exception(GUARD)
    assert isinstance(error, TypeError)
    fine(shared)


def test_argument_whose_pickling_raises(shared):
    error = shared.submit(tasks.echo, [tasks.DumpsBadly("my reason")]).exception(GUARD)
    assert isinstance(error, ArithmeticError) and error.args == ("my reason",)
    fine(shared)


def test_function_that_does_not_pickle(shared):
    error = shared.submit(tasks.make_lock().acquire).exception(GUARD)
    assert isinstance(error, TypeError)
    fine(shared)


def test_submit_itself_never_raises_for_what_cannot_be_pickled(shared):
    """The future does; so a loop of submits is not cut off in the middle."""
    futures = [shared.submit(tasks.echo, [1, tasks.make_lock()][n % 2]) for n in range(10)]
    assert [f.exception(GUARD) is None for f in futures] == [True, False] * 5
    fine(shared)


@pytest.mark.parametrize("function", [tasks.make_lock, tasks.DumpsBadly])
def test_result_that_does_not_pickle(cf, shared, function):
    future = shared.submit(function)
    error = future.exception(GUARD)
    assert isinstance(error, TypeError | ArithmeticError)
    assert type(error.__cause__) is cf.process._RemoteTraceback
    with pytest.raises(type(error)):
        future.result()
    fine(shared)


def test_result_that_does_not_pickle_deep_inside(shared):
    error = shared.submit(tasks.echo_with_lock, {"a": [1, 2]}).exception(GUARD)
    assert isinstance(error, TypeError) and "lock" in str(error)
    fine(shared)


def test_exception_that_does_not_pickle(shared):
    error = shared.submit(tasks.raise_with_lock).exception(GUARD)
    assert isinstance(error, Exception)
    fine(shared)


@ours("there only the pickling error is told")
def test_exception_that_does_not_pickle_is_told(cf, shared):
    """Its text and the line that raised it are what the user needs."""
    text = told(shared.submit(tasks.raise_with_lock).exception(GUARD))
    assert "locked in" in text and "raise WithLock" in text
    assert "lock" in text
    fine(shared)


@BREAKS
def test_exception_that_does_not_unpickle(cf, shared):
    for _ in range(3):
        error = shared.submit(tasks.raise_two_arguments).exception(GUARD)
        assert isinstance(error, Exception)
        text = told(error)
        assert "salt and pepper" in text and "TwoArguments" in text
        assert "raise TwoArguments" in text
        fine(shared)


@BREAKS
def test_exception_with_something_that_does_not_unpickle(cf, shared):
    error = shared.submit(tasks.raise_loads_badly).exception(GUARD)
    assert isinstance(error, Exception)
    assert "RaisesLoadsBadly" in told(error)
    fine(shared)


@BREAKS
def test_argument_that_does_not_unpickle(cf, shared):
    """As BrokenProcessPool, for those who expect what the standard library raises."""
    for value in (tasks.LoadsBadly("no entry"), [1, {"a": tasks.LoadsBadly("no entry")}]):
        error = shared.submit(tasks.echo, value).exception(GUARD)
        assert isinstance(error, cf.BrokenProcessPool)
        assert "no entry" in told(error) and "ArithmeticError" in told(error)
        fine(shared)


@BREAKS
def test_result_that_does_not_unpickle(cf, shared):
    future = shared.submit(tasks.LoadsBadly, "no way back")
    error = future.exception(GUARD)
    assert isinstance(error, cf.BrokenProcessPool)
    assert "no way back" in told(error) and "ArithmeticError" in told(error)
    # Decoded once: whoever asks next sees the same.
    assert future.exception() is error
    with pytest.raises(cf.BrokenProcessPool):
        future.result()
    fine(shared)


@BREAKS
def test_result_that_does_not_unpickle_and_nobody_reads(cf, shared):
    for _ in range(20):
        shared.submit(tasks.LoadsBadly)
    fine(shared)


@BREAKS
def test_result_that_does_not_unpickle_and_only_a_callback_sees(cf, shared):
    seen, over = [], threading.Event()
    shared.submit(tasks.LoadsBadly).add_done_callback(
        lambda f: (seen.append(f.exception()), over.set()))
    assert over.wait(GUARD)
    assert isinstance(seen[0], cf.BrokenProcessPool)
    fine(shared)


@BREAKS
def test_function_that_does_not_unpickle(cf, shared):
    """An instance that can be called, but not loaded."""
    error = shared.submit(tasks.CallableThatLoadsBadly()).exception(GUARD)
    assert isinstance(error, cf.BrokenProcessPool)
    assert "ArithmeticError" in told(error)
    fine(shared)


@BREAKS
def test_function_that_is_nowhere_to_be_found_there(cf, shared):
    """Importable here by a trick; the worker says what it could not import."""
    module = types.ModuleType("only_in_the_parent")
    exec("def lost(): pass", vars(module))
    sys.modules["only_in_the_parent"] = module
    try:
        error = shared.submit(module.lost).exception(GUARD)
    finally:
        del sys.modules["only_in_the_parent"]
    # By value it could run all the same; by reference it fails alone, and tells the name.
    assert error is None or "only_in_the_parent" in told(error)
    fine(shared)


def test_pickling_that_recurses_too_deep(shared):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    error = shared.submit(tasks.echo, deep).exception(GUARD)
    assert isinstance(error, RecursionError)
    fine(shared)


def test_result_that_recurses_too_deep(shared):
    error = shared.submit(tasks.make_deep, 100_000).exception(GUARD)
    assert isinstance(error, RecursionError)
    fine(shared)


def test_pickling_that_submits(shared):
    """Encoding may run anything, submit() of the same pool included."""
    inner = []

    class Submits:
        def __reduce__(self):
            inner.append(shared.submit(tasks.add, 10))
            return int, ("7",)

    assert shared.submit(tasks.echo, [Submits(), Submits()]).result(GUARD) == [7, 7]
    assert {f.result(GUARD) for f in inner} == {11}


def test_pickling_that_changes_what_is_pickled(shared):
    things = [1, 2, 3]

    class Grows:
        def __reduce__(self):
            things.append("more")
            return int, ("7",)

    things.insert(0, Grows())
    result = shared.submit(tasks.echo, things).result(GUARD)
    assert result[:4] == [7, 1, 2, 3]
    fine(shared)
