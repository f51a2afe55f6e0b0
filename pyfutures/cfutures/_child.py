"""What runs in a worker process, from its first line of ours to its end.

    start: signals, report, output --> initializer --> _core.run_worker() --> exit
                                            +--raised: logged, exit code 1

Ctrl-C reaches all processes of a terminal.  In a worker it is a KeyboardInterrupt while
the initializer or a task runs, and nothing otherwise.
"""
from __future__ import annotations

import faulthandler
import os
import signal
import traceback
from collections.abc import Callable
from concurrent.futures._base import LOGGER
from multiprocessing import reduction
from typing import Any, NamedTuple

from cfutures import _cells, _core, _crash, _output, _pickle
from cfutures._deferred import DeferredSignals
from cfutures._report import FAILED, READY, WORKED, Report

__all__ = ["Inherited", "Start", "main"]

# What C needs on both sides: this module is imported by parents and workers.
_core._configure(
    pickler=_pickle.pickler,
    loads=_pickle.loads,
    pack_exception=_pickle.pack_exception,
    describe=_cells.describe,
    load_definition=_cells.load_definition,
    transfer_failed=_crash.transfer_failed,
)


class Inherited:
    """A descriptor `fd` that a child has as well, however it is started.

    fork copies it; for the other ways of starting, multiprocessing passes it on when the
    child's Process is pickled, and the number may be another one there.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (reduction.DupFd(self.fd),)


def _receive(passed: Any) -> Inherited:
    inherited = Inherited(passed.detach())
    # Not for the programs that tasks start.
    os.set_inheritable(inherited.fd, False)
    return inherited


class Start(NamedTuple):
    """What a worker is told; pickled unless the child is forked."""

    segment: Inherited
    bell: Inherited
    reports: Inherited
    output: Inherited | None        # where to write what tasks print, or None: to 1 and 2
    streams: tuple[str, ...]        # which of stdout, stderr go there
    number: int                     # of the worker, and of its arena
    arena: int
    parent: int                     # the parent's pid
    max_tasks: int                  # 0: no limit
    threshold: int                  # bytes from which buffers go through the arena
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    # For a forked child only: the parent's state that it has to undo.
    signals: DeferredSignals | None = None
    close: tuple[int, ...] = ()

    def pickled(self) -> Start:
        """The same without what only a forked child can use."""
        return self._replace(signals=None, close=())


def main(start: Start) -> None:
    """Be a worker process until the parent wants no more."""
    _set_up_signals(start)
    for fd in start.close:
        os.close(fd)
    report = Report(start.reports.fd, start.number)
    if report.crash_fd is not None:
        faulthandler.enable(file=report.crash_fd, all_threads=False)
    _output.prepare_worker(
        start.streams, None if start.output is None else start.output.fd, start.number)
    if start.initializer is not None:
        _initialize(start.initializer, start.initargs, report)
    report.say(READY)
    _report_first_task(report)
    while True:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _core.run_worker(
                start.segment.fd, start.bell.fd, start.number, start.arena, start.parent,
                start.max_tasks, start.threshold, _output.flush)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            return
        except KeyboardInterrupt:
            # It came between two lines here; what interrupts a task ends up in its future.
            continue


def _set_up_signals(start: Start) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent blocked it so that Ctrl-C could not kill a child that is only starting.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if start.signals is not None:
        start.signals.forget(signal.SIGINT)
        start.signals.restore()
        # An event loop of the parent would be told of our signals.
        signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _initialize(
    initializer: Callable[..., object], initargs: tuple[Any, ...], report: Report
) -> None:
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        initializer(*initargs)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except BaseException:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        LOGGER.critical("Exception in initializer:", exc_info=True)
        report.say(FAILED, traceback.format_exc())
        # The parent sees the process end, and what it said; the pool is broken.
        raise SystemExit(1) from None


def _report_first_task(report: Report) -> None:
    """Tell the parent when this worker begins to work: when it loads a function."""

    def load_definition(data: Any) -> Any:
        _core._configure(load_definition=_cells.load_definition)
        report.say(WORKED)
        return _cells.load_definition(data)

    _core._configure(load_definition=load_definition)
