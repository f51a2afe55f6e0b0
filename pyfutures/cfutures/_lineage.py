"""Which process this is to those that it exchanges code with, and what it was sent.

Kept apart from what makes and opens code by value (_byvalue), and light: a forked child
must know how it began even if its parent had sent no code by then, and a worker that is
sent nothing by value does without the rest.
"""
from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Hashable, Sequence
from typing import Any

#: The same in a process and its forked children.
FAMILY = os.urandom(16)

#: In a forked child: the names in ``__main__`` and the addresses of their values as it began.
inherited: dict[str, int] = {}

#: Which value of a global, which state of a class was set here last because another process
#: sent it: key -> digest (None: it was sent that there is none).
_applied: dict[Hashable, bytes | None] = {}

#: Globals of ``__main__`` that were not sent, and why.
not_sent: dict[str, str] = {}

#: Holds another object after each change of what is applied: who finds it unchanged need
#: not compare.  The C core looks at it, too.
EPOCH = [0]


def main_namespace() -> dict[str, Any]:
    """The globals of ``__main__``."""
    return vars(sys.modules["__main__"])


def is_from_parent(sender: int) -> bool:
    """Whether the process with this number is the one that started this worker."""
    parent = multiprocessing.parent_process()
    return parent is not None and parent.pid == sender


def is_applied(key: Hashable, digest: bytes | None) -> bool:
    """Whether that is what was applied last under `key`."""
    return key in _applied and _applied[key] == digest


def was_applied(key: Hashable) -> bool:
    """Whether anything was ever applied under `key`."""
    return key in _applied


def apply(key: Hashable, digest: bytes | None) -> None:
    """Note what is applied now."""
    _applied[key] = digest
    EPOCH[0] += 1


def forget(key: Hashable) -> None:
    """What was applied under `key` is gone."""
    _applied.pop(key, None)


# ---- what something that was loaded relies on ----

_loading = threading.local()


def need(key: Hashable, digest: bytes | None) -> None:
    """What is being loaded just now relies on this being applied."""
    needs = getattr(_loading, "needs", None)
    if needs is not None:
        needs[key] = digest


def beside(first: int, last: int) -> Sequence[Any]:
    """What was sent beside the pickle that is being loaded."""
    found: Sequence[Any] = _loading.beside[first:last]
    return found


class Loaded:
    """What came out of a pickle, and what its loading applied.

    So it can be seen whether that still holds.

    beside: buffers that the pickle mentions; they are not used afterwards.
    """

    def __init__(self, data: Any, beside: Sequence[Any] = ()) -> None:
        outer = getattr(_loading, "needs", None)
        self.needs: dict[Hashable, bytes | None] = {}
        _loading.needs = self.needs
        _loading.beside = beside
        try:
            self.value: Any = pickle.loads(data)
        finally:
            _loading.needs = outer
            _loading.beside = ()
        if outer is not None:
            outer.update(self.needs)
        self.epoch = EPOCH[0]

    def is_current(self) -> bool:
        """Whether globals and classes here are as this load made them.

        False if something else was sent since: then it must be loaded again.
        """
        if self.epoch != EPOCH[0]:
            if not all(is_applied(key, digest) for key, digest in self.needs.items()):
                return False
            self.epoch = EPOCH[0]
        return True


# ---- telling ----


def explain(exc: BaseException) -> None:
    """Say with a NameError that the name exists, but could not be sent."""
    if isinstance(exc, NameError) and exc.name in not_sent:
        exc.add_note(not_sent[exc.name])


# ---- forks ----


# What the next child inherits.  The parent looks, since in the child each page would first
# have to be copied that holds one of the values.
_passed_on: dict[str, int] = {}


def _before_fork() -> None:
    global _passed_on
    _passed_on = {name: id(value) for name, value in main_namespace().items()}


def _after_fork() -> None:
    global inherited
    _applied.clear()
    not_sent.clear()
    EPOCH[0] += 1
    inherited = _passed_on


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
