"""Random work on random pools, compared with a model: nothing is lost but what a dead worker
ran, nothing hangs, callbacks come once.  --seed repeats the choices (not the timing).
"""
import os
import random
import signal
import time
import zlib
from dataclasses import dataclass, field

import proc_tasks as tasks
import pytest
from testkit import GUARD, eventually, in_threads, ours

pytestmark = [pytest.mark.timeout(300), ours("there a death ends the pool")]
KIB = 1 << 10


@dataclass(eq=False)
class Job:
    """A submitted task, and what may become of it."""

    future: object
    kind: str
    expected: object
    cancelled: bool = False             # cancel() has returned True
    calls: list = field(default_factory=list)
    callbacks: int = 0
    crashed: bool = False               # by a death that was not its own


class Player:
    """One thread's random operations on a pool, and its book about them."""

    def __init__(self, cf, executor, rng, kills):
        self.cf, self.executor, self.rng = cf, executor, rng
        self.kills = kills              # one entry for each signal sent, of all players
        self.jobs, self.settled, self.kept = [], [], []

    # -- operations

    def play(self, end):
        operations = [
            (12, self.submit), (4, self.submit_burst), (4, self.cancel), (5, self.look),
            (3, self.add_callback), (2, self.drop), (2, self.wait_for_first),
            (1, self.wait_for_some), (2, self.map), (1, self.pause), (1, self.kill),
        ]
        weights = [weight for weight, _ in operations]
        while time.monotonic() < end:
            (_, operation), = self.rng.choices(operations, weights)
            operation()
            if len(self.jobs) > 2000:
                self.settle()
        self.settle()

    def submit(self):
        rng, n = self.rng, self.rng.randrange(1000)
        kind = rng.choices(
            ("simple", "pickled", "large", "raises", "slow", "dies", "unpicklable", "held"),
            (30, 20, 8, 8, 4, 1, 2, 3))[0]
        if kind == "simple":
            call, expected = (tasks.add, n), n + 1
        elif kind == "pickled":
            call, expected = (tasks.echo, {"n": [n] * rng.randrange(40)}), None
            expected = call[1]
        elif kind in ("large", "held"):
            data = bytearray(rng.randbytes(16)) * rng.choice(
                (KIB, 4 * KIB - 1, 4 * KIB, 5000, 20_000))
            call, expected = (tasks.echo, data), zlib.crc32(data)
        elif kind == "raises":
            call, expected = (tasks.boom, str(n)), str(n)
        elif kind == "slow":
            call, expected = (tasks.sleep_and_return, rng.random() * 0.02, n), n
        elif kind == "dies":
            call, expected = rng.choice([(tasks.die_exit, 3), (tasks.die_kill,)]), None
        else:
            call, expected = (tasks.echo, tasks.make_lock()), None
        self.jobs.append(Job(self.executor.submit(*call), kind, expected))

    def submit_burst(self):
        for _ in range(self.rng.choice((2, 5, 50))):
            self.submit()

    def some_job(self):
        # Often a young one, whose fate is open.
        if not self.jobs:
            return None
        if self.rng.random() < 0.5:
            return self.rng.choice(self.jobs[-5:])
        return self.rng.choice(self.jobs)

    def cancel(self):
        job = self.some_job()
        if job is not None and job.future.cancel():
            job.cancelled = True

    def add_callback(self):
        job = self.some_job()
        if job is not None:
            job.callbacks += 1
            job.future.add_done_callback(job.calls.append)

    def drop(self):
        """Forget a future without having looked; its callbacks must come all the same."""
        job = self.some_job()
        if job is not None and job.kind not in ("dies",):
            self.jobs.remove(job)
            if job.callbacks:
                self.settled.append(job)
            job.future = None

    def look(self):
        job = self.some_job()
        if job is not None:
            self.check(job)

    def wait_for_first(self):
        some = self.rng.sample(self.jobs, min(5, len(self.jobs)))
        if some:
            done, _ = self.cf.wait([job.future for job in some], 2 * GUARD, "FIRST_COMPLETED")
            assert done, "nothing ended"

    def wait_for_some(self):
        some = self.rng.sample(self.jobs, min(30, len(self.jobs)))
        futures = {job.future for job in some}
        assert set(self.cf.as_completed(futures, 2 * GUARD)) == futures

    def map(self):
        count = self.rng.randrange(20)
        chunksize = self.rng.choice((1, 1, 4))
        results = self.executor.map(
            tasks.add, range(count), chunksize=chunksize, timeout=2 * GUARD)
        try:
            if self.rng.random() < 0.3:
                next(results, None)
                results.close()
            else:
                assert list(results) == list(range(1, count + 1))
        except self.cf.process.WorkerCrashed:
            assert self.somebody_died()

    def pause(self):
        time.sleep(self.rng.choice((0, 0.0001, 0.001, 0.005)))

    def kill(self):
        """From outside, any worker in any state."""
        pids = list(self.executor._processes)
        if pids and self.rng.random() < 0.3:
            self.kills.append(self.rng.choice(pids))
            try:
                os.kill(self.kills[-1], signal.SIGKILL)
            except ProcessLookupError:
                pass

    # -- the book

    def somebody_died(self):
        return self.kills or any(job.kind == "dies" for job in self.jobs + self.settled)

    def check(self, job):
        """The future ends, in one of the ways that it may."""
        cf, future = self.cf, job.future
        if job.cancelled:
            assert future.cancelled() and future.done()
            return
        error = future.exception(2 * GUARD)
        assert not future.cancelled()
        if isinstance(error, cf.process.WorkerCrashed):
            assert error.pid and error.exitcode
            job.crashed = job.kind != "dies"
            return
        if job.kind == "dies":
            raise AssertionError(f"{job} did not die: {error!r}")
        if job.kind == "raises":
            assert isinstance(error, ValueError) and error.args == (job.expected,)
        elif job.kind == "unpicklable":
            assert isinstance(error, TypeError)
        else:
            assert error is None, error
            result = future.result(0)
            if job.kind in ("large", "held"):
                assert zlib.crc32(result) == job.expected
                if job.kind == "held":
                    self.kept.append((result, job.expected))
                    del self.kept[:-20]
            else:
                assert result == job.expected

    def settle(self):
        """Everything has ended as it may; what was kept is as it was."""
        futures = [job.future for job in self.jobs]
        assert self.cf.wait(futures, 4 * GUARD).not_done == set()
        for job in self.jobs:
            self.check(job)
        for result, checksum in self.kept:
            assert zlib.crc32(result) == checksum
        self.settled += self.jobs
        self.jobs = []

    def callbacks_came(self):
        """Each that was added, once."""
        assert eventually(lambda: all(
            len(job.calls) == job.callbacks for job in self.settled))


@pytest.mark.parametrize("players", [1, 3])
def test_random_work(cf, procs, rng, stress_seconds, method, players):
    options = {}
    if method != "fork" and rng.random() < 0.3:
        options["max_tasks_per_child"] = rng.choice((1, 5, 50))
    executor = procs(rng.randint(1, 4), on_crash="replace", **options)
    executor.submit(tasks.add, 1).result(GUARD)
    kills = []
    team = [Player(cf, executor, random.Random(rng.random()), kills) for _ in range(players)]
    end = time.monotonic() + 2 * stress_seconds
    in_threads([lambda player=player: player.play(end) for player in team])
    for player in team:
        player.callbacks_came()
    # A death costs at most the one task that its worker ran.
    deaths = len(kills) + sum(job.kind == "dies" for p in team for job in p.settled)
    lost = sum(job.crashed for player in team for job in player.settled)
    assert lost <= deaths
    assert executor.submit(tasks.add, 1).result(GUARD) == 2
    executor.shutdown()
    assert len(executor._pending_work_items) == 0


def test_pools_that_are_closed_while_they_are_used(cf, procs, rng, stress_seconds):
    """A task that was accepted is done, or cancelled; afterwards all are refused."""
    end = time.monotonic() + 2 * stress_seconds
    while time.monotonic() < end:
        executor, accepted = procs(2, on_crash="replace"), []
        executor.submit(tasks.add, 1)
        cancels, delay = rng.random() < 0.5, rng.random() * 0.01

        def submit(executor=executor, accepted=accepted):
            try:
                for n in range(2_000_000):
                    accepted.append((n, executor.submit(tasks.add, n)))
            except RuntimeError as error:
                assert str(error) == "cannot schedule new futures after shutdown"
            else:
                raise AssertionError("never refused")

        def close(executor=executor, cancels=cancels, delay=delay):
            time.sleep(delay)
            executor.shutdown(wait=True, cancel_futures=cancels)

        in_threads([submit, submit, close])
        for n, future in accepted:
            assert future.done()
            if cancels and future.cancelled():
                continue
            assert future.result(0) == n + 1


def test_pools_that_break_while_they_are_used(cf, procs, rng, stress_seconds):
    """Under "break", all that was pending fails, all later is refused, nothing hangs."""
    end = time.monotonic() + 2 * stress_seconds
    while time.monotonic() < end:
        executor, accepted = procs(2), []
        victim, pause = executor.submit(tasks.pid).result(GUARD), rng.random() * 0.01

        def submit(executor=executor, accepted=accepted):
            try:
                for n in range(2_000_000):
                    accepted.append((n, executor.submit(tasks.add, n)))
            except cf.BrokenProcessPool:
                return
            raise AssertionError("never refused")

        def kill(victim=victim, pause=pause):
            time.sleep(pause)
            os.kill(victim, signal.SIGKILL)

        in_threads([submit, submit, kill])
        for n, future in accepted:
            error = future.exception(GUARD)
            if error is None:
                assert future.result() == n + 1
            else:
                assert isinstance(error, cf.BrokenProcessPool)
        executor.shutdown()


def test_executors_that_are_dropped_while_they_work(cf, context, rng, stress_seconds):
    """Their tasks are done, and their processes end."""
    end = time.monotonic() + 2 * stress_seconds
    while time.monotonic() < end:
        executor = cf.ProcessPoolExecutor(2, mp_context=context, on_crash="replace")
        fatal = [executor.submit(tasks.die_exit, 1) for _ in range(rng.choice((0, 0, 1)))]
        futures = [executor.submit(tasks.add, n) for n in range(rng.randrange(1, 300))]
        workers = list(executor._processes.values())
        del executor
        assert [f.result(GUARD) for f in futures] == list(range(1, len(futures) + 1))
        for future in fatal:
            assert isinstance(future.exception(GUARD), cf.process.WorkerCrashed)
        assert eventually(lambda workers=workers: not any(w.is_alive() for w in workers))
