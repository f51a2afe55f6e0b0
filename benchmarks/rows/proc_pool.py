"""How rows make process pools, the same for every implementation."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def make(lib: SimpleNamespace, workers: int, method: str = "fork", **options: Any) -> Any:
    """An executor with so many workers, started by this start method.

    The method is always named: what is the default differs between Pythons.
    """
    import multiprocessing  # here, so that rows about threads do without it

    return lib.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method),
                                   **options)
