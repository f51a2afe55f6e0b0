"""`%load_ext cfutures`: what cfutures does for an IPython session.

    concurrent.futures is cfutures (_install.py)
    %cfutures shows the live pools
    exceptions of tasks that nobody asked for are logged (_unread.py)
"""
from __future__ import annotations

import importlib
from typing import Any

import cfutures
from cfutures import _install, _unread

__all__ = ["load_ipython_extension", "unload_ipython_extension"]

_MAGIC = "cfutures"

# What warn_unread() was before, while the extension is loaded.
_warned: bool | None = None


def load_ipython_extension(shell: Any) -> None:
    """Call install() and warn_unread(), renew what earlier cells imported, add %cfutures.

    A notebook's imports usually stand above `%load_ext`: variables of the session that
    hold a standard class or function of concurrent.futures are given ours.
    """
    global _warned
    _install.install()
    _rebind(shell.user_ns, [(standard, getattr(cfutures, name))
                            for name, standard in _install.STANDARD.items()])
    if _warned is None:
        _warned = _unread.warn_unread()
    shell.register_magic_function(_show_pools, "line", _MAGIC)


def unload_ipython_extension(shell: Any) -> None:
    """Undo load_ipython_extension(); names imported from cfutures itself stay."""
    global _warned
    _install.uninstall()
    _rebind(shell.user_ns, [(getattr(cfutures, name), standard)
                            for name, standard in _install.STANDARD.items()])
    if _warned is not None:
        _unread.warn_unread(_warned)
        _warned = None
    shell.magics_manager.magics["line"].pop(_MAGIC, None)


def _show_pools(line: str) -> None:
    """%cfutures: show the live pools, their workers, and what became of their tasks."""
    from cfutures._html_executor import pools_html, pools_text

    if line.strip():
        raise ValueError("%cfutures takes no arguments: it shows the live pools")
    # By its name: IPython is not among what a type checker need have.
    display: Any = importlib.import_module("IPython.display")
    display.display({"text/html": pools_html(), "text/plain": pools_text()}, raw=True)


def _rebind(namespace: dict[str, Any], pairs: list[tuple[object, object]]) -> None:
    for name, value in list(namespace.items()):
        for old, new in pairs:
            if value is old:
                namespace[name] = new
