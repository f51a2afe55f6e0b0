"""Looking into a function or a class before it is sent by value.

A survey goes through all that the thing consists of: its code and attributes, the globals
that the code reads, the functions and classes by value among those, their globals, and so
on.  It finds out

* a digest of each global and class, by which a worker knows whether it has that already;
* what can be checked quickly to see that nothing of it was replaced (*checks*);
* which parts can change without being replaced, a list or an array, so that they have to
  be looked at again each time (*volatile* parts).
"""
from __future__ import annotations

import dis
import sys
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

from cfutures._core import Digest
from cfutures._pickle import Pickler, _LruCache

__all__ = ["LARGE", "Sent", "Survey", "global_names", "outline", "portable", "unchanging"]

# ---- checks ----

# Kinds of checks, as in csrc/procs/checks.h.
(CHECK_ITEM, CHECK_NO_ITEM, CHECK_CELL, CHECK_EMPTY_CELL, CHECK_CODE, CHECK_DEFAULTS,
 CHECK_KWDEFAULTS, CHECK_ATTRIBUTES, CHECK_CLASS_ITEM, CHECK_CLASS_SIZE, CHECK_SIZE,
 CHECK_UNSENT) = range(12)

#: kind, container, key, value
Check = tuple[int, Any, Any, Any]

_ABSENT: Any = object()


def _cell_contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT


# ---- what a function reads ----

_GLOBAL_OPERATIONS = frozenset(
    {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL",
     # In the body of a class that the function makes.
     "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
#: Each process has its own.
_NOT_SENT = frozenset({"__name__", "__builtins__", "__spec__", "__loader__", "__package__"})

_names: weakref.WeakKeyDictionary[types.CodeType, tuple[str, ...]] = weakref.WeakKeyDictionary()


def global_names(code: types.CodeType) -> tuple[str, ...]:
    """The global names that the code, and code inside it, may read, assign or delete."""
    names = _names.get(code)
    if names is None:
        found = dict.fromkeys(
            step.argval for step in dis.get_instructions(code)
            if step.opname in _GLOBAL_OPERATIONS and step.argval not in _NOT_SENT)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                found.update(dict.fromkeys(global_names(constant)))
        names = _names[code] = tuple(found)
    return names


# ---- values ----


#: Bytes from which on a value is worth some trouble.
LARGE = 1 << 16


class Sent:
    """A global as it is sent; without a digest it could not be pickled, for that reason.

    large: it is, and no code by value is in it.
    """

    __slots__ = ("digest", "error", "large", "value")

    def __init__(self, value: Any, digest: bytes | None, *, large: bool = False,
                 error: str = "") -> None:
        self.value = value
        self.digest = digest
        self.large = large
        self.error = error


LOCKS: dict[type, Callable[[], Any]] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
}


class NewLock:
    """Unpickles as a new lock."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __reduce__(self) -> Any:
        return self.make, ()


def portable(value: Any) -> Any:
    """What to pickle for a global or an attribute of a class.

    For a lock of threads that is a new one: it is of no use but among the threads of one
    process, and a forked process has a copy of its own, too.
    """
    make = LOCKS.get(type(value))
    return value if make is None else NewLock(make)


#: Attributes of a class that the class statement, a decorator or a metaclass makes, and
#: nobody changes in place.
_MADE_WITH_THE_CLASS = frozenset({
    "__annotations__", "__annotations_cache__", "__dict__", "__weakref__", "__slots__",
    "__orig_bases__", "__parameters__", "__dataclass_fields__", "__dataclass_params__",
    "__match_args__", "__abstractmethods__", "_abc_impl", "_member_map_", "_member_names_",
    "_value2member_map_", "_hashable_values_", "_unhashable_values_",
    "_unhashable_values_map_", "_member_type_", "_field_defaults", "__static_attributes__",
    "__type_params__", "__slotnames__",
})

_UNCHANGING: frozenset[type] = frozenset({
    type(None), bool, int, float, complex, str, bytes, range, type(...), type(NotImplemented),
    types.FunctionType, types.MethodDescriptorType, types.WrapperDescriptorType,
    types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType,
    types.GenericAlias, types.UnionType, property, classmethod, staticmethod, _LruCache,
    *LOCKS,
})
_UNCHANGING_NAMES = frozenset({
    ("numpy", "ufunc"), ("re", "Pattern"), ("logging", "Logger"), ("logging", "RootLogger"),
    ("datetime", "date"), ("datetime", "datetime"), ("datetime", "time"),
    ("datetime", "timedelta"), ("datetime", "timezone"), ("decimal", "Decimal"),
    ("fractions", "Fraction"), ("uuid", "UUID"), ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"), ("pathlib._local", "PosixPath"),
    ("pathlib._local", "PurePosixPath"), ("functools", "cached_property"),
    ("enum", "property"), ("enum", "nonmember"), ("_collections", "_tuplegetter"),
})


def unchanging(value: Any, depth: int = 6) -> bool:
    """Whether what it consists of stays the same as long as nothing is replaced.

    So it is with numbers, strings, tuples of such, modules, functions and classes (which
    are surveyed themselves), NumPy arrays that cannot be written to, and some types that
    everybody uses as constants.
    """
    kind = type(value)
    if kind in _UNCHANGING:
        return True
    if kind is tuple or kind is frozenset:
        return depth > 0 and all(unchanging(item, depth - 1) for item in value)
    if isinstance(value, type):
        return True
    if kind is types.ModuleType:
        return sys.modules.get(value.__name__) is value
    if kind is types.BuiltinFunctionType:
        return value.__self__ is None or isinstance(value.__self__, types.ModuleType)
    if kind.__module__ == "typing" or (kind.__module__, kind.__name__) in _UNCHANGING_NAMES:
        return True
    return _unchanging_instance(value, kind, depth)


def _unchanging_instance(value: Any, kind: type, depth: int) -> bool:
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(value, enum.Enum):
        return unchanging(value._value_, depth - 1)
    if kind.__module__.partition(".")[0] == "numpy":
        return _unchanging_numpy(value)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        # A named tuple; one with a dictionary can get attributes.
        return not hasattr(value, "__dict__") and unchanging(tuple(value), depth)
    return False


def _unchanging_numpy(value: Any) -> bool:
    numpy = sys.modules["numpy"]
    if isinstance(value, (numpy.generic, numpy.dtype)):
        return not isinstance(value, numpy.void)
    while type(value) is numpy.ndarray and not value.flags.writeable:
        if value.dtype.hasobject:
            return False
        if value.base is None or type(value.base) is bytes:
            return True
        value = value.base
    return False


# ---- digests ----


class _Outliner:
    """Pickles only to know what it would have written."""

    def __init__(self) -> None:
        self._digest = Digest()
        # Large data is looked at where it is, not copied.
        self._pickler = Pickler(self._digest, self._digest.buffer)
        self._pickler.inline = True
        #: How long the last pickle would have been, in bytes.
        self.size = 0

    def digest(self, value: Any, survey: Survey | _Quiet) -> bytes:
        """The digest of a pickle of `value`."""
        self._pickler.survey = survey
        self._pickler.dump(value)
        self._pickler.clear_memo()
        self.size = self._digest.size()
        digest: bytes = self._digest.finish()
        return digest


class _Quiet:
    """Takes the place of a survey where nobody wants to know what a pickler meets."""

    def meet_function(self, fn: types.FunctionType, space: str | None) -> None:
        """A pickler writes this function."""

    def meet_class(self, cls: type) -> None:
        """A pickler writes this class."""


_QUIET = _Quiet()


#: Nobody uses them just now.
_outliners: list[_Outliner] = []


def outline(value: Any) -> bytes:
    """The digest of a value without the globals of the functions in it."""
    return _measure(value, _QUIET)[0]


def _measure(value: Any, survey: Survey | _Quiet) -> tuple[bytes, int]:
    """The same, and how many bytes the value is; `survey` is told of functions and classes."""
    try:
        outliner = _outliners.pop()
    except IndexError:
        outliner = _Outliner()
    measured = outliner.digest(portable(value), survey), outliner.size
    _outliners.append(outliner)         # one that raised is not used again
    return measured


class Survey:
    """Everything that a function or a class by value consists of.

    Raises what pickling raises, if the thing itself cannot be pickled.  A global that
    cannot be pickled is noted (:class:`Sent`), and not an error.

    After forget() it does not keep its subject alive.
    """

    def __init__(self, root: Any) -> None:
        #: What must be as it is for the survey to be true; until forget().
        self.checks: list[Check] = []
        #: Globals, by the address of their dictionary and name; until forget().
        self.values: dict[tuple[int, str], Sent] = {}
        #: Digests of classes; until forget().
        self.classes: dict[type, bytes] = {}
        self._met: dict[int, Any] = {}
        self._met_names: dict[tuple[int, str], None] = {}
        self._functions: list[types.FunctionType] = []
        self._classes: list[type] = []
        # The part that is looked at just now is volatile.
        self._changes = False
        #: Seconds that were spent on looking whether it is still true, in all.
        self.seconds = 0.0
        #: Names of large globals that can change in place.
        self.large: list[str] = []
        # Volatile parts: where they are, and their digests.
        self._volatile_globals: list[tuple[dict[str, Any], str, bytes]] = []
        self._volatile_classes: list[tuple[type, bytes]] = []
        self._volatile_root = False
        # Code by value was met.
        self._met_code = False
        self._root_digest, _ = _measure(root, self)
        #: There is none of it: the thing goes by reference after all.
        self.is_reference = not self._met_code
        self._volatile_root = self._changes
        self._follow()
        self.digest = self._sum_up()
        self._met.clear()
        self._met_names.clear()

    @property
    def volatile(self) -> bool:
        """Whether something of it can change and all checks still hold."""
        return (self._volatile_root or bool(self._volatile_globals)
                or bool(self._volatile_classes))

    def still_true(self, root: Any) -> bool:
        """Whether the volatile parts are as they were; `root` is what it is a survey of."""
        try:
            return (
                (not self._volatile_root or outline(root) == self._root_digest)
                and all(name in space and outline(space[name]) == digest
                        for space, name, digest in self._volatile_globals)
                and all(outline(cls) == digest
                        for cls, digest in self._volatile_classes))
        except Exception:
            # It cannot be pickled any more: a new survey will say what that means.
            return False

    def forget(self) -> None:
        """Keep only what still_true() needs."""
        self.values = {}
        self.checks = []
        self.classes = {}

    def _follow(self) -> None:
        while self._functions or self._classes:
            while self._classes:
                cls = self._classes.pop()
                self._changes = False
                digest, _ = _measure(cls, self)
                self.classes[cls] = digest
                self._changes |= self._has_changing_attributes(cls)
                if self._changes:
                    self._volatile_classes.append((cls, digest))
            if self._functions:
                self._read_globals(self._functions.pop())

    def meet_function(self, fn: types.FunctionType, space: str | None) -> None:
        """A pickler writes this function, whose globals are those of module `space`."""
        self._met_code = True
        if id(fn) in self._met:
            return
        self._met[id(fn)] = fn
        add = self.checks.append
        add((CHECK_CODE, fn, None, fn.__code__))
        add((CHECK_DEFAULTS, fn, None, fn.__defaults__))
        add((CHECK_KWDEFAULTS, fn, None, fn.__kwdefaults__))
        self._rely_on(fn.__defaults__)
        if fn.__kwdefaults__ is not None:
            self._check_dict(fn.__kwdefaults__)
        add((CHECK_ATTRIBUTES, fn, None, len(fn.__dict__)))
        if fn.__dict__:
            self._check_dict(fn.__dict__)
        for i, cell in enumerate(fn.__closure__ or ()):
            contents = _cell_contents(cell)
            if contents is _ABSENT:
                add((CHECK_EMPTY_CELL, fn, i, None))
            elif self._rely_on(contents):
                add((CHECK_CELL, fn, i, contents))
        if space is None or space == "__main__":
            self._functions.append(fn)

    def _check_dict(self, container: dict[str, Any]) -> None:
        self.checks.append((CHECK_SIZE, container, None, len(container)))
        for key, value in container.items():
            if self._rely_on(value):
                self.checks.append((CHECK_ITEM, container, key, value))

    def _read_globals(self, fn: types.FunctionType) -> None:
        space = fn.__globals__
        for name in global_names(fn.__code__):
            key = (id(space), name)
            if key in self._met_names:
                continue
            self._met_names[key] = None
            value = space.get(name, _ABSENT)
            if value is _ABSENT:
                self.checks.append((CHECK_NO_ITEM, space, name, None))
                continue
            self._changes = False
            sent = self.values[key] = self._send(value)
            if sent.digest is None:
                self.checks.append((CHECK_UNSENT, space, name, value))
                continue
            if self._rely_on(value):
                self.checks.append((CHECK_ITEM, space, name, value))
            if self._changes:
                self._volatile_globals.append((space, name, sent.digest))
                if sent.large:
                    self.large.append(name)

    def _send(self, value: Any) -> Sent:
        before = len(self._functions), len(self._classes), len(self.checks)
        self._met_code = False
        try:
            digest, size = _measure(value, self)
            return Sent(value, digest, large=size >= LARGE and not self._met_code)
        except Exception as error:
            # It stays at home, and what was met on the way was not met.
            for met in (*self._functions[before[0]:], *self._classes[before[1]:]):
                del self._met[id(met)]
            del self._functions[before[0]:], self._classes[before[1]:], self.checks[before[2]:]
            return Sent(value, None, error=f"{type(error).__name__}: {error}")

    def meet_class(self, cls: type) -> None:
        """A pickler writes this class."""
        self._met_code = True
        if id(cls) in self._met:
            return
        self._met[id(cls)] = cls
        self._classes.append(cls)
        attributes = dict(vars(cls))
        self.checks.append((CHECK_CLASS_SIZE, cls, None, len(attributes)))
        for key, value in attributes.items():
            if key in _MADE_WITH_THE_CLASS or unchanging(value):
                self.checks.append((CHECK_CLASS_ITEM, cls, key, value))

    def _has_changing_attributes(self, cls: type) -> bool:
        return not all(key in _MADE_WITH_THE_CLASS or unchanging(value)
                       for key, value in dict(vars(cls)).items())

    def _rely_on(self, value: Any) -> bool:
        """Whether a check that the value is the same object is enough."""
        if unchanging(value):
            return True
        self._changes = True
        return False

    def _sum_up(self) -> bytes:
        whole = Digest()
        whole.write(self._root_digest)
        for (_, name), sent in self.values.items():
            whole.write(name.encode() + (sent.digest or b"%d" % id(sent.value)))
        for digest in self.classes.values():
            whole.write(digest)
        whole.write(repr([name for _, name in self._met_names]).encode())
        summary: bytes = whole.finish()
        return summary
