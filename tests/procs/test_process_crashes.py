"""A worker dies: nothing hangs, nothing more than it ran is lost, the message says who.

Each way to die, under each start method, with both policies: on_crash="break", which is
the standard library's, and "replace".
"""
import asyncio
import faulthandler
import os
import re
import signal
from dataclasses import dataclass

import proc_tasks as tasks
import pytest
from prockit import alive
from testkit import GUARD, eventually, ours

pytestmark = pytest.mark.timeout(180)
MIB = 1 << 20
BROKEN = ("A process in the process pool was terminated abruptly while the future was "
          "running or pending.")
USELESS = "A child process terminated abruptly, the process pool is not usable anymore"
REPLACE = ours("there the pool breaks")


@dataclass(frozen=True)
class Way:
    """How a task ends its worker: the call, the exit code, and the name in messages."""

    name: str
    call: tuple
    exitcode: int | None
    function: str

    def submit(self, executor):
        return executor.submit(*self.call)


WAYS = [
    Way("exit", (tasks.die_exit, 3), 3, "die_exit"),
    Way("exit status 0", (tasks.die_exit, 0), 0, "die_exit"),
    Way("kill itself", (tasks.die_kill,), -signal.SIGKILL, "die_kill"),
    Way("segmentation fault", (tasks.die_segfault,), -signal.SIGSEGV, "die_segfault"),
    Way("stack overflow", (tasks.die_stack_overflow,), -signal.SIGSEGV, "die_stack_overflow"),
    Way("abort", (tasks.die_abort,), -signal.SIGABRT, "die_abort"),
    Way("while unpickling the task", (tasks.echo, tasks.DiesOnLoad()), 5, "echo"),
    Way("while pickling the result", (tasks.return_dies_on_dump,), 6, "return_dies_on_dump"),
]
BY_WAY = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)


def kill(pid, number=signal.SIGKILL):
    os.kill(pid, number)


def refuses(cf, executor):
    """The pool is broken: it takes no more tasks, for the standard reason."""
    with pytest.raises(cf.BrokenProcessPool, match="^" + re.escape(USELESS)):
        executor.submit(tasks.add, 1)


# --- break ------------------------------------------------------------------------------

@BY_WAY
def test_death_breaks_the_pool(cf, procs, door, way):
    """Of the standard library and of ours: all that is pending fails, and quickly."""
    # There pytest's faulthandler would write the stacks of forked workers all over.
    quiet = {"initializer": faulthandler.disable} if cf.implementation == "stdlib" else {}
    executor, gate = procs(2, **quiet), door()
    other = executor.submit(tasks.announce_and_sleep, gate.path)
    gate.entered()
    workers = list(executor._processes.values())
    fatal = way.submit(executor)
    queued = _submit_some(cf, executor)
    error = fatal.exception(GUARD)
    assert isinstance(error, cf.BrokenProcessPool)
    assert str(error).startswith(BROKEN)
    for future in [other, *queued]:
        assert isinstance(future.exception(GUARD), cf.BrokenProcessPool)
    assert eventually(lambda: executor._broken)
    refuses(cf, executor)
    # The other worker is ended, though it would have slept for an hour.
    assert eventually(lambda: not any(process.is_alive() for process in workers))
    executor.shutdown()


def _submit_some(cf, executor):
    """Tasks that cannot be begun; the pool may break meanwhile."""
    futures = []
    for _ in range(10):
        try:
            futures.append(executor.submit(tasks.announce_and_sleep, "/nowhere"))
        except cf.BrokenProcessPool:
            break
    return futures


@BY_WAY
@ours("there the message does not tell")
def test_broken_pool_tells_which_process_how_and_what_it_ran(cf, procs, way):
    executor = procs(1)
    worker = executor.submit(tasks.pid).result(GUARD)
    text = str(way.submit(executor).exception(GUARD))
    assert f"{worker}" in text
    assert re.search(rf"\b{way.function}\b", text)
    assert how(way.exitcode) in text
    with pytest.raises(cf.BrokenProcessPool) as refused:
        executor.submit(tasks.add, 1)
    assert f"{worker}" in str(refused.value)


def how(exitcode):
    return f"exit code {exitcode}" if exitcode >= 0 else signal.Signals(-exitcode).name


@ours("there each future has an exception of its own since 3.12")
def test_all_pending_futures_share_one_exception(cf, procs, door):
    executor, gate = procs(1), door()
    running = executor.submit(tasks.announce_and_sleep, gate.path)
    queued = [executor.submit(tasks.add, n) for n in range(20)]
    ((pid, _),) = gate.entered()
    kill(pid)
    error = running.exception(GUARD)
    assert all(future.exception(GUARD) is error for future in queued)


def test_killed_from_outside(cf, procs, door):
    executor, gate = procs(2), door()
    futures = [executor.submit(tasks.announce_and_sleep, gate.path) for _ in range(2)]
    (pid, _), _ = gate.entered(2)
    kill(pid)
    assert all(isinstance(f.exception(GUARD), cf.BrokenProcessPool) for f in futures)
    refuses(cf, executor)


def test_killed_while_idle(cf, procs):
    executor = procs(2)
    pid = executor.submit(tasks.pid).result(GUARD)
    kill(pid)
    assert eventually(lambda: executor._broken)
    refuses(cf, executor)
    assert not executor._processes or eventually(
        lambda: not any(p.is_alive() for p in (executor._processes or {}).values()))


def test_initializer_that_dies(cf, procs):
    executor = procs(2, initializer=tasks.die_exit, initargs=(9,))
    futures = _submit_some(cf, executor)
    assert futures
    assert all(isinstance(f.exception(GUARD), cf.BrokenProcessPool) for f in futures)
    refuses(cf, executor)


def test_results_that_came_before_are_kept(procs):
    executor = procs(1)
    futures = [executor.submit(tasks.add, n) for n in range(100)]
    last = executor.submit(tasks.die_exit)
    assert last.exception(GUARD) is not None
    assert [f.result(GUARD) for f in futures] == list(range(1, 101))


def test_callbacks_waits_and_maps_over_a_broken_pool(cf, procs, door):
    executor, gate, called = procs(1), door(), []
    running = executor.submit(tasks.announce_and_sleep, gate.path)
    running.add_done_callback(lambda f: called.append(type(f.exception())))
    results = executor.map(tasks.add, range(10))
    ((pid, _),) = gate.entered()
    kill(pid)
    assert cf.wait([running], GUARD, cf.FIRST_EXCEPTION).done == {running}
    assert eventually(lambda: called == [cf.BrokenProcessPool])
    with pytest.raises(cf.BrokenProcessPool):
        list(results)


# --- replace ----------------------------------------------------------------------------

@BY_WAY
@REPLACE
def test_death_costs_one_task(cf, procs, door, way):
    executor, gate = procs(2, on_crash="replace"), door()
    other = executor.submit(tasks.wait_at, gate.path, "other")
    gate.entered()
    victim = next(iter({executor.submit(tasks.pid).result(GUARD)}))
    fatal = way.submit(executor)
    queued = [executor.submit(tasks.add, n) for n in range(50)]
    error = fatal.exception(GUARD)
    assert type(error) is cf.process.WorkerCrashed
    assert isinstance(error, cf.BrokenProcessPool)
    assert (error.pid, error.exitcode) == (victim, way.exitcode)
    assert error.signal == (None if way.exitcode >= 0 else signal.Signals(-way.exitcode))
    assert error.function.endswith(way.function)
    for word in (str(victim), how(way.exitcode), way.function):
        assert word in str(error)
    assert [f.result(GUARD) for f in queued] == list(range(1, 51))
    assert not other.done()
    gate.open()
    assert other.result(GUARD) == "other"
    assert victim not in executor._processes and not alive(victim)
    executor.shutdown()


@REPLACE
@pytest.mark.parametrize("way", [w for w in WAYS if w.exitcode in (-signal.SIGSEGV,
                                                                   -signal.SIGABRT)],
                         ids=lambda way: way.name)
def test_exception_has_the_stack_of_the_crash(cf, procs, way):
    """As faulthandler wrote it, in the exception and in the traceback that is shown."""
    error = way.submit(procs(1, on_crash="replace")).exception(GUARD)
    assert "Fatal Python error" in error.stack
    assert "proc_tasks.py" in error.stack
    assert error.stack.strip() in str(error.__cause__)
    assert "_child.py" not in error.stack, "nothing of ours, nor of a forked worker's parent"
    assert __file__ not in error.stack and "Extension modules" not in error.stack


@REPLACE
def test_killed_from_outside_costs_one_task(cf, procs, door):
    executor, gate = procs(2, on_crash="replace"), door()
    futures = {}
    for _ in range(2):
        future = executor.submit(tasks.pid_at, gate.path)
        ((pid, _),) = gate.entered()
        futures[pid] = future
    victim, survivor = futures
    kill(victim)
    error = futures[victim].exception(GUARD)
    assert (error.pid, error.signal, error.exitcode) == (victim, signal.SIGKILL, -9)
    assert not futures[survivor].done()
    gate.open()
    assert futures[survivor].result(GUARD) == survivor
    pids = {executor.submit(tasks.slow_pid).result(GUARD) for _ in range(10)}
    assert victim not in pids


@REPLACE
def test_killed_while_idle_costs_nothing(cf, procs):
    executor = procs(1, on_crash="replace")
    for _ in range(4):
        pid = executor.submit(tasks.pid).result(GUARD)
        kill(pid)
        assert eventually(lambda pid=pid: not alive(pid))
        assert executor.submit(tasks.pid).result(GUARD) != pid
    assert not executor._broken


@REPLACE
def test_all_workers_killed_while_idle(cf, procs, door):
    executor, gate = procs(3, on_crash="replace"), door()
    futures = [executor.submit(tasks.wait_at, gate.path) for _ in range(3)]
    workers = {pid for pid, _ in gate.entered(3)}
    gate.open()
    assert cf.wait(futures, GUARD).not_done == set()
    for pid in workers:
        kill(pid)
    results = [executor.submit(tasks.add, n) for n in range(30)]
    failed = [f for f in results if f.exception(GUARD) is not None]
    # A worker may have taken a task in the instant before it was killed.
    assert len(failed) <= 3
    assert executor.submit(tasks.add, 1).result(GUARD) == 2


@REPLACE
def test_ten_deaths_in_a_row(cf, procs):
    executor = procs(1, on_crash="replace")
    futures = [executor.submit(tasks.die_exit, n + 1) for n in range(10)]
    between = [executor.submit(tasks.add, n) for n in range(5)]
    errors = [f.exception(GUARD) for f in futures]
    assert [error.exitcode for error in errors] == list(range(1, 11))
    assert len({error.pid for error in errors}) == 10
    assert [f.result(GUARD) for f in between] == [1, 2, 3, 4, 5]


def test_ten_deaths_in_a_row_in_a_pool_that_breaks(cf, procs):
    """The first one ends them all; those that were not submitted yet are refused."""
    executor, futures = procs(2), []
    for status in range(10):
        try:
            futures.append(executor.submit(tasks.die_exit, status))
        except cf.BrokenProcessPool:
            break
    assert futures
    assert all(isinstance(f.exception(GUARD), cf.BrokenProcessPool) for f in futures)
    refuses(cf, executor)


@REPLACE
def test_deaths_among_ordinary_tasks(cf, procs):
    executor = procs(2, on_crash="replace")
    futures = [executor.submit(tasks.die_exit, 1) if n % 20 == 7
               else executor.submit(tasks.add, n) for n in range(100)]
    for n, future in enumerate(futures):
        if n % 20 == 7:
            assert isinstance(future.exception(GUARD), cf.process.WorkerCrashed)
        else:
            assert future.result(GUARD) == n + 1
    assert len(executor._processes) <= 2


@REPLACE
def test_initializer_that_dies_once(cf, procs, tmp_path):
    executor = procs(1, on_crash="replace", initializer=tasks.die_once,
                     initargs=(str(tmp_path / "died"),))
    assert executor.submit(tasks.add, 1).result(GUARD) == 2


@REPLACE
def test_deaths_while_starting_with_good_starts_between_are_no_endless_row(
        cf, procs, tmp_path):
    """Every other process dies before it is ready; the others do the work."""
    executor = procs(1, on_crash="replace", initializer=tasks.die_every_other_time,
                     initargs=(str(tmp_path / "starts"),))
    for _ in range(8):
        pid = executor.submit(tasks.pid).result(GUARD)
        kill(pid)
        assert eventually(lambda pid=pid: not alive(pid))


@REPLACE
def test_initializer_that_always_dies(cf, procs):
    """No endless row of new processes: the tasks fail."""
    executor = procs(2, on_crash="replace", initializer=tasks.die_exit, initargs=(9,))
    futures = _submit_some(cf, executor)
    assert futures
    for future in futures:
        error = future.exception(2 * GUARD)
        assert isinstance(error, cf.BrokenProcessPool)
        assert "exit code 9" in f"{error}{error.__cause__}"


@REPLACE
def test_initializer_that_raises(cf, procs):
    executor = procs(1, on_crash="replace", initializer=tasks.prepare_badly)
    error = executor.submit(tasks.add, 1).exception(GUARD)
    assert isinstance(error, cf.BrokenProcessPool)
    assert "LookupError: not today" in f"{error}{error.__cause__}"
    with pytest.raises(cf.BrokenProcessPool):
        executor.submit(tasks.add, 1)


@REPLACE
def test_new_workers_are_initialized(cf, procs):
    executor = procs(1, on_crash="replace", initializer=tasks.prepare, initargs=("x",))
    first, seen = executor.submit(tasks.read_prepared).result(GUARD)
    assert executor.submit(tasks.die_exit).exception(GUARD).pid == first
    second, seen_again = executor.submit(tasks.read_prepared).result(GUARD)
    assert first != second and seen == seen_again == [("x",)]


@REPLACE
def test_deaths_do_not_disturb_cancelling_and_waiting(cf, procs, door):
    executor, gate = procs(1, on_crash="replace"), door()
    running = executor.submit(tasks.announce_and_sleep, gate.path)
    queued = [executor.submit(tasks.add, n) for n in range(20)]
    ((pid, _),) = gate.entered()
    assert queued[3].cancel()
    kill(pid)
    assert set(cf.as_completed([running, *queued], GUARD)) == {running, *queued}
    assert [f.result() for n, f in enumerate(queued) if n != 3] == [
        n + 1 for n in range(20) if n != 3]


@REPLACE
def test_shutdown_with_a_death_under_way(cf, procs, door):
    executor, gate = procs(1, on_crash="replace"), door()
    running = executor.submit(tasks.announce_and_sleep, gate.path)
    queued = [executor.submit(tasks.add, n) for n in range(20)]
    ((pid, _),) = gate.entered()
    executor.shutdown(wait=False)
    kill(pid)
    assert isinstance(running.exception(GUARD), cf.process.WorkerCrashed)
    assert [f.result(GUARD) for f in queued] == list(range(1, 21))


@REPLACE
def test_crash_of_a_dropped_future(cf, procs):
    executor = procs(1, on_crash="replace")
    for _ in range(3):
        executor.submit(tasks.die_exit)
    assert executor.submit(tasks.add, 1).result(GUARD) == 2


@REPLACE
def test_asyncio_is_told_of_a_crash(cf, procs):
    executor = procs(1, on_crash="replace")

    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(cf.process.WorkerCrashed):
            await asyncio.wait_for(loop.run_in_executor(executor, tasks.die_exit), GUARD)
        return await asyncio.wait_for(loop.run_in_executor(executor, tasks.add, 1), GUARD)

    assert asyncio.run(main()) == 2


# --- memory of the dead -----------------------------------------------------------------

@pytest.mark.parametrize("policy", ["break", "replace"])
@ours("there is no shared memory")
def test_memory_that_a_dead_worker_held_is_free_again(cf, context, policy, used_memory):
    """Its arguments, its results that nobody read, what it was about to send."""
    payload = bytes(8 * MIB)

    def use(executor):
        executor.submit(tasks.keep, payload).result(GUARD)
        executor.submit(bytes, 8 * MIB)
        error = executor.submit(tasks.keep_and_die, payload).exception(GUARD)
        assert isinstance(error, cf.BrokenProcessPool)

    if policy == "break":
        for _ in range(6):
            with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
                use(executor)
            del executor
        assert eventually(lambda: used_memory() < 4 * MIB)
        return
    with cf.ProcessPoolExecutor(1, mp_context=context, on_crash="replace") as executor:
        for _ in range(12):
            use(executor)
        # Without reuse it would be three blocks for each death.
        assert eventually(lambda: used_memory() < 150 * MIB), used_memory()
        assert executor.submit(len, payload).result(GUARD) == len(payload)


@pytest.mark.parametrize("policy", ["break", "replace"])
@ours("there is no shared memory")
def test_results_survive_the_worker_that_made_them(cf, procs, policy):
    executor = procs(1, on_crash=policy)
    data = bytearray(os.urandom(MIB))
    unread = executor.submit(tasks.echo, data)
    results = [executor.submit(tasks.echo, data).result(GUARD) for _ in range(5)]
    assert isinstance(executor.submit(tasks.die_kill).exception(GUARD), cf.BrokenProcessPool)
    assert all(result == data for result in results)
    assert unread.result(GUARD) == data
    results[0][:5] = b"mine!"
    if policy == "replace":
        for _ in range(10):
            assert executor.submit(bytes, MIB).result(GUARD) == bytes(MIB)
        assert results[0] == b"mine!" + data[5:] and results[1] == data
