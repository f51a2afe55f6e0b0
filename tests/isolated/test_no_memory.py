"""The n-th allocation fails: the call raises MemoryError or succeeds; nothing crashes or hangs.

`_testcapi.set_nomemory` makes CPython's allocators fail. The threads are there
before that: CPython's own Thread.start() hangs if the new thread dies at birth.
"""
import pytest
from testkit import FREE_THREADED, ours, run_child

try:
    from _testcapi import set_nomemory  # noqa: F401
except ImportError:
    pytest.skip("this interpreter has no _testcapi", allow_module_level=True)

pytestmark = ours("the standard library hangs when memory fails at the wrong moment")

COMMON = """
import gc, logging, weakref
from _testcapi import remove_mem_hooks, set_nomemory
logging.disable(logging.CRITICAL)
gc.disable()
sys.unraisablehook = lambda info: None
executor = cf.ThreadPoolExecutor(2)
meeting = threading.Barrier(2)
list(executor.map(lambda _: meeting.wait(), range(2)))
outcomes = {"fine": 0, "MemoryError": 0}

def attempt(prepare, call, check, most=MOST):
    # Fail each allocation in turn until the call gets by without failing.
    fine = 0
    for n in range(most):
        given = prepare()
        try:
            set_nomemory(n, n + WIDTH)
            try:
                result = call(*given)
            finally:
                remove_mem_hooks()
        except (MemoryError, RuntimeError, SystemError) as error:
            # So says CPython when a lock of its own cannot be made, and when the
            # frame of a Python function cannot.
            if isinstance(error, RuntimeError):
                assert str(error) == "can't allocate lock", error
            elif isinstance(error, SystemError):
                assert str(error).startswith("<function "), error
            outcomes["MemoryError"] += 1
            fine = 0
            result = None
        else:
            outcomes["fine"] += 1
            fine += 1
        check(result, *given)
        result = given = None
        if fine > 60:
            break

def nothing(*ignored):
    pass

def add(a, b=1, c=2, d=3, e=4):
    return a + b

# No function is made while memory fails: CPython 3.13.0 crashes by itself then.
def fail(future):
    raise ValueError("failed")

def finished(value=None):
    future = cf.Future()
    future.set_result(value)
    return future
"""

FINISH = """
# All is as good as before.
for _ in range(20):
    assert executor.submit(add, 1).result(GUARD) == 2
assert list(executor.map(add, range(5))) == [1, 2, 3, 4, 5]
futures = [executor.submit(add, n) for n in range(10)]
assert cf.wait(futures, GUARD).not_done == set()
executor.shutdown()
print(outcomes)
"""

CALLS = {
    "future": """
attempt(lambda: (), cf.Future, nothing)
""",
    "submit and result": """
def check(result, *given):
    assert result in (None, 3)
attempt(lambda: (), lambda: executor.submit(add, 1, b=2).result(GUARD), check)
attempt(lambda: (), lambda: executor.submit(add, 1, 2, c=3, d=4, e=5).result(GUARD), check)
""",
    "submit": """
futures = []
attempt(lambda: (), lambda: futures.append(executor.submit(add, 1, 2)), nothing)
assert cf.wait(futures, GUARD).not_done == set()
for future in futures:
    assert future.exception(0) is None and future.result(0) == 3 \\
        or isinstance(future.exception(0), MemoryError)
""",
    "submit to a new pool": """
# Growing is Python's Thread.start(), which is kept out of it.
class Still(cf.ThreadPoolExecutor):
    def _spawn(self, number):
        raise RuntimeError("no threads here")
def call(e):
    try:
        e.submit(add, 1)
    except RuntimeError as error:
        assert str(error) == "no threads here"
attempt(lambda: (Still(1),), call, lambda result, e: e.shutdown(wait=False))
""",
    "new pool": """
attempt(lambda: (), lambda: cf.ThreadPoolExecutor(3, "name", int, (1,)), nothing)
""",
    "wait for done ones": """
attempt(lambda: ([finished() for _ in range(5)],), cf.wait, nothing)
""",
    "wait for the first": """
def check(result, futures):
    assert futures[0]._waiters == []
    futures[0].set_result(1)
attempt(lambda: ([cf.Future() for _ in range(5)],),
        lambda fs: cf.wait(fs, 0.0001, "FIRST_COMPLETED"), check)
""",
    "wait for all": """
attempt(lambda: ([cf.Future() for _ in range(5)],), lambda fs: cf.wait(fs, 0.0001), nothing)
""",
    "wait for running ones": """
attempt(lambda: (),
        lambda: cf.wait([executor.submit(add, n) for n in range(5)], GUARD), nothing)
attempt(lambda: (), lambda: cf.wait([executor.submit(add, n) for n in range(5)], GUARD,
                                    "FIRST_EXCEPTION"), nothing)
""",
    "as_completed": """
attempt(lambda: ([finished() for _ in range(5)],), lambda fs: list(cf.as_completed(fs)),
        nothing)
attempt(lambda: ([finished()] * 3 + [finished()],), lambda fs: list(cf.as_completed(fs)),
        nothing)
""",
    "as_completed of running ones": """
attempt(lambda: (), lambda: list(cf.as_completed(
    [executor.submit(add, n) for n in range(5)], GUARD)), nothing)
""",
    "as_completed that times out": """
def call(futures):
    try:
        return list(cf.as_completed(futures, 0))
    except TimeoutError:
        return None
attempt(lambda: ([cf.Future(), finished()],), call, nothing)
""",
    "map": """
attempt(lambda: (), lambda: list(executor.map(add, range(20))), nothing)
attempt(lambda: (), lambda: list(executor.map(add, range(20), buffersize=3)), nothing)
attempt(lambda: (), lambda: list(executor.map(add, *[range(3)] * 5)), nothing)
""",
    "map with many iterables": """
def many(*args):
    return len(args)
attempt(lambda: (), lambda: list(executor.map(many, *[range(3)] * 12)), nothing)
""",
    "callbacks": """
def call(future):
    future.add_done_callback(nothing)
    future.add_done_callback(nothing)
    future.set_result(1)
attempt(lambda: (cf.Future(),), call, nothing)
""",
    "callbacks that fail": """
def call(future):
    future.add_done_callback(fail)
    future.add_done_callback(nothing)
    future.set_result(1)
attempt(lambda: (cf.Future(),), call, nothing)
""",
    "set_result": """
def check(result, future):
    # Whatever failed on the way, it is either done or can be done again.
    if not future.done():
        future.set_result(2)
    assert future.result(0) in (1, 2)
attempt(lambda: (cf.Future(),), lambda f: f.set_result(1), check)
""",
    "set_result when others wait": """
def prepare():
    future = cf.Future()
    future._condition, future._waiters, future._done_callbacks
    return (future,)
def check(result, future):
    if not future.done():
        future.set_result(2)
    assert future.result(0) in (1, 2)
attempt(prepare, lambda f: f.set_result(1), check)
""",
    "set_exception and result": """
class Error(Exception):
    pass
def call(future):
    future.set_exception(Error("x"))
    try:
        future.result()
    except Error:
        pass
attempt(lambda: (cf.Future(),), call, nothing)
""",
    "cancel": """
def check(result, future):
    assert future.cancel()
attempt(lambda: (cf.Future(),), lambda f: f.cancel(), check)
def call(future):
    future.cancel()
    try:
        future.result()
    except cf.CancelledError:
        pass
    try:
        future.set_result(1)
    except cf.InvalidStateError:
        pass
    future.set_running_or_notify_cancel()
attempt(lambda: (cf.Future(),), call, nothing)
""",
    "unexpected state": """
def call(future):
    try:
        future.set_running_or_notify_cancel()
    except RuntimeError:
        pass
attempt(lambda: (finished(),), call, nothing)
""",
    "attributes": """
def call(future):
    future._condition
    future._waiters
    future.add_done_callback(nothing)
    future._done_callbacks
    future._state
    future._result = 1
    future._exception
    future._state = "FINISHED"
    future.colour = "red"
    repr(future)
    future._done_callbacks = []
attempt(lambda: (cf.Future(),), call, nothing)
""",
    "mixed with standard futures": """
import concurrent.futures as standard
def prepare():
    return [standard.Future(), cf.Future(), standard.Future()],
def check(result, futures):
    for future in futures:
        future.set_result(1)
        assert future.result(0) == 1
for when in ("ALL_COMPLETED", "FIRST_COMPLETED"):
    attempt(prepare, lambda fs: cf.wait(fs, 0.0001, when), check)
def call(futures):
    ready = cf.as_completed(futures, 0)
    try:
        next(ready)
    except TimeoutError:
        pass
attempt(prepare, call, check)
""",
    "shutdown that cancels": """
gate, begun = threading.Event(), threading.Event()
blocked = cf.ThreadPoolExecutor(1)
blocked.submit(lambda: begun.set() or gate.wait())
begun.wait()
queued = [blocked.submit(add, n) for n in range(50)]
for future in queued[::5]:
    future.add_done_callback(nothing)
attempt(lambda: (), lambda: blocked.shutdown(wait=False, cancel_futures=True), nothing)
assert all(future.cancelled() for future in queued)
gate.set()
blocked.shutdown()
""",
    "collection": """
def prepare():
    future = cf.Future()
    future.add_done_callback(lambda f: future)
    future.me = future
    running = executor.submit(add, 1)
    running.me = running
    return ()
attempt(prepare, gc.collect, nothing, 100)
""",
}


@pytest.mark.parametrize("width", [1, 5, 100])
@pytest.mark.parametrize("call", CALLS)
def test_failed_allocations(call, width):
    if FREE_THREADED and "executor." in CALLS[call]:
        pytest.skip("allocators cannot be replaced while other threads use them")
    common = COMMON.replace("MOST", "400").replace("WIDTH", str(width))
    out = run_child(common + CALLS[call] + FINISH).out
    assert "MemoryError" in out
    print(out)


@pytest.mark.skipif(FREE_THREADED, reason="memory of other threads counts there")
def test_no_result_is_lost_when_memory_is_short():
    """Tasks that ran are seen as done, however their completion fared."""
    run_child(COMMON.replace("MOST", "1").replace("WIDTH", "1") + """
for n in range(300):
    done, futures = [], []
    try:
        set_nomemory(n, n + 3)
        try:
            for k in range(5):
                future = executor.submit(done.append, k)
                futures.append(future)
                future = None
        finally:
            remove_mem_hooks()
    except MemoryError:
        pass
    assert cf.wait(futures, GUARD).not_done == set(), n
    executor.submit(int).result(GUARD)
    failed = sum(future.exception() is not None for future in futures)
    assert len(done) + failed >= len(futures), (n, done, failed)
""" + FINISH)
