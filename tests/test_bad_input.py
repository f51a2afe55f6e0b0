"""Bad input gets the standard library's exception, with its text.

Most of the table is compared with the standard library itself, as it runs.
"""
import pytest
import testkit
from testkit import GUARD, ours


def outcome(call, implementation):
    """What the call does: the type and text of its exception, or "fine"."""
    make = testkit.load(implementation)
    try:
        call(make)
    except Exception as error:
        return type(error).__qualname__, str(error)
    return "fine"


def with_pool(action):
    """A call that needs a pool of one, shut down afterwards."""
    def call(make):
        with make.ThreadPoolExecutor(1) as executor:
            return action(make, executor)
    return call


class Index:
    """An integer, but not an int."""

    def __index__(self):
        return 2


def submitted(*args, **kwargs):
    return with_pool(lambda make, e: e.submit(*args, **kwargs).result(GUARD))


def shut(make):
    executor = make.ThreadPoolExecutor(1)
    executor.shutdown()
    return executor


#: The same exception and the same text.
SAME = {
    "no workers": lambda m: m.ThreadPoolExecutor(0),
    "negative workers": lambda m: m.ThreadPoolExecutor(max_workers=-1),
    "very negative workers": lambda m: m.ThreadPoolExecutor(-2**70),
    "workers as text": lambda m: m.ThreadPoolExecutor("2"),
    "workers as list": lambda m: m.ThreadPoolExecutor([2]),
    "workers as object": lambda m: m.ThreadPoolExecutor(object()),
    "workers as false": lambda m: m.ThreadPoolExecutor(False),
    "workers as true": lambda m: m.ThreadPoolExecutor(True),
    "workers as zero point zero": lambda m: m.ThreadPoolExecutor(0.0),
    "enormous number of workers": lambda m: m.ThreadPoolExecutor(2**100),
    "initializer no callable": lambda m: m.ThreadPoolExecutor(1, initializer=5),
    "initializer text": lambda m: m.ThreadPoolExecutor(1, "", "print"),
    "initializer false": lambda m: m.ThreadPoolExecutor(1, initializer=False),
    "unknown option": lambda m: m.ThreadPoolExecutor(max_worker=5),
    "too many arguments": lambda m: m.ThreadPoolExecutor(1, "", None, (), 5),
    "option twice": lambda m: m.ThreadPoolExecutor(1, max_workers=1),
    "task is no callable": submitted(5),
    "task is none": submitted(None, 1, a=2),
    "task with wrong arguments": submitted(lambda: 1, 2),
    "task with unknown keyword": submitted(len, nothing=1),
    "submit after shutdown": lambda m: shut(m).submit(int),
    "submit nonsense after shutdown": lambda m: shut(m).submit(5),
    "map after shutdown": lambda m: shut(m).map(int, [1]),
    "map of nothing after shutdown": lambda m: shut(m).map(int, []),
    "map over an int": with_pool(lambda m, e: e.map(int, 5)),
    "map over an int and a list": with_pool(lambda m, e: e.map(int, [1], 5)),
    "map with no callable": with_pool(lambda m, e: list(e.map(5, [1]))),
    "wait for none": lambda m: m.wait(None),
    "wait for a future": lambda m: m.wait(m.Future()),
    "wait for a list in a list": lambda m: m.wait([[]]),
    "wait with bad condition": lambda m: m.wait([m.Future()], 0, "x"),
    "wait with condition none": lambda m: m.wait([m.Future()], 0, None),
    "wait with bad condition, nothing pending": lambda m: m.wait([], 0, 5),
    "as_completed of none": lambda m: list(m.as_completed(None)),
    "as_completed of a future": lambda m: list(m.as_completed(m.Future())),
    "as_completed not begun": lambda m: m.as_completed(5, "1") and None,
    "future is not iterable": lambda m: iter(m.Future()),
    "future is not callable": lambda m: m.Future()(),
    "attribute that is not there": lambda m: m.Future().colour,
    "set_result twice": lambda m: (lambda f: (f.set_result(1), f.result("x")))(m.Future()),
    "abstract executor": lambda m: m.Executor().submit(int),
}


@ours("compares with the standard library itself")
@pytest.mark.parametrize("name", SAME)
def test_same_exception_and_text(cf, name):
    expected = outcome(SAME[name], "stdlib")
    assert outcome(SAME[name], "cfutures") == expected


#: The same type of exception; its text names the parameter in whatever words.
ALIKE = {
    "map with timeout text": (with_pool(lambda m, e: e.map(int, [1], timeout="1")), "str"),
    "wait with timeout text": (lambda m: m.wait([m.Future()], "1"), "str"),
    "as_completed with timeout text": (lambda m: list(m.as_completed([], "1")), "str"),
    "result with timeout text": (lambda m: m.Future().result("1"), "str"),
    "result with timeout list": (lambda m: m.Future().result([]), "list"),
    "exception with timeout text": (lambda m: m.Future().exception("1"), "str"),
    "submit nothing": (with_pool(lambda m, e: e.submit()), "fn"),
    "submit with fn by name": (with_pool(lambda m, e: e.submit(fn=int)), "fn"),
    "map without function": (with_pool(lambda m, e: e.map()), "fn"),
    "map with unknown keyword": (with_pool(lambda m, e: e.map(int, [1], chunk=1)), "chunk"),
    "shutdown with two arguments": (with_pool(lambda m, e: e.shutdown(True, True)), ""),
    "shutdown with unknown keyword": (with_pool(lambda m, e: e.shutdown(now=1)), "now"),
    "future with argument": (lambda m: m.Future(1), ""),
    "future with keyword": (lambda m: m.Future(loop=None), ""),
    "callback missing": (lambda m: m.Future().add_done_callback(), ""),
    "two callbacks": (lambda m: m.Future().add_done_callback(int, int), ""),
    "result missing": (lambda m: m.Future().set_result(), ""),
    "exception missing": (lambda m: m.Future().set_exception(), ""),
    "cancel with argument": (lambda m: m.Future().cancel(1), ""),
    "result with two timeouts": (lambda m: m.Future().result(1, 2), ""),
    "result with timeout twice": (lambda m: m.Future().result(1, timeout=2), ""),
    "result with unknown keyword": (lambda m: m.Future().result(time=1), "time"),
    "wait for nothing": (lambda m: m.wait(), "fs"),
    "wait with unknown keyword": (lambda m: m.wait([], when=1), "when"),
    "as_completed of nothing": (lambda m: m.as_completed(), "fs"),
    "as_completed with unknown keyword": (lambda m: m.as_completed([], when=1), "when"),
    "initializer arguments no iterable":
        (lambda m: m.ThreadPoolExecutor(1, initializer=int, initargs=5)
         and (_ for _ in ()).throw(TypeError("")), ""),
}


@pytest.mark.parametrize("name", ALIKE)
def test_same_kind_of_exception(cf, name):
    call, word = ALIKE[name]
    kind, text = outcome(call, cf.implementation)
    assert kind == "TypeError"
    assert word in text


@pytest.mark.parametrize("things", [[1], "ab", [None, object()]])
@pytest.mark.filterwarnings("error")
def test_what_is_no_future_is_an_attribute_error(cf, things):
    """Nothing is complained about on the side: the exception says it all."""
    with pytest.raises(AttributeError, match="object has no attribute '_"):
        cf.wait(things)
    with pytest.raises(AttributeError, match="object has no attribute '_"):
        next(cf.as_completed(things))
    pending = cf.Future()
    with pytest.raises(AttributeError):
        cf.wait([pending, *things], 0, cf.FIRST_COMPLETED)
    with pytest.raises(AttributeError):
        next(cf.as_completed([pending, *things], 0))
    assert pending._waiters == []
    pending.set_result(1)


@ours("compares with the standard library itself")
def test_a_fraction_of_a_worker(cf):
    """Odd, but it works there: 1.5 means up to two threads."""
    def call(make):
        with make.ThreadPoolExecutor(1.5) as executor:
            return executor.submit(int).result(GUARD)

    assert outcome(call, "cfutures") == outcome(call, "stdlib") == "fine"


@ours("compares with the standard library itself")
def test_an_index_of_workers(cf):
    def call(make):
        make.ThreadPoolExecutor(Index())

    assert outcome(call, "cfutures") == outcome(call, "stdlib")


def test_initializer_arguments_that_cannot_be_unpacked_break_the_pool(cf, pool, caplog):
    executor = pool(1, initializer=print, initargs=5)
    with pytest.raises(cf.BrokenThreadPool):
        executor.submit(int).result(GUARD)


def test_a_prefix_that_is_no_text(pool):
    import threading
    executor = pool(1, thread_name_prefix=7)
    assert executor.submit(threading.current_thread).result(GUARD).name == "7_0"


@pytest.mark.parametrize("method", ["result", "exception", "cancel", "running", "done",
                                    "cancelled", "set_running_or_notify_cancel"])
def test_methods_refuse_what_is_no_future(cf, method):
    with pytest.raises((TypeError, AttributeError)):
        getattr(cf.Future, method)(object())
