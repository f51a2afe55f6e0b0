"""The control plane of process pools: starting workers, signals, deaths, the end.

Deaths of every kind are in test_process_crashes, whole programs and Ctrl-C in
test_process_exit; here is what goes wrong in between.
"""
import gc
import logging
import os
import pickle
import signal
import threading
import weakref

import control_tasks as tasks
import pytest
from cfutures import _deferred, _manager, _report
from cfutures.process import BrokenProcessPool, WorkerCrashed
from prockit import Program, alive, offspring, run_program
from testkit import GUARD, eventually, ours

pytestmark = [ours("its workers are controlled in another way"), pytest.mark.timeout(180)]

SPAWNING = ("spawn", "forkserver")


@pytest.fixture
def run(implementation, method):
    """Run a program to its end."""
    def run(code, **options):
        return run_program(PRELUDE + code, implementation, method, **options)
    return run


@pytest.fixture
def program(implementation, method):
    """Start programs; see prockit.Program."""
    started = []

    def start(code, **options):
        started.append(Program(PRELUDE + code, implementation, method, **options))
        return started[-1]

    yield start
    for each in started:
        each.destroy()


TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PRELUDE = f"""
sys.path.append({TESTS!r})       # prockit uses testkit
import control_tasks as tasks
import cfutures.process
from cfutures import _manager
from cfutures.process import BrokenProcessPool
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


class Reluctant:
    """A multiprocessing context that refuses some of its starts: `refused` has numbers."""

    def __init__(self, context, *refused, error=None):
        self._context = context
        self._refused = set(refused)
        self._error = error or OSError(11, "no more processes today")
        self.starts = 0

    def get_start_method(self, allow_none=False):
        return self._context.get_start_method(allow_none=allow_none)

    def Process(self, **options):
        process = self._context.Process(**options)
        self.starts += 1
        if self.starts in self._refused:
            def start():
                raise self._error
            process.start = start
        return process


# --- starting ---------------------------------------------------------------------------

def test_first_worker_cannot_be_started(procs, context):
    """submit() says so, nothing is left, and the next submit() tries again."""
    reluctant = Reluctant(context, 1)
    before = offspring()
    executor = procs(1, mp_context=reluctant)
    with pytest.raises(OSError, match="no more processes"):
        executor.submit(tasks.add, 1)
    assert executor._processes == {} and executor._executor_manager_thread is None
    assert offspring() == before
    assert executor.submit(tasks.add, 1).result(GUARD) == 2


def test_not_all_workers_can_be_started(procs, context, door, caplog):
    """Those that run do the work."""
    executor, gate = procs(4, mp_context=Reluctant(context, 3, 4, 5, 6)), door()
    futures = [executor.submit(tasks.wait_at, gate.path, n) for n in range(8)]
    gate.entered(2)
    assert len(executor._processes) == 2
    gate.open()
    assert [future.result(GUARD) for future in futures] == list(range(8))
    (record,) = [r for r in caplog.records if r.name == "concurrent.futures"]
    assert record.levelno == logging.WARNING
    assert "no more than 2 worker processes" in record.getMessage()


def test_successor_cannot_be_started(context, method, procs):
    if method == "fork":
        pytest.skip("max_tasks_per_child is refused with fork")
    reluctant = Reluctant(context, *range(2, 10))
    executor = procs(1, mp_context=reluctant, max_tasks_per_child=1)
    futures = [executor.submit(tasks.slow_pid, n) for n in range(3)]
    assert futures[0].result(GUARD)
    for future in futures[1:]:
        with pytest.raises(BrokenProcessPool, match=r"could not be started: .*no more process"):
            future.result(GUARD)


def test_replacement_cannot_be_started(context, procs):
    executor = procs(1, mp_context=Reluctant(context, 2), on_crash="replace")
    dying = executor.submit(tasks.die_kill)
    waiting = executor.submit(tasks.add, 1)
    assert type(dying.exception(GUARD)) is WorkerCrashed
    with pytest.raises(BrokenProcessPool, match="could not be started"):
        waiting.result(GUARD)


def test_manager_cannot_be_started(procs, monkeypatch):
    """No worker is left without one who sees to it."""
    before = offspring()
    executor = procs(2)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            executor.submit(tasks.add, 1)
    assert eventually(lambda: offspring() <= before)
    with pytest.raises(BrokenProcessPool):
        executor.submit(tasks.add, 1)


def test_initializer_that_cannot_be_sent(procs, method):
    if method == "fork":
        pytest.skip("nothing is sent to a forked worker")
    executor = procs(1, initializer=print, initargs=(threading.Lock(),))
    before = offspring()
    with pytest.raises(TypeError, match="lock"):
        executor.submit(tasks.add, 1)
    assert offspring() == before
    executor.shutdown()


def test_initializer_defined_in_the_program(run):
    """By value, so that it works where the worker cannot import the program."""
    result = run("""
value = 20
def prepare(more):
    global prepared
    prepared = value + more
def use(_):
    return prepared
with cf.ProcessPoolExecutor(2, mp_context=context, initializer=prepare,
                            initargs=(22,)) as executor:
    say(*executor.map(use, range(4)))
""")
    assert result.out.split() == ["42"] * 4


def test_interrupt_while_workers_are_started(run):
    """None is started that nobody knows, and the pool can be used."""
    run("""
import threading
from multiprocessing.process import BaseProcess
start, started = BaseProcess.start, []
def start_and_interrupt(self):
    os.kill(os.getpid(), signal.SIGINT)
    start(self)
    os.kill(os.getpid(), signal.SIGINT)
    started.append(self.pid)
BaseProcess.start = start_and_interrupt
for workers in range(1, 4):
    executor = cf.ProcessPoolExecutor(workers, mp_context=context)
    try:
        executor.submit(tasks.add, 1)
        sys.exit("not interrupted")
    except KeyboardInterrupt:
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert set(executor._processes) == set(started) and len(started) == 1, started
    BaseProcess.start = start
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
    executor.shutdown()
    started.clear()
    BaseProcess.start = start_and_interrupt
""")


# --- signal handlers wait ---------------------------------------------------------------

@pytest.fixture
def handled():
    """The signals that a handler of SIGUSR1, SIGUSR2 and SIGINT was called for."""
    calls = []
    before = {n: signal.signal(n, lambda number, frame: calls.append(number))
              for n in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)}
    yield calls
    for number, handler in before.items():
        signal.signal(number, handler)


def test_handlers_run_after_the_block_in_order(implementation, handled):
    with _deferred.DeferredSignals() as deferred:
        assert not deferred.due
        for number in (signal.SIGUSR2, signal.SIGINT, signal.SIGUSR1):
            signal.raise_signal(number)
        assert handled == [] and deferred.due
    assert handled == [signal.SIGUSR2, signal.SIGINT, signal.SIGUSR1]


def test_handler_that_raises_keeps_no_other_from_running(implementation, handled):
    def raising(number, frame):
        raise ZeroDivisionError

    signal.signal(signal.SIGINT, raising)
    with pytest.raises(ZeroDivisionError), _deferred.DeferredSignals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGUSR1)
    assert handled == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGINT) is raising


def test_handlers_are_put_back_after_an_error(implementation, handled):
    before = [signal.getsignal(n) for n in (signal.SIGUSR1, signal.SIGINT)]
    with pytest.raises(ZeroDivisionError), _deferred.DeferredSignals():
        raise ZeroDivisionError
    assert [signal.getsignal(n) for n in (signal.SIGUSR1, signal.SIGINT)] == before


def test_ignored_and_default_signals_are_left_alone(implementation):
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with _deferred.DeferredSignals():
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_other_threads_defer_nothing(implementation, handled):
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def look():
        with _deferred.DeferredSignals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(GUARD)
    assert seen == [before]


# --- signals in workers -----------------------------------------------------------------

def test_workers_do_not_inherit_what_signals_do(run):
    """A server's handler of SIGTERM must not run in its workers, nor tell its loop."""
    result = run("""
def shut_down_the_server(number, frame):
    say("this is not the server")
def another(number, frame):
    pass
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, shut_down_the_server)
signal.signal(signal.SIGUSR1, another)
import socket
ours, theirs = socket.socketpair()
theirs.setblocking(False)
signal.set_wakeup_fd(theirs.fileno())
with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
    ask = lambda *call: executor.submit(*call).result(GUARD)
    say(ask(tasks.handler_of, signal.SIGTERM), ask(tasks.handler_of, signal.SIGINT),
        ask(tasks.wakeup_fd), ask(tasks.signals_blocked))
    if context.get_start_method() == "fork":
        assert ask(tasks.handler_of, signal.SIGUSR1) == "another"
    os.kill(executor.submit(tasks.pid).result(GUARD), signal.SIGINT)
    try:
        assert ask(tasks.add, 1) == 2
    except KeyboardInterrupt:
        pass        # the signal was slow, and the task was quick
    assert ask(tasks.add, 1) == 2
ours.setblocking(False)
try:
    say("told:", ours.recv(10))
except BlockingIOError:
    pass
assert signal.getsignal(signal.SIGUSR1) is another
""")
    assert result.out == "default default_int_handler -1 []\n"


def test_idle_worker_ignores_interrupts(procs):
    executor = procs(1)
    pid = executor.submit(tasks.pid).result(GUARD)
    for _ in range(20):
        os.kill(pid, signal.SIGINT)
        try:
            assert executor.submit(tasks.pid).result(GUARD) == pid
        except KeyboardInterrupt:
            pass    # the signal was slow, and the task was quick
    assert executor.submit(tasks.pid).result(GUARD) == pid


def test_interrupt_of_a_task_is_its_exception(procs):
    executor = procs(1)
    pid = executor.submit(tasks.pid).result(GUARD)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            executor.submit(tasks.interrupt_oneself).result(GUARD)
    assert executor.submit(tasks.pid).result(GUARD) == pid


def test_interrupted_initializer(procs):
    with pytest.raises(BrokenProcessPool, match="KeyboardInterrupt"):
        procs(1, initializer=tasks.raise_interrupt).submit(tasks.add, 1).result(GUARD)


def test_programs_of_tasks_start_with_ordinary_signals(run):
    """The mask that shields a starting worker is not passed on."""
    result = run("""
code = "import signal; print(signal.pthread_sigmask(0, ()), signal.getsignal(2).__name__)"
def ask():
    import subprocess, sys
    return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE,
                          check=True, text=True).stdout
with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
    say(executor.submit(ask).result(GUARD), end="")
    say(context.Pool(1).apply(tasks.signals_blocked))
""".replace(', end=""', ""))
    assert result.out.split() == ["set()", "default_int_handler", "[]"]


# --- what is told of deaths -------------------------------------------------------------

def test_message_names_process_signal_and_task(procs):
    executor = procs(1)
    pid = executor.submit(tasks.pid).result(GUARD)
    error = executor.submit(tasks.terminate_oneself).exception(GUARD)
    assert str(error).startswith(
        "A process in the process pool was terminated abruptly while the future was running "
        "or pending. ")
    assert f"Process {pid} was killed by SIGTERM (signal 15) while it ran " in str(error)
    assert "terminate_oneself" in str(error)
    assert f"Process {pid} terminated abruptly with exit code -15" in str(error.__cause__)
    with pytest.raises(BrokenProcessPool, match=r"not usable anymore\. Process .* SIGTERM"):
        executor.submit(tasks.add, 1)


def test_message_has_the_error_of_the_initializer(procs, door):
    gate = door()
    executor = procs(1, initializer=tasks.wait_and_raise, initargs=(gate.path,))
    future = executor.submit(tasks.add, 1)
    gate.open()
    error = future.exception(GUARD)
    assert "RuntimeError: the initializer does not want to" in str(error)
    assert "in wait_and_raise" in str(error.__cause__)


def test_crash_can_be_sent_on(procs):
    """As when a worker has a pool of its own."""
    error = procs(1, on_crash="replace").submit(tasks.die_kill).exception(GUARD)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is WorkerCrashed and str(copy) == str(error)
    for name in ("pid", "signal", "exitcode", "function", "stack"):
        assert getattr(copy, name) == getattr(error, name)
    assert (copy.signal, copy.exitcode) == (signal.SIGKILL, -9)


def test_reports_of_workers_do_not_mix(implementation):
    reports = _report.Reports()
    try:
        first, second = (_report.Report(reports.fd, n) for n in (0, 1))
        first.say(_report.READY)
        second.say(_report.FAILED, "ünreadable" * 10000)
        os.write(first.crash_fd, b"stack of the first")
        assert reports.read(0) == (_report.READY, "stack of the first")
        state, text = reports.read(1)
        assert state == _report.FAILED and text.startswith("ünreadable" * 1000)
        reports.clear(1)
        assert reports.read(1) == (_report.STARTING, "")
        assert reports.read(0) == (_report.READY, "stack of the first")
        assert reports.read(99) == (_report.STARTING, "")
    finally:
        reports.close()
        for report in (first, second):
            os.close(report.crash_fd)


# --- those that die too often, those that do not end ------------------------------------

def test_workers_that_never_come_up(procs, tmp_path):
    """It does not go on for ever."""
    executor = procs(2, on_crash="replace", initializer=tasks.die_kill)
    error = executor.submit(tasks.add, 1).exception(GUARD)
    assert "in a row died before they took a task" in str(error)
    assert "before it was ready for tasks" in str(error)
    with pytest.raises(BrokenProcessPool):
        executor.submit(tasks.add, 1)


def test_worker_that_ignores_termination_is_killed(program, tmp_path):
    """The pool broke, and shutdown() must come to an end."""
    child = program(f"""
_manager._KILL_AFTER = 0.2
from prockit import Door
door = Door({str(tmp_path)!r})
executor = cf.ProcessPoolExecutor(2, mp_context=context)
stubborn = executor.submit(tasks.ignore_signals_at, door.path, signal.SIGTERM)
door.entered()
assert isinstance(executor.submit(tasks.die_kill).exception(GUARD), BrokenProcessPool)
assert isinstance(stubborn.exception(GUARD), BrokenProcessPool)
executor.shutdown()
""")
    child.ends()


@pytest.mark.parametrize("signals", ["", "signal.SIGINT", "signal.SIGINT, signal.SIGTERM"])
def test_interrupted_block_ends_what_does_not_end(program, tmp_path, signals):
    """Ctrl-C to the program alone: its workers are interrupted, terminated, killed."""
    child = program(f"""
_manager._TERMINATE_AFTER = _manager._KILL_AFTER = 0.5
from prockit import Door
door = Door({str(tmp_path)!r})
try:
    with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
        running = [executor.submit(tasks.ignore_signals_at, door.path, {signals})
                   for _ in range(2)]
        queued = [executor.submit(tasks.add, n) for n in range(10)]
        door.entered(2)
        say("ready")
        time.sleep(GUARD)
except KeyboardInterrupt:
    say(all(future.cancelled() for future in queued))
for future in running:
    say(type(future.exception(GUARD)).__name__)
""")
    assert child.line() == "ready"
    os.kill(child.pid, signal.SIGINT)
    child.ends()
    name = "BrokenProcessPool" if signals else "KeyboardInterrupt"
    assert child.out.split() == ["True", name, name]


def test_interrupted_tasks_may_clean_up(program, tmp_path):
    child = program(f"""
from prockit import Door
door = Door({str(tmp_path)!r})
try:
    with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
        future = executor.submit(tasks.clean_up_at, door.path)
        door.entered()
        say("ready")
        time.sleep(GUARD)
except KeyboardInterrupt:
    pass
(_, told), = door.entered()
say(told)
say(type(future.exception(GUARD)).__name__)
""")
    assert child.line() == "ready"
    os.kill(child.pid, signal.SIGINT)
    child.ends()
    assert child.out.splitlines() == ["cleaned up", "KeyboardInterrupt"]


def test_program_ended_by_ctrl_c_does_not_work_off_its_queue(program, tmp_path):
    """There is no block, so nobody shuts the pool down but the exit."""
    child = program(f"""
from prockit import Door
door = Door({str(tmp_path)!r})
executor = cf.ProcessPoolExecutor(1, mp_context=context)
futures = [executor.submit(tasks.announce_and_sleep, door.path, n) for n in range(50)]
door.entered()
say("ready")
futures[0].result()
""")
    assert child.line() == "ready"
    child.interrupt()
    child.ends(-signal.SIGINT)


def test_second_ctrl_c_at_exit_ends_the_workers(program, tmp_path):
    child = program(f"""
from prockit import Door
door = Door({str(tmp_path)!r})
executor = cf.ProcessPoolExecutor(1, mp_context=context)
executor.submit(tasks.outlast_interrupts_at, door.path)
door.entered()
import threading
def tell():
    threading.main_thread().join(0.1)
    say("ready")
threading.Thread(target=tell, daemon=True).start()
""")
    assert child.line() == "ready"
    os.kill(child.pid, signal.SIGINT)
    child.ends(None)


# --- the end ----------------------------------------------------------------------------

def test_shutdown_in_a_callback(procs):
    """It runs in the manager, which cannot wait for its own end."""
    executor, called = procs(1), threading.Event()
    errors = []

    def end(future):
        try:
            executor.shutdown(wait=True)
        except BaseException as error:
            errors.append(error)
        called.set()

    manager = None
    future = executor.submit(tasks.sleep_and_return, 0.05, 1)
    manager = executor._executor_manager_thread
    future.add_done_callback(end)
    assert called.wait(GUARD) and errors == []
    manager.join(GUARD)
    assert not manager.is_alive()


def test_shutdown_that_waits_after_one_that_did_not(procs, door):
    executor, gate = procs(1), door()
    future = executor.submit(tasks.wait_at, gate.path, "done")
    gate.entered()
    (process,) = executor._processes.values()
    executor.shutdown(wait=False)
    gate.open()
    executor.shutdown(wait=True)
    assert future.done() and not process.is_alive()


def test_shutdown_waits_for_threads_that_tasks_left(procs, door):
    """As the standard library does: a worker ends as Python processes do."""
    executor, gate = procs(1), door()
    executor.submit(tasks.thread_that_stays, gate.path).result(GUARD)
    gate.entered()
    (process,) = executor._processes.values()
    executor.shutdown(wait=False)
    assert process.is_alive()
    gate.open()
    executor.shutdown(wait=True)
    assert not process.is_alive() and process.exitcode == 0


def test_collected_executor_finishes_its_tasks(procs, cf, context, door):
    gate = door()
    executor = cf.ProcessPoolExecutor(2, mp_context=context)
    futures = [executor.submit(tasks.wait_at, gate.path, n) for n in range(6)]
    gate.entered(2)
    manager, processes = executor._executor_manager_thread, dict(executor._processes)
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    gate.open()
    assert [future.result(GUARD) for future in futures] == list(range(6))
    manager.join(GUARD)
    assert not manager.is_alive()
    assert not any(process.is_alive() for process in processes.values())


def test_idle_executor_is_collected_without_the_cycle_collector(cf, context):
    executor = cf.ProcessPoolExecutor(1, mp_context=context)
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
    manager = executor._executor_manager_thread
    gone = weakref.ref(executor)
    gc.disable()
    try:
        del executor
        assert gone() is None
    finally:
        gc.enable()
    manager.join(GUARD)
    assert not manager.is_alive()


def test_memory_of_a_closed_pool_does_not_wait_for_the_cycle_collector(cf, context):
    gc.collect()
    gc.disable()
    try:
        executor = cf.ProcessPoolExecutor(1, mp_context=context)
        executor.submit(tasks.die_kill).exception(GUARD)
        executor.shutdown()
        crew = weakref.ref(executor._crew)
        del executor
        assert eventually(lambda: crew() is None)
    finally:
        gc.enable()


def test_private_names_of_the_standard_class(procs, method):
    executor = procs(2)
    assert executor._processes == {} and executor._executor_manager_thread is None
    assert executor._broken is False and executor._shutdown_thread is False
    assert executor._safe_to_dynamically_spawn_children is (method != "fork")
    pid = executor.submit(tasks.pid).result(GUARD)
    assert executor._processes[pid].pid == pid
    assert executor._executor_manager_thread.is_alive()
    assert len(executor._pending_work_items) == 0 and executor._work_ids.qsize() == 0
    with executor._shutdown_lock:
        pass
    executor._call_queue.join_thread()
    manager = executor._executor_manager_thread
    executor.shutdown()
    assert not manager.is_alive()
    assert executor._shutdown_thread is True
    assert executor._processes is None and executor._executor_manager_thread is None


def test_recycled_workers_are_not_among_the_processes(procs, method):
    """Not even while they end, so that there are never too many."""
    if method == "fork":
        pytest.skip("max_tasks_per_child is refused with fork")
    executor = procs(2, max_tasks_per_child=1)
    seen = set()
    for n in range(6):
        seen.add(executor.submit(tasks.slow_pid, n).result(GUARD))
        assert len(executor._processes) <= 2
    assert len(seen) == 6


def test_nothing_is_left_open(cf, context):
    """No descriptor, thread or process for a pool that is gone, however it went."""
    def use(fn, **options):
        with cf.ProcessPoolExecutor(2, mp_context=context, **options) as executor:
            futures = [executor.submit(fn) for _ in range(3)]
            return [type(future.exception(GUARD)) for future in futures]

    assert use(tasks.pid) == [type(None)] * 3       # helpers of multiprocessing start now
    gc.collect()
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(2):
        use(tasks.pid)
        use(tasks.die_kill)
        use(tasks.die_kill, on_crash="replace")
        use(tasks.pid, initializer=tasks.raise_interrupt)
    assert eventually(
        lambda: gc.collect() is not None and len(os.listdir("/proc/self/fd")) <= descriptors)
    assert threading.active_count() == threads


# --- forked children --------------------------------------------------------------------

def test_forked_child_of_a_pool_whose_manager_has_hardly_begun(run):
    result = run("""
import warnings
warnings.simplefilter("ignore")
for n in range(30):
    executor = cf.ProcessPoolExecutor(1, mp_context=context)
    future = executor.submit(abs, -n)
    pid = os.fork()
    if pid == 0:
        watch(GUARD)
        manager = executor._executor_manager_thread
        alive = manager is not None and manager.is_alive()
        executor.shutdown()
        os._exit(alive)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    assert future.result(GUARD) == n
    executor.shutdown()
    if executor._mp_context.get_start_method() != "fork" and n == 4:
        break
say("done")
""")
    assert result.out.split() == ["done"] and result.err == ""


def test_forked_child_does_not_touch_the_parent_s_workers(run):
    result = run("""
import multiprocessing, warnings
warnings.simplefilter("ignore")
executor = cf.ProcessPoolExecutor(2, mp_context=context)
workers = {executor.submit(tasks.slow_pid).result(GUARD) for _ in range(8)}
futures = [executor.submit(tasks.sleep_and_return, 0.2, n) for n in range(2)]
workers |= set(executor._processes)
pid = os.fork()
if pid == 0:
    watch(GUARD)
    try:
        assert executor._processes == {}
        assert executor._executor_manager_thread is None or (
            not executor._executor_manager_thread.is_alive())
        assert not set(multiprocessing.active_children()) & workers
        executor.terminate_workers()
        executor.kill_workers()
        executor.shutdown()
        del executor
        # At its end CPython 3.13.5 waits for multiprocessing's resource tracker, which is a
        # child of the parent's: an ignored exception on stderr, which is not what is asked.
        from multiprocessing import resource_tracker
        resource_tracker._resource_tracker._pid = None
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    sys.exit(0)
_, status = os.waitpid(pid, 0)
say(status, *[future.result(GUARD) for future in futures])
say({executor.submit(tasks.slow_pid).result(GUARD) for _ in range(8)} <= workers)
executor.shutdown()
""")
    assert result.out.split() == ["0", "0", "1", "True"]
    assert result.err == ""


def test_fork_while_another_thread_starts_workers(run):
    """The child must not wait for a lock that nobody there will give back."""
    run("""
import threading, warnings
warnings.simplefilter("ignore")
stop = threading.Event()
def churn():
    while not stop.is_set():
        with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
            executor.submit(tasks.add, 1).result(GUARD)
thread = threading.Thread(target=churn)
thread.start()
kept = cf.ProcessPoolExecutor(1, mp_context=context)
kept.submit(tasks.add, 1).result(GUARD)
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        watch(GUARD)
        kept.shutdown()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
stop.set()
thread.join()
kept.shutdown()
""")


def test_the_manager_is_a_thread_of_the_program(procs):
    executor = procs(1)
    executor.submit(tasks.add, 1).result(GUARD)
    manager = executor._executor_manager_thread
    assert manager in threading.enumerate() and manager in _manager._managers
    assert manager.name == "cfutures-manager" and not manager.daemon
    assert alive(next(iter(executor._processes)))
    executor.shutdown()
    assert manager not in _manager._managers
