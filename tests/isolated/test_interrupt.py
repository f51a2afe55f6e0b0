"""Ctrl-C: every wait ends at once, leaves no stuck thread, and the process ends by itself.

The children measure from the signal to the KeyboardInterrupt and print it; the
figure itself is for the benchmark, here it only has to be far from a hang.
"""
import os
import signal
import subprocess
import sys

import pytest
from testkit import ours, prelude, run_child, stdlib_with_gil

#: Seconds; a hang is for ever, and a machine can be slow.
PROMPT = 5

COMMON = """
import contextlib
signal.signal(signal.SIGINT, signal.default_int_handler)
delays, clock = [0, 0, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 2e-3, 0.02, 0.05], time.monotonic
worst = 0.0
gate = threading.Event()

class Sender(threading.Thread):
    # Sends SIGINT to this process some time after the main thread says so; again
    # after a second, in case it struck in a weakref callback, which swallows it.
    def __init__(self):
        super().__init__(daemon=True)
        self.begin, self.delay, self.sent = threading.Event(), 0, None
        self.seen = threading.Event()
        self.start()

    def run(self):
        self.begin.wait()
        end = clock() + self.delay
        while clock() < end:
            if self.delay > 1e-3:
                time.sleep(self.delay / 10)
        while not self.seen.is_set():
            self.sent = clock()
            os.kill(os.getpid(), signal.SIGINT)
            self.seen.wait(1)

def interrupted(call):
    # Run the call until it is interrupted, for each of the delays.
    global worst
    for delay in delays:
        sender = Sender()
        sender.delay = delay
        interrupt = None
        try:
            sender.begin.set()
            call()
            # It came too late or the call did not wait at all.
            raise SystemExit("the call returned")
        except KeyboardInterrupt:
            interrupt = clock()
            sender.seen.set()
        sender.join()
        worst = max(worst, interrupt - sender.sent)
"""

FINISH = """
gate.set()
print(f"{worst * 1000:.1f} ms")
"""

WAITS = {
    "result": "lambda: cf.Future().result()",
    "result with timeout": "lambda: cf.Future().result(GUARD)",
    "result of a running task": "running.result",
    "exception": "running.exception",
    "wait": "lambda: cf.wait([running, queued])",
    "wait for the first": "lambda: cf.wait([running, queued], GUARD, 'FIRST_COMPLETED')",
    "wait for an exception": "lambda: cf.wait([running, queued], None, 'FIRST_EXCEPTION')",
    "as_completed": "lambda: list(cf.as_completed([running, queued]))",
    "as_completed with timeout": "lambda: list(cf.as_completed([running], GUARD))",
    "map": "lambda: list(executor.map(int, range(5)))",
    "map with timeout": "lambda: list(executor.map(int, range(5), timeout=GUARD))",
}


@stdlib_with_gil("Ctrl-C leaves a lock of the pool or of a future locked, and all hangs")
@pytest.mark.parametrize("call", WAITS)
def test_interrupt_ends_a_wait(implementation, call, record_property):
    out = run_child(COMMON + f"""
executor = cf.ThreadPoolExecutor(1)
running, queued = executor.submit(gate.wait), executor.submit(int)
interrupted({WAITS[call]})
assert not running.done()
gate.set()
assert running.result(GUARD) is True
assert executor.submit(int, "5").result(GUARD) == 5
""" + FINISH, implementation).out
    record_property("milliseconds", out)
    print(call, out)
    assert float(out.split()[0]) < PROMPT * 1000


def test_interrupt_ends_shutdown(implementation):
    out = run_child(COMMON + """
# One for each time: CPython 3.11 takes a thread for ended whose join was interrupted.
executors = [cf.ThreadPoolExecutor(1) for _ in delays]
futures = [executor.submit(gate.wait) for executor in executors]
interrupted(lambda: executors.pop().shutdown())
assert not any(future.done() for future in futures)
""" + FINISH, implementation).out
    print(out)
    assert float(out.split()[0]) < PROMPT * 1000


@ours("there the with block waits for every task that was queued")
def test_interrupt_inside_and_at_the_end_of_a_with_block():
    """What has not begun is cancelled, what has is not waited for."""
    for place in ("running.result()", "time.sleep(GUARD)", "pass"):
        out = run_child(COMMON + f"""
tried = []
def block():
    with cf.ThreadPoolExecutor(1) as executor:
        begun = threading.Event()
        running = executor.submit(lambda: begun.set() or gate.wait())
        queued = [executor.submit(print, "never") for _ in range(5)]
        tried.append((running, queued))
        begun.wait()
        {place}
def call():
    block()
interrupted(call)
for running, queued in tried:
    assert not running.done()
    # Too early an interrupt finds the block unfinished; nothing may be left either way.
    assert cf.wait(queued, GUARD).not_done == set()
    assert all(future.cancelled() for future in queued)
""" + FINISH).out
        print(place, out)
        assert float(out.split()[0]) < PROMPT * 1000


@stdlib_with_gil("a signal that comes just before the wait does not always end it")
def test_interrupt_from_the_outside(implementation):
    """As a terminal does it: the signal comes from another process."""
    code = prelude(implementation) + """
signal.signal(signal.SIGINT, signal.default_int_handler)
executor = cf.ThreadPoolExecutor(2)
gate = threading.Event()
future = executor.submit(gate.wait)
try:
    say("ready")
    future.result()
except KeyboardInterrupt:
    say("interrupted")
    gate.set()
say(future.result())
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, signal.SIGINT)
        out, _ = child.communicate(timeout=60)
    finally:
        child.kill()
    assert out == "interrupted\nTrue\n"
    assert child.returncode == 0


def test_uncaught_interrupt_ends_the_process(implementation):
    """Idle threads do not keep it alive; the exit status is that of an interrupt."""
    child = run_child("""
signal.signal(signal.SIGINT, signal.default_int_handler)
executor = cf.ThreadPoolExecutor(2)
executor.submit(int).result()
threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
cf.Future().result()
""", implementation, status=-2)
    assert "KeyboardInterrupt" in child.err


def test_a_handler_that_returns_lets_the_wait_go_on(implementation):
    run_child("""
seen = []
signal.signal(signal.SIGUSR1, lambda *args: seen.append(clock()))
clock = time.monotonic
future = cf.Future()
def send():
    for n in range(5):
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.01)
    future.set_result("late")
thread = threading.Thread(target=send)
thread.start()
assert future.result(GUARD) == "late"
thread.join()
assert seen

# A time-out is not prolonged by signals, nor cut short.
def send():
    for n in range(20):
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)
for wait in (lambda: cf.Future().result(0.1), lambda: cf.wait([cf.Future()], 0.1),
             lambda: list(cf.as_completed([cf.Future()], 0.1))):
    thread = threading.Thread(target=send)
    thread.start()
    begin = clock()
    try:
        wait()
    except TimeoutError:
        pass
    took = clock() - begin
    assert 0.1 <= took < GUARD / 2, took
    thread.join()
""", implementation)


def test_a_handler_that_raises_ends_the_wait(implementation):
    run_child("""
class Stop(Exception):
    pass
def handler(*args):
    raise Stop("handled")
signal.signal(signal.SIGUSR1, handler)
future = cf.Future()
for wait in (future.result, future.exception, lambda: cf.wait([future]),
             lambda: next(cf.as_completed([future]))):
    timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        timer.start()       # on a busy machine the signal comes in here
        wait()
    except Stop as error:
        assert str(error) == "handled"
    else:
        raise SystemExit("not raised")
    timer.join()
if cf.__name__ == "cfutures":
    # There a wait that is interrupted stays registered.
    assert future._waiters == []
""", implementation)


def test_a_handler_may_settle_the_future_that_is_waited_for(implementation):
    run_child("""
def waits(future):
    yield lambda: future.result(GUARD)
    yield lambda: cf.wait([future], GUARD)
    yield lambda: list(cf.as_completed([future], GUARD))
    yield lambda: cf.wait([future, cf.Future()], GUARD, "FIRST_COMPLETED")
for number in range(4):
    future = cf.Future()
    signal.signal(signal.SIGUSR1, lambda *args: future.set_result(1))
    timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    list(waits(future))[number]()
    timer.join()
    assert future.result(0) == 1
""", implementation)


def test_a_handler_may_submit_and_wait(implementation):
    run_child("""
executor = cf.ThreadPoolExecutor(1)
executor.submit(int).result()
results, future = [], cf.Future()
def handler(*args):
    results.append(executor.submit(int, "3").result(GUARD))
    results.append(len(cf.wait([executor.submit(int)], GUARD).done))
    future.set_result(None)
signal.signal(signal.SIGUSR1, handler)
timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
timer.start()
future.result(GUARD)
timer.join()
assert results == [3, 1]
""", implementation)


@ours("there an interrupt inside a semaphore leaves it locked, and submit() hangs")
def test_interrupts_while_submitting():
    """Wherever it strikes, the pool is as good as before."""
    run_child("""
armed = False
def handler(*args):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, handler)
stop = threading.Event()
def send():
    while not stop.wait(0.002):
        os.kill(os.getpid(), signal.SIGINT)
executor = cf.ThreadPoolExecutor(4)
sender = threading.Thread(target=send)
futures, count, end = [], 0, time.monotonic() + 0.3
def submit():
    global armed
    armed = True
    while time.monotonic() < end:
        futures.append(executor.submit(int, "1"))
        if len(futures) > 1000:
            cf.wait(futures[-10:])
            futures.clear()
    armed = False
sender.start()
while time.monotonic() < end:
    try:
        submit()
    except KeyboardInterrupt:
        count += 1
stop.set()
sender.join()
assert count
assert executor.submit(int, "7").result(GUARD) == 7
assert cf.wait(futures, GUARD).not_done == set()
""")


def test_interrupt_while_another_thread_waits(implementation):
    """Only the main thread is interrupted."""
    run_child("""
signal.signal(signal.SIGINT, signal.default_int_handler)
future, results = cf.Future(), []
thread = threading.Thread(target=lambda: results.append(future.result(GUARD)))
thread.start()
time.sleep(0.02)
try:
    threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
    cf.Future().result(GUARD)
except KeyboardInterrupt:
    pass
assert thread.is_alive()
future.set_result(1)
thread.join(GUARD)
assert results == [1]
""", implementation)


def test_tasks_are_not_interrupted(implementation):
    run_child("""
signal.signal(signal.SIGINT, signal.default_int_handler)
executor = cf.ThreadPoolExecutor(1)
task = executor.submit(time.sleep, 0.1)
try:
    threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
    task.result(GUARD)
except KeyboardInterrupt:
    pass
assert task.exception(GUARD) is None
""", implementation)
