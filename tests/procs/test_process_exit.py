"""Ctrl-C, shutdown and exit: the program ends by itself, and leaves nothing behind.

Each is a program in a session of its own; afterwards none of its processes may be there,
and nothing in the file system of shared memory (prockit.Program.ends looks).
"""
import os
import signal
import time

import pytest
from prockit import METHODS, Program, of_session, run_program
from testkit import GUARD, eventually, ours

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def program(implementation, method):
    """Start programs with the implementation and the start method; see Program."""
    started = []

    def start(code, **options):
        started.append(Program(code, implementation, method, **options))
        return started[-1]

    yield start
    for each in started:
        each.destroy()


@pytest.fixture
def run(implementation, method):
    """Run a program to its end."""
    def run(code, **options):
        return run_program(code, implementation, method, **options)
    return run


# --- without accidents ------------------------------------------------------------------

def test_with_block(run):
    out = run("""
with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
    say(*executor.map(tasks.add, range(5)))
""").out
    assert out.split() == list("12345")


def test_end_without_shutdown(run):
    """What is queued is done first."""
    out = run("""
executor = cf.ProcessPoolExecutor(2, mp_context=context)
for n in range(10):
    executor.submit(tasks.sleep_and_return, 0.01, n).add_done_callback(
        lambda f: say(f.result()))
""").out
    assert sorted(map(int, out.split())) == list(range(10))


def test_end_with_idle_unused_and_closed_pools(run):
    run("""
pools = [cf.ProcessPoolExecutor(2, mp_context=context) for _ in range(3)]
assert pools[0].submit(tasks.add, 1).result(GUARD) == 2
assert pools[1].submit(tasks.add, 1).result(GUARD) == 2
pools[1].shutdown(wait=False)
""")


def test_work_is_done_before_atexit_callbacks(run):
    out = run("""
import atexit
atexit.register(say, "atexit")
executor = cf.ProcessPoolExecutor(1, mp_context=context)
executor.submit(tasks.sleep_and_return, 0.05, "task").add_done_callback(
    lambda f: say(f.result()))
""").out
    assert out.split() == ["task", "atexit"]


def test_sys_exit_with_tasks_pending(run):
    out = run("""
executor = cf.ProcessPoolExecutor(1, mp_context=context)
for n in range(3):
    executor.submit(tasks.sleep_and_return, 0.02, n).add_done_callback(
        lambda f: say(f.result()))
sys.exit(3)
""", status=3).out
    assert out.split() == ["0", "1", "2"]


def test_uncaught_exception_with_tasks_pending(run):
    program = run("""
executor = cf.ProcessPoolExecutor(1, mp_context=context)
executor.submit(tasks.sleep_and_return, 0.02, "done").add_done_callback(
    lambda f: say(f.result()))
raise ValueError("uncaught")
""", status=1)
    assert program.out.split() == ["done"] and "ValueError: uncaught" in program.err


def test_exception_out_of_the_with_block(run):
    program = run("""
with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
    futures = [executor.submit(tasks.sleep_and_return, 0.01, n) for n in range(5)]
    for future in futures:
        future.add_done_callback(lambda f: say(f.result()))
    raise ValueError("out of the block")
""", status=1)
    assert sorted(program.out.split()) == list("01234")
    assert "ValueError: out of the block" in program.err


def test_submitting_at_exit_is_refused(run):
    out = run("""
import atexit
executor = cf.ProcessPoolExecutor(1, mp_context=context)
other = cf.ProcessPoolExecutor(1, mp_context=context)
executor.submit(tasks.add, 1).result(GUARD)
def late(executor):
    try:
        executor.submit(tasks.add, 1)
    except RuntimeError as error:
        say(error)
atexit.register(late, executor)
atexit.register(late, other)
""").out
    assert len(out.splitlines()) == 2
    assert all(line.startswith("cannot schedule new futures after")
               for line in out.splitlines())


def test_collected_executors(run):
    """Queued work of a dropped executor is done, then its processes end, before the program."""
    out = run("""
import gc
def use():
    executor = cf.ProcessPoolExecutor(2, mp_context=context)
    executor.submit(tasks.sleep_and_return, 0.05, "late").add_done_callback(
        lambda f: say(f.result()))
    executor.me = executor
    return list(executor._processes.values())
workers = use()
gc.collect()
end = time.monotonic() + GUARD
while any(worker.is_alive() for worker in workers) and time.monotonic() < end:
    time.sleep(0.01)
say(any(worker.is_alive() for worker in workers))
""").out
    assert out.split() == ["late", "False"]


@ours("there forks from several threads hang now and then")
def test_pools_in_several_threads_at_exit(run):
    out = run("""
def work():
    executor = cf.ProcessPoolExecutor(1, mp_context=context)
    say(executor.submit(tasks.add, 1).result(GUARD))
    executor.submit(tasks.sleep_and_return, 0.05, 3).add_done_callback(
        lambda f: say(f.result()))
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
""").out
    assert sorted(out.split()) == ["2", "2", "2", "3", "3", "3"]


@ours("there such a program does not end")
def test_pool_of_a_daemon_thread(run):
    run("""
begun = threading.Event()
def work():
    executor = cf.ProcessPoolExecutor(1, mp_context=context)
    executor.submit(tasks.add, 1).result(GUARD)
    begun.set()
    time.sleep(3600)
threading.Thread(target=work, daemon=True).start()
begun.wait(GUARD)
""")


@ours("the standard library has no such policy")
@pytest.mark.parametrize("policy", ["break", "replace"])
def test_end_after_a_crash(run, policy):
    run(f"""
executor = cf.ProcessPoolExecutor(2, mp_context=context, on_crash={policy!r})
try:
    executor.submit(tasks.die_exit, 7).result(GUARD)
except cf.BrokenExecutor:
    say("crashed")
""")


def test_large_results_unread_at_exit(run):
    run("""
executor = cf.ProcessPoolExecutor(2, mp_context=context)
futures = [executor.submit(bytearray, 10**6) for _ in range(10)]
kept = futures[0].result(GUARD)
""")


@ours("there it is undefined which of them are")
def test_shutdown_that_cancels_at_the_very_end(run):
    out = run("""
executor = cf.ProcessPoolExecutor(1, mp_context=context)
futures = [executor.submit(tasks.sleep_and_return, 0.05, n) for n in range(50)]
futures[0].result(GUARD)
executor.shutdown(wait=False, cancel_futures=True)
say(sum(f.cancelled() for f in futures) >= 47)
""").out
    assert out.split() == ["True"]


@ours("there the workers stay")
def test_os_exit_of_the_parent(run):
    """No cleaning up at all; the workers see that the parent is gone."""
    run("""
executor = cf.ProcessPoolExecutor(2, mp_context=context)
executor.submit(tasks.add, 1).result(GUARD)
os._exit(5)
""", status=5)


# --- the parent is killed ---------------------------------------------------------------

STATES = {
    "idle": "executor.submit(tasks.add, 1).result(GUARD)",
    "asleep in a task": "[executor.submit(tasks.announce_and_sleep, path) for _ in range(2)]",
    "computing": "[executor.submit(tasks.announce_and_spin, path) for _ in range(2)]",
    "many queued": """futures = [executor.submit(tasks.sleep_and_return, 60, n)
for n in range(1000)]""",
    "starting": "executor.submit(tasks.add, 1)",
    "with large data": """executor.submit(tasks.keep, bytearray(10**7)).result(GUARD)
kept = [executor.submit(bytearray, 10**7).result(GUARD) for _ in range(3)]
futures = [executor.submit(bytearray, 10**7) for _ in range(30)]""",
}


@ours("there busy workers go on, and idle ones wait for ever")
@pytest.mark.parametrize("state", STATES)
def test_parent_killed(program, door, state):
    gate = door()
    child = program(f"""
path = {gate.path!r}
executor = cf.ProcessPoolExecutor(2, mp_context=context)
{STATES[state]}
say("ready")
time.sleep(3600)
""")
    assert child.line() == "ready"
    if "announce" in STATES[state]:
        gate.entered(2)
    child.kill()
    child.ends(-signal.SIGKILL)


@ours("there the workers stay")
def test_parent_killed_while_workers_come_and_go(program):
    child = program("""
say("ready")
while True:
    executor = cf.ProcessPoolExecutor(2, mp_context=context)
    futures = [executor.submit(tasks.add, n) for n in range(20)]
    futures[-1].result()
    executor.shutdown(wait=False)
""")
    assert child.line() == "ready"
    time.sleep(0.3)
    child.kill()
    child.ends(-signal.SIGKILL)


# --- Ctrl-C -----------------------------------------------------------------------------

PLACES = {
    "result": "executor.submit(time.sleep, 3600).result()",
    "wait": "cf.wait([executor.submit(time.sleep, 3600) for _ in range(5)])",
    "as_completed": "list(cf.as_completed([executor.submit(time.sleep, 3600)]))",
    "map": "list(executor.map(time.sleep, [3600] * 10))",
    "computing": "executor.submit(tasks.burn, 3600).result()",
    "sleep": "futures = [executor.submit(time.sleep, 3600)]; time.sleep(3600)",
    "shutdown": "executor.submit(time.sleep, 3600); executor.shutdown()",
}


@ours("there the program waits for the tasks, or hangs")
@pytest.mark.parametrize("block", [True, False], ids=["with block", "no block"])
@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_ends_the_program(program, method, place, block):
    """At a terminal, where the workers get it as well."""
    if method != "fork" and place not in ("result", "computing", "shutdown"):
        pytest.skip("one start method is enough to see where the parent waits")
    head = ("with cf.ProcessPoolExecutor(2, mp_context=context) as executor:\n" if block else
            "executor = cf.ProcessPoolExecutor(2, mp_context=context)\n")
    lines = ["executor.submit(tasks.add, 1).result()", "say('ready')", PLACES[place]]
    indent = "    " if block else ""
    child = program("signal.signal(signal.SIGINT, signal.default_int_handler)\n" + head
                    + "".join(f"{indent}{line}\n" for line in lines))
    assert child.line() == "ready"
    time.sleep(0.1)
    child.interrupt()
    child.ends(-signal.SIGINT)
    assert child.err.count("KeyboardInterrupt") >= 1
    # The workers have nothing to say about it.
    assert child.err.count("Traceback") == 1, child.err


@ours("there the pool breaks, and the program may hang")
def test_ctrl_c_to_the_parent_alone_leaves_the_pool_usable(program):
    child = program("""
signal.signal(signal.SIGINT, signal.default_int_handler)
executor = cf.ProcessPoolExecutor(1, mp_context=context)
pid = executor.submit(tasks.pid).result()
running = executor.submit(tasks.sleep_and_return, 0.5, "slept")
try:
    say("ready")
    running.result()
except KeyboardInterrupt:
    say("interrupted")
say(running.result(GUARD))
say(executor.submit(tasks.pid).result(GUARD) == pid)
""")
    assert child.line() == "ready"
    os.kill(child.pid, signal.SIGINT)
    child.ends()
    assert child.out.split() in (["interrupted", "slept", "True"], ["slept", "True"])


@ours("there idle workers die of it, and the pool breaks")
def test_ctrl_c_does_not_hurt_an_idle_pool(program):
    """As in a notebook or an interactive session, where the program goes on."""
    child = program("""
signal.signal(signal.SIGINT, signal.default_int_handler)
executor = cf.ProcessPoolExecutor(2, mp_context=context)
before = {executor.submit(tasks.slow_pid).result() for _ in range(6)}
for _ in range(3):
    try:
        say("ready")
        time.sleep(GUARD)
    except KeyboardInterrupt:
        say("interrupted")
    after = {executor.submit(tasks.slow_pid).result(GUARD) for _ in range(6)}
    say(after <= set(executor._processes) and executor.submit(tasks.add, 1).result(GUARD))
""")
    for _ in range(3):
        assert child.line() == "ready"
        time.sleep(0.05)
        child.interrupt()
        assert child.line() == "interrupted"
        assert child.line() == "2"
    child.ends()
    assert "Traceback" not in child.err


@ours("there the workers print tracebacks and the pool breaks")
def test_ctrl_c_during_a_task_is_that_task_s_exception(program):
    """The other tasks go on, the next submit works: the program decided to go on."""
    child = program("""
signal.signal(signal.SIGINT, signal.default_int_handler)
executor = cf.ProcessPoolExecutor(1, mp_context=context)
executor.submit(tasks.add, 1).result()
running = executor.submit(time.sleep, 3600)
queued = executor.submit(tasks.add, 1)
while not running.running():
    time.sleep(0.01)
time.sleep(0.05)
try:
    say("ready")
    running.result()
except KeyboardInterrupt:
    say("interrupted")
say(type(running.exception(GUARD)).__name__)
say(queued.result(GUARD))
""")
    assert child.line() == "ready"
    time.sleep(0.1)
    child.interrupt()
    assert child.line() == "interrupted"
    assert child.line() == "KeyboardInterrupt"
    assert child.line() == "2"
    child.ends()


MOMENTS = """
signal.signal(signal.SIGINT, signal.default_int_handler)
say("ready")
while True:
    with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
        futures = [executor.submit(tasks.add, n) for n in range(50)]
        assert [f.result() for f in futures[:25]] == list(range(1, 26))
        assert sum(executor.map(tasks.add, range(20), chunksize=3)) == 210
        cf.wait([executor.submit(tasks.sleep_and_return, 0.003, bytearray(10**5))])
"""


@ours("there the program hangs now and then")
def test_ctrl_c_at_any_moment(program, request, rng):
    """Starting, submitting, waiting, closing: the program ends, nobody is left."""
    for _ in range(30 if request.config.getoption("--deep") else 5):
        child = program(MOMENTS)
        assert child.line() == "ready"
        time.sleep(rng.choice([0, 0.002, 0.01, 0.05, 0.2]) * rng.random())
        child.interrupt()
        _ends_interrupted(child)


def _ends_interrupted(child):
    """By KeyboardInterrupt, unless it came while Python could not raise it."""
    for _ in range(3):
        try:
            child.process.wait(10)
            break
        except Exception:
            # In a destructor or a callback of the garbage collector it is only printed.
            child.interrupt()
    child.ends(-signal.SIGINT)


@ours("there the program hangs")
def test_ctrl_c_twice(program):
    child = program("""
signal.signal(signal.SIGINT, signal.default_int_handler)
executor = cf.ProcessPoolExecutor(2, mp_context=context)
executor.submit(tasks.add, 1).result()
futures = [executor.submit(tasks.ignore_interrupts, 3600) for _ in range(5)]
time.sleep(0.2)
say("ready")
futures[0].result()
""")
    assert child.line() == "ready"
    child.interrupt()
    time.sleep(0.3)
    child.interrupt()
    child.ends(-signal.SIGINT)


@ours("there terminating the parent leaves its workers")
def test_terminated_parent(program):
    child = program("""
executor = cf.ProcessPoolExecutor(2, mp_context=context)
executor.submit(tasks.add, 1).result()
futures = [executor.submit(time.sleep, 3600) for _ in range(5)]
say("ready")
time.sleep(3600)
""")
    assert child.line() == "ready"
    os.kill(child.pid, signal.SIGTERM)
    child.ends(-signal.SIGTERM)


# --- forks ------------------------------------------------------------------------------

@ours("there the child's pool hangs")
def test_fork_in_the_parent(run):
    """The parent goes on; the child has an empty, closed pool and ends by itself."""
    out = run("""
import warnings
warnings.simplefilter("ignore")
executor = cf.ProcessPoolExecutor(2, mp_context=context)
kept = executor.submit(bytearray, b"kept" * 10**5).result(GUARD)
running = executor.submit(tasks.sleep_and_return, 0.2, "ran")
queued = [executor.submit(tasks.add, n) for n in range(20)]
pid = os.fork()
if pid == 0:
    watch(GUARD)
    try:
        executor.submit(tasks.add, 1)
    except RuntimeError as error:
        say("child:", error)
    assert kept == b"kept" * 10**5
    for future in [running, *queued]:
        try:
            future.result(GUARD)
        except (cf.BrokenExecutor, cf.CancelledError):
            pass
    del kept
    executor.shutdown()
    # A fork server belongs to the parent, so multiprocessing has none for the child.
    context = multiprocessing.get_context("fork")
    with cf.ProcessPoolExecutor(1, mp_context=context) as mine:
        say("child:", mine.submit(tasks.add, 41).result(GUARD))
    sys.exit(0)
_, status = os.waitpid(pid, 0)
say("status", status)
say(running.result(GUARD), *[f.result(GUARD) for f in queued])
assert kept == b"kept" * 10**5
assert executor.submit(tasks.add, 1).result(GUARD) == 2
executor.shutdown()
""").out
    child = [line for line in out.splitlines() if line.startswith("child:")]
    assert len(child) == 2 and "cannot schedule new futures" in child[0]
    assert child[1] == "child: 42"
    assert "status 0" in out
    assert "ran " + " ".join(map(str, range(1, 21))) in out


@ours("there the child waits for workers that are not its own")
def test_forked_child_that_ends_at_once(run):
    run("""
import warnings
warnings.simplefilter("ignore")
executor = cf.ProcessPoolExecutor(2, mp_context=context)
futures = [executor.submit(tasks.sleep_and_return, 0.05, n) for n in range(4)]
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        watch(GUARD)
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
assert [f.result(GUARD) for f in futures] == [0, 1, 2, 3]
""")


@ours("there the workers are waited for by a child that cannot")
def test_multiprocessing_beside_a_pool(run):
    """Process objects of the program, forked while a pool runs, end as they should."""
    run("""
import warnings
warnings.simplefilter("ignore")
executor = cf.ProcessPoolExecutor(2, mp_context=context)
futures = [executor.submit(tasks.sleep_and_return, 0.02, n) for n in range(10)]
others = [context.Process(target=tasks.add, args=(1,)) for _ in range(3)]
for other in others:
    other.start()
for other in others:
    other.join(GUARD)
    assert other.exitcode == 0
assert [f.result(GUARD) for f in futures] == list(range(10))
""")


@ours("a worker there inherits pipes, and what its tasks start may keep a program from ending")
def test_programs_that_tasks_start_do_not_hold_the_pool(program):
    """A task leaves a process behind; the pool ends all the same."""
    child = program("""
with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
    pid = executor.submit(tasks.start_sleeper, 60).result(GUARD)
say("over", pid)
""")
    word, pid = child.line().split()
    assert word == "over"
    os.kill(int(pid), signal.SIGKILL)
    child.ends()


# --- in a loop --------------------------------------------------------------------------

@ours("the standard library takes seconds and now and then for ever")
def test_pools_come_and_go(run):
    out = run("""
for number in range(30):
    executor = cf.ProcessPoolExecutor(2, mp_context=context)
    assert executor.submit(tasks.add, number).result(GUARD) == number + 1
    if number % 3:
        executor.shutdown(wait=number % 3 == 1)
    del executor
say(len(os.listdir("/proc/self/fd")) < 300)
""", limit=90).out
    assert out.split() == ["True"]


def test_the_kit_notices_what_is_left():
    """A process that stays is found: these tests can fail."""
    child = Program("""
import subprocess
subprocess.Popen(["sleep", "30"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
say("left")
""", "stdlib", METHODS[0])
    try:
        assert child.line() == "left"
        child.process.wait(GUARD)
        assert eventually(lambda: len(of_session(child.pid)) == 1)
    finally:
        child.destroy()
    assert eventually(lambda: not of_session(child.pid))
