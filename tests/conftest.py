"""Every test that takes `cf` runs twice: on the standard library, the oracle, and on cfutures.

A test that can run on cfutures only says why, in its marker:
    @pytest.mark.ours("the standard library hangs here")
    @pytest.mark.stdlib_from(3, 14, "buffersize is new there")
    @pytest.mark.stdlib_with_gil("free-threaded builds free it later")
The oracle's half of such a test is not collected at all.
"""
import faulthandler
import gc
import os
import random
import signal
import sys
import threading
from types import SimpleNamespace

import pytest
import testkit

IMPLEMENTATIONS = ("stdlib", "cfutures")


def pytest_addoption(parser):
    group = parser.getgroup("cfutures")
    group.addoption("--impl", choices=("both", *IMPLEMENTATIONS), default="both",
                    help="which implementation to run the tests on (default: both)")
    group.addoption("--stress-seconds", type=float,
                    default=float(os.environ.get("CFUTURES_STRESS_SECONDS", "0.5")),
                    help="how long each stress test goes on (default: 0.5, or "
                         "$CFUTURES_STRESS_SECONDS)")
    group.addoption("--deaths", type=int, default=60, metavar="N",
                    help="how many workers die in tests/stress/test_deaths.py (default: 60)")
    group.addoption("--seed", type=int, default=None,
                    help="repeat a stress run with the seed that it printed")
    group.addoption("--browser", default=os.environ.get("CFUTURES_BROWSER"), metavar="PATH",
                    help="a Chromium, for tests/browser, which are skipped without one "
                         "(default: $CFUTURES_BROWSER)")
    group.addoption("--deep", action="store_true",
                    default=bool(os.environ.get("CFUTURES_MODEL_DEEP")),
                    help="also what takes long: more repetitions, every start method on the "
                         "standard library, too (default: $CFUTURES_MODEL_DEEP)")


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "ours(reason): runs on cfutures only, for the reason given")
    config.addinivalue_line(
        "markers", "stdlib_from(major, minor, reason): older standard libraries differ")
    config.addinivalue_line(
        "markers", "stdlib_with_gil(reason): without a GIL the standard library differs")
    # A suite that a script started in the background ignores Ctrl-C, and so would the
    # programs that tests start, which tests then interrupt in vain.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A thread that hangs while it holds the GIL stops pytest-timeout as well;
    # faulthandler's watchdog does not need the GIL.
    config.stash[WATCHDOG] = os.dup(2)
    if testkit.COLLECTOR_HANGS:
        gc.disable()


WATCHDOG = pytest.StashKey[int]()


def pytest_unconfigure(config):
    faulthandler.cancel_dump_traceback_later()
    os.close(config.stash[WATCHDOG])


def time_limit(item):
    """Seconds that pytest-timeout gives this test; 0: as long as it likes."""
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        given = marker.args[0] if marker.args else marker.kwargs.get("timeout")
        if given is not None:
            return float(given)
    for given in (item.config.getoption("timeout"), os.environ.get("PYTEST_TIMEOUT"),
                  item.config.getini("timeout")):
        if given is not None and given != "":
            return float(given)
    return 0.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    limit = time_limit(item)
    if limit > 0:
        # Some time later than pytest-timeout, which can tell more.
        faulthandler.dump_traceback_later(
            limit + 30, exit=True, file=item.config.stash[WATCHDOG])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_generate_tests(metafunc):
    for name in ("cf", "implementation"):
        if name in metafunc.fixturenames:
            metafunc.parametrize("implementation", IMPLEMENTATIONS, scope="session")
            return


def pytest_collection_modifyitems(config, items):
    wanted = config.getoption("--impl")
    kept, dropped = [], []
    for item in items:
        callspec = getattr(item, "callspec", None)
        implementation = callspec and callspec.params.get("implementation")
        keep = implementation is None or (
            wanted in ("both", implementation) and _may_run(item, implementation))
        (kept if keep else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def _may_run(item, implementation):
    """Whether the markers of this test let it run on that implementation."""
    for marker in item.iter_markers("ours"):
        (reason,) = marker.args
        assert reason, "@ours needs a reason"
        if implementation == "stdlib":
            return False
    for marker in item.iter_markers("stdlib_from"):
        major, minor, reason = marker.args
        assert reason, "@stdlib_from needs a reason"
        if implementation == "stdlib" and sys.version_info < (major, minor):
            return False
    for marker in item.iter_markers("stdlib_with_gil"):
        (reason,) = marker.args
        assert reason, "@stdlib_with_gil needs a reason"
        if implementation == "stdlib" and testkit.FREE_THREADED:
            return False
    return True


@pytest.fixture(scope="session")
def cf(implementation):
    """The implementation under test, as a namespace of its public and private names."""
    return testkit.load(implementation)


class Gates:
    """Makes events, and sets all that it made."""

    def __init__(self):
        self.events = []

    def __call__(self):
        self.events.append(threading.Event())
        return self.events[-1]

    def open_all(self):
        for event in self.events:
            event.set()


@pytest.fixture
def gate():
    """Make events for tasks to wait on; all are set when the test is over."""
    gates = Gates()
    yield gates
    gates.open_all()


@pytest.fixture
def pool(cf, gate):
    """Make thread pools that are shut down after the test, even if it failed."""
    pools = []

    def make(*args, **kwargs):
        pools.append(cf.ThreadPoolExecutor(*args, **kwargs))
        return pools[-1]

    yield make
    # Tasks may still be waiting at a gate: a fixture ends before those it depends on.
    gate.open_all()
    for executor in pools:
        executor.shutdown(wait=True)


@pytest.fixture(params=["ThreadPoolExecutor", "ProcessPoolExecutor"])
def executor(request):
    """An executor of cfutures with two workers, of each kind."""
    import cfutures

    with getattr(cfutures, request.param)(2) as executor:
        yield executor


@pytest.fixture(autouse=True)
def no_thread_left_behind():
    """Fail a test that leaves a thread running."""
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and not t.daemon]
    for thread in left:
        thread.join(testkit.GUARD)
    stuck = [t.name for t in left if t.is_alive()]
    assert not stuck, f"threads left behind: {stuck}"


@pytest.fixture
def rng(request):
    """A random generator; its seed is printed, and given back with --seed."""
    seed = request.config.getoption("--seed")
    if seed is None:
        seed = random.SystemRandom().randrange(2**32)
    print(f"seed: {seed}")
    return random.Random(seed)


@pytest.fixture
def stress_seconds(request):
    """How long a stress test goes on."""
    return request.config.getoption("--stress-seconds")


@pytest.fixture
def unsettled(cf):
    """One future in each of the five states, by name of the state."""
    futures = SimpleNamespace(**{state: cf.Future() for state in testkit.STATES})
    futures.RUNNING.set_running_or_notify_cancel()
    futures.CANCELLED.cancel()
    futures.CANCELLED_AND_NOTIFIED.cancel()
    futures.CANCELLED_AND_NOTIFIED.set_running_or_notify_cancel()
    futures.FINISHED.set_result(42)
    return futures
