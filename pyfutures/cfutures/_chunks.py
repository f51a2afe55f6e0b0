"""Several calls as one task: what map() with a chunksize submits, of executors and pools.

A task is a constant partial object, `partial(_each, fn)`, so that the function is shipped once
and not with every chunk; it is known by the name of the function in it.
"""
from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, TypeVar

__all__ = ["PLAIN", "chunked", "name_of_partial"]

_T = TypeVar("_T")

#: Iterables that have their items, so that taking one neither blocks nor runs foreign code.
PLAIN = frozenset({list, tuple, range, dict, set, frozenset, str, bytes})


def chunked(fn: Callable[..., Any], star: bool) -> functools.partial[list[Any]]:
    """What to submit with a chunk for its argument.

    star: the items of a chunk are the arguments of a call each, instead of its only one.
    """
    return (_kept if _is_global(fn) else functools.partial)(_star_each if star else _each, fn)


# To describe a new object for the workers takes as long as some hundred small tasks.
_kept = functools.lru_cache(maxsize=16)(functools.partial)


def _is_global(fn: Any) -> bool:
    """Whether its module keeps it: then we may as well."""
    return isinstance(fn, FunctionType) and getattr(
        sys.modules.get(fn.__module__), fn.__name__, None) is fn


def _each(fn: Callable[[Any], _T], chunk: Iterable[Any]) -> list[_T]:
    return list(map(fn, chunk))


def _star_each(fn: Callable[..., _T], chunk: Iterable[Iterable[Any]]) -> list[_T]:
    return list(itertools.starmap(fn, chunk))


def name_of_partial(partial: functools.partial[Any]) -> object:
    """The function that a partial object is known by."""
    if partial.func in (_each, _star_each) and partial.args:
        return partial.args[0]
    return partial.func
