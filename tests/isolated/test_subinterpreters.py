"""Several interpreters in one process: those that share the GIL can use cfutures, others get an
ImportError; nothing crashes, and the main interpreter is none the worse for it.

No process pools by fork here: CPython before 3.12 refuses to fork in a subinterpreter, later
ones end the child with a fatal error, with or without cfutures.
"""
import sys

import pytest
from testkit import ours, run_child

pytestmark = ours("asks where our module can be imported")

# What every child of these tests begins with.
KIT = """
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    def create(own_gil):
        return interpreters.create("isolated" if own_gil else "legacy")
else:
    import _xxsubinterpreters as interpreters
    def create(own_gil):
        return interpreters.create(isolated=own_gil)

def run(interpreter, code):
    # Older versions raise, newer ones return it.
    error = interpreters.run_string(interpreter, code)
    assert error is None, error

def use_in_main():
    import cfutures
    with cfutures.ThreadPoolExecutor(2) as executor:
        assert list(executor.map(abs, range(100))) == list(range(100))

USE = '''
import cfutures
future = cfutures.Future()
future.add_done_callback(lambda f: None)
future.set_result(1)
assert future.result() == 1
assert cfutures.wait([future]).done == {future}
assert list(cfutures.as_completed([future])) == [future]
queue = cfutures.Queue()
queue.put("item")
assert queue.get() == "item"
with cfutures.ThreadPoolExecutor(2) as executor:
    assert list(executor.map(lambda n: n, range(100))) == list(range(100))
    assert isinstance(executor.submit(int, "x").exception(), ValueError)
'''

# Left to whoever destroys the interpreter.
LEAVE_OPEN = '''
import cfutures
executor = cfutures.ThreadPoolExecutor(2)
futures = [executor.submit(int, n) for n in range(100)]
executor.map(abs, range(3))
'''

REFUSED = '''
try:
    import cfutures
except ImportError as error:
    assert str(error) == ("module cfutures._core does not support loading in "
                          "subinterpreters"), error
else:
    raise AssertionError("it was imported")
'''
"""

own_gil = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="every interpreter shares the GIL")


# With the standard library's pools it is the same.
live_threads_end = pytest.mark.skipif(
    sys.version_info < (3, 12),
    reason="CPython 3.11 refuses to destroy an interpreter with threads, then aborts at exit")
threads_switch = pytest.mark.skipif(
    sys.version_info < (3, 13),
    reason="CPython 3.11 and 3.12.1 hang when they end or destroy an interpreter whose pool "
           "a thread of another one has used")


def run_with_kit(code, first="cfutures"):
    """Run code in a child whose main interpreter imports `first` (an implementation)."""
    run_child(KIT + code, first)


@pytest.mark.parametrize(
    "leave_open", [False, pytest.param(True, marks=live_threads_end)],
    ids=["ended", "left open"])
def test_used_after_main(leave_open):
    run_with_kit(f"""
use_in_main()
for _ in range(5):
    interpreter = create(own_gil=False)
    run(interpreter, USE)
    if {leave_open}:
        run(interpreter, LEAVE_OPEN)
    use_in_main()
    interpreters.destroy(interpreter)
    use_in_main()
""")


def test_used_before_main_imports_it():
    """The module's first import in the process is that of an interpreter that goes away."""
    run_with_kit("""
assert "cfutures" not in sys.modules
for _ in range(3):
    interpreter = create(own_gil=False)
    run(interpreter, USE)
    interpreters.destroy(interpreter)
use_in_main()
interpreter = create(own_gil=False)
run(interpreter, USE)
interpreters.destroy(interpreter)
use_in_main()
""", first="stdlib")


@threads_switch
def test_pools_of_two_interpreters_at_once():
    """Each has threads of its own, which take turns with those of the others."""
    run_with_kit("""
others = [create(own_gil=False) for _ in range(2)]
failed = []
def use(interpreter):
    try:
        for _ in range(3):
            run(interpreter, USE)
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=use, args=(other,)) for other in others]
executor = cf.ThreadPoolExecutor(2)
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    assert list(executor.map(abs, range(100))) == list(range(100))
for thread in threads:
    thread.join()
assert not failed, failed
interpreters.destroy(others.pop())
assert executor.submit(abs, -1).result(GUARD) == 1
run(others[0], USE)
interpreters.destroy(others.pop())
executor.shutdown()
""")


def test_a_process_pool_in_a_subinterpreter():
    run_with_kit("""
interpreter = create(own_gil=False)
run(interpreter, '''
import cfutures, multiprocessing
spawn = multiprocessing.get_context("spawn")
with cfutures.ProcessPoolExecutor(1, spawn) as executor:
    assert executor.submit(abs, -3).result() == 3
''')
interpreters.destroy(interpreter)
with cf.ProcessPoolExecutor(1) as executor:
    assert executor.submit(abs, -3).result(GUARD) == 3
""")


@own_gil
@pytest.mark.parametrize("first", ["cfutures", "stdlib"])
def test_refused_where_the_gil_is_not_shared(first):
    run_with_kit(f"""
if "{first}" == "cfutures":
    use_in_main()
for _ in range(5):
    interpreter = create(own_gil=True)
    run(interpreter, REFUSED)
    run(interpreter, REFUSED)
    use_in_main()
    interpreters.destroy(interpreter)
use_in_main()
""", first=first)
