"""The interpreter ends: queued work is done first, nothing hangs, nothing crashes."""
import pytest
from testkit import ours, run_child


def test_pending_tasks_are_done_before_the_end(implementation):
    out = run_child("""
executor = cf.ThreadPoolExecutor(2)
for n in range(20):
    executor.submit(lambda n: (time.sleep(0.001), say(n)), n)
""", implementation).out
    assert sorted(map(int, out.split())) == list(range(20))


def test_pending_tasks_of_a_dropped_executor(implementation):
    out = run_child("""
executor = cf.ThreadPoolExecutor(1)
for n in range(5):
    executor.submit(lambda n: (time.sleep(0.001), say(n)), n)
del executor
""", implementation).out
    assert out.split() == list("01234")


def test_pending_tasks_after_shutdown_without_waiting(implementation):
    out = run_child("""
executor = cf.ThreadPoolExecutor(1)
for n in range(5):
    executor.submit(lambda n: (time.sleep(0.001), say(n)), n)
executor.shutdown(wait=False)
""", implementation).out
    assert out.split() == list("01234")


def test_pending_tasks_cancelled_by_shutdown(implementation):
    out = run_child("""
executor = cf.ThreadPoolExecutor(1)
begun = threading.Event()
executor.submit(lambda: (begun.set(), time.sleep(0.01), say("first")))
for n in range(5):
    executor.submit(say, n)
begun.wait()
executor.shutdown(wait=False, cancel_futures=True)
""", implementation).out
    assert out.split() == ["first"]


def test_work_is_done_before_atexit_callbacks(implementation):
    out = run_child("""
import atexit
atexit.register(say, "atexit")
executor = cf.ThreadPoolExecutor(1)
executor.submit(lambda: (time.sleep(0.01), say("task")))
""", implementation).out
    assert out.split() == ["task", "atexit"]


def test_idle_pools_and_unused_pools(implementation):
    run_child("""
pools = [cf.ThreadPoolExecutor(n) for n in range(1, 5)]
for pool in pools[:2]:
    pool.submit(int).result()
parked = cf.ThreadPoolExecutor(4)
meeting = threading.Barrier(4)
for future in [parked.submit(meeting.wait) for _ in range(4)]:
    future.result()
time.sleep(0.01)
""", implementation)


def test_the_very_first_task_is_submitted_last(implementation):
    out = run_child("""
cf.ThreadPoolExecutor(3).submit(say, "late")
""", implementation).out
    assert out.split() == ["late"]


def test_submitting_at_exit_is_refused(implementation):
    out = run_child("""
import atexit
executor = cf.ThreadPoolExecutor(1)
other = cf.ThreadPoolExecutor(1)
executor.submit(int).result()
def late(executor):
    try:
        executor.submit(say, "never")
    except RuntimeError as error:
        say(error)
atexit.register(late, executor)
atexit.register(late, other)
atexit.register(lambda: late(cf.ThreadPoolExecutor(1)))
""", implementation).out
    new, unused, used = out.splitlines()
    assert new == unused == "cannot schedule new futures after interpreter shutdown"
    # The pool that had threads was shut down by them.
    assert used in (new, "cannot schedule new futures after shutdown")


def test_task_that_submits_at_exit_is_refused(implementation):
    out = run_child("""
executor = cf.ThreadPoolExecutor(1)
begun = threading.Event()
closing = threading.Event()
threading._register_atexit(closing.set)
def work():
    begun.set()
    closing.wait(5)
    for _ in range(1000):
        try:
            executor.submit(int)
        except RuntimeError as error:
            say(error)
            break
        time.sleep(0.001)
executor.submit(work)
begun.wait()
""", implementation).out
    assert out.splitlines() == ["cannot schedule new futures after interpreter shutdown"]


def test_executor_in_a_daemon_thread(implementation):
    """Its workers are daemons as well, and are waited for all the same."""
    out = run_child("""
done = threading.Event()
def main():
    executor = cf.ThreadPoolExecutor(2)
    for n in range(4):
        executor.submit(lambda n: (time.sleep(0.01), say(n)), n)
    executor.submit(int).result()
    done.set()
    time.sleep(3600)
threading.Thread(target=main, daemon=True).start()
done.wait()
""", implementation).out
    assert sorted(out.split()) == list("0123")


def test_daemon_thread_that_waits_for_a_result_for_ever(implementation):
    run_child("""
begun = threading.Event()
def main():
    begun.set()
    cf.Future().result()
for _ in range(3):
    threading.Thread(target=main, daemon=True).start()
begun.wait()
time.sleep(0.05)
""", implementation)


@pytest.mark.parametrize("call", ["cf.wait([f])", "list(cf.as_completed([f]))",
                                  "f.exception()", "f.result(3600)"])
def test_daemon_threads_in_every_kind_of_wait(implementation, call):
    run_child(f"""
begun = threading.Barrier(4)
f = cf.Future()
def main():
    begun.wait()
    {call}
for _ in range(3):
    threading.Thread(target=main, daemon=True).start()
begun.wait()
time.sleep(0.05)
""", implementation)


def test_daemon_thread_that_submits_all_the_time(implementation):
    """Submitting must not race with the end of the interpreter."""
    for _ in range(3):
        run_child("""
executors = [cf.ThreadPoolExecutor(2) for _ in range(50)]
def main():
    while True:
        for executor in executors:
            try:
                executor.submit(int)
            except RuntimeError:
                pass
threads = [threading.Thread(target=main, daemon=True) for _ in range(2)]
for thread in threads:
    thread.start()
time.sleep(0.02)
""", implementation)


def test_thread_that_submits_while_the_main_thread_ends(implementation):
    for delay in (0, 0.001, 0.01):
        run_child(f"""
def main():
    try:
        while True:
            executor = cf.ThreadPoolExecutor(1)
            executor.submit(int)
    except RuntimeError as error:
        say(error)
thread = threading.Thread(target=main)
thread.start()
time.sleep({delay})
""", implementation)


def test_system_exit_with_running_tasks(implementation):
    out = run_child("""
executor = cf.ThreadPoolExecutor(1)
executor.submit(lambda: (time.sleep(0.01), say("done")))
sys.exit(3)
""", implementation, status=3).out
    assert out.split() == ["done"]


def test_uncaught_exception_with_running_tasks(implementation):
    out = run_child("""
executor = cf.ThreadPoolExecutor(1)
executor.submit(lambda: (time.sleep(0.01), say("done")))
raise ValueError("uncaught")
""", implementation, status=1).out
    assert out.split() == ["done"]


def test_sys_exit_inside_a_task_does_not_end_the_process(implementation):
    out = run_child("""
executor = cf.ThreadPoolExecutor(1)
future = executor.submit(sys.exit, 5)
say(type(future.exception()).__name__)
""", implementation).out
    assert out.split() == ["SystemExit"]


def test_os_exit_inside_a_task(implementation):
    run_child("""
executor = cf.ThreadPoolExecutor(1)
executor.submit(os._exit, 7).result()
""", implementation, status=7)


def test_pools_inside_pools_at_exit(implementation):
    out = run_child("""
def inner():
    time.sleep(0.01)
    say("inner")
def outer():
    with cf.ThreadPoolExecutor(1) as executor:
        executor.submit(inner).result()
    say("outer")
cf.ThreadPoolExecutor(1).submit(outer)
time.sleep(0.005)
""", implementation).out
    assert out.split() == ["inner", "outer"] or out == ""


def test_failing_initializer_at_exit(implementation):
    run_child("""
import logging
logging.disable(logging.CRITICAL)
def prepare():
    time.sleep(0.01)
    raise ValueError
executor = cf.ThreadPoolExecutor(2, initializer=prepare)
executor.submit(int)
executor.submit(int)
""", implementation)


@ours("there the pending futures of such an executor are lost")
def test_failing_initializer_of_a_dropped_executor_at_exit():
    out = run_child("""
import logging
logging.disable(logging.CRITICAL)
go = threading.Event()
def prepare():
    go.wait()
    raise ValueError
future = cf.ThreadPoolExecutor(1, initializer=prepare).submit(int)
future.add_done_callback(lambda f: say(type(f.exception()).__name__))
go.set()
""").out
    assert out.split() == ["BrokenThreadPool"]


def test_unfinished_futures_with_callbacks_at_exit(implementation):
    run_child("""
futures = [cf.Future() for _ in range(10)]
for future in futures:
    future.add_done_callback(say)
    future.me = future
""", implementation)


def test_callbacks_of_tasks_that_end_at_exit_are_called(implementation):
    out = run_child("""
executor = cf.ThreadPoolExecutor(1)
future = executor.submit(time.sleep, 0.01)
future.add_done_callback(lambda f: say("called"))
""", implementation).out
    assert out.split() == ["called"]


def test_unread_failures_are_silent_at_exit(implementation):
    child = run_child("""
executor = cf.ThreadPoolExecutor(1)
executor.submit(lambda: 1 / 0)
""", implementation)
    assert child.out == "" and child.err == ""


def test_generators_that_are_still_open_at_exit(implementation):
    run_child("""
executor = cf.ThreadPoolExecutor(1)
results = executor.map(int, range(100))
next(results)
ready = cf.as_completed([executor.submit(int), cf.Future()])
next(ready)
""", implementation)


def test_import_in_a_thread(implementation):
    run_child(f"""
for name in [n for n in sys.modules if n.split(".")[0] == "cfutures"]:
    del sys.modules[name]
def work():
    import {"cfutures" if implementation == "cfutures" else "concurrent.futures as cfutures"}
    with cfutures.ThreadPoolExecutor(1) as executor:
        say(executor.submit(int).result())
thread = threading.Thread(target=work)
thread.start()
thread.join()
""", implementation)
