"""Queue: first in, first out, between processes, in shared memory.

The interface is that of ``multiprocessing.Queue``.  What is different:

* No thread and no pipe: put() puts, and raises if the object cannot be pickled; what was put
  is there for get() in any process at once, in the order in which it was put, whoever put it.
* A process that is killed in the middle of a put() or a get() blocks nobody.  What it was
  putting is not in the queue, what it was taking is gone with it.
* A queue can be given to a task of a process pool, and be put in another queue.
* Arrays of 64 KiB and more are shared memory: copied once when they are put, not at all
  when they are taken out.
* Classes and functions of ``__main__`` arrive as those of the same name, or, where
  ``__main__`` has none, by value.
"""
from __future__ import annotations

import errno
import os
import queue as _standard
import sys
import types
from collections.abc import Callable
from multiprocessing import context, reduction
from typing import Any

from cfutures import _core, _pickle
from cfutures._core import Reducer

__all__ = ["Queue"]


class Queue(_core.Queue):
    """A queue between processes, with the interface of multiprocessing.Queue."""

    _home: tuple[int, int]

    def __init__(self, maxsize: int = 0, *, ctx: context.BaseContext | None = None) -> None:
        """Make a queue.

        maxsize: how many objects it holds at most; 0 or less: as many as there is memory
        for.  ctx: taken for the sake of programs that give one, and not used.

        Give it to processes as an argument (of a Process, an initializer, a task), or let
        them inherit it.  Raises OSError if there is no memory or no descriptor for it.
        """
        self._create(maxsize)
        #: A process that has it, and its descriptor there: whoever made it.
        self._home = os.getpid(), self._descriptor()[0]

    __class_getitem__: Any = classmethod(types.GenericAlias)

    def join_thread(self) -> None:
        """Nothing: there is no thread, what was put is in the queue."""

    def cancel_join_thread(self) -> None:
        """Nothing: there is no thread to wait for."""

    def __reduce__(self) -> tuple[Any, ...]:
        fd, device, inode = self._descriptor()
        cls = type(self)
        if context.get_spawning_popen() is not None:
            return _receive, (cls, self._home, reduction.DupFd(fd))
        return _find, (cls, self._home, (os.getpid(), fd), device, inode)

    def __repr__(self) -> str:
        bound = f" maxsize={self._maxsize}" if self._maxsize else ""
        if not hasattr(self, "_home"):
            state = "not open"
        else:
            state = "closed" if self._closed else f"{self.qsize()} waiting"
        return f"<{type(self).__name__}{bound} at {id(self):#x}: {state}>"


def _receive(cls: type[Queue], home: tuple[int, int], passed: Any) -> Queue:
    """The queue of a descriptor that was passed on when this process was started."""
    return _attached(cls, home, passed.detach())


def _find(cls: type[Queue], home: tuple[int, int], sender: tuple[int, int], device: int,
          inode: int) -> Queue:
    """The queue that its sender and its maker have, or had, open."""
    queue = cls.__new__(cls)
    if queue._reopen(device, inode):
        queue._home = home
        return queue
    for pid, fd in (sender, home):
        # What is there may be another file by now, if the process is the same at all.
        try:
            own = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            continue
        found = os.fstat(own)
        if (found.st_dev, found.st_ino) == (device, inode):
            return _attached(cls, home, own)
        os.close(own)
    raise OSError(
        errno.ESTALE, f"the queue cannot be received: neither process {sender[0]}, which sent "
        f"it, nor process {home[0]}, which made it, has it any more")


def _attached(cls: type[Queue], home: tuple[int, int], fd: int) -> Queue:
    try:
        queue = cls.__new__(cls)
        queue._attach(fd)
        queue._home = home
        return queue
    finally:
        os.close(fd)


# ---- what is in __main__ ----


def _reduce(pickler: _pickle.Pickler, obj: Any) -> Any:
    """How an item's pickler writes what is not a plain builtin value."""
    reduced = _pickle._reduce(pickler, obj)
    if (isinstance(obj, (types.FunctionType, type)) and isinstance(reduced, tuple)
            and len(reduced) == 2 and obj.__module__ in _pickle.MAIN_NAMES):
        from cfutures import _byvalue

        if _byvalue.is_in_main(obj):
            return _in_main, (isinstance(obj, type), obj.__qualname__, *reduced)
    return reduced


def _in_main(is_class: bool, name: str, make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """What ``__main__`` has under that name here; else the sender's, by value."""
    found: Any = sys.modules["__main__"]
    for step in name.split("."):
        found = getattr(found, step, None)
    kind = type if is_class else types.FunctionType
    return found if isinstance(found, kind) else make(*args)


class _ItemPickler(_pickle.Pickler):
    reducer_override: Any = Reducer(
        _reduce, (_pickle._FORKING, _pickle.REDUCERS), _pickle.MAIN_NAMES)


_core._configure(
    pickler=_pickle.pickler,
    loads=_pickle.loads,
    queue_pickler=_ItemPickler,
    queue_full=_standard.Full,
    queue_empty=_standard.Empty,
)
