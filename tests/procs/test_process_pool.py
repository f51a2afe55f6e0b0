"""The class: its arguments and messages, its workers, its ends, its subclasses."""
import multiprocessing
import os
import signal
import threading
import time
import weakref

import proc_tasks as tasks
import pytest
from testkit import FREE_THREADED, GUARD, eventually, ours, stdlib_from

AFTER = "^cannot schedule new futures after shutdown$"
BY_METHOD = pytest.mark.parametrize("way", ["terminate_workers", "kill_workers"])
FORCED = (3, 14, "terminate_workers() and kill_workers() are new there")


# --- arguments --------------------------------------------------------------------------

@pytest.mark.parametrize("count", [0, -1, -100])
def test_there_must_be_workers(cf, count):
    with pytest.raises(ValueError, match=r"^max_workers must be greater than 0$"):
        cf.ProcessPoolExecutor(count)
    with pytest.raises(ValueError, match=r"^max_workers must be greater than 0$"):
        cf.ProcessPoolExecutor(max_workers=count)


@pytest.mark.parametrize("count", ["2", [], object()])
def test_number_of_workers_is_a_number(cf, count):
    with pytest.raises(TypeError):
        cf.ProcessPoolExecutor(count)


def test_default_number_of_workers(cf):
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    with cf.ProcessPoolExecutor() as executor:
        assert 1 <= executor._max_workers <= count
        if cf.implementation == "stdlib":
            assert executor._max_workers == count


def test_order_of_the_arguments(cf, context):
    with cf.ProcessPoolExecutor(1, context, tasks.prepare, (1, 2)) as executor:
        assert executor.submit(tasks.read_prepared).result(GUARD)[1] == [(1, 2)]
    with pytest.raises(TypeError):
        cf.ProcessPoolExecutor(1, context, None, (), 5)
    with pytest.raises(TypeError):
        cf.ProcessPoolExecutor(1, no_such_option=1)


def test_initializer_must_be_callable(cf):
    with pytest.raises(TypeError, match=r"^initializer must be a callable$"):
        cf.ProcessPoolExecutor(1, initializer=5)


@pytest.mark.parametrize("count", ["2", 1.5, [1]])
def test_tasks_per_child_is_a_number(cf, count):
    with pytest.raises(TypeError, match=r"^max_tasks_per_child must be an integer$"):
        cf.ProcessPoolExecutor(1, max_tasks_per_child=count)


@pytest.mark.parametrize("count", [0, -1])
def test_tasks_per_child_is_positive(cf, count):
    with pytest.raises(ValueError, match=r"^max_tasks_per_child must be >= 1$"):
        cf.ProcessPoolExecutor(1, max_tasks_per_child=count)


def test_tasks_per_child_does_not_go_with_fork(cf):
    with pytest.raises(ValueError, match="max_tasks_per_child is incompatible with the "
                                         "'fork' multiprocessing start method"):
        cf.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"),
                               max_tasks_per_child=1)


def test_constructor_starts_nothing(cf, context):
    before = len(multiprocessing.active_children())
    executor = cf.ProcessPoolExecutor(4, mp_context=context)
    assert not executor._processes
    assert len(multiprocessing.active_children()) == before
    executor.shutdown()


def test_the_context_that_is_given_starts_the_workers(cf, context, method):
    class Context(type(context)):
        """Counts."""
        started = 0

        def Process(self, *args, **kwargs):
            type(self).started += 1
            return super().Process(*args, **kwargs)

    with cf.ProcessPoolExecutor(2, mp_context=Context()) as executor:
        assert executor.submit(tasks.add, 1).result(GUARD) == 2
        assert Context.started == len(executor._processes) >= 1


@ours("there is no such option there")
@pytest.mark.parametrize("policy", ["", "restart", None, 5])
def test_unknown_policy_is_refused_by_name(cf, policy):
    with pytest.raises((ValueError, TypeError), match="on_crash"):
        cf.ProcessPoolExecutor(1, on_crash=policy)


# --- workers ----------------------------------------------------------------------------

def test_fork_starts_all_workers_at_once_the_others_on_demand(procs, method):
    executor = procs(3)
    for expected in (1, 2, 3):
        assert executor.submit(tasks.add, expected).result(GUARD) == expected + 1
        # The standard library counts a worker as idle a moment after the result is there.
        time.sleep(0.05)
    assert len(executor._processes) == (3 if method == "fork" else 1)


def test_as_many_workers_as_tasks_that_run(procs, door, method):
    executor, gate = procs(3), door()
    futures = [executor.submit(tasks.pid_at, gate.path) for _ in range(2)]
    came = {pid for pid, _ in gate.entered(2)}
    assert len(came) == 2 and came <= set(executor._processes)
    assert len(executor._processes) == (3 if method == "fork" else 2)
    gate.open()
    assert {f.result(GUARD) for f in futures} == came


def test_never_more_workers_than_allowed(procs, door):
    executor, gate = procs(2), door()
    futures = [executor.submit(tasks.pid_at, gate.path) for _ in range(30)]
    gate.entered(2)
    assert len(executor._processes) == 2
    gate.open()
    assert len({f.result(GUARD) for f in futures}) == 2


@ours("it looks into the pool to have both at the same point")
def test_submits_at_the_same_time_start_no_worker_too_many(procs, monkeypatch):
    executor, grow = procs(1), threading.Barrier(2)
    start = executor._grow

    def start_together():       # both have found that there is no worker
        grow.wait(GUARD)
        start()

    monkeypatch.setattr(type(executor), "_grow", lambda _: start_together())
    threads = [threading.Thread(target=executor.submit, args=(tasks.pid,)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert len(executor._processes) == 1


def test_processes_are_multiprocessing_s_by_their_number(shared, context):
    pids = {shared.submit(tasks.slow_pid).result(GUARD) for _ in range(20)}
    assert pids <= set(shared._processes)
    for pid, process in shared._processes.items():
        assert process.pid == pid and process.is_alive() and process.exitcode is None
        assert isinstance(process, context.Process)
        assert process in multiprocessing.active_children()


def test_initializer_runs_once_in_each_worker(procs, door):
    executor, gate = procs(2, initializer=tasks.prepare, initargs=("a", [1])), door()
    futures = [executor.submit(tasks.wait_at, gate.path) for _ in range(2)]
    gate.entered(2)
    gate.open()
    for future in futures:
        future.result(GUARD)
    seen = [executor.submit(tasks.read_prepared).result(GUARD) for _ in range(10)]
    assert all(prepared == [("a", [1])] for _, prepared in seen)


def test_things_of_multiprocessing_can_be_handed_to_the_initializer(procs, context):
    """Queues and locks travel only while a process starts."""
    queue, lock = context.Queue(), context.Lock()
    executor = procs(1, initializer=tasks.prepare, initargs=(queue, lock))
    assert executor.submit(_put, "hello").result(GUARD) is None
    assert queue.get(timeout=GUARD) == "hello"
    queue.close()
    queue.join_thread()


def _put(text):
    queue, lock = tasks.prepared[0]
    with lock:
        queue.put(text)


def test_failing_initializer_breaks_the_pool(cf, procs):
    executor = procs(2, initializer=tasks.prepare_badly)
    futures = [_submit(executor, tasks.slow_pid) for _ in range(4)]
    for future in filter(None, futures):
        with pytest.raises(cf.BrokenProcessPool):
            future.result(GUARD)
    assert futures[0] is not None
    with pytest.raises(cf.BrokenProcessPool):
        _until_it_raises(executor)
    assert isinstance(futures[0].exception(), cf._base.BrokenExecutor)


def _submit(executor, *task):
    """None if the pool was broken already."""
    try:
        return executor.submit(*task)
    except executor_errors():
        return None


def executor_errors():
    from concurrent.futures import BrokenExecutor
    return BrokenExecutor


def _until_it_raises(executor):
    end = time.monotonic() + GUARD
    while time.monotonic() < end:
        executor.submit(tasks.add, 1)
        time.sleep(0.01)


# --- max_tasks_per_child ----------------------------------------------------------------

RECYCLED = ours("there it hangs at times: a worker that has left counts as idle")


@pytest.fixture
def recycling(procs, method):
    """Make pools whose workers leave after some tasks; fork does not allow that."""
    if method == "fork":
        pytest.skip("max_tasks_per_child is refused with fork")
    return procs


@pytest.mark.parametrize(("limit", "workers", "count"), [(1, 1, 3), (3, 1, 9), (2, 2, 9)])
@RECYCLED
def test_worker_leaves_after_so_many_tasks(cf, recycling, limit, workers, count):
    executor = recycling(workers, max_tasks_per_child=limit)
    pids = [f.result(GUARD) for f in [executor.submit(tasks.pid) for _ in range(count)]]
    assert len(pids) == count
    used = {pid: pids.count(pid) for pid in pids}
    assert max(used.values()) <= limit
    if workers == 1:
        assert used == dict.fromkeys(used, limit)
    executor.shutdown()
    assert not any(_exists(pid) for pid in used)


def _exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@RECYCLED
def test_recycled_workers_with_one_task_at_a_time(cf, recycling):
    executor = recycling(1, max_tasks_per_child=2)
    pids = [executor.submit(tasks.pid).result(GUARD) for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


@RECYCLED
def test_recycling_and_an_early_shutdown(cf, recycling):
    executor = recycling(1, max_tasks_per_child=1)
    futures = [executor.submit(tasks.pid) for _ in range(4)]
    executor.shutdown(wait=False)
    assert len({f.result(GUARD) for f in futures}) == 4


@RECYCLED
def test_recycled_workers_are_initialized(cf, recycling):
    executor = recycling(1, max_tasks_per_child=1, initializer=tasks.prepare, initargs=("x",))
    seen = [executor.submit(tasks.read_prepared).result(GUARD) for _ in range(3)]
    assert len({pid for pid, _ in seen}) == 3
    assert all(prepared == [("x",)] for _, prepared in seen)


def test_recycling_has_spawn_as_its_default(cf):
    executor = cf.ProcessPoolExecutor(1, max_tasks_per_child=5)
    try:
        if multiprocessing.get_start_method() == "fork":
            assert executor._mp_context.get_start_method() == "spawn"
        assert executor.submit(tasks.add, 1).result(GUARD) == 2
    finally:
        executor.shutdown()


# --- shutdown ---------------------------------------------------------------------------

def test_shutdown_waits_for_the_work_and_for_the_workers(procs):
    executor = procs(2)
    futures = [executor.submit(tasks.slow_pid) for _ in range(10)]
    workers = list(executor._processes.values())
    assert executor.shutdown() is None
    assert all(f.done() and not f.cancelled() for f in futures)
    assert not any(process.is_alive() for process in workers)
    assert {process.exitcode for process in workers} == {0}


def test_submit_after_shutdown_is_refused(procs):
    executor = procs(1)
    executor.submit(tasks.add, 1).result(GUARD)
    for wait in (False, True, True):
        executor.shutdown(wait=wait)
        with pytest.raises(RuntimeError, match=AFTER):
            executor.submit(tasks.add, 1)
        with pytest.raises(RuntimeError, match=AFTER):
            executor.map(tasks.add, [1])


def test_shutdown_of_a_pool_that_was_never_used(procs):
    executor = procs(1)
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match=AFTER):
        executor.submit(tasks.add, 1)


def test_shutdown_without_waiting_does_the_work(procs, door):
    executor, gate = procs(1), door()
    first = executor.submit(tasks.wait_at, gate.path, "first")
    rest = [executor.submit(tasks.add, n) for n in range(20)]
    gate.entered()
    executor.shutdown(wait=False)
    assert not first.done() and not rest[-1].done()
    gate.open()
    assert first.result(GUARD) == "first"
    assert [f.result(GUARD) for f in rest] == list(range(1, 21))


def test_shutdown_twice_the_second_time_waiting(procs, door):
    executor, gate = procs(1), door()
    future = executor.submit(tasks.wait_at, gate.path)
    gate.entered()
    executor.shutdown(wait=False)
    threading.Timer(0.02, gate.open).start()
    executor.shutdown(wait=True)
    assert eventually(future.done)


def test_shutdown_that_cancels(procs, door):
    executor, gate = procs(2), door()
    running = [executor.submit(tasks.wait_at, gate.path, n) for n in range(2)]
    gate.entered(2)
    queued = [executor.submit(tasks.add, n) for n in range(50)]
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    assert [f.result(GUARD) for f in running] == ["0", "1"] or [
        f.result(GUARD) for f in running] == [0, 1]
    executor.shutdown(wait=True)
    # The standard library's second shutdown() does not wait.
    assert eventually(lambda: all(f.done() for f in queued))
    # Some of them were handed out before, in the standard library.
    assert sum(f.cancelled() for f in queued) > 20


@ours("there up to max_workers + 1 tasks more are beyond recall, and nobody is told")
def test_shutdown_cancels_all_that_no_worker_has_begun(cf, procs, door):
    executor, gate = procs(2), door()
    running = [executor.submit(tasks.wait_at, gate.path) for _ in range(2)]
    gate.entered(2)
    queued = [executor.submit(tasks.add, n) for n in range(50)]
    called = []
    queued[7].add_done_callback(called.append)
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(f.cancelled() for f in queued)
    assert eventually(lambda: called == [queued[7]])
    assert cf.wait(queued, GUARD).not_done == set()
    assert not any(f.done() for f in running)
    gate.open()


def test_with_block_waits(cf, context):
    with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
        futures = [executor.submit(tasks.slow_pid) for _ in range(10)]
        workers = list(executor._processes.values())
    assert all(f.done() for f in futures)
    assert not any(process.is_alive() for process in workers)
    with pytest.raises(RuntimeError, match=AFTER):
        executor.submit(tasks.add, 1)


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_with_block_left_by_an_exception_waits_all_the_same(cf, context, kind):
    with pytest.raises(kind):
        with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
            futures = [executor.submit(tasks.slow_pid) for _ in range(5)]
            raise kind("out")
    assert all(f.done() and not f.cancelled() for f in futures)


@ours("there it waits for every task that was queued")
def test_with_block_left_by_keyboard_interrupt_cancels_and_does_not_wait(cf, context, door):
    gate = door()
    with pytest.raises(KeyboardInterrupt):
        with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
            running = executor.submit(tasks.wait_at, gate.path)
            queued = [executor.submit(tasks.add, n) for n in range(10)]
            gate.entered()
            raise KeyboardInterrupt
    assert all(f.cancelled() for f in queued)
    # The terminal interrupts workers as well; here only the block was left.
    gate.open()
    assert cf.wait([running], GUARD).not_done == set()
    executor.shutdown()


def test_processes_are_forgotten_after_shutdown(procs):
    executor = procs(1)
    executor.submit(tasks.add, 1).result(GUARD)
    executor.shutdown()
    assert not executor._processes


def test_shutdown_from_a_callback(procs):
    executor, over = procs(1), threading.Event()
    future = executor.submit(tasks.slow_pid)
    future.add_done_callback(lambda f: (executor.shutdown(wait=False), over.set()))
    assert over.wait(GUARD)
    with pytest.raises(RuntimeError, match=AFTER):
        executor.submit(tasks.add, 1)


def test_shutdown_from_several_threads(procs, door):
    executor, gate = procs(1), door()
    future = executor.submit(tasks.wait_at, gate.path)
    gate.entered()
    threads = [threading.Thread(target=executor.shutdown, kwargs={"wait": n % 2 == 0})
               for n in range(4)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join(GUARD)
        assert not thread.is_alive()
    assert eventually(future.done)


def test_pools_one_after_the_other(cf, context):
    for number in range(5):
        with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
            futures = [executor.submit(tasks.add, n) for n in range(number)]
        assert [f.result(0) for f in futures] == list(range(1, number + 1))


def test_several_pools_at_once(procs):
    """Processes of one pool must not keep anything of the other alive."""
    first, second = procs(2), procs(2)
    assert first.submit(tasks.add, 1).result(GUARD) == 2
    assert second.submit(tasks.add, 2).result(GUARD) == 3
    first.shutdown()
    assert second.submit(tasks.add, 3).result(GUARD) == 4
    assert not {p.pid for p in second._processes.values() if not p.is_alive()}


# --- dropped executors ------------------------------------------------------------------

def test_queued_work_of_a_dropped_executor_is_done(cf, context, door):
    gate = door()
    executor = cf.ProcessPoolExecutor(2, mp_context=context)
    futures = [executor.submit(tasks.wait_at, gate.path) for _ in range(2)]
    futures += [executor.submit(tasks.add, n) for n in range(20)]
    gate.entered(2)
    workers = list(executor._processes.values())
    reference = weakref.ref(executor)
    del executor
    if not FREE_THREADED:
        assert eventually(lambda: reference() is None)
    gate.open()
    assert [f.result(GUARD) for f in futures[2:]] == list(range(1, 21))
    assert eventually(lambda: not any(process.is_alive() for process in workers))


def test_workers_of_a_dropped_idle_executor_end(cf, context):
    executor = cf.ProcessPoolExecutor(2, mp_context=context)
    executor.submit(tasks.add, 1).result(GUARD)
    workers = list(executor._processes.values())
    del executor
    assert eventually(lambda: not any(process.is_alive() for process in workers))


# --- forced ends ------------------------------------------------------------------------

@BY_METHOD
@stdlib_from(*FORCED)
def test_forced_end_of_running_and_queued_tasks(cf, procs, door, way):
    executor, gate = procs(1), door()
    running = executor.submit(tasks.announce_and_sleep, gate.path)
    queued = [executor.submit(tasks.add, n) for n in range(30)]
    ((pid, _),) = gate.entered()
    worker = executor._processes[pid]
    assert getattr(executor, way)() is None
    with pytest.raises(cf.BrokenProcessPool):
        running.result(GUARD)
    for future in queued:
        assert eventually(future.done)
    assert sum(f.cancelled() for f in queued) > 20
    worker.join(GUARD)
    number = signal.SIGTERM if way == "terminate_workers" else signal.SIGKILL
    assert worker.exitcode == -number
    with pytest.raises(RuntimeError, match=AFTER):
        executor.submit(tasks.add, 1)


@BY_METHOD
@stdlib_from(*FORCED)
def test_forced_end_of_an_idle_an_unused_and_a_closed_pool(procs, way):
    used, unused = procs(2), procs(2)
    used.submit(tasks.add, 1).result(GUARD)
    workers = list(used._processes.values())
    for executor in (used, unused):
        getattr(executor, way)()
        with pytest.raises(RuntimeError, match=AFTER):
            executor.submit(tasks.add, 1)
        getattr(executor, way)()
    assert eventually(lambda: not any(process.is_alive() for process in workers))


@BY_METHOD
@stdlib_from(*FORCED)
def test_forced_end_when_a_worker_is_gone_already(procs, way):
    executor = procs(1)
    executor.submit(tasks.add, 1).result(GUARD)
    (worker,) = executor._processes.values()
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(GUARD)
    getattr(executor, way)()


# --- subclasses and attributes ----------------------------------------------------------

def test_subclass_with_its_own_submit_is_asked_by_map(cf, context):
    class Mine(cf.ProcessPoolExecutor):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.submitted = []

        def submit(self, fn, /, *args, **kwargs):
            self.submitted.append(fn)
            return super().submit(fn, *args, **kwargs)

    with Mine(1, mp_context=context) as executor:
        assert list(executor.map(tasks.add, range(5))) == [1, 2, 3, 4, 5]
        assert len(executor.submitted) == 5
        assert list(executor.map(tasks.add, range(5), chunksize=5)) == [1, 2, 3, 4, 5]
        assert len(executor.submitted) == 6


def test_subclass_with_its_own_shutdown_is_asked_by_the_with_block(cf, context):
    class Mine(cf.ProcessPoolExecutor):
        calls = []

        def shutdown(self, wait=True, **options):
            self.calls.append(wait)
            super().shutdown(wait, **options)

    with Mine(1, mp_context=context) as executor:
        executor.submit(tasks.add, 1)
    assert executor.calls == [True]


def test_attributes_and_weak_references(procs):
    executor = procs(1)
    executor.colour = "red"
    assert weakref.ref(executor)() is executor
    assert executor.colour == "red" and executor._max_workers == 1
