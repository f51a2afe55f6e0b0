"""The thread that sees to a pool's workers: deaths, successors, the end.

    RUNNING --closed: shutdown(), executor collected, exit--> DRAINING --> no worker left: end
       +--a worker crashed, on_crash="break"--> BROKEN (the others are terminated) ---------^
       +--Ctrl-C--> INTERRUPTED (draining, and running tasks are interrupted) --------------^

It sleeps in C's _poll(), where callbacks of futures run as well.  It has no reference to
the executor, only a weak one that wakes it when the executor is gone.

What is done with a worker that does not do as it is told, one after the other, is a list
of steps, each with a time (time.monotonic()) at which it is due.
"""
from __future__ import annotations

import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures._base import LOGGER
from typing import Any

from cfutures._crash import USELESS, BrokenProcessPool, Death, broken
from cfutures._crew import Crew, Worker, crews
from cfutures._deferred import DeferredSignals
from cfutures._report import FAILED, READY, WORKED

__all__ = ["Manager", "interpreter_exits"]

_INTERRUPT_AFTER = 0.25     # seconds; a terminal's Ctrl-C has reached the workers by then
_TERMINATE_AFTER = 5.0      # then tasks have had their time to clean up
_KILL_AFTER = 5.0           # and after that, the handlers of SIGTERM
_TRIES = 3                  # workers in a row that die before they take a task

_managers: set[Manager] = set()     # those that run; changed by single, atomic calls
_exiting = False                    # the interpreter ends; only ever set


class _Begun(threading.Event):
    """The event that a thread sets when it runs, but Thread.start() does not wait for it."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once."""
        return self.is_set()

    def really_wait(self, timeout: float | None = None) -> bool:
        """As Event.wait()."""
        return super().wait(timeout)


class Manager(threading.Thread):
    """See the module."""

    def __init__(self, crew: Crew, executor: Any, *, replace: bool) -> None:
        """`replace`: on_crash="replace".  The executor is only weakly referred to."""
        super().__init__(name="cfutures-manager", daemon=False)
        self.crew = crew
        engine = crew.engine
        self._engine = engine
        self._replace = replace
        self._executor = weakref.ref(executor, lambda _: engine._wake())
        self._steps: list[tuple[float, Callable[[], None]]] = []
        self._failures = 0              # workers that died early, in a row
        self._interrupt_asked = False   # set by interrupt(), in any thread
        self._interrupted = False
        self._broken = False
        self._forced = ""               # the name of the method that ends the workers

    def start(self) -> None:
        """As Thread.start(), without waiting; known to the interpreter's exit from here on.

        It begins beside processes that begin as well, as many as there are CPUs: to wait
        for it would take as long as all that submit() does, and nobody needs it so soon.
        """
        self._started: threading.Event = _Begun()
        _managers.add(self)
        try:
            super().start()
        except Exception:
            _managers.discard(self)
            self._started = threading.Event()       # there is nothing to wait for
            raise
        if _exiting:
            # The exit may have looked before we were there.
            self.crew.close(False)

    def join(self, timeout: float | None = None) -> None:
        """As Thread.join()."""
        if self._begun(timeout):
            super().join(timeout)

    def is_alive(self) -> bool:
        """As Thread.is_alive()."""
        self._begun()
        return super().is_alive()

    def _begun(self, timeout: float | None = None) -> bool:
        # Where it was not, or could not be, started it is an ordinary event.
        return not isinstance(self._started, _Begun) or self._started.really_wait(timeout)

    def forget(self) -> None:
        """In a forked child: there is no such thread, whether it had begun or not."""
        self._started.set()

    # ---- asked for by other threads ----

    def interrupt(self) -> None:
        """Ctrl-C: cancel what has not begun, interrupt what runs, end what does not end."""
        self._interrupt_asked = True
        self.crew.close(True)

    def force(self, name: str) -> None:
        """The workers are about to be ended by method `name`: that is no crash."""
        self._forced = name
        self.crew.close(True)

    def abandon(self, error: BaseException) -> None:
        """The thread could not be started: end the workers here."""
        self._give_up(error)
        self.crew.finish()

    # ---- the thread ----

    def run(self) -> None:
        """See the class."""
        try:
            self.crew.start_output()
            while not self._done():
                self._step()
        except BaseException as error:
            # Out of memory, of descriptors: tasks must not wait for a thread that is gone.
            LOGGER.critical("the manager of a process pool failed:", exc_info=True)
            self._give_up(error)
        finally:
            # They refer to this object, and so to the pool's memory.
            self._steps.clear()
            try:
                self.crew.finish()
            finally:
                _managers.discard(self)

    def _done(self) -> bool:
        crew = self.crew
        return crew.closing and not crew.workers and (
            self._broken or not self._engine._unfinished())

    def _step(self) -> None:
        crew, engine = self.crew, self._engine
        ready = engine._poll(crew.fds(), self._timeout())
        changed = False
        # Before the deaths: a worker may have begun its last task and left since.
        for number in engine._lasts():
            changed = True
            self._failures = 0
            crew.retire(number)
        for worker in crew.dead(ready):
            changed = True
            self._bury(worker)
        if not crew.closing and (_exiting or self._executor() is None):
            crew.close(False)
        if self._interrupt_asked and not self._interrupted:
            self._interrupted = True
            self._plan(_INTERRUPT_AFTER, self._interrupt_tasks)
            self._plan(_TERMINATE_AFTER, lambda: crew.signal(signal.SIGTERM))
            self._plan(_TERMINATE_AFTER + _KILL_AFTER, lambda: crew.signal(signal.SIGKILL))
        self._do_steps()
        if engine._broken and not self._broken:
            # A worker wrote over the pool's memory; which one, nobody can tell.
            self._break(f"{engine._broken}.")
        if changed or (crew.closing and not crew.workers):
            self._start_successors()

    def _start_successors(self) -> None:
        crew = self.crew
        if self._broken:
            return
        if self._forced or self._interrupted:
            if not crew.workers and self._engine._unfinished():
                reason = f"The pool was ended by {self._ended_by()}."
                self._break(reason)
            return
        with crew.lock:
            count = crew.shortage()
            if count == 0:
                return
            try:
                with DeferredSignals() as signals:
                    crew.start(count, signals)
            except Exception as error:
                self._break(f"A worker process could not be started: {error!r}", error)

    # ---- deaths ----

    def _bury(self, worker: Worker) -> None:
        """See to a worker whose process has ended."""
        crew, engine = self.crew, self._engine
        worker.process.join()
        exitcode = worker.process.exitcode
        names = engine._names(worker.number)
        state, text = crew.report(worker)
        death = Death(worker.pid, exitcode, names, state, text)
        crew.remove(worker)
        if self._broken:
            engine._bury(worker.number, None)
        elif self._left_by_itself(worker, death):
            self._failures = 0
            engine._bury(worker.number, None)
        elif self._forced or self._interrupted:
            engine._bury(
                worker.number, broken(f"The pool was ended by {self._ended_by()}."))
        elif not self._replace or state == FAILED:
            exception = self._break(death.sentence(), death.cause())
            engine._bury(worker.number, exception)
        else:
            crew.processes.pop(worker.pid, None)
            engine._bury(worker.number, death.crashed() if names else None)
            self._count_failure(death)

    def _ended_by(self) -> str:
        return f"{self._forced}()" if self._forced else "an interrupt"

    def _left_by_itself(self, worker: Worker, death: Death) -> bool:
        if death.functions or death.state == FAILED:
            return False
        if worker.retiring:
            return True
        return self.crew.closing and (death.exitcode == 0 or not self._engine._queued())

    def _count_failure(self, death: Death) -> None:
        """After a death that is to be made good for: not for ever, if it took no task."""
        crew = self.crew
        if death.functions or death.state == WORKED:
            self._failures = 0
            return
        if death.state == READY and not self._engine._queued():
            return      # it had nothing to do, and somebody killed it
        self._failures += 1
        if self._failures < _TRIES:
            return
        if crew.active():
            # Those that run go on; no more are started.
            with crew.lock:
                crew.limit = crew.active()
                crew.tell_limit()
            LOGGER.error("%d worker processes in a row died before they took a task; the "
                         "pool goes on with %d. %s", self._failures, crew.limit,
                         death.sentence())
        else:
            self._break(
                f"{self._failures} worker processes in a row died before they took a task. "
                f"{death.sentence()}", death.cause())

    def _break(self, reason: str, cause: BaseException | None = None) -> BrokenProcessPool:
        """Fail everything and end the others; returns what all have failed with."""
        self._broken = True
        self.crew.closing = True
        exception = broken(reason, cause)
        self._engine._break(exception, f"{USELESS}. {reason}")
        self.crew.signal(signal.SIGTERM)
        self._plan(_KILL_AFTER, lambda: self.crew.signal(signal.SIGKILL))
        return exception

    def _give_up(self, error: BaseException) -> None:
        self._break(f"The pool's manager failed: {error!r}", error)
        self.crew.signal(signal.SIGKILL)
        for worker in list(self.crew.workers.values()):
            worker.process.join()
            self._engine._bury(worker.number, None)
            self.crew.remove(worker)

    # ---- those that do not end ----

    def _interrupt_tasks(self) -> None:
        with self.crew.lock:
            for worker in self.crew.workers.values():
                if self._engine._names(worker.number):
                    worker.signal(signal.SIGINT)

    def _plan(self, seconds: float, step: Callable[[], None]) -> None:
        self._steps.append((time.monotonic() + seconds, step))
        self._steps.sort(key=lambda planned: planned[0])

    def _timeout(self) -> float | None:
        if not self._steps:
            return None
        return max(0.0, self._steps[0][0] - time.monotonic())

    def _do_steps(self) -> None:
        while self._steps and self._steps[0][0] <= time.monotonic():
            self._steps.pop(0)[1]()


# ---- the interpreter's exit, and forked children ----


def interpreter_exits() -> bool:
    """Whether it is too late to start anything."""
    return _exiting


def _python_exit() -> None:
    """Finish what is queued in every pool, before the interpreter takes things down."""
    global _exiting
    _exiting = True
    # A program that Ctrl-C ended does not want its queue done.
    interrupted = not hasattr(sys, "ps1") and issubclass(
        getattr(sys, "last_type", None) or type(None), KeyboardInterrupt)
    managers = list(_managers)
    for manager in managers:
        if interrupted:
            manager.interrupt()
        else:
            manager.crew.close(False)
    try:
        for manager in managers:
            manager.join()
    except BaseException:
        # Ctrl-C again, while we wait: now.
        for manager in managers:
            manager.interrupt()
            manager.crew.signal(signal.SIGKILL)
        for manager in managers:
            manager.join()
        raise


def _after_fork() -> None:
    """In a forked child: the workers and their managers are the parent's."""
    for manager in list(_managers):
        manager.forget()
    _managers.clear()
    for crew in list(crews):
        crew.forget()


# Before non-daemon threads are joined and atexit callbacks run, as in the standard library.
threading._register_atexit(_python_exit)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
