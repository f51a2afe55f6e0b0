"""Python's signal handlers wait while something must not be left half done."""
from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["DeferredSignals"]

# Those for which programs have handlers; to look at all takes as long as half a fork.
# SIGINT first and, when they are put back, last: from then on nothing raises.
_SIGNALS = tuple(getattr(signal, name) for name in (
    "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGUSR1",
    "SIGUSR2", "SIGCHLD", "SIGWINCH", "SIGTSTP", "SIGCONT") if hasattr(signal, name))


class DeferredSignals:
    """A block in which no Python signal handler runs; those that were due run after it.

    Between fork() and the line that notes the new process, a handler that raises (Ctrl-C)
    would leave a process that nobody knows.  Python runs handlers in the main thread only,
    so in another thread this does nothing.  `due` is true once a signal has come: who
    does many things in the block should then stop.

    Signals whose handlers are not Python's (ignored, default) are left as they are.
    """

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._due: list[int] = []

    @property
    def due(self) -> bool:
        """Whether a signal has come in this block."""
        return bool(self._due)

    def __enter__(self) -> DeferredSignals:
        if threading.current_thread() is threading.main_thread():
            try:
                for number in _SIGNALS:
                    handler = signal.getsignal(number)
                    if callable(handler):
                        self._before[number] = handler
                        signal.signal(number, self._note)
            except ValueError:
                self._before.clear()    # a subinterpreter: its main thread gets no signals
            except BaseException:
                self.restore()
                raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        handlers = dict(self._before)
        self.restore()
        self._run_due(handlers)

    def forget(self, number: int) -> None:
        """Do not put the handler of this signal back."""
        self._before.pop(number, None)

    def restore(self) -> None:
        """Put the handlers back without running any: for a forked child, too."""
        while self._before:
            number, handler = next(reversed(self._before.items()))
            signal.signal(number, handler)
            self._before.pop(number, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._due.append(number)

    def _run_due(self, handlers: dict[int, Callable[[int, FrameType | None], Any]]) -> None:
        while self._due:
            number = self._due.pop(0)
            try:
                handlers[number](number, sys._getframe())
            except BaseException:
                self._run_due(handlers)
                raise
