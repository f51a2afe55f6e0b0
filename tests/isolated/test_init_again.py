"""__init__() of an executor called again, also while submit() is in the middle of the old pool.

Freed memory is overwritten under -X dev, so what reads it there dies.
"""
import pytest
from testkit import ours, run_child

pytestmark = ours("what happens to the pool that was there before is the engine's matter")


@pytest.mark.parametrize("kind", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_the_new_pool_works_and_the_old_one_finishes(kind):
    child = run_child(f"""
executor = cf.{kind}(1)
first = executor.submit(abs, -1)
executor.__init__(2)
second = executor.submit(abs, -2)
say(executor._max_workers, first.result(GUARD), second.result(GUARD))
executor.shutdown()
""", flags=("-X", "dev"))
    assert child.out == "2 1 2\n"


def test_pickling_an_argument_calls_init():
    """submit() holds on to the memory of the old pool while it encodes, then refuses."""
    child = run_child("""
class Again:
    def __reduce__(self):
        executor.__init__(1)
        return int, ()
executor = cf.ProcessPoolExecutor(1)
try:
    executor.submit(abs, Again())
except RuntimeError as error:
    say(error)
say(executor.submit(abs, -2).result(GUARD))
executor.shutdown()
""", flags=("-X", "dev"))
    assert child.out == "cannot schedule new futures after shutdown\n2\n"


def test_starting_a_thread_calls_init():
    child = run_child("""
class Executor(cf.ThreadPoolExecutor):
    again = True
    def _spawn(self, number):
        if self.again:
            self.again = False
            self.__init__(1)
        return super()._spawn(number)
executor = Executor(1)
try:
    executor.submit(abs, -1)
except RuntimeError as error:
    say(error)
say(executor.submit(abs, -2).result(GUARD))
executor.shutdown()
""", flags=("-X", "dev"))
    assert child.out == "cannot schedule new futures after shutdown\n2\n"


def test_init_in_one_thread_submit_in_others():
    """Each task is done, cancelled or refused; without a GIL they really meet."""
    child = run_child("""
executor = cf.ThreadPoolExecutor(2)
futures, refused = [], []
stop = threading.Event()

def submit():
    while not stop.is_set():
        try:
            futures.append(executor.submit(int))
        except RuntimeError as error:
            refused.append(str(error))

threads = [threading.Thread(target=submit) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(150):
    executor.__init__(2)
    time.sleep(0.001)
stop.set()
for thread in threads:
    thread.join()
assert set(refused) <= {"cannot schedule new futures after shutdown"}, set(refused)
assert not cf.wait(futures, GUARD).not_done
assert {future.result() for future in futures} == {0}
executor.shutdown()
""", flags=("-X", "dev"))
    assert child.err == ""


def test_an_executor_whose_init_was_not_called():
    """Refused by name, in whatever the engine is asked for."""
    child = run_child("""
from cfutures import _core
executor = cf.ThreadPoolExecutor.__new__(cf.ThreadPoolExecutor)
for ask in (lambda: executor.submit(int), lambda: _core.Worker(executor, 0, None, ())):
    try:
        ask()
    except RuntimeError as error:
        say(error)
say(executor._has_workers())
""")
    refused = "ThreadPoolExecutor.__init__() was not called\n"
    assert child.out == 2 * refused + "False\n"
