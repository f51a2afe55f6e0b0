"""A signal that comes in the last moment before a sleep does not end it, and is not lost.

The kernel has nothing that would look for signals and fall asleep in one step; the main
thread, where handlers run, wakes now and then to look.
"""
import pytest
from prockit import run_program
from testkit import ours

pytestmark = [
    ours("there it is lost, as by any lock of Python's"),
    pytest.mark.timeout(300),
]

WAITS = {
    "result": "cf.Future().result(GUARD)",
    "wait": "cf.wait([cf.Future()], GUARD)",
    "as_completed": "list(cf.as_completed([cf.Future()], GUARD))",
    "result of a process": "remote.result(GUARD)",
    "get of a queue": "cf.Queue().get(timeout=GUARD)",
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_signal_just_before_a_sleep(injector, wait):
    print(run_program(f"""
import ctypes
injector = ctypes.CDLL(None)

class Handled(Exception):
    pass

def handler(number, frame):
    raise Handled

entered, gate = os.pipe(), os.pipe()
def wait_at_gate():
    os.write(entered[1], b"x")
    return os.read(gate[0], 1)
executor = cf.ProcessPoolExecutor(1, mp_context=context)
remote = executor.submit(wait_at_gate)
os.read(entered[0], 1)
signal.signal(signal.SIGUSR1, handler)
for n in range(1, 5):
    injector.fault_arm(b"futex", n, 0)
    try:
        {WAITS[wait]}
    except Handled:
        assert injector.fault_disarm() == 1
    else:
        raise SystemExit("the handler was not run")
os.write(gate[1], b"x")
assert remote.result(GUARD) == b"x"
executor.shutdown()
""", limit=60).out)
