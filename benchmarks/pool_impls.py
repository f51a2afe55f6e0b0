"""The pools with multiprocessing.Pool's methods that are compared: `Pool(processes)`."""
from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from types import SimpleNamespace

from proc_impls import NotInstalled

# The start method is named: what is the default differs between Pythons.
FORK = multiprocessing.get_context("fork")


def standard() -> SimpleNamespace:
    """multiprocessing.Pool."""
    return SimpleNamespace(Pool=FORK.Pool)


def cfutures() -> SimpleNamespace:
    """The project's."""
    try:
        from cfutures import Pool
    except ImportError as why:
        raise NotInstalled(f"cfutures.Pool: {why}") from why
    return SimpleNamespace(Pool=lambda processes: Pool(processes, context=FORK))


LOADERS: dict[str, Callable[[], SimpleNamespace]] = {
    "std": standard,
    "control": standard,
    "cfutures": cfutures,
    "floor": SimpleNamespace,
}
