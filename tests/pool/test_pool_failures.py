"""What goes wrong in a Pool: workers die, initializers and callbacks raise, Ctrl-C, exit."""
import logging
import os
import signal
import threading

import pool_tasks as tasks
import pytest
from prockit import METHODS, Program, alive, run_program
from testkit import GUARD, eventually, ours

HANGS = ours("there it hangs")


# ---- a worker dies ----


@HANGS
@pytest.mark.parametrize("method", METHODS)
def test_a_death_costs_the_task_that_ran(make, method, door):
    from cfutures.process import WorkerCrashed

    pool = make(method)
    with pytest.raises(WorkerCrashed, match="exit code 7 while it ran die_at_3") as caught:
        pool.apply(tasks.die_at_3, (3,))
    assert caught.value.function == "die_at_3" and caught.value.exitcode == 7
    assert pool.map(tasks.double, range(100)) == list(range(0, 200, 2))
    results = [pool.apply_async(tasks.die_at_3, (x,)) for x in range(6)]
    for result in results:
        result.wait(GUARD)
    assert [result.successful() for result in results] == [True] * 3 + [False] + [True] * 2
    # There are two workers again.
    pool.map_async(tasks.wait_at, [door.path] * 2, 1)
    assert len({pid for pid, _ in door.entered(2)}) == 2
    door.open()


@HANGS
@pytest.mark.parametrize("chunksize", [None, 1, 2, 100])
def test_a_death_in_map(make, chunksize):
    from cfutures.process import WorkerCrashed

    pool = make()
    called = []
    result = pool.map_async(tasks.die_at_3, range(200), chunksize, called.append, called.append)
    with pytest.raises(WorkerCrashed, match="while it ran die_at_3"):
        result.get(GUARD)
    assert [type(error) for error in called] == [WorkerCrashed]
    with pytest.raises(WorkerCrashed):
        pool.starmap(tasks.die_at_3, [(x,) for x in range(200)], chunksize)
    assert pool.map(tasks.double, range(10)) == list(range(0, 20, 2))


@HANGS
def test_a_death_in_imap_is_in_its_place(make):
    from cfutures.process import WorkerCrashed

    results = make().imap(tasks.die_at_3, range(6))
    found = []
    for _ in range(6):
        try:
            found.append(next(results))
        except WorkerCrashed:
            found.append("crashed")
    assert found == [0, 1, 2, "crashed", 4, 5]


@HANGS
def test_a_worker_is_killed_while_it_runs(make, door):
    from cfutures.process import WorkerCrashed

    pool = make()
    result = pool.apply_async(tasks.announce_and_sleep, (door.path,))
    (pid, _), = door.entered()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerCrashed, match="SIGKILL"):
        result.get(GUARD)
    assert pool.apply(tasks.add, (1, 2)) == 3


@HANGS
def test_idle_workers_are_killed(make):
    pool = make()
    for worker in pool._pool:
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(GUARD)
    assert pool.map(tasks.double, range(10), 1) == list(range(0, 20, 2))


@ours("there workers are started for ever")
def test_a_failing_initializer_breaks_the_pool(make, caplog):
    from concurrent.futures import BrokenExecutor

    for kind in ("fork", "threads"):
        pool = make(kind, 2, initializer=tasks.fail_to_start)
        with pytest.raises(BrokenExecutor, match="initializer"):
            pool.apply(tasks.double, (1,))
        with pytest.raises(BrokenExecutor):
            pool.map(tasks.double, range(100))
        with pytest.raises(BrokenExecutor):
            next(pool.imap(tasks.double, range(100)))
        called = []
        pool.map_async(tasks.double, [1], error_callback=called.append).wait(GUARD)
        assert len(called) == 1 and isinstance(called[0], BrokenExecutor)


@ours("there the thread that hands out results ends")
@pytest.mark.parametrize("of", ["fork", "threads"])
def test_a_callback_that_raises_is_logged(make, of, caplog):
    pool = make(of)

    def complain(value):
        raise LookupError(value)

    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        assert pool.apply_async(tasks.double, (2,), callback=complain).get(GUARD) == 4
        assert pool.map_async(tasks.double, [2, 3], 1, complain).get(GUARD) == [4, 6]
        assert eventually(lambda: len(caplog.records) == 2)
    assert [type(record.exc_info[1]) for record in caplog.records] == [LookupError] * 2
    assert pool.apply(tasks.double, (1,)) == 2


@HANGS
def test_a_callback_can_use_the_pool_and_end_it(make):
    pool = make()
    done = threading.Event()
    found = []

    def go_on(value):
        found.append(pool.apply(tasks.double, (value,)))
        pool.terminate()
        done.set()

    pool.apply_async(tasks.double, (1,), callback=go_on)
    assert done.wait(GUARD)
    assert found == [4]
    pool.join()


@HANGS
def test_a_task_that_exits_fails(make):
    pool = make()
    result = pool.apply_async(exit_status, (3,))
    with pytest.raises(SystemExit) as caught:
        result.get(GUARD)
    assert caught.value.code == 3
    assert pool.apply(tasks.double, (1,)) == 2


def exit_status(status):
    raise SystemExit(status)


# ---- programs ----

POOL = """\
import pool_tasks
from {module} import Pool, ThreadPool
context = multiprocessing.get_context("{method}")
"""


def program(implementation, code, method="fork"):
    """A program that has `Pool`, `ThreadPool`, `context` and `say`."""
    module = {"stdlib": "multiprocessing.pool", "cfutures": "cfutures"}[implementation]
    here = os.path.dirname(os.path.abspath(__file__))
    return (f"import sys; sys.path.insert(0, {here!r})\n"
            + POOL.format(module=module, method=method) + code)


@pytest.mark.parametrize("method", METHODS)
def test_exit_does_not_wait_for_a_pool(implementation, method):
    """What runs is ended, what waits is dropped, and nothing is left."""
    run_program(program(implementation, """
pool = Pool(2, context=context)
endless = pool.imap(abs, iter(int, 1))
assert next(endless) == 0
other = Pool(2, context=context)
running = other.map_async(time.sleep, [3600] * 10, 1)
""", method), implementation)


@ours("there it hangs at times")
def test_exit_with_waiting_iterables(implementation):
    run_program(program(implementation, """
never = threading.Event()
pools = [Pool(1), ThreadPool(1)]
for pool in pools:
    results = pool.imap(abs, (x for x in [1, 2] if x == 1 or never.wait()))
    assert next(results) == 1
pools[0].close()
"""), implementation)


@HANGS
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_ctrl_c_ends_a_map_and_its_block(method):
    running = Program(program("cfutures", """
try:
    with Pool(2, context=context) as pool:
        pool.apply(abs, (1,))
        say("ready")
        pool.map(time.sleep, [3600] * 100, 1)
except KeyboardInterrupt:
    say("interrupted")
""", method), "cfutures", method)
    assert running.line() == "ready"
    running.interrupt()
    assert running.ends().out == "interrupted\n"
    assert "Traceback" not in running.err


@HANGS
def test_a_pool_is_usable_after_ctrl_c():
    running = Program(program("cfutures", """
def nap(seconds):
    say("napping")
    time.sleep(seconds)
with Pool(1) as pool:
    for call in (lambda: pool.map(nap, [0.2] * 1000, 1), lambda: pool.apply(nap, (0.2,)),
                 lambda: list(pool.imap(nap, [0.2] * 5)),
                 lambda: pool.map_async(nap, [0.2] * 5, 1).get()):
        try:
            call()
        except KeyboardInterrupt:
            say("interrupted")
    assert pool.map(abs, range(5)) == [0, 1, 2, 3, 4]
"""))
    for _ in range(4):
        assert running.line() == "napping"
        os.kill(running.pid, signal.SIGINT)
        while (line := running.line()) == "napping":
            pass
        assert line == "interrupted"
    running.ends()


@HANGS
def test_a_worker_that_ignores_sigterm_is_killed(monkeypatch, make, door):
    monkeypatch.setattr("cfutures._pool_executor._KILL_AFTER", 0.2)
    pool = make()
    pool.apply_async(ignore_and_sleep, (door.path,))
    (pid, _), = door.entered()
    pool.terminate()
    assert not alive(pid)


def ignore_and_sleep(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tasks.announce_and_sleep(path)


@HANGS
def test_a_forked_child_has_no_pool_and_can_exit():
    run_program(program("cfutures", """
pool, threads = Pool(2), ThreadPool(2)
assert pool.map(abs, [1]) == threads.map(abs, [1]) == [1]
pid = os.fork()
if pid == 0:
    for mine in (pool, threads):
        try:
            mine.apply(abs, (1,))
        except ValueError as error:
            assert str(error) == "Pool not running", error
        else:
            os._exit(2)
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert pool.map(abs, [1]) == threads.map(abs, [1]) == [1]
"""))


@HANGS
@pytest.mark.parametrize("pool", ["Pool", "ThreadPool"])
def test_results_with_callbacks_end_in_a_forked_child(pool):
    """Their callbacks are the parent's, and nobody there would say that they were called."""
    run_program(program("cfutures", f"""
called = []
pool = {pool}(1)
one = pool.apply_async(time.sleep, (0.2,), callback=called.append)
some = pool.map_async(time.sleep, [0.1], callback=called.append)
pid = os.fork()
if pid == 0:
    watch(GUARD // 2)
    for result in (one, some):
        result.wait()
        try:
            result.get()
        except cf.BrokenExecutor:
            assert result.ready() and not result.successful()
        else:
            os._exit(1)
    os._exit(0 if not called else 2)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert one.get(GUARD) is None and some.get(GUARD) == [None] and len(called) == 2
pool.close()
pool.join()
"""))


@ours("200 processes with pipes take too long")
def test_two_hundred_workers(make):
    pool = make("fork", 200)
    assert pool.map(tasks.double, range(1000), 1) == list(range(0, 2000, 2))


@HANGS
def test_two_pools_and_many_threads(make):
    """Callers in several threads do not disturb each other."""
    pools = [make(), make("threads")]
    wrong = []

    def call(pool):
        for n in range(30):
            if pool.map(tasks.double, range(n)) != [2 * x for x in range(n)]:
                wrong.append(n)
            if sorted(pool.imap_unordered(tasks.double, iter(range(n)))) != (
                    [2 * x for x in range(n)]):
                wrong.append(n)

    threads = [threading.Thread(target=call, args=(pool,)) for pool in pools * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * GUARD)
    assert not wrong and not any(thread.is_alive() for thread in threads)


@ours("there a function is found in its module, or not at all")
@pytest.mark.parametrize("method", METHODS)
def test_functions_that_cannot_be_imported(make, method):
    pool = make(method)
    factor = 10

    def scaled(x):
        return x * factor

    assert pool.map(lambda x: x + 1, range(100)) == list(range(1, 101))
    assert pool.map(scaled, range(100)) == list(range(0, 1000, 10))
    factor = 100
    assert pool.map(scaled, range(100)) == list(range(0, 10000, 100))
    assert list(pool.imap(scaled, range(5), 2)) == [0, 100, 200, 300, 400]
    assert pool.apply(scaled, kwds={"x": 2}) == 200


@ours("there the pool has the function as it was when the pool began")
def test_a_function_of_main_that_came_after_the_pool():
    run_program(program("cfutures", """
for method in ("fork", "spawn"):
    with Pool(2, context=multiprocessing.get_context(method)) as pool:
        def work(x): return x + 1
        assert pool.map(work, range(100)) == list(range(1, 101))
        def work(x): return x + 2
        assert pool.map(work, range(100)) == list(range(2, 102))
        assert pool.apply(work, (1,)) == 3
        # And what it reads is as it is at the call.
        scale, table = 2, [0]
        def work(x): return x * scale + table[0]
        assert pool.map(work, range(100)) == list(range(0, 200, 2))
        scale = 3
        table[0] = 1
        assert pool.map(work, range(100)) == list(range(1, 301, 3))
        assert pool.starmap(work, [(1,)] * 100)[-1] == 4
        assert list(pool.imap(work, range(100), 10)) == list(range(1, 301, 3))
"""))


