"""The words and exceptions for a worker process that died."""
from __future__ import annotations

import os
import signal
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback

from cfutures import _report

__all__ = ["BROKEN", "USELESS", "BrokenProcessPool", "Death", "TransferError", "WorkerCrashed",
           "broken", "transfer_failed"]

#: The standard library's sentences, on which programs may rely.
BROKEN = ("A process in the process pool was terminated abruptly while the future was "
          "running or pending.")
USELESS = ("A child process terminated abruptly, the process pool is not usable anymore")


class WorkerCrashed(BrokenProcessPool):
    """The process that ran a task died; only this task is lost (on_crash="replace").

    Attributes
    ----------
    pid: the process's number.
    signal: the signal that killed it (signal.Signals), or None.
    exitcode: its exit code, negative for a signal as in multiprocessing; None if unknown.
    function: the qualified name of the function that it ran, or None.
    stack: the Python stack at the crash as faulthandler wrote it; "" if it could not.
    """

    pid: int | None = None
    signal: signal.Signals | None = None
    exitcode: int | None = None
    function: str | None = None
    stack: str = ""


class TransferError(BrokenProcessPool):
    """A task, or what it returned, was pickled but could not be unpickled on arrival.

    Only this task is lost.  It is a BrokenProcessPool since the standard library's pool
    breaks as a whole there; the reason is the cause.
    """


def transfer_failed(what: str, error: BaseException) -> BaseException:
    """The exception for a task of which `what` arrived, but could not be unpickled."""
    exception = TransferError(
        f"{what} could not be unpickled: {type(error).__name__}: {error}")
    exception.__cause__ = error
    return exception


# How faulthandler names the frame below which nothing is the task's.
_MAIN = f'"{os.path.join(os.path.dirname(__file__), "_child.py")}", line '


def task_stack(text: str) -> str:
    """What faulthandler wrote, without what says nothing of the task.

    That is our own frames and all below them, which in a forked worker are the parent's,
    and the list of loaded extension modules.
    """
    kept = []
    below = False
    for line in text.splitlines(keepends=True):
        if not line.startswith("  File "):
            below = False       # another part begins: a C stack, say
        elif _MAIN in line and line.endswith(" in main\n"):
            below = True
        if not below and not line.startswith("Extension modules: "):
            kept.append(line)
    return "".join(kept).rstrip() + "\n" if kept else ""


class Death:
    """What is known of a worker that died.  No dataclass: these take long to import."""

    def __init__(
        self, pid: int, exitcode: int | None, functions: list[str], state: int, text: str
    ) -> None:
        """`functions`: those it was running; `state` and `text`: as in _report."""
        self.pid = pid
        self.exitcode = exitcode
        self.functions = functions
        self.state = state
        self.text = text

    @property
    def signal(self) -> signal.Signals | None:
        """The signal that killed it, if one did and Python has a name for it."""
        if self.exitcode is None or self.exitcode >= 0:
            return None
        try:
            return signal.Signals(-self.exitcode)
        except ValueError:      # a real-time signal
            return None

    def sentence(self) -> str:
        """One sentence: which process, how it ended, what it was doing."""
        if self.state == _report.FAILED:
            error = self.text.rstrip().rpartition("\n")[2]
            return f"The initializer raised an exception in process {self.pid}: {error}"
        return f"Process {self.pid} {self._how()} {self._when()}."

    def cause(self) -> BaseException:
        """What to give as the cause of the exception: exit code, and the remote stack."""
        text = f"Process {self.pid} terminated abruptly with exit code {self.exitcode}\n"
        # What it takes is text, whatever its type in typeshed.
        text = f"\n'''\n{text}{task_stack(self.text)}'''"
        return _RemoteTraceback(text)  # type: ignore[arg-type]

    def crashed(self) -> WorkerCrashed:
        """The exception for the task that the worker was running."""
        exception = WorkerCrashed(
            f"The process that ran this task was terminated abruptly. {self.sentence()}")
        exception.pid = self.pid
        exception.signal = self.signal
        exception.exitcode = self.exitcode
        exception.function = self.functions[0] if self.functions else None
        exception.stack = task_stack(self.text)
        exception.__cause__ = self.cause()
        return exception

    def _how(self) -> str:
        if self.exitcode is None:
            return "ended (nobody knows how: its exit status was collected elsewhere)"
        if self.exitcode >= 0:
            return f"ended with exit code {self.exitcode}"
        name = self.signal
        number = f"signal {-self.exitcode}"
        how = f"was killed by {number}" if name is None else (
            f"was killed by {name.name} ({number})")
        if name == signal.SIGKILL:
            how += ", perhaps by the system because memory ran out,"
        return how

    def _when(self) -> str:
        if self.functions:
            return f"while it ran {', '.join(self.functions)}"
        if self.state == _report.STARTING:
            return "before it was ready for tasks"
        return "while it was idle"


def broken(reason: str, cause: BaseException | None = None) -> BrokenProcessPool:
    """The exception for all pending futures of a broken pool."""
    exception = BrokenProcessPool(f"{BROKEN} {reason}")
    exception.__cause__ = cause
    return exception
