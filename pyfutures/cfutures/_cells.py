"""Definitions: functions that travel once.

A pool sends a function as a *definition*, bytes that a worker loads once and then finds by
number.  :func:`describe` makes the bytes; the C core calls it when it does not know a
function, when something that the bytes depend on has changed, and for each task of a
function that reads something which can change in place.

What a task sees of the globals that its function reads (and of those that functions and
classes which it uses read):

* The value that they had when the task was submitted, also if it is a list or an array that
  has changed in place since the last task: such values are looked through at each submit.
  Large data that does not change is better an argument, or an array that cannot be
  written to (``a.flags.writeable = False``).
* Unless the worker itself has assigned the name (an initializer, an earlier task): then its
  assignment stands, until the value in the parent changes.  What a task changes in place
  stays in its worker, too.
* Modules are imported by the worker; their attributes are as the worker finds them.
* Names that the code does not mention, as in ``globals()[name]`` or ``eval()``, are not
  sent; they are as the worker inherited them, if it did.
* Attributes that were set on a function or a class later (``C.x = 5``) are sent.
"""
from __future__ import annotations

import functools
import struct
import sys
import time
import types
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cfutures import _lineage
from cfutures._chunks import name_of_partial
from cfutures._pickle import _LruCache, dumps, importable

if TYPE_CHECKING:
    from cfutures._survey import Check, Survey

__all__ = ["describe", "load", "load_definition", "travelling"]

_CHECK_ITEM, _CHECK_CLASS_ITEM = 0, 8       # csrc/procs/checks.h
_HEAP_TYPE = 1 << 9                         # Py_TPFLAGS_HEAPTYPE

#: bytes or parts of them (None: as last time), checks, volatile, name,
#: survey (None: it goes by reference)
Description = tuple["bytes | tuple[Any, ...] | None", "list[Check]", bool, str, "Survey | None"]


def describe(fn: Callable[..., Any], last: Survey | None = None,
             checked: bool = False) -> Description | Survey | None:
    """What a worker needs to have `fn`, as of now.

    fn: what is to be called.  last: the survey of the last description, if there was one.
    checked: the last description was volatile, and all of its checks hold.

    Returns None if `fn` has to be pickled with each task: instances, bound methods, partial
    objects that hold anything which a task could change.  Returns `last` if the last
    description is true.  Else a tuple: the bytes for load_definition(), in one or several
    pieces, or None if they are those of the last time; what must stay as it is for them to
    be true, as (kind, container, key, value); whether, with all that, it must be described
    again for each task; its qualified name; its survey.

    Raises what pickling raises.
    """
    kind = type(fn)
    if kind is types.FunctionType or kind is _LruCache or (
            isinstance(fn, type) and fn.__flags__ & _HEAP_TYPE):
        if importable(fn):
            return _by_reference(fn)
        return _by_value(fn, last, checked)
    if kind is functools.partial:
        return _partial(fn, last, checked)
    if isinstance(fn, type) or kind in _PLAIN or _is_global(fn):
        return _by_reference(fn)
    return None


_PLAIN = (types.MethodDescriptorType, types.WrapperDescriptorType,
          types.ClassMethodDescriptorType)


def _is_global(fn: Any) -> bool:
    """A function of C code that is pickled by its name."""
    kind = type(fn)
    if kind is types.BuiltinFunctionType:
        return importable(fn)
    if kind.__module__ == "numpy" and kind.__name__ == "ufunc":
        return True
    # Cython's functions reduce to their name.
    return kind.__name__ == "cython_function_or_method" and importable(fn)


def _name(fn: Any) -> str:
    if type(fn) is functools.partial:
        return _name(name_of_partial(fn))
    name = getattr(fn, "__qualname__", None) or getattr(fn, "__name__", None)
    return name if isinstance(name, str) else type(fn).__qualname__


def _by_reference(fn: Any) -> Description:
    return dumps(fn), _path_checks(fn), False, _name(fn), None


def _path_checks(fn: Any) -> list[Check]:
    """That `fn` is still what its module has under its name, step by step."""
    name = getattr(fn, "__module__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or not hasattr(fn, "__qualname__"):
        return []
    checks: list[Check] = [(_CHECK_ITEM, sys.modules, name, module)]
    holder: Any = module
    for step in fn.__qualname__.split("."):
        if isinstance(holder, type):
            owner = next((c for c in holder.__mro__ if step in vars(c)), None)
            if owner is not None:
                checks.append((_CHECK_CLASS_ITEM, owner, step, vars(owner)[step]))
        elif step in vars(holder):
            checks.append((_CHECK_ITEM, vars(holder), step, vars(holder)[step]))
        holder = getattr(holder, step, None)
    return checks


def _partial(fn: Any, last: Survey | None, checked: bool) -> Description | Survey | None:
    from cfutures._survey import CHECK_ITEM, CHECK_SIZE, unchanging

    held = (fn.func, fn.args, tuple(fn.keywords.values()))
    if not unchanging(held) or vars(fn):
        return None
    description = _by_value(fn, last, checked)
    if type(description) is tuple:
        description[1].append((CHECK_SIZE, fn.keywords, None, len(fn.keywords)))
        description[1].extend(
            (CHECK_ITEM, fn.keywords, key, value) for key, value in fn.keywords.items())
    return description


def _by_value(fn: Any, last: Survey | None, checked: bool) -> Description | Survey:
    from cfutures._survey import Survey

    if last is not None and checked and _is_still_true(last, fn):
        return last
    try:
        survey = Survey(fn)
        if last is not None:
            survey.seconds = last.seconds
        data = _parts(fn, survey) if last is None or last.digest != survey.digest else None
    except Exception:
        reference = _main_reference(fn)
        if reference is None:
            raise
        return reference
    checks = survey.checks
    survey.forget()
    return data, checks, survey.volatile, _name(fn), survey


#: Seconds that all looks at one function's globals may take before the user is told.
PATIENCE = 1.0


def _is_still_true(survey: Survey, fn: Any) -> bool:
    before = survey.seconds
    start = time.perf_counter()
    answer = survey.still_true(fn)
    survey.seconds += time.perf_counter() - start
    if before <= PATIENCE < survey.seconds and survey.large:
        names = " and ".join(map(repr, survey.large))
        warnings.warn(
            f"before each task, {_name(fn)}() needs {survey.seconds - before:.3f} s to see "
            f"whether the global {names} that it reads has changed; if it does not, give it "
            f"as an argument, or make an array read-only (a.flags.writeable = False)",
            stacklevel=4)
    return answer


def _main_reference(fn: Any) -> Description | None:
    """As the standard library would, for a worker that has it in ``__main__`` already."""
    from cfutures import _byvalue

    if not _byvalue.is_in_main(fn):
        return None
    return dumps(_byvalue.MainReference(fn)), _path_checks(fn), False, _name(fn), None


# A pickle alone, which begins with b"\x80"; or, if there are buffers beside it: this, their
# number and that of the pickle together, the size of each, and then they themselves.
_WITH_BUFFERS = b"B"
_COUNT = struct.Struct("=cQ")


def _parts(fn: Any, survey: Survey) -> bytes | tuple[Any, ...]:
    if survey.is_reference:
        return dumps(fn)
    from cfutures import _byvalue

    beside: list[Any] = []
    data = _byvalue.dump(fn, survey, beside)
    if not beside:
        return data
    parts = [memoryview(part) for part in (data, *beside)]
    sizes = struct.pack(f"={len(parts)}Q", *(part.nbytes for part in parts))
    return _COUNT.pack(_WITH_BUFFERS, len(parts)) + sizes, *parts


def _unpack(data: Any) -> list[Any]:
    """The pickle, and the buffers beside it."""
    view = memoryview(data)
    if bytes(view[:1]) != _WITH_BUFFERS:
        return [view]
    _, count = _COUNT.unpack_from(view)
    sizes = struct.unpack_from(f"={count}Q", view, _COUNT.size)
    at = _COUNT.size + struct.calcsize(f"={count}Q")
    parts = []
    for size in sizes:
        parts.append(view[at:at + size])
        at += size
    return parts


def load_definition(data: Any) -> Any:
    """Make a function again, in a worker.

    data: the bytes of a description.  Returns the function, or a tuple: the function; what
    to call, without arguments, before the function is used again after anything else was
    loaded (a false answer means that it must be loaded again); a list whose item is another
    object if there was anything.
    """
    pickled, *beside = _unpack(data)
    loaded = _lineage.Loaded(pickled, beside)
    fn = loaded.value
    loaded.value = None
    return (fn, loaded.is_current, _lineage.EPOCH) if loaded.needs else fn


def load(data: Any) -> Any:
    """As load_definition(), the function alone."""
    loaded = load_definition(data)
    return loaded[0] if type(loaded) is tuple else loaded


class Travelling:
    """A function that is made when it is called, in the process that calls it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __call__(self, *args: Any) -> Any:
        return load(self._data)(*args)


def travelling(fn: Callable[..., Any], forked: bool) -> Callable[..., Any]:
    """What to give to a new process as its initializer instead of `fn`.

    forked: it will be a fork of this one.

    It must be called in that process, and not be made there before its time.  A forked
    process needs it as well: what an initializer assigns to globals must be told from
    what the parent has assigned, and that is known of globals that were sent.
    """
    try:
        description = describe(fn)
        if isinstance(description, tuple) and description[0] is not None:
            data = description[0]
            return Travelling(b"".join(data) if isinstance(data, tuple) else data)
        # With its state: a forked process has that itself.
        return fn if forked else Travelling(dumps(fn))
    except Exception:
        # multiprocessing's own way of pickling can do more (locks), and its error is the
        # one to raise.
        return fn
