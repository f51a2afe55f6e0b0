"""Unusual surroundings: switch intervals, small stacks, collected pools."""

import pytest
from testkit import COLLECTOR_HANGS, FREE_THREADED, ours, run_child

collects = pytest.mark.skipif(
    COLLECTOR_HANGS, reason="this CPython hangs when a collection meets a starting thread")

WORK = """
def work(pools=3, tasks=200):
    for _ in range(pools):
        with cf.ThreadPoolExecutor(3) as executor:
            futures = [executor.submit(int, n) for n in range(tasks)]
            futures += [executor.submit(lambda n: n, n) for n in range(tasks)]
            assert cf.wait(futures, GUARD).not_done == set()
            assert sum(1 for _ in cf.as_completed(futures, GUARD)) == 2 * tasks
            assert list(executor.map(int, range(tasks))) == list(range(tasks))
            for n in range(20):
                assert executor.submit(int, n).result(GUARD) == n
"""


@pytest.mark.skipif(FREE_THREADED, reason="there is no switch interval without a GIL")
@pytest.mark.parametrize("interval", [1e-6, 1e-5, 0.005, 1.0, 100.0])
def test_switch_interval(implementation, interval):
    """Also much longer than the test may take: nobody may have to wait for a switch."""
    run_child(WORK + f"""
sys.setswitchinterval({interval})
work()
""", implementation)


@pytest.mark.skipif(FREE_THREADED, reason="there is no switch interval without a GIL")
def test_builtins_let_others_have_the_gil(implementation):
    """A worker with a long queue of C callables must let the main thread in."""
    run_child("""
executor = cf.ThreadPoolExecutor(1)
gate = threading.Event()
executor.submit(gate.wait)
futures = [executor.submit(sum, range(2000)) for _ in range(20000)]
gate.set()
futures[0].result(GUARD)
# If the worker never let go, everything would be done by the time we look.
looks = 0
while not futures[-1].done():
    looks += 1
    time.sleep(0)
assert looks > 1
executor.shutdown(cancel_futures=True)
""", implementation)


def test_recursion_limit_in_a_worker(implementation):
    run_child("""
def deep(n):
    return n and deep(n - 1)
executor = cf.ThreadPoolExecutor(1)
assert isinstance(executor.submit(deep, 100_000).exception(GUARD), RecursionError)
assert executor.submit(deep, 100).result(GUARD) == 0
""", implementation)


def test_small_thread_stacks(implementation):
    run_child(WORK + """
threading.stack_size(256 * 1024)
work()
""", implementation)


@collects
def test_garbage_collector_in_the_middle_of_everything(implementation):
    """A collection at nearly every allocation, while workers run and pools come and go."""
    run_child(WORK + """
import gc
gc.set_threshold(1, 1, 1)
work(2, 50)
class Node:
    pass
for _ in range(100):
    executor = cf.ThreadPoolExecutor(2)
    node = Node()
    node.executor, executor.node = executor, node
    node.futures = [executor.submit(lambda n: n, node) for _ in range(5)]
    for future in node.futures:
        future.node = node
        future.add_done_callback(lambda f, n=node: n)
    del executor, node
gc.collect()
""", implementation)


@collects
def test_collection_in_another_thread(implementation):
    run_child(WORK + """
import gc
stop = threading.Event()
def collect():
    while not stop.is_set():
        gc.collect()
thread = threading.Thread(target=collect)
thread.start()
try:
    work(2, 100)
finally:
    stop.set()
    thread.join()
""", implementation)


@collects
def test_pools_collected_while_they_run(implementation):
    run_child("""
import gc
done = []
for n in range(50):
    executor = cf.ThreadPoolExecutor(2)
    for k in range(10):
        executor.submit(done.append, k)
    executor.me = executor
    del executor
    gc.collect()
end = time.monotonic() + GUARD
while len(done) < 500 and time.monotonic() < end:
    time.sleep(0.001)
assert len(done) == 500
end = time.monotonic() + GUARD
while threading.active_count() > 1 and time.monotonic() < end:
    time.sleep(0.001)
assert threading.active_count() == 1
""", implementation)


@ours("our module has a copy of its own for each import")
def test_module_imported_anew():
    """Two copies side by side do not disturb each other."""
    run_child(WORK + """
import gc
work(1)
old = cf
for name in [n for n in sys.modules if n.split(".")[0] == "cfutures"]:
    del sys.modules[name]
import cfutures as cf
assert cf is not old
work(1)
future = old.Future()
future.set_result(1)
assert cf.wait([future], GUARD).done == {future}
mine = cf.Future()
threading.Thread(target=mine.set_result, args=(2,)).start()
assert old.wait([mine, future], GUARD).not_done == set()
assert {f.result() for f in old.as_completed([mine, future], GUARD)} == {1, 2}
del old, future
gc.collect()
work(1)
""")


@pytest.mark.parametrize("flags", [("-X", "dev"), ("-O",), ("-OO",), ("-I",), ("-E",),
                                   ("-X", "importtime"), ("-b",)])
def test_interpreter_flags(implementation, flags):
    if flags in (("-I",), ("-E",)) and implementation == "cfutures":
        pytest.importorskip("cfutures")
    run_child(WORK + "work(1)", implementation, flags=flags)


@ours("the debug allocators and -X dev look for mistakes in C")
def test_debug_allocators():
    run_child(WORK + """
import gc
work(2)
future = cf.Future()
future._condition, future._waiters, future._done_callbacks
future.add_done_callback(lambda f: None)
future.set_result(1)
class Box: pass
for _ in range(100):
    box = Box()
    box.future = cf.Future()
    box.future.add_done_callback(lambda f, b=box: b)
    box.ready = cf.as_completed([box.future])
    box.pool = cf.ThreadPoolExecutor(1)
    box.results = box.pool.map(int, range(3))
    next(box.results)
    box.me = box
del box
gc.collect()
""", flags=("-X", "dev", "-W", "error"))


def test_no_output_and_no_warnings(implementation):
    child = run_child(WORK + "work()", implementation, flags=("-X", "dev", "-W", "error"))
    assert child.out == "" and child.err == ""


@ours("it is about our import")
def test_import_starts_no_thread_and_imports_little():
    run_child("""
assert threading.active_count() == 1
assert "multiprocessing" not in sys.modules
assert "asyncio" not in sys.modules
assert "IPython" not in sys.modules
""")
