"""What functions and classes are made of: code objects, with their source, and the like.

The source of a cell is in no file.  It travels with the code, so that a traceback in a
worker shows the line that failed.
"""
from __future__ import annotations

import linecache
import multiprocessing
import types
from collections import OrderedDict
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

__all__ = ["cloudpickle_reduce", "reduce_code"]

_table = cloudpickle.Pickler.dispatch_table


def cloudpickle_reduce(obj: Any) -> Any:
    """Reduce with cloudpickle's table."""
    return _table[type(obj)](obj)


_MOST_SOURCES = 1000
#: By file name: linecache's entry, and what is sent for it.
_sources: dict[str, tuple[Any, str]] = {}
#: By file name: the source that came from elsewhere, the oldest first.
_received: OrderedDict[str, str] = OrderedDict()


def reduce_code(code: types.CodeType) -> Any:
    """A code object, with its source if that is in no file."""
    make, args = _table[types.CodeType](code)
    source = _source(code.co_filename)
    if source is None:
        return make, args
    return _make_code, (args, code.co_filename, source)


def _source(filename: str) -> str | None:
    """The text of a cell, or of what else linecache knows but no file has."""
    entry = linecache.cache.get(filename)
    if entry is None or len(entry) == 1 or entry[1] is not None:
        return None
    known = _sources.get(filename)
    if known is None or known[0] is not entry:
        if len(_sources) >= _MOST_SOURCES:
            _sources.clear()
        known = _sources[filename] = (entry, "".join(entry[2]))
    return known[1]


def _make_code(args: tuple[Any, ...], filename: str, source: str) -> types.CodeType:
    if _received.get(filename) != source and _may_be_replaced(filename):
        linecache.cache[filename] = (
            len(source), None, source.splitlines(keepends=True), filename)
        _received[filename] = source
        if len(_received) > _MOST_SOURCES:
            linecache.cache.pop(_received.popitem(last=False)[0], None)
    return types.CodeType(*args)


def _may_be_replaced(filename: str) -> bool:
    """Not what this process knows from its own cells; a fork's are those of its parent."""
    return filename not in linecache.cache or filename in _received or (
        multiprocessing.parent_process() is not None)
