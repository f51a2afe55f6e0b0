"""What a worker leaves for its parent to read when it is dead.

One anonymous file a pool, with a region for each worker: a byte that says how far it
came, then text: the traceback of a failed initializer, or the stack that faulthandler
wrote when the worker crashed.  The file is sparse, so a region that was never written
takes no memory.

    STARTING --ready for tasks--> READY --began a task--> WORKED
        +-----initializer raised--> FAILED
"""
from __future__ import annotations

import os

__all__ = ["FAILED", "READY", "STARTING", "WORKED", "Report", "Reports"]

STARTING, READY, WORKED, FAILED = range(4)

_REGION = 1 << 20       # bytes a worker may write
_SHOWN = 1 << 16        # bytes of it that are read


class Reports:
    """The parent's side: the file of a pool.  `fd` is its descriptor."""

    def __init__(self) -> None:
        """Make the file; raises OSError if there is no descriptor or memory left."""
        self.fd = os.memfd_create("cfutures-reports")

    def clear(self, number: int) -> None:
        """Empty the region of worker `number`, for a new process."""
        at = number * _REGION
        used = len(os.pread(self.fd, _SHOWN, at).rstrip(b"\0"))
        if used:
            os.pwrite(self.fd, bytes(used), at)

    def read(self, number: int) -> tuple[int, str]:
        """How far worker `number` came, and what it wrote."""
        data = os.pread(self.fd, _SHOWN, number * _REGION)
        if not data:
            return STARTING, ""
        return data[0], data[1:].partition(b"\0")[0].decode("utf-8", "replace")

    def close(self) -> None:
        """Give the file back; workers that still run keep it until they end."""
        os.close(self.fd)


class Report:
    """A worker's side: its own region.

    `crash_fd` is what faulthandler may write to: a descriptor with a position of its own
    (a shared one would let workers write over each other), or None if there is none.
    """

    def __init__(self, fd: int, number: int) -> None:
        self._fd = fd
        self._at = number * _REGION
        self.crash_fd: int | None = None
        try:
            own = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return      # no /proc here: the parent will know the signal, not the stack
        os.lseek(own, self._at + 1, os.SEEK_SET)
        self.crash_fd = own

    def say(self, state: int, text: str = "") -> None:
        """Write how far this worker has come, with a text if there is one."""
        data = bytes([state]) + text.encode("utf-8", "replace")[:_SHOWN - 2]
        os.pwrite(self._fd, data, self._at)
