"""Random lives of pools, each with a book that says what may become of every task.

The model: a task ends once. It gives its value or raises its error; beyond that it may be
    cancelled   if cancel() said so, or the pool was ended in a way that cancels
    crashed     if a worker was killed, or its own task kills; as many as there were deaths
    broken      if a death breaks this pool, or its workers were ended by force
and nothing else, and all of them end when the pool does.
"""
import collections
import gc
import multiprocessing
import os
import signal
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass, field

import cfutures
import stress_tasks as tasks
from cfutures.process import BrokenProcessPool, WorkerCrashed
from testkit import GUARD, eventually

KIB = 1 << 10
VALUE, ERROR, CANCELLED, CRASHED, BROKEN = "value", "error", "cancelled", "crashed", "broken"


@dataclass(eq=False)
class Job:
    """A task: its future or AsyncResult, what it gives, and how else it may end."""

    handle: object
    kind: str
    expected: object                    # a value, or the type of an exception
    may: set
    wanted: int = 0                     # callbacks that were added
    calls: list = field(default_factory=list)


def random_call(rng, processes):
    """(kind, how it ends, expected, function, arguments) of a random task."""
    n = rng.randrange(1000)
    kinds = {"add": 30, "pickled": 10, "large": 8, "grow": 5, "sleep": 6, "burn": 3, "fail": 8,
             "cell": 4, "unpicklable": 2 * processes, "unpicklable result": 2 * processes,
             "dies": 1 * processes}
    kind, = rng.choices(list(kinds), list(kinds.values()))
    data = None
    if kind == "large":
        data = bytearray(rng.randbytes(16)) * rng.choice((KIB, 4 * KIB, 5000, 60_000))
    return kind, *{
        "add": lambda: (VALUE, n + 1, tasks.add, n),
        "pickled": lambda: (VALUE, {n: [n] * (n % 40)}, tasks.echo, {n: [n] * (n % 40)}),
        "large": lambda: (VALUE, data, tasks.echo, data),
        "grow": lambda: (VALUE, bytearray([n % 256]) * 90_000, tasks.grow, n % 256, 90_000),
        "sleep": lambda: (VALUE, n, tasks.sleep, n * 5e-6, n),
        "burn": lambda: (VALUE, n, tasks.burn, n * 2e-6, n),
        "fail": lambda: (ERROR, ValueError, tasks.fail, str(n)),
        "cell": lambda: (VALUE, n * 3, lambda x: x * 3, n),
        "unpicklable": lambda: (ERROR, TypeError, tasks.echo, tasks.Unpicklable()),
        "unpicklable result": lambda: (ERROR, TypeError, tasks.return_unpicklable),
        "dies": lambda: (CRASHED, None, *rng.choice(
            [(tasks.die, signal.SIGKILL), (tasks.leave, 3)])),
    }[kind]()


class Life:
    """What lives of all kinds have in common."""

    def __init__(self, rng):
        self.rng = rng
        self.jobs = []
        self.deaths = 0                 # that may have cost a task
        self.ended = False              # it takes no more
        self.said = []                  # what was done, for who reads a failure

    operations = ()                     # (weight, name of a method)

    def play(self, steps):
        """Do so many random things."""
        names = [name for _, name in self.operations]
        weights = [weight for weight, _ in self.operations]
        for name in self.rng.choices(names, weights, k=steps):
            if self.ended:
                return
            self.said.append(name)
            getattr(self, name)()

    def burst(self):
        """Several tasks at once."""
        for _ in range(self.rng.choice((3, 10, 60))):
            self.submit()

    def some_job(self):
        """Often a young one, whose fate is open; None if there is none."""
        if not self.jobs:
            return None
        return self.rng.choice(self.jobs[-5:] if self.rng.random() < 0.5 else self.jobs)

    def unfinished(self):
        """The jobs that were not seen to have ended."""
        return [job for job in self.jobs if not self.is_done(job)]

    def may_also(self, *ends):
        """What is not done yet may end like this, too."""
        for job in self.unfinished():
            job.may |= {*ends}

    def pause(self):
        """Let the others run."""
        time.sleep(self.rng.choice((0, 0.0001, 0.001, 0.004)))

    def collect(self):
        """Run the cycle collector."""
        gc.collect()

    def fork(self):
        """A child of the program finds its pools closed and its futures ended; it can end."""
        pid = os.fork()
        if pid == 0:
            signal.alarm(GUARD)         # it must not hang unseen
            status = 2
            try:
                status = 0 if self.is_closed_in_child() else 1
            finally:
                os._exit(status)        # never on into the parent's tests
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the forked child failed"

    def check(self, job, timeout=2 * GUARD):
        """The job has ended, or ends in time, as it may."""
        end, got = self.end_of(job, timeout)
        assert end in job.may, f"{job.kind} ended as {end} ({got!r}), not {job.may}"
        if end == VALUE:
            assert got == job.expected, job
        elif end == ERROR:
            assert isinstance(got, job.expected), (job, got)
        return end

    def look(self):
        """Wait for any job."""
        job = self.some_job()
        if job is not None:
            self.check(job)

    def hasty(self):
        """A wait that may be too short says so, or the truth."""
        job = self.some_job()
        if job is not None:
            try:
                self.check(job, self.rng.choice((0, 1e-5, 1e-4, 1e-3)))
            except (TimeoutError, multiprocessing.TimeoutError):
                return

    def check_all(self):
        """All have ended as they may; of deaths no more came than there were."""
        ends = collections.Counter(self.check(job) for job in self.jobs)
        assert ends[CRASHED] <= self.deaths, (ends, self.deaths)
        assert eventually(lambda: all(len(job.calls) == job.wanted for job in self.jobs)), (
            "callbacks are missing, or came twice")
        return ends


class ExecutorLife(Life):
    """A ThreadPoolExecutor or ProcessPoolExecutor."""

    operations = (
        (14, "submit"), (4, "burst"), (4, "cancel"), (3, "look"), (3, "hasty"), (3, "callback"),
        (2, "wait"), (2, "as_completed"), (2, "map"), (2, "pause"), (1, "collect"),
        (1, "forget"), (1, "kill"), (1, "fork"))
    processes = False
    breaks = False
    ways_to_end = ("leave", "wait", "nowait", "cancel", "cancel_nowait", "drop")

    def submit(self):
        """One task; refused only by a pool that a death has broken."""
        kind, end, expected, *call = random_call(self.rng, self.processes)
        if end == CRASHED:
            # On its way: another task's future may learn of it first.
            self.deaths += 1
            self.a_worker_dies()
        try:
            future = self.executor.submit(*call)
        except BrokenProcessPool:
            assert self.breaks and self.deaths, "broken without a death"
            self.ended = True
            return
        may = {end}
        if self.deaths:
            may |= {BROKEN} if self.breaks else {CRASHED}
            if kind == "dies" and self.breaks:
                may = {BROKEN}
        self.jobs.append(Job(future, kind, expected, may))

    def a_worker_dies(self):
        """Whose task it costs is open."""
        self.may_also(BROKEN if self.breaks else CRASHED)

    def is_done(self, job):
        return job.handle.done()

    def end_of(self, job, timeout):
        try:
            error = job.handle.exception(timeout)
        except CancelledError:
            return CANCELLED, None
        if isinstance(error, WorkerCrashed):
            return CRASHED, error
        if isinstance(error, cfutures.BrokenExecutor):
            return BROKEN, error
        return (VALUE, job.handle.result(0)) if error is None else (ERROR, error)

    def cancel(self):
        job = self.some_job()
        if job is not None and job.handle.cancel():
            job.may = {CANCELLED}

    def callback(self):
        job = self.some_job()
        if job is not None:
            job.wanted += 1
            job.handle.add_done_callback(job.calls.append)

    def wait(self):
        some = self.rng.sample(self.jobs, min(10, len(self.jobs)))
        when = self.rng.choice(("FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"))
        done, rest = cfutures.wait([job.handle for job in some], 2 * GUARD, when)
        assert len(done) + len(rest) == len(some) and (done or not some)
        assert not rest or when != "ALL_COMPLETED"

    def as_completed(self):
        some = {job.handle for job in self.rng.sample(self.jobs, min(20, len(self.jobs)))}
        assert set(cfutures.as_completed(some, 2 * GUARD)) == some

    def map(self):
        count = self.rng.randrange(30)
        try:
            results = self.executor.map(
                tasks.add, range(count), chunksize=self.rng.choice((1, 4)), timeout=2 * GUARD,
                buffersize=self.rng.choice((None, None, 3)))
            if self.rng.random() < 0.3:
                next(results, None)
                results.close()
            else:
                assert list(results) == list(range(1, count + 1))
        except BrokenProcessPool as error:
            assert self.deaths, error
            self.ended = self.breaks
            # A task of the map's own was lost, which is in nobody's book.
            self.deaths -= isinstance(error, WorkerCrashed)

    def forget(self):
        """Drop a future that nobody looked at."""
        job = self.some_job()
        if job is not None and not job.wanted:
            self.jobs.remove(job)

    def kill(self):
        """Nothing: threads cannot be killed."""

    def is_closed_in_child(self):
        try:
            self.executor.submit(tasks.add, 1)
        except (RuntimeError, cfutures.BrokenExecutor):
            _, rest = cfutures.wait([job.handle for job in self.jobs[-50:]], GUARD)
            return not rest
        return False

    # ---- ends ----

    def abandon(self):
        """End it, but for what runs."""
        if self.executor is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)

    def end(self):
        """Shut down in a random way; the name of the way."""
        how = self.rng.choice(self.ways_to_end)
        self.said.append(how)
        getattr(self, "end_by_" + how)()
        self.ended = True
        if how != "drop":
            try:
                self.executor.submit(tasks.add, 1)
            except (RuntimeError, BrokenProcessPool):
                pass
            else:
                raise AssertionError("submitted after the end")
            self.executor = None
        return how

    def end_by_leave(self):
        with self.executor:
            pass

    def end_by_wait(self):
        self.executor.shutdown()
        assert not self.unfinished()

    def end_by_nowait(self):
        self.executor.shutdown(wait=False)

    def end_by_cancel(self):
        self.may_also(CANCELLED)
        self.executor.shutdown(cancel_futures=True)
        assert not self.unfinished()

    def end_by_cancel_nowait(self):
        self.may_also(CANCELLED)
        self.executor.shutdown(wait=False, cancel_futures=True)

    def end_by_drop(self):
        self.executor = None


class Threads(ExecutorLife):
    """A thread pool."""

    def __init__(self, rng):
        super().__init__(rng)
        self.executor = cfutures.ThreadPoolExecutor(rng.randint(1, 5))


class Processes(ExecutorLife):
    """A process pool."""

    processes = True
    ways_to_end = (*ExecutorLife.ways_to_end, "terminate", "kill")
    most_kills = 2      # three workers in a row that die young, and a pool gives up

    def __init__(self, rng, method):
        super().__init__(rng)
        self.breaks = rng.random() < 0.2
        self.kills = 0
        options = {}
        if method != "fork" and rng.random() < 0.3:
            options["max_tasks_per_child"] = rng.choice((1, 5, 50))
        self.said += [method, "break" if self.breaks else "replace", options]
        self.executor = cfutures.ProcessPoolExecutor(
            rng.randint(1, 4), multiprocessing.get_context(method),
            on_crash="break" if self.breaks else "replace", **options)

    def kill(self):
        """From outside, any worker in any state."""
        crew = self.executor._crew
        with crew.lock:         # or its number could be another process's by then
            workers = list(crew.workers.values())
            if workers and self.kills < self.most_kills:
                self.kills += 1
                self.deaths += 1
                self.a_worker_dies()
                self.rng.choice(workers).signal(signal.SIGKILL)

    def end_by_terminate(self):
        self.may_also(CANCELLED, BROKEN)
        self.executor.terminate_workers()

    def end_by_kill(self):
        self.may_also(CANCELLED, BROKEN)
        self.executor.kill_workers()


class PoolLife(Life):
    """multiprocessing.Pool's methods on processes."""

    operations = (
        (14, "submit"), (3, "burst"), (3, "look"), (2, "hasty"), (2, "map"), (2, "imap"),
        (2, "pause"), (1, "collect"), (1, "fork"))

    def __init__(self, rng, method):
        super().__init__(rng)
        self.said.append(method)
        self.pool = cfutures.Pool(
            rng.randint(1, 3), context=multiprocessing.get_context(method),
            maxtasksperchild=rng.choice((None, None, 10)))

    def submit(self):
        kind, end, expected, function, *args = random_call(self.rng, processes=True)
        self.deaths += end == CRASHED
        calls = []
        handle = self.pool.apply_async(function, args, callback=calls.append,
                                       error_callback=calls.append)
        self.jobs.append(Job(handle, kind, expected, {end}, 1, calls))

    def is_done(self, job):
        return job.handle.ready()

    def end_of(self, job, timeout):
        try:
            return VALUE, job.handle.get(timeout)
        except multiprocessing.TimeoutError:
            raise
        except WorkerCrashed as error:
            return CRASHED, error
        except cfutures.BrokenExecutor as error:
            return BROKEN, error
        except Exception as error:
            return ERROR, error

    def map(self):
        count = self.rng.randrange(40)
        assert self.pool.map(tasks.add, range(count)) == list(range(1, count + 1))

    def imap(self):
        """Left in the middle, or not."""
        count = self.rng.randrange(20)
        results = self.pool.imap(tasks.add, range(count))
        for n in range(self.rng.randrange(count + 1)):
            assert results.next(2 * GUARD) == n + 1

    def is_closed_in_child(self):
        for job in self.jobs[-50:]:
            job.handle.wait(GUARD)
            if not job.handle.ready():
                return False
        try:
            self.pool.apply_async(tasks.add, (1,)).get(GUARD)
        except (ValueError, cfutures.BrokenExecutor):
            return True
        return False

    def abandon(self):
        """End it now, whatever it does."""
        if self.pool is not None:
            self.pool.terminate()

    def end(self):
        """close(), terminate() or the end of a with block; join()."""
        how = self.rng.choice(("close", "terminate", "leave"))
        self.said.append(how)
        self.ended = True
        if how == "close":
            self.pool.close()
            self.pool.join()
            assert not self.unfinished()
        else:
            self.may_also(CRASHED, BROKEN)
            self.deaths += len(self.unfinished())
            if how == "terminate":
                self.pool.terminate()
            else:
                with self.pool:
                    pass
            self.pool.join()
        self.pool = None
        return how


class QueueLife(Life):
    """A queue, here and in the workers of a pool; the model is a deque."""

    operations = ((10, "put"), (10, "get"), (3, "put_there"), (3, "get_there"), (1, "count"),
                  (1, "collect"))

    def __init__(self, rng, method):
        super().__init__(rng)
        self.said.append(method)
        self.most = rng.choice((0, 0, 1, 7))
        self.queue = cfutures.Queue(self.most)
        self.model = collections.deque()
        self.executor = cfutures.ProcessPoolExecutor(1, multiprocessing.get_context(method))

    def item(self):
        n = self.rng.randrange(1000)
        return self.rng.choice((n, "text", {n: [n]}, bytearray([n % 256]) * 100_000))

    def full(self):
        return self.most and len(self.model) == self.most

    def put(self):
        item = self.item()
        try:
            self.queue.put_nowait(item)
        except Exception as error:
            assert type(error).__name__ == "Full" and self.full(), error
        else:
            assert not self.full()
            self.model.append(item)

    def get(self):
        try:
            item = self.queue.get_nowait()
        except Exception as error:
            assert type(error).__name__ == "Empty" and not self.model, error
        else:
            assert item == self.model.popleft()

    def put_there(self):
        item = self.item()
        if not self.full():
            self.executor.submit(tasks.put, self.queue, item).result(2 * GUARD)
            self.model.append(item)

    def get_there(self):
        if self.model:
            got = self.executor.submit(tasks.get, self.queue).result(2 * GUARD)
            assert got == self.model.popleft()

    def count(self):
        assert self.queue.qsize() == len(self.model)
        assert self.queue.empty() == (not self.model)

    def abandon(self):
        """End it."""
        self.executor.shutdown(wait=False)
        self.queue.close()

    def end(self):
        """All that was put comes out, in order; or it is closed with it."""
        if self.rng.random() < 0.5:
            while self.model:
                assert self.queue.get(timeout=GUARD) == self.model.popleft()
        self.executor.shutdown()
        self.queue.close()
        return "closed"
