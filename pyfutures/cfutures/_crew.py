"""The worker processes of one pool: starting them, knowing them, ending them.

    start() --> STARTED --its last task begun--> RETIRING --> dead, remove()
                   +------crash, or the pool is closed-------^

A crew knows nothing of the executor object, which may be collected while tasks run.
"""
from __future__ import annotations

import contextlib
import errno
import multiprocessing.process
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures._base import LOGGER
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any

from cfutures import _cells, _child, _report
from cfutures._deferred import DeferredSignals
from cfutures._output import Output, redirected_streams

if TYPE_CHECKING:
    from cfutures._core import ProcessEngine

__all__ = ["Crew", "Worker", "crews"]

# All there are, for a forked child, which has none of them.
crews: weakref.WeakSet[Crew] = weakref.WeakSet()


class Worker:
    """One process.  All fields but `retiring` are set once, before others see it."""

    def __init__(self, number: int, process: Any) -> None:
        self.number = number
        self.process = process
        self.pid: int = process.pid
        self.retiring = False       # it runs its last task; guarded by the crew's lock
        # What tells of its death.  A descriptor of the process itself, since the
        # sentinel of multiprocessing stays silent while a child of the worker has it.
        self.pidfd: int | None = None
        with contextlib.suppress(OSError):      # dead and reaped already, or not supported
            self.pidfd = os.pidfd_open(self.pid)

    @property
    def fd(self) -> int:
        """A descriptor that is readable once the process has ended."""
        return self.process.sentinel if self.pidfd is None else self.pidfd

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, number)
            else:
                self.process._popen._send_signal(number)

    def close(self) -> None:
        """Give back the descriptor."""
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


class Crew:
    """See the module.  `lock` guards all that changes; it may be held while a process is
    started, never while callbacks run."""

    def __init__(
        self,
        engine: ProcessEngine,
        context: BaseContext,
        limit: int,
        *,
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
        max_tasks: int,
        threshold: int,
    ) -> None:
        """`limit`: the largest number of workers that take tasks; the rest as in Start."""
        self.engine = engine
        self.context = context
        self.forks = context.get_start_method(allow_none=False) == "fork"
        self.limit = limit
        self.initializer = initializer
        self.initargs = initargs
        self.max_tasks = max_tasks
        self.threshold = threshold
        self.word = "Process"       # in the processes' names
        # Reentrant: a signal handler or finalizer that comes meanwhile may use the pool.
        self.lock = threading.RLock()
        self.workers: dict[int, Worker] = {}        # by number
        self.processes: dict[int, Any] = {}         # what users see: by pid, no retiring
        self.closing = False        # no new tasks; only ever set
        self.foreign = False        # in a forked child: the workers are the parent's
        self._reports: _report.Reports | None = None
        self._output: Output | None = None
        crews.add(self)

    # ---- what there is ----

    def active(self) -> int:
        """How many workers take tasks."""
        return sum(not worker.retiring for worker in self.workers.values())

    def shortage(self) -> int:
        """How many more workers the waiting tasks could use."""
        queued = self.engine._queued()
        if not queued:
            return 0
        active = self.active()
        retiring = len(self.workers) - active
        idle = max(0, active - max(0, self.engine._busy() - retiring))
        return max(0, min(self.limit - active, queued - idle))

    def fds(self) -> list[int]:
        """The descriptors that tell of deaths."""
        with self.lock:
            return [worker.fd for worker in self.workers.values()]

    def dead(self, ready: list[int]) -> list[Worker]:
        """The workers whose descriptors are among `ready`."""
        if not ready:
            return []
        with self.lock:
            return [worker for worker in self.workers.values() if worker.fd in ready]

    def report(self, worker: Worker) -> tuple[int, str]:
        """How far a worker came and what it wrote; see _report."""
        if self._reports is None:
            return _report.STARTING, ""
        return self._reports.read(worker.number)

    def starting(self) -> int:
        """How many workers are not ready for tasks yet."""
        with self.lock:
            return sum(self.report(worker)[0] == _report.STARTING
                       for worker in self.workers.values())

    # ---- starting; the lock is held ----

    def start(self, count: int, signals: DeferredSignals) -> None:
        """Start `count` processes, fewer if one of the deferred signals comes meanwhile.

        If some run already, or one of these could be started, the system's refusal to
        start more is logged and what runs does the work.  Otherwise raises what was
        raised: OSError, or whatever pickling the initializer raised.
        """
        self._prepare()
        made: list[tuple[int, Any]] = []
        try:
            # Before the first fork: after one each page that is written to is copied first.
            self._make(made, count, signals)
            while made:
                self._launch(*made.pop(0))
                if signals.due:
                    break
        except OSError as error:
            if not self.workers:
                raise
            self.limit = max(1, self.active())
            LOGGER.warning("no more than %d worker processes can be started: %s",
                           self.limit, error)
        finally:
            for number, _ in made:
                self.engine._delist(number)
        self.tell_limit()

    def tell_limit(self) -> None:
        """Tell C how many workers there may be, those that are about to leave included."""
        self.engine._want(self.limit + len(self.workers) - self.active())

    def start_output(self) -> None:
        """Show what workers print, from now on."""
        if self._output is not None:
            self._output.start()

    def _prepare(self) -> None:
        if self._reports is None:
            self._reports = _report.Reports()
            streams = redirected_streams()
            if streams:
                self._output = Output(streams)

    def _make(
        self, made: list[tuple[int, Any]], count: int, signals: DeferredSignals
    ) -> None:
        """Append `count` new workers, not started: their numbers and processes.

        Fewer if there is no room: some have to leave first.  If this raises, the last one
        has a number and no process yet.
        """
        while len(made) < count and (place := self.engine._enlist()) is not None:
            made.append((place[0], None))
            made[-1] = place[0], self._process(*place, signals)

    def _process(self, number: int, arena: int, signals: DeferredSignals) -> Any:
        """The process of worker `number`, which is to have that arena."""
        assert self._reports is not None
        self._reports.clear(number)
        segment, bell = self.engine._segment()
        initializer = self.initializer
        if initializer is not None:
            initializer = _cells.travelling(initializer, self.forks)
        start = _child.Start(
            segment=_child.Inherited(segment), bell=_child.Inherited(bell),
            reports=_child.Inherited(self._reports.fd),
            output=None if self._output is None else _child.Inherited(self._output.writer),
            streams=() if self._output is None else self._output.streams,
            number=number, arena=arena, parent=os.getpid(), max_tasks=self.max_tasks,
            threshold=self.threshold, initializer=initializer,
            initargs=tuple(self.initargs), signals=signals,
            close=() if self._output is None else (self._output.reader,))
        if not self.forks:
            start = start.pickled()
        process: Any = self.context.Process(  # type: ignore[attr-defined]
            target=_child.main, args=(start,))
        process.name = process.name.replace("Process", self.word)
        return process

    def _launch(self, number: int, process: Any) -> None:
        """Start a worker that was made."""
        try:
            with _quiet_start(self.context):
                try:
                    process.start()
                except EOFError as error:       # what it says where there is nobody to answer
                    raise OSError(
                        errno.ECONNRESET, "the fork server has ended; the next start of a "
                        "process makes another one") from error
        except BaseException:
            self.engine._delist(number)
            raise
        worker = Worker(number, process)
        self.workers[number] = worker
        self.processes[worker.pid] = process

    # ---- ending ----

    def close(self, cancel_futures: bool, spared: int = 0) -> None:
        """Take no more tasks, cancel none or those that wait, but for so many.

        Workers leave when nothing is left.
        """
        if self.foreign:
            return
        self.closing = True
        self.engine._close(cancel_futures, spared)
        self.engine._wake()

    def retire(self, number: int) -> None:
        """Worker `number` has begun its last task."""
        with self.lock:
            worker = self.workers.get(number)
            if worker is not None and not worker.retiring:
                worker.retiring = True
                self.processes.pop(worker.pid, None)
                self.tell_limit()

    def remove(self, worker: Worker) -> None:
        """Forget a worker that is dead and buried."""
        with self.lock:
            self.workers.pop(worker.number, None)
            worker.close()
            self.tell_limit()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all workers."""
        with self.lock:
            for worker in self.workers.values():
                worker.signal(number)

    def finish(self) -> None:
        """All workers are dead: show the rest of what they printed, free everything."""
        with self.lock:
            output, self._output = self._output, None
            reports, self._reports = self._reports, None
        if output is not None:
            output.finish()
        if reports is not None:
            reports.close()

    def forget(self) -> None:
        """In a forked child: these are not our processes."""
        self.lock = threading.RLock()
        self.closing = self.foreign = True
        # multiprocessing would wait for them when this process ends.
        children: set[Any] = getattr(multiprocessing.process, "_children", set())
        for worker in self.workers.values():
            children.discard(worker.process)
            worker.close()
        self.workers.clear()
        self.processes.clear()


@contextlib.contextmanager
def _quiet_start(context: BaseContext) -> Iterator[None]:
    """Keep Ctrl-C from a child that is only starting, whose Python is not ready for it.

    A spawned program inherits the mask of this thread, which is lifted in _child.main.
    A forked child has the parent's handlers, which are deferred; one of a fork server has
    nothing of this thread.
    """
    if context.get_start_method(allow_none=False) != "spawn":
        yield
        return
    from multiprocessing import resource_tracker

    # It must not inherit the mask: it lives longer than this start and serves others.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
