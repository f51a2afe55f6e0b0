"""Definitions: functions that travel once.

A pool sends a function as a *definition*, bytes that a worker loads once and then finds by
number.  :func:`describe` makes the bytes; the C core calls it when it does not know a
function, when something that the bytes depend on has changed, and for each task of a
function that reads something which can change in place.

What a task sees of the globals that its function reads (and of those that functions and
classes which it uses read):

* The value that they had when the task was submitted, also if it is a list or an array that
  has changed in place since the last task: such values are looked through at each
  submit.  Large data that does not change is better an argument, or a read-only
  constant of an imported module.
* Unless the worker itself has assigned the name (an initializer, an earlier task): then its
  assignment stands, until the value in the parent changes.  What a task changes in place
  stays in its worker, too.
* Modules are imported by the worker; their attributes are as the worker finds them.
* Names that the code does not mention, as in ``globals()[name]`` or ``eval()``, are not
  sent; they are as the worker inherited them, if it did.
* Attributes that were set on a function or a class later (``C.x = 5``) are sent.
"""
from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

from cfutures._pickle import _LruCache, dumps, importable

Check = tuple[int, Any, Any, Any]
#: bytes, checks, volatile, name, digest (None: the checks tell everything)
Description = tuple[bytes, list[Check], bool, str, bytes | None]

_CHECK_ITEM, _CHECK_CLASS_ITEM = 0, 8       # csrc/procs/checks.h


def describe(fn: Callable[..., Any], digest: bytes | None = None) -> Description | bytes | None:
    """What a worker needs to have `fn`, as of now.

    fn: what is to be called.  digest: that of the last description, if there was one.

    Returns None if it has to be pickled with each task: instances, bound methods, partial
    objects.  Returns `digest` if that is what would come out again and `fn` is volatile.
    Else a tuple: the bytes for :func:`load_definition`; what must stay as it is for the
    bytes to be true, as (kind, container, key, value); whether it must be described again
    for each task; its qualified name; its digest.

    Raises what pickling raises.
    """
    kind = type(fn)
    if kind is types.FunctionType or isinstance(fn, type) or kind is _LruCache:
        if importable(fn) or (isinstance(fn, type) and not fn.__flags__ & 1 << 9):
            return _by_reference(fn)
        return _by_value(fn, digest)
    if kind in _PLAIN or _is_global(fn):
        return dumps(fn), _path_checks(fn), False, _name(fn), None
    return None


_PLAIN = (types.MethodDescriptorType, types.WrapperDescriptorType,
          types.ClassMethodDescriptorType)


def _is_global(fn: Any) -> bool:
    """A function of C code that is pickled by its name."""
    if type(fn) is types.BuiltinFunctionType:
        return importable(fn)
    if type(fn).__module__ == "numpy" and type(fn).__name__ == "ufunc":
        return True
    # Cython's functions, and others like them, reduce to their name.
    return (type(fn).__name__ == "cython_function_or_method"
            and hasattr(fn, "__module__") and importable(fn))


def _name(fn: Any) -> str:
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


def _by_value(fn: Any, digest: bytes | None) -> Description | bytes:
    from cfutures import _byvalue

    try:
        survey = _byvalue.Survey(fn)
        found = survey.digest()
        if survey.volatile and found == digest:
            return found
        checks = [] if survey.volatile else survey.checks
        return survey.dump(), checks, survey.volatile, _name(fn), found
    except Exception:
        data = _inherited(fn)
        if data is None:
            raise
    return data, [], True, _name(fn), None


def _inherited(fn: Any) -> bytes | None:
    """By reference to the worker's own ``__main__``, as the standard library would."""
    from cfutures import _byvalue

    if not _byvalue.importable_in_main(fn):
        return None
    return dumps(_FromMain(fn))


class _FromMain:
    """Unpickles as what ``__main__`` has under the function's name."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def __reduce__(self) -> Any:
        return _from_main, (self.fn.__qualname__,
                            _fingerprint(getattr(self.fn, "__code__", None)))


def _fingerprint(code: types.CodeType | None) -> Any:
    if code is None:
        return None
    return code.co_code, code.co_names, code.co_firstlineno, code.co_filename


def _from_main(name: str, fingerprint: Any) -> Any:
    found: Any = sys.modules["__main__"]
    for step in name.split("."):
        found = getattr(found, step)
    if _fingerprint(getattr(found, "__code__", None)) != fingerprint:
        raise AttributeError(
            f"{name}() cannot be pickled, and was defined anew after this process started")
    return found


def load_definition(data: Any) -> Any:
    """Make a function again, in a worker.

    data: the bytes of a description.  Returns the function, or a tuple: the function; what
    to call, without arguments, before the function is used again after anything else was
    loaded (a false answer means that it must be loaded again); a list whose item is another
    object if there was anything.
    """
    from cfutures._byvalue import EPOCH, Loaded

    loaded = Loaded(data)
    fn = loaded.value
    del loaded.value
    return (fn, loaded.is_current, EPOCH) if loaded.needs else fn


def load(data: Any) -> Any:
    """As load_definition(), the function alone."""
    loaded = load_definition(data)
    return loaded[0] if type(loaded) is tuple else loaded
