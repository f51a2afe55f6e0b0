"""`%load_ext cfutures`: concurrent.futures is cfutures in this IPython session."""
from __future__ import annotations

from typing import Any

import cfutures
from cfutures import _install

__all__ = ["load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(shell: Any) -> None:
    """Call install(), and renew what earlier cells imported.

    A notebook's imports usually stand above `%load_ext`: variables of the session that
    hold a standard class or function of concurrent.futures are given ours.
    """
    _install.install()
    _rebind(shell.user_ns, [(standard, getattr(cfutures, name))
                            for name, standard in _install.STANDARD.items()])


def unload_ipython_extension(shell: Any) -> None:
    """Undo load_ipython_extension(); names imported from cfutures itself stay."""
    _install.uninstall()
    _rebind(shell.user_ns, [(getattr(cfutures, name), standard)
                            for name, standard in _install.STANDARD.items()])


def _rebind(namespace: dict[str, Any], pairs: list[tuple[object, object]]) -> None:
    for name, value in list(namespace.items()):
        for old, new in pairs:
            if value is old:
                namespace[name] = new
