"""Other libraries, each behind the same few names: one file a library.

A file has `DISTRIBUTION`, the name of the package on the index (None: no package of its
own), `ADVICE`, how its own documentation has it used, which is how the file uses it, and
`Processes`, `Threads` or both: subclasses of `contract.Pool`. A library is imported by its
file, so that what is not installed is found out when its file is imported.
"""
from __future__ import annotations

import importlib
import importlib.metadata
import time
from types import ModuleType, SimpleNamespace

from proc_impls import NotInstalled

# The name in the tables -> the file, in the order of the columns.
PROCESSES = {
    "cfutures": "ours", "std": "standard", "mp.Pool": "mp_pool", "loky": "loky_",
    "joblib": "joblib_", "pebble": "pebble_", "mpire": "mpire_", "dask": "dask_",
    "ray": "ray_",
}
THREADS = {
    "cfutures": "ours", "std": "standard", "mp.ThreadPool": "mp_pool", "joblib": "joblib_",
    "pebble": "pebble_", "mpire": "mpire_", "dask": "dask_",
}
COLUMNS = {"peers": PROCESSES, "peer-threads": THREADS}
POOLS = {"peers": "Processes", "peer-threads": "Threads"}


def load(name: str, kind: str) -> SimpleNamespace:
    """What a row of this kind uses: `pool`, the class; `import_ms`, of the library.

    NotInstalled says why the library cannot be had here.
    """
    if name == "floor":
        return SimpleNamespace()
    start = time.perf_counter()
    try:
        module = _module(COLUMNS[kind][name])
    except ImportError as why:
        raise NotInstalled(f"not installed ({why})") from why
    spent = (time.perf_counter() - start) * 1e3
    return SimpleNamespace(pool=getattr(module, POOLS[kind]), import_ms=spent)


def facts(kind: str) -> dict[str, dict[str, str]]:
    """By name in the tables: "version" and "advice", or "missing", why it is not there."""
    found = {}
    for name, file in COLUMNS[kind].items():
        try:
            module = _module(file)
        except ImportError as why:
            found[name] = {"missing": str(why)}
        else:
            found[name] = {"version": _version(module.DISTRIBUTION), "advice": module.ADVICE}
    return found


def _module(file: str) -> ModuleType:
    return importlib.import_module(f"peers.{file}")


def _version(distribution: str | None) -> str:
    """Of the installed package; "" for what comes with the interpreter."""
    return importlib.metadata.version(distribution) if distribution else ""
