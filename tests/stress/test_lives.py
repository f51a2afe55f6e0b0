"""Pools of every kind from their birth to their end, at random, compared with a model (lives).

--stress-seconds says for how long, --seed repeats the choices (not what meets what).
"""
import collections
import gc
import logging
import os
import random
import signal
import threading
import time

import cfutures
import pytest
import stress_tasks as tasks
from lives import PoolLife, Processes, QueueLife, Threads
from prockit import METHODS, command_of, offspring, shared_mappings
from testkit import GUARD, eventually, ours

pytestmark = ours("the standard library hangs where workers die")

# Programs take longer to start, so there are fewer of them.
USUAL = METHODS[:1] * 4 + METHODS


def random_life(rng):
    """A new pool, or queue."""
    kind = rng.choices((Threads, Processes, PoolLife, QueueLife), (4, 8, 3, 2))[0]
    return Threads(rng) if kind is Threads else kind(rng, rng.choice(USUAL))


def possessions():
    """What this program has now; offspring are the processes of pools that tests share."""
    gc.collect()
    return {"offspring": offspring(), "descriptors": len(os.listdir("/proc/self/fd")),
            "mappings": len(shared_mappings()), "threads": threading.active_count()}


def more_than(before):
    """What there is now that was not there `before`."""
    now = possessions()
    new = [command_of(pid) for pid in now.pop("offspring") - before["offspring"]]
    more = {name: count for name, count in now.items() if count > before[name]}
    return more | ({"offspring": new} if new else {})


@pytest.fixture
def unraised(monkeypatch):
    """What threads and finalizers raised, which must be nothing."""
    raised = []
    monkeypatch.setattr("sys.unraisablehook", raised.append)
    monkeypatch.setattr("threading.excepthook", raised.append)
    yield raised
    assert not raised, raised


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Deaths are logged, and there are many."""
    caplog.set_level(logging.CRITICAL + 1, logger="concurrent.futures")


@pytest.fixture(scope="module", autouse=True)
def helpers():
    """Start the processes that multiprocessing keeps, so that they are not seen as left."""
    for method in METHODS:
        life = Processes(random.Random(1), method)
        assert life.executor.submit(tasks.add, 1).result(2 * GUARD) == 2
        life.executor.shutdown()


def nothing_is_left(before):
    """There is no more than before, given time."""
    assert eventually(lambda: not more_than(before)), (
        more_than(before), before, threading.enumerate())


def test_random_lives(rng, stress_seconds, unraised):
    """Up to three at a time; each task ends as the model says, and no pool leaves a trace."""
    end = time.monotonic() + 10 * stress_seconds
    lives, ends, number = [], collections.Counter(), 0
    before = possessions()
    while time.monotonic() < end or lives:
        if time.monotonic() < end and len(lives) < 3:
            seed = rng.randrange(2**32)
            lives.append(random_life(random.Random(seed)))
            number += 1
        life = rng.choice(lives)
        try:
            life.play(rng.randrange(40))
            if rng.random() < 0.3:
                lives.remove(life)
                ends[f"ended by {life.end()}"] += 1
                ends.update(life.check_all())
        except BaseException as error:
            error.add_note(f"{type(life).__name__}: {life.said}")
            for each in {life, *lives}:
                each.abandon()
            raise
        if not lives:
            life = None
            nothing_is_left(before)
    print(f"{number} pools and queues: {dict(ends)}")


class CtrlC:
    """SIGINT to this process after a while, which raises KeyboardInterrupt at most once."""

    def __init__(self):
        self.armed = True
        self.raised = False
        self.before = signal.signal(signal.SIGINT, self.handle)
        self.timer = None

    def start(self, seconds):
        """Press it so much later."""
        self.timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
        self.timer.start()

    def handle(self, number, frame):
        """The handler: nothing when it comes too late."""
        if self.armed:
            self.armed, self.raised = False, True
            raise KeyboardInterrupt

    def close(self):
        """Wait for it, if it is still to come, and put the handler back."""
        self.timer.join()
        signal.signal(signal.SIGINT, self.before)


def test_interrupts_at_random_moments(rng, stress_seconds):
    """Ctrl-C ends the with block; its tasks are done, cancelled, or interrupted themselves."""
    end = time.monotonic() + 4 * stress_seconds
    ends, before = collections.Counter(), possessions()
    while time.monotonic() < end:
        ends.update(interrupted_life(rng))
        nothing_is_left(before)
    print(dict(ends))


def interrupted_life(rng):
    """One pool that Ctrl-C meets while it is made, used or shut down; how its tasks ended."""
    kind = rng.choice(("threads", *USUAL))
    futures = []
    ctrl_c, interrupted = CtrlC(), False
    try:
        ctrl_c.start(rng.random() * (0.05 if kind in ("threads", "fork") else 0.4))
        with make(kind, rng) as executor:
            use(executor, futures, rng)
        ctrl_c.armed = False
    except KeyboardInterrupt:
        interrupted = True
    ctrl_c.close()
    executor = None
    ends = collections.Counter({
        f"{kind}, interrupted": interrupted, f"{kind}, too late": not ctrl_c.raised,
        "swallowed": ctrl_c.raised and not interrupted})
    # What is submitted while the signal comes may be in the pool and in nobody's hands.
    done, rest = cfutures.wait(futures, 2 * GUARD)
    assert not rest, f"hangs: {rest}"
    for future in done:
        ends[how_it_ended(future, interrupted)] += 1
    return ends


def make(kind, rng):
    """An executor of 1 to 3 workers."""
    if kind == "threads":
        return cfutures.ThreadPoolExecutor(rng.randint(1, 3))
    return Processes(rng, kind).executor


def use(executor, futures, rng):
    """Submit, wait, look, until it is interrupted or time is over."""
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        for n in range(rng.choice((1, 5, 50))):
            futures.append(executor.submit(tasks.add, n))
            if rng.random() < 0.1:
                futures.append(executor.submit(tasks.sleep, 0.003, n))
        how = rng.randrange(4)
        if how == 0:
            cfutures.wait(futures[-10:], GUARD)
        elif how == 1:
            assert futures[-1].exception(GUARD) is None
        elif how == 2:
            assert list(executor.map(tasks.add, range(5))) == [1, 2, 3, 4, 5]


def how_it_ended(future, interrupted):
    """In a word; AssertionError if it may not end like that."""
    if future.cancelled():
        assert interrupted
        return "cancelled"
    error = future.exception(0)
    if error is None:
        assert isinstance(future.result(0), int)
        return "done"
    assert interrupted, error
    assert isinstance(error, (KeyboardInterrupt, cfutures.BrokenExecutor)), error
    return type(error).__name__
