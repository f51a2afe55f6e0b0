"""Says in one sentence what to do when this kernel lacks what the lectures need.

A notebook imports it first.  It does nothing as long as nothing is missing: Python asks
it only for modules that it found nowhere else.
"""

from __future__ import annotations

import shlex
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).resolve().parents[1]
# Modules the notebooks import, and where they come from.
PACKAGES = {"cfutures": "cfutures", "matplotlib": "matplotlib", "numpy": "numpy",
            "pandas": "pandas", "PIL": "Pillow", "requests": "requests",
            "tables": "PyTables", "tqdm": "tqdm"}


class _Adviser(MetaPathFinder):
    """The last finder that is asked; gives advice instead of a bare name."""

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> None:
        if name in PACKAGES:
            raise ModuleNotFoundError(advice(PACKAGES[name]), name=name)
        if name == "cfutures._core":
            raise ModuleNotFoundError(advice("cfutures that is compiled for it"), name=name)


def advice(package: str) -> str:
    """What to do where a package is missing, as one sentence."""
    python = ".".join(map(str, sys.version_info[:2]))
    install = shlex.join([sys.executable, "-m", "pip", "install", "-e", f"{PROJECT}[lectures]"])
    return (f"this kernel, Python {python}, has no {package}: run `make lab` in {PROJECT}, "
            "which opens the lectures with all they need, or install it for this kernel with "
            f"`{install}` and restart the kernel")


# Importing this module again, or in a worker process, must not ask twice.
if not any(type(finder).__name__ == _Adviser.__name__ for finder in sys.meta_path):
    sys.meta_path.append(_Adviser())
