"""ProcessPoolExecutor: processes are Python's, what passes between them is C's.

    process.py      the class: arguments, map(), shutdown()
    _crew.py        the worker processes of a pool: starting, ending
    _manager.py     the thread that sees to them: deaths, successors, exit
    _child.py       what runs in a worker
    _output.py      what tasks print
    _crash.py       the words and exceptions for a worker that died
"""
from __future__ import annotations

import concurrent.futures.process as _standard
import itertools
import math
import multiprocessing
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any, TypeVar

from cfutures import _base, _core
from cfutures._chunks import PLAIN, chunked
from cfutures._crash import BrokenProcessPool, TransferError, WorkerCrashed
from cfutures._crew import Crew
from cfutures._deferred import DeferredSignals
from cfutures._manager import Manager, interpreter_exits

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor", "TransferError", "WorkerCrashed"]

_T = TypeVar("_T")

# All pools that were not collected, for `%cfutures`.
_numbers = itertools.count()
_executors: weakref.WeakValueDictionary[int, ProcessPoolExecutor] = (
    weakref.WeakValueDictionary())

_TERMINATE = "terminate"
_KILL = "kill"
_MOST_WORKERS = 2000        # of one pool; more are not started

_core._configure(broken_process_pool=BrokenProcessPool)


def __getattr__(name: str) -> object:
    # What programs import from the standard module and is not ours.
    return getattr(_standard, name)


def _default_max_workers() -> int:
    """The CPUs that this process may use."""
    cpus = _core.cpu_count()
    if hasattr(os, "process_cpu_count"):  # it knows -X cpu_count
        cpus = min(cpus, os.process_cpu_count() or cpus)
    return cpus


class _Count:
    """What a private collection of the standard class shows of ours: how many there are."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count()

    def qsize(self) -> int:
        return self._count()

    def empty(self) -> bool:
        return not self._count()

    def close(self) -> None:
        """Nothing: there is no queue."""

    def join_thread(self) -> None:
        """Nothing: there is no thread."""


class ProcessPoolExecutor(
    _core.ProcessPool, _base.Executor, _standard.ProcessPoolExecutor
):
    """An executor that calls functions in other processes."""

    # Beside the instance dictionary: the interpreter finds submit() faster as long as
    # that is empty.
    __slots__ = (
        "_crew", "_initargs", "_initializer", "_manager", "_max_tasks_per_child",
        "_max_workers", "_mp_context", "_on_crash", "_safe_to_dynamically_spawn_children",
        "_shut_down",
    )

    #: Bytes from which the buffers of arguments and results (arrays, bytearrays, …) are
    #: passed in shared memory instead of inside a pickle.  Read when a pool is made.
    _buffer_threshold = 1 << 16

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        on_crash: str = "break",
    ) -> None:
        """Make a pool; processes are started by submit().

        Parameters
        ----------
        max_workers: the largest number of processes; by default the CPUs that this
            process may use (affinity, control group).
        mp_context: how processes are started, as multiprocessing.get_context() gives it.
            With "fork" the first submit() starts all, otherwise they are started when
            tasks need them.
        initializer, initargs: each process first calls ``initializer(*initargs)``; if
            that raises, the pool is broken.
        max_tasks_per_child: a process ends after that many tasks and another one takes
            its place.  Not with "fork"; without mp_context it means "spawn".
        on_crash: what happens when a process dies.  "break": all tasks fail with
            BrokenProcessPool, as in the standard library.  "replace": the task that it ran
            fails with WorkerCrashed, another process takes its place.

        Raises ValueError, TypeError or NotImplementedError as the standard class does, and
        ValueError for an unknown on_crash.
        """
        _standard._check_system_limits()
        if max_workers is None:
            max_workers = _default_max_workers()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._max_workers = max_workers
        if mp_context is None:
            mp_context = multiprocessing.get_context(
                "spawn" if max_tasks_per_child is not None else None)
        self._mp_context = mp_context
        method = mp_context.get_start_method(allow_none=False)
        self._safe_to_dynamically_spawn_children = method != "fork"
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if method == "fork":
                raise ValueError(
                    "max_tasks_per_child is incompatible with the 'fork' multiprocessing "
                    "start method; supply a different mp_context.")
        if on_crash not in ("break", "replace"):
            raise ValueError(f"on_crash must be 'break' or 'replace', not {on_crash!r}")
        self._initializer = initializer  # type: ignore[assignment]
        self._initargs = initargs  # type: ignore[assignment]
        self._max_tasks_per_child = max_tasks_per_child
        self._on_crash = on_crash
        limit = min(math.ceil(max_workers), _MOST_WORKERS)
        self._open(limit, self._buffer_threshold)
        self._crew = Crew(
            self._engine(), mp_context, limit,
            initializer=initializer, initargs=initargs,
            max_tasks=max_tasks_per_child or 0, threshold=self._buffer_threshold)
        self._crew.tell_limit()
        # Set once, under the crew's lock.
        self._manager: Manager | None = None
        self._shut_down = False
        _executors[next(_numbers)] = self

    def _grow(self) -> None:
        """Start what workers the waiting tasks need; submit() calls this.

        The manager is started after the first workers: a forked child should have no
        thread of its parent.
        """
        crew = self._crew
        with crew.lock, DeferredSignals() as signals:
            if crew.closing or interpreter_exits():
                if crew.workers or (self._manager is not None and crew.closing):
                    # They do it, or the manager sees to it, or the pool is closed or
                    # broken, as submit() will see.
                    return
                raise RuntimeError(
                    "cannot schedule new futures after "
                    + ("interpreter shutdown" if interpreter_exits() else "shutdown"))
            # None, if another submit() or the manager has started them since this one looked.
            count = crew.limit - crew.active()
            if count <= 0:
                return
            all_of_them = crew.forks and self._manager is None
            self._start_workers(count if all_of_them else 1, signals)
        # The manager has to watch them as well.
        crew.engine._wake()

    def _start_workers(self, count: int, signals: DeferredSignals) -> None:
        """Start `count` processes as Crew.start() does, and with the first ones the manager.

        The crew's lock is held.
        """
        crew = self._crew
        manager = None
        if self._manager is None:
            # Made before the processes are forked; see Crew.start().
            manager = Manager(crew, self, replace=self._on_crash == "replace")
        try:
            crew.start(count, signals)
        finally:
            if manager is not None and crew.workers:
                self._start_manager(manager)
            elif manager is not None:
                crew.finish()       # nobody else would free what it opened

    def _start_manager(self, manager: Manager) -> None:
        try:
            manager.start()
        except Exception as error:
            manager.abandon(error)
            raise
        except BaseException:
            self._manager = manager     # somebody interrupted us, and it runs
            raise
        self._manager = manager

    # ---- private names of the standard class that programs and tests read ----

    @property
    def _processes(self) -> dict[int, Any] | None:  # type: ignore[override]
        return None if self._shut_down else self._crew.processes

    @property
    def _executor_manager_thread(self) -> Manager | None:  # type: ignore[override]
        return None if self._shut_down else self._manager

    @property
    def _shutdown_thread(self) -> bool:  # type: ignore[override]
        return self._shutdown

    @property
    def _shutdown_lock(self) -> Any:  # type: ignore[override]
        return self._crew.lock

    @property
    def _pending_work_items(self) -> _Count:  # type: ignore[override]
        return _Count(self._crew.engine._unfinished)

    @property
    def _work_ids(self) -> _Count:  # type: ignore[override]
        return _Count(self._crew.engine._queued)

    @property
    def _call_queue(self) -> _Count | None:
        return None if self._shut_down else self._work_ids

    # ---- the public rest ----

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: bool | str = False,
    ) -> Iterator[_T]:
        """Call `fn` for the items of the iterables, as the builtin map(), in the workers.

        Parameters
        ----------
        timeout: seconds from this call until all results must have been got.
        chunksize: how many calls are one task.
        buffersize: at most so many tasks are submitted whose results were not yielded; by
            default all are submitted at once.
        progress: show how many calls have ended, as cfutures.progress() does; a text is
            shown beside it.

        Raises ValueError if chunksize is less than 1; the iterator raises TimeoutError,
        or what `fn` raised.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        # While built-in sequences are gone through no code of the user's runs, so a large
        # global that the function reads need not be looked at for each task.
        quiet = buffersize is None and all(type(items) in PLAIN for items in iterables)
        frozen = quiet and self._freeze()
        try:
            if chunksize == 1:
                return super().map(fn, *iterables, timeout=timeout, buffersize=buffersize,
                                   progress=progress)
            arguments = zip(*iterables, strict=False)
            sizes: deque[int] | None = deque() if progress else None
            chunks: Iterator[list[_T]] = super().map(
                chunked(fn, star=True), _chunks(arguments, chunksize, sizes), timeout=timeout,
                buffersize=buffersize)
            if sizes is not None:
                from cfutures._progress import map_progress

                chunks = map_progress(chunks, iterables, progress, sizes.popleft)
            return _chain(chunks)
        finally:
            if frozen:
                self._thaw()

    def _counts(self) -> tuple[int, int, int, int, int, int, float]:
        return self._crew.engine._counts()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, and end the processes when those queued are done.

        Parameters
        ----------
        wait: return only when all processes have ended and all that they printed is shown.
        cancel_futures: cancel the tasks that have not begun.
        """
        crew = self._crew
        # A worker that is being started was started for a task, which counts as begun, as it
        # does in the standard library.
        crew.close(cancel_futures, crew.starting() if cancel_futures else 0)
        self._shut_down = True
        if wait:
            with crew.lock:     # a submit() in another thread may be starting it
                manager = self._manager
            # A callback runs in the manager itself, which cannot wait for its own end.
            if manager is not None and manager is not threading.current_thread():
                manager.join()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Shut down and wait for the tasks.

        Ctrl-C, in the block or while it waits here, means stop: what has not begun is
        cancelled, what runs is interrupted, and nothing is waited for.
        """
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
            self._interrupt()
            return
        try:
            self.shutdown(wait=True)
        except KeyboardInterrupt:
            self._interrupt()
            raise

    def _interrupt(self) -> None:
        self._crew.close(True)      # all of them
        self.shutdown(wait=False)
        manager = self._manager
        if manager is not None:
            manager.interrupt()

    def terminate_workers(self) -> None:
        """End the processes by SIGTERM and take no more tasks.

        Running tasks fail with BrokenProcessPool, waiting ones are cancelled.
        """
        self._force_shutdown(operation=_TERMINATE)

    def kill_workers(self) -> None:
        """End the processes by SIGKILL and take no more tasks.

        Running tasks fail with BrokenProcessPool, waiting ones are cancelled.
        """
        self._force_shutdown(operation=_KILL)

    def _force_shutdown(self, operation: str) -> None:
        if operation not in (_TERMINATE, _KILL):
            raise ValueError(f"Unsupported operation: {operation!r}")
        crew = self._crew
        with crew.lock:
            processes = [worker.process for worker in crew.workers.values()]
            manager = self._manager
        if manager is not None:
            manager.force(f"{operation}_workers")
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            getattr(process, operation)()


ProcessPoolExecutor.__module__ = "cfutures.process"


def _chunks(
    items: Iterator[_T], size: int, sizes: deque[int] | None = None
) -> Iterator[list[_T]]:
    """Lists of `size` items; the last one may be shorter.  Their sizes go into `sizes`."""
    while chunk := list(itertools.islice(items, size)):
        if sizes is not None:
            sizes.append(len(chunk))
        yield chunk


def _chain(lists: Iterator[list[_T]]) -> Iterator[_T]:
    """The items of the lists, with no reference kept to one that was yielded."""
    for items in lists:
        items.reverse()
        while items:
            yield items.pop()
