"""The queues between processes that are compared: `Queue()` of each, with put() and get()."""
from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from types import SimpleNamespace

from proc_impls import NotInstalled

# The start method is named: what is the default differs between Pythons.
FORK = multiprocessing.get_context("fork")


def standard() -> SimpleNamespace:
    """multiprocessing.Queue."""
    return SimpleNamespace(Queue=FORK.Queue)


def cfutures() -> SimpleNamespace:
    """The project's."""
    try:
        from cfutures import Queue
    except ImportError as why:
        raise NotInstalled(f"cfutures.Queue: {why}") from why
    return SimpleNamespace(Queue=Queue)


def simple() -> SimpleNamespace:
    """multiprocessing.SimpleQueue: a pipe and two locks, no thread, no bound, no time limit."""
    return SimpleNamespace(Queue=lambda maxsize=0: FORK.SimpleQueue())


LOADERS: dict[str, Callable[[], SimpleNamespace]] = {
    "std": standard,
    "control": standard,
    "cfutures": cfutures,
    "mp.SimpleQueue": simple,
    "floor": SimpleNamespace,
}
PEERS = ("mp.SimpleQueue",)
