"""Workers die at any moment; each death costs at most the task that its worker ran.

Every task is in the book with what it should give. WorkerCrashed names the process that
died: of each process that was killed at most one task may be lost, and of one that was not,
none. --deaths says how many there are to be (make stress-deaths DEATHS=10000).
"""
import collections
import gc
import logging
import multiprocessing
import random
import signal
import time
import zlib

import cfutures
import stress_tasks as tasks
from cfutures._report import WORKED
from cfutures.process import WorkerCrashed
from prockit import METHODS, no_new_offspring, shared_mappings
from testkit import GUARD, ours

pytestmark = ours("there a death ends the pool")

DEATHS_OF_A_POOL = 150
OPEN_TASKS = 60
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)
KIB = 1 << 10


class Life:
    """One pool, its tasks, and who was killed in it."""

    def __init__(self, method, rng):
        self.rng = rng
        self.executor = cfutures.ProcessPoolExecutor(
            rng.randint(2, 4), multiprocessing.get_context(method), on_crash="replace")
        self.book = collections.deque()     # (future, expected value, lethal)
        self.killed = collections.Counter() # by pid, a number of processes
        self.marked = set()                 # the Process objects among them
        self.early = False                  # the last one had not begun a task
        self.crashed = collections.Counter()    # tasks, by the pid that they were lost with
        self.moments = collections.Counter()    # what killed workers were doing
        self.done = 0

    # ---- tasks ----

    def submit(self):
        """One task of a random kind, its expected value in the book."""
        rng = self.rng
        kind = rng.choices(("add", "array", "result", "keep", "sleep", "pickled", "dies"),
                           (30, 12, 12, 12, 12, 10, 3))[0]
        n, lethal = rng.randrange(1000), False
        if kind == "add":
            call, expected = (tasks.add, n), n + 1
        elif kind == "array":
            data = bytearray(rng.randbytes(16)) * rng.choice((KIB, 5000, 64 * KIB))
            call, expected = (tasks.echo, data), data
        elif kind == "result":
            size = rng.choice((70_000, 300_000, 2_000_000))
            call, expected = (tasks.grow, n % 256, size), bytearray([n % 256]) * size
        elif kind == "keep":
            data = bytearray(rng.randbytes(16)) * rng.choice((5000, 20 * KIB))
            call, expected = (tasks.keep, data), zlib.crc32(data)
        elif kind == "sleep":
            call, expected = (tasks.sleep, rng.random() * 0.01, n), n
        elif kind == "pickled":
            call, expected = (tasks.echo, {n: [n] * rng.randrange(50)}), None
            expected = call[1]
        else:
            call = rng.choice([(tasks.die, signal.SIGKILL), (tasks.leave, 3)])
            expected, lethal = None, True
        self.book.append((self.executor.submit(*call), expected, lethal))

    def settle(self, most):
        """Look at the oldest tasks until no more than `most` are left."""
        while len(self.book) > most:
            future, expected, lethal = self.book.popleft()
            error = future.exception(2 * GUARD)
            if isinstance(error, WorkerCrashed):
                self.crashed[error.pid] += 1
                # Its own death: nobody else has killed that process, or it was quicker.
                self.moments["by its own task"] += lethal
                if lethal and not self.killed[error.pid]:
                    self.killed[error.pid] += 1
            else:
                assert error is None, f"lost without a death: {error!r}"
                assert not lethal and future.result(0) == expected
                self.done += 1

    # ---- deaths ----

    def kill(self):
        """Send a signal to any worker, in whatever it does."""
        with self.executor._crew.lock:      # the manager must not bury it meanwhile
            self.kill_one(self.executor._crew)

    def kill_one(self, crew):
        workers = [w for w in crew.workers.values() if w.process not in self.marked]
        if not workers:
            return
        # The youngest is often one that only starts.
        worker = workers[-1] if self.rng.random() < 0.2 else self.rng.choice(workers)
        early = crew.report(worker)[0] != WORKED
        if early and not self.may_kill_early():
            return
        self.early = early
        busy = crew.engine._names(worker.number)
        self.moments[f"in {busy[0]}()" if busy else
                     "while it started" if early else "between tasks"] += 1
        self.marked.add(worker.process)
        self.killed[worker.pid] += 1
        worker.signal(self.rng.choice(SIGNALS))

    def may_kill_early(self):
        """Three in a row that die before they take a task, and the pool gives up: not here."""
        workers = self.executor._crew.workers.values()
        return not self.early and not any(w.process in self.marked for w in workers)

    def deaths(self):
        """How many processes were killed, or killed themselves."""
        return sum(self.killed.values())

    def play(self, deaths):
        """Work until so many have died."""
        while self.deaths() < deaths:
            for _ in range(self.rng.choice((1, 5, 20))):
                self.submit()
            for _ in range(self.rng.choice((0, 1, 1, 2))):
                self.kill()
                time.sleep(self.rng.choice((0, 0, 0.0002, 0.001, 0.004)))
            self.settle(self.rng.randrange(OPEN_TASKS))
        self.settle(0)

    def end(self):
        """Nothing but what the dead ran was lost; the pool still works; shut it down."""
        assert self.executor.submit(tasks.add, 1).result(GUARD) == 2
        for pid, tasks_lost in self.crashed.items():
            assert tasks_lost <= self.killed[pid], (
                f"{tasks_lost} tasks were lost with process {pid}, "
                f"killed {self.killed[pid]} times")
        self.executor.shutdown()


def test_deaths_at_random_moments(request, rng, caplog):
    """None of them hangs the pool, loses another's task or leaves anything behind."""
    caplog.set_level(logging.CRITICAL + 1, logger="concurrent.futures")
    wanted = request.config.getoption("--deaths")
    totals, moments, pools = collections.Counter(), collections.Counter(), 0
    gc.collect()
    begin, before = time.monotonic(), len(shared_mappings())
    while totals["deaths"] < wanted:
        # The programs of spawn take their time: one pool in four.
        method = METHODS[pools % len(METHODS)] if pools % 4 else METHODS[0]
        with no_new_offspring():
            life = Life(method, random.Random(rng.random()))
            life.play(min(DEATHS_OF_A_POOL if method == METHODS[0] else 30,
                          wanted - totals["deaths"]))
            life.end()
            pools += 1
            totals.update(deaths=life.deaths(), done=life.done,
                          lost=sum(life.crashed.values()))
            totals[method] += life.deaths()
            moments += life.moments
            del life
            gc.collect()
        if pools % 10 == 0:
            print(f"{time.monotonic() - begin:6.0f} s: {dict(totals)}", flush=True)
    print(f"{pools} pools, {time.monotonic() - begin:.0f} s: {dict(totals)}")
    for moment, count in moments.most_common():
        print(f"    {count:6d} killed {moment}")
    assert totals["lost"] <= totals["deaths"]
    assert len(shared_mappings()) <= before, shared_mappings()
