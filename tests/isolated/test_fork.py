"""os.fork() while pools are busy: the parent goes on, the child is able to run and to end."""
import os

import pytest
from testkit import ours, run_child

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
]

# Newer Pythons warn of fork in a process with threads; that is what is tested here.
FLAGS = ("-W", "ignore::DeprecationWarning")

COMMON = """
def in_child(work, runs=1):
    # Fork, do the work in the child, which then ends as an interpreter does.
    for _ in range(runs):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            watch(GUARD // 2)
            # An error must not run the rest of the parent's program.
            try:
                work()
            except Exception:
                import traceback
                traceback.print_exc()
                os._exit(1)
            sys.exit(0)
        _, status = os.waitpid(pid, 0)
        if status:
            gate.set()
            sys.exit(f"the child ended with {status}")
gate = threading.Event()
executor = cf.ThreadPoolExecutor(2)
busy = [executor.submit(gate.wait) for _ in range(2)]
queued = [executor.submit(int, "5") for _ in range(5)]
while not all(future.running() for future in busy):
    time.sleep(0.001)
"""
FINISH = """
gate.set()
assert [future.result(GUARD) for future in queued] == [5] * 5
assert executor.submit(int, "6").result(GUARD) == 6
"""


def test_child_that_does_nothing_ends(implementation):
    run_child(COMMON + "in_child(lambda: None, 5)" + FINISH, implementation, flags=FLAGS)


def test_child_of_an_idle_pool_ends(implementation):
    run_child(COMMON + """
gate.set()
assert executor.submit(int, "1").result(GUARD) == 1
time.sleep(0.02)
in_child(lambda: None, 5)
""" + FINISH, implementation, flags=FLAGS)


def test_child_with_a_new_pool(implementation):
    run_child(COMMON + """
def work():
    with cf.ThreadPoolExecutor(2) as fresh:
        assert list(fresh.map(int, "12345")) == [1, 2, 3, 4, 5]
        thread = fresh.submit(threading.current_thread).result(GUARD)
        assert thread in fresh._threads and thread in threading.enumerate()
        futures = [fresh.submit(int) for _ in range(100)]
        assert cf.wait(futures, GUARD).not_done == set()
        assert len(list(cf.as_completed(futures, GUARD))) == 100
in_child(work, 5)
""" + FINISH, implementation, flags=FLAGS)


def test_child_with_a_new_pool_left_to_the_exit(implementation):
    run_child(COMMON + """
def work():
    fresh = cf.ThreadPoolExecutor(2)
    for _ in range(10):
        fresh.submit(time.sleep, 0.001)
in_child(work, 3)
""" + FINISH, implementation, flags=FLAGS)


def test_child_with_futures_of_its_own(implementation):
    run_child(COMMON + """
def work():
    future = cf.Future()
    thread = threading.Thread(target=future.set_result, args=(1,))
    thread.start()
    assert future.result(GUARD) == 1
    thread.join()
in_child(work, 3)
""" + FINISH, implementation, flags=FLAGS)


def test_finished_futures_are_as_good_in_the_child(implementation):
    run_child(COMMON + """
done = cf.ThreadPoolExecutor(1).submit(int, "9")
assert done.result(GUARD) == 9
def work():
    assert done.result(0) == 9
    assert cf.wait([done], GUARD).done == {done}
    assert list(cf.as_completed([done], GUARD)) == [done]
    done.add_done_callback(lambda f: None)
    repr(done)
in_child(work)
""" + FINISH, implementation, flags=FLAGS)


closed = ours("there the child's pools are full of tasks that nobody will do")


@closed
def test_submit_to_the_parents_pool_is_refused():
    run_child(COMMON + """
unused = cf.ThreadPoolExecutor(1)
idle = cf.ThreadPoolExecutor(1)
idle.submit(int).result()
def work():
    for pool in (executor, idle, unused):
        try:
            pool.submit(int)
        except RuntimeError as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError("submitted")
        try:
            pool.map(int, [1])
        except RuntimeError:
            pass
        else:
            raise AssertionError("mapped")
in_child(work)
""" + FINISH, flags=FLAGS)


@closed
def test_unfinished_futures_of_the_parent_end_in_the_child():
    run_child(COMMON + """
called = []
for future in busy + queued:
    future.add_done_callback(lambda f: called.append(os.getpid()))
def work():
    for future in queued + busy:
        assert future.done(), future
        try:
            future.result(GUARD)
        except (cf.CancelledError, cf.thread.BrokenThreadPool):
            pass
        else:
            raise AssertionError(future)
        assert not future.running()
    assert cf.wait(busy + queued, GUARD).not_done == set()
    assert len(list(cf.as_completed(busy + queued, GUARD))) == 7
    # The callbacks are the parent's business.
    assert called == []
in_child(work)
gate.set()
cf.wait(busy + queued)
executor.shutdown()
assert called == [os.getpid()] * 7
executor = cf.ThreadPoolExecutor(1)
""" + FINISH, flags=FLAGS)


@closed
def test_parents_pool_can_be_shut_down_and_dropped_in_the_child():
    run_child(COMMON + """
import gc
def work():
    global executor, busy, queued
    executor.shutdown(wait=True, cancel_futures=True)
    with executor:
        pass
    executor = busy = queued = None
    gc.collect()
in_child(work, 3)
""" + FINISH, flags=FLAGS)


@closed
def test_fork_inside_a_task():
    """The child goes on in the task, and ends there."""
    run_child(COMMON + """
gate.set()
def work():
    in_child(lambda: None)
    in_child(lambda: cf.ThreadPoolExecutor(1).submit(int).result(GUARD))
    return "parent"
for _ in range(5):
    assert executor.submit(work).result(GUARD) == "parent"
""" + FINISH, flags=FLAGS)


def test_fork_inside_a_task_with_os_exit(implementation):
    run_child(COMMON + """
gate.set()
def work():
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert executor.submit(work).result(GUARD) == 7
""" + FINISH, implementation, flags=FLAGS)


@closed
def test_fork_inside_a_task_whose_child_returns_from_it():
    """The thread of the task is the only one in the child: it ends, and so does the child."""
    run_child(COMMON + """
gate.set()
def work():
    pid = os.fork()
    if pid == 0:
        watch(GUARD // 2)
        return "child"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert executor.submit(work).result(GUARD) == 0
""" + FINISH, flags=FLAGS)


def test_fork_inside_a_callback(implementation):
    run_child(COMMON + """
results = []
def callback(future):
    in_child(lambda: None)
    results.append(os.getpid())
busy[0].add_done_callback(callback)
gate.set()
executor.shutdown()
assert results == [os.getpid()]
executor = cf.ThreadPoolExecutor(1)
""" + FINISH, implementation, flags=FLAGS)


def test_fork_under_load(implementation):
    """Whatever the other threads are in the middle of, the child can use the module."""
    run_child(COMMON + """
gate.set()
stop = threading.Event()
def load():
    with cf.ThreadPoolExecutor(3) as pool:
        while not stop.is_set():
            futures = [pool.submit(int, n) for n in range(20)]
            cf.wait(futures)
            for future in cf.as_completed([pool.submit(int) for _ in range(5)]):
                future.result()
            list(pool.map(int, range(10)))
threads = [threading.Thread(target=load) for _ in range(2)]
for thread in threads:
    thread.start()
def work():
    stop.set()
    with cf.ThreadPoolExecutor(2) as fresh:
        assert fresh.submit(int, "3").result(GUARD) == 3
        futures = [fresh.submit(int) for _ in range(10)]
        assert cf.wait(futures, GUARD).not_done == set()
    future = cf.Future()
    future.set_result(1)
    os._exit(0)
try:
    in_child(work, 30)
finally:
    stop.set()
    for thread in threads:
        thread.join()
""" + FINISH, implementation, flags=FLAGS)


@closed
def test_fork_under_load_with_a_regular_end_of_the_child():
    run_child(COMMON + """
gate.set()
stop = threading.Event()
pools = [cf.ThreadPoolExecutor(2) for _ in range(3)]
def load():
    while not stop.is_set():
        futures = [pool.submit(int, n) for n in range(20) for pool in pools]
        cf.wait(futures)
threads = [threading.Thread(target=load) for _ in range(2)]
for thread in threads:
    thread.start()
try:
    in_child(lambda: stop.set(), 15)
finally:
    stop.set()
    for thread in threads:
        thread.join()
""" + FINISH, flags=FLAGS)


def test_fork_while_the_main_thread_of_the_parent_waits(implementation):
    """A thread that is not main forks while main is inside result()."""
    run_child(COMMON + """
future = cf.Future()
def fork():
    time.sleep(0.02)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    future.set_result("forked")
thread = threading.Thread(target=fork)
thread.start()
assert future.result(GUARD) == "forked"
thread.join()
""" + FINISH, implementation, flags=FLAGS)


@closed
def test_grandchildren():
    run_child(COMMON + """
def work():
    pool = cf.ThreadPoolExecutor(1)
    assert pool.submit(int).result(GUARD) == 0
    def grandchild():
        try:
            pool.submit(int)
        except RuntimeError:
            return
        raise AssertionError
    in_child(grandchild)
    assert pool.submit(int, "4").result(GUARD) == 4
in_child(work)
""" + FINISH, flags=FLAGS)


def test_multiprocessing_fork_context_beside_a_pool(implementation):
    run_child(COMMON + """
import multiprocessing
context = multiprocessing.get_context("fork")
process = context.Process(target=int)
process.start()
process.join(GUARD)
assert process.exitcode == 0
""" + FINISH, implementation, flags=FLAGS)


def test_subprocesses_beside_a_pool(implementation):
    run_child(COMMON + """
import subprocess
calls = [executor.submit(subprocess.check_output, [sys.executable, "-c", "print(1)"])
         for _ in range(4)]
gate.set()
assert [c.result(GUARD) for c in calls] == [b"1\\n"] * 4
""" + FINISH, implementation, flags=FLAGS)
