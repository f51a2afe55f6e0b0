"""Functions and classes by value: how they are written, and made again.

A function of ``__main__`` goes as its code, defaults, closure, and the globals that its
code reads; functions and classes among those likewise.  In a worker it lives in the
worker's own ``__main__``, where its globals are set:

* All functions of ``__main__`` share one set of globals, as they do in the parent.  What an
  initializer (or a task) assigns with ``global`` is seen by the tasks of that worker.
* Each global travels with a digest of its value.  The worker sets it only if the digest is
  not that of the value it was sent last: an assignment made in the worker stands until
  the value in the parent changes.
* A value that cannot be pickled (a multiprocessing.Lock, an open file, a connection) is
  not sent; the function uses what the worker has under that name, from being forked or
  from having imported the main script itself, as in the standard library.  A plain
  threading.Lock is made anew, which is what a fork would leave of it.

The functions of other modules that cannot go by reference (lambdas, closures) use the
globals of that module as the worker imports it.  Functions whose globals are no module's
(made by exec) bring theirs with them.

What comes back from a worker changes nothing in the parent's ``__main__``.  A class keeps
its identity: it has a number, under which each process knows its own copy of it.

Within a message, classes and the functions of ``__main__`` are *parcels*: pickles of their
own, made once as long as nothing changes, which the receiver opens only if it does not
have that state of it already.
"""
from __future__ import annotations

import builtins
import dataclasses
import io
import os
import pickle
import sys
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from cfutures import _lineage
from cfutures._core import Checks
from cfutures._lineage import (
    FAMILY,
    Loaded,
    apply,
    beside,
    forget,
    is_applied,
    is_from_parent,
    main_namespace,
    need,
    not_sent,
    was_applied,
)
from cfutures._pickle import MAIN_NAMES, REDUCERS, Pickler
from cfutures._survey import LARGE, Sent, Survey, global_names, outline, portable

__all__ = ["Dump", "reduce_class", "reduce_function"]


class Dump:
    """What lasts as long as one dump: the pickler's memo keeps it alive.

    It unpickles as the number of the process that sent it.
    """

    def __init__(self, survey: Survey | None = None, beside: list[Any] | None = None) -> None:
        #: Where large values go; None: into the pickle.
        self.beside = beside
        self.values: dict[tuple[int, str], Sent] = {}
        self.classes: dict[type, bytes] = {}
        #: By address: globals that are no module's, and what is made of them.
        self.spaces: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        if survey is not None:
            self.learn(survey)

    def learn(self, survey: Survey) -> None:
        """Know the digests that a survey found."""
        self.values.update(survey.values)
        self.classes.update(survey.classes)

    def __reduce__(self) -> Any:
        return int, (os.getpid(),)


def _dump_of(pickler: Pickler) -> Dump:
    dump = pickler.dump_reference and pickler.dump_reference()
    if not dump:
        dump = Dump()
        pickler.dump_reference = weakref.ref(dump)
    return dump


def dump(root: Any, survey: Survey, beside: list[Any] | None = None) -> bytes:
    """The pickle of a function or class with all that belongs to it.

    beside: gets buffers to be sent with it; None: everything is in the pickle.
    """
    return _dump_with(root, Dump(survey, beside), None)


def _dump_with(root: Any, known: Dump, callback: Callable[[Any], object] | None) -> bytes:
    file = io.BytesIO()
    pickler = Pickler(file, callback)
    pickler.inline = True
    pickler.dump_reference = weakref.ref(known)
    pickler.dump(root)
    return file.getvalue()


# ---- functions: sending ----


def space_name(space: dict[str, Any]) -> str | None:
    """The module whose globals these are, if a worker has a module like it."""
    name = space.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or vars(module) is not space:
        return None
    if name in MAIN_NAMES:
        return "__main__"
    if module.__spec__ is None or name in cloudpickle.list_registry_pickle_by_value():
        return None
    return name


def reduce_function(pickler: Pickler, fn: types.FunctionType) -> Any:
    """How a Pickler writes a function by value."""
    space = space_name(fn.__globals__)
    if pickler.survey is not None:
        pickler.survey.meet_function(fn, space)
        return _function_parts(None, fn, space, [], [])
    if not pickler.inline and space == "__main__" and fn.__closure__ is None:
        parcel = _parcel(fn)
        if parcel is None:
            return MainReference(fn).__reduce__()
        return _open_function, (parcel.survey.digest, parcel.data)
    dump = _dump_of(pickler)
    if space is not None and space != "__main__":
        return _function_parts(dump, fn, space, [], [])
    made_in: Any = space
    if space is None:
        # Functions that share their globals share them again.
        _, made_in = dump.spaces.setdefault(
            id(fn.__globals__), (fn.__globals__, _new_space(fn.__globals__)))
    values = list(_values(dump, fn))
    imports = _submodules(fn.__code__, (value for _, _, value in values))
    return _function_parts(dump, fn, made_in, imports, values)


def _function_parts(dump: Dump | None, fn: types.FunctionType, made_in: Any,
                    imports: list[str], values: list[tuple[str, bytes | None, Any]]) -> Any:
    state = (
        dump, imports, values, fn.__defaults__, fn.__kwdefaults__, _annotations(fn),
        fn.__doc__, fn.__module__, fn.__qualname__, fn.__dict__,
    )
    return (_make_function, (fn.__code__, made_in, fn.__name__, fn.__closure__), state,
            None, None, _set_function)


def _annotations(fn: types.FunctionType) -> dict[str, Any]:
    try:
        return fn.__annotations__
    except Exception:       # from 3.14 on this runs code, which is not what is wanted here
        return {}


def _new_space(source: dict[str, Any]) -> dict[str, Any]:
    kept = ("__name__", "__package__", "__path__", "__file__")
    return {key: source[key] for key in kept if key in source}


#: The digest of a value that is not sent.
_NOT_PICKLED = b""


def _values(dump: Dump, fn: types.FunctionType) -> Iterator[tuple[str, bytes | None, Any]]:
    """Name, digest and value of each global that the function's code mentions.

    The digest is None if there is none of that name, and _NOT_PICKLED if it cannot be sent.
    """
    space = fn.__globals__
    names = global_names(fn.__code__)
    if any((id(space), name) not in dump.values for name in names if name in space):
        dump.learn(Survey(fn))
    for name in names:
        sent = dump.values.get((id(space), name))
        if sent is None:
            yield name, None, None
        elif sent.digest is None:
            yield name, _NOT_PICKLED, (FAMILY, id(sent.value), sent.error)
        else:
            yield name, sent.digest, (
                _Large(sent.value, dump) if sent.large else portable(sent.value))


class _Large:
    """A large global: a pickle of its own, which a worker opens only if it has to.

    It need not if it has that state of it already, because it was forked from this process
    and has not touched it, or because only something else was sent anew.
    """

    def __init__(self, value: Any, dump: Dump) -> None:
        self._value = value
        self._dump = dump

    def __reduce__(self) -> Any:
        beside = self._dump.beside
        if beside is None:
            return _Unopened, (_dump_with(self._value, Dump(), None), ())
        buffers: list[memoryview] = []

        def callback(buffer: pickle.PickleBuffer) -> bool:
            if buffer.raw().nbytes < LARGE:
                return True
            buffers.append(buffer.raw())
            return False

        data = _dump_with(self._value, Dump(), callback)
        first = len(beside)
        beside += [data, *buffers]
        return _unopened, (first, len(beside))


class _Unopened:
    """A value that need not be made; what it is made of is there only for now."""

    def __init__(self, data: Any, buffers: Sequence[Any]) -> None:
        self._data = data
        self._buffers = buffers

    def open(self) -> Any:
        """The value, on memory of its own."""
        return pickle.loads(self._data, buffers=map(bytearray, self._buffers))


def _unopened(first: int, last: int) -> _Unopened:
    data, *buffers = beside(first, last)
    return _Unopened(data, buffers)


def _opened_value(value: Any) -> Any:
    return value.open() if type(value) is _Unopened else value


def _attribute_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _attribute_names(constant)
    return names


def _submodules(code: types.CodeType, values: Iterable[object]) -> list[str]:
    """Imported modules that the code reaches as attributes of packages."""
    packages = [value.__name__ for value in values
                if isinstance(value, types.ModuleType) and hasattr(value, "__path__")]
    names = sorted(_attribute_names(code)) if packages else ()
    found: list[str] = []
    for package in packages:        # grows
        for name in names:
            module = f"{package}.{name}"
            if module in sys.modules and module not in found:
                found.append(module)
                packages.append(module)
    return found


# ---- functions: receiving ----


def _make_function(code: types.CodeType, made_in: str | dict[str, Any] | None, name: str,
                   closure: tuple[types.CellType, ...] | None) -> types.FunctionType:
    if made_in == "__main__":
        space = main_namespace()
    elif isinstance(made_in, str):
        __import__(made_in)
        space = vars(sys.modules[made_in])
    else:
        space = {} if made_in is None else made_in
    space.setdefault("__builtins__", builtins)
    return types.FunctionType(code, space, name, None, closure)


def _set_function(fn: types.FunctionType, state: tuple[Any, ...]) -> None:
    (sender, imports, values, fn.__defaults__, fn.__kwdefaults__, fn.__annotations__,
     fn.__doc__, fn.__module__, fn.__qualname__, attributes) = state
    for name in imports:
        __import__(name)
    fn.__dict__.update(attributes)
    space = fn.__globals__
    for name, digest, value in values:
        if digest == _NOT_PICKLED:
            _use_inherited(fn, name, value)
        elif space is not main_namespace():
            if digest is not None:
                space[name] = _opened_value(value)
        elif is_from_parent(sender):
            _receive_global(space, name, digest, value)
        elif digest is not None and name not in space:
            # A result: what the parent has is not to be changed by it.
            space[name] = _opened_value(value)


def _receive_global(space: dict[str, Any], name: str, digest: bytes | None,
                    value: Any) -> None:
    key = ("__main__", name)
    if not is_applied(key, digest):
        untouched = id(space.get(name)) == _lineage.inherited.get(name)
        if digest is None:
            if untouched or was_applied(key):
                space.pop(name, None)
        elif type(value) is not _Unopened:
            space[name] = value
        elif not untouched or outline(space[name]) != digest:
            space[name] = value.open()
        apply(key, digest)
    need(key, digest)


def _use_inherited(fn: types.FunctionType, name: str, value: tuple[bytes, int, str]) -> None:
    """Leave a global that could not be sent as it is, if it is what it was in the sender."""
    family, address, error = value
    space = fn.__globals__
    if name not in space:
        problem = "this process has nothing of that name"
    elif (family == FAMILY and space is main_namespace()
          and _lineage.inherited.get(name, address) != address
          and _lineage.inherited[name] == id(space[name])):
        problem = "this process was started when it was another object"
        del space[name]
    else:
        return
    # It may well not be used; if it is, this is told with the NameError.
    not_sent[name] = f"The global {name!r} cannot be pickled ({error}), and {problem}."


class MainReference:
    """Unpickles as what ``__main__`` has under the name of a function or class.

    For what cannot go by value: so a worker uses what it inherited, or made itself when
    it imported the main script.
    """

    def __init__(self, subject: Any) -> None:
        self.subject = subject

    def __reduce__(self) -> Any:
        code = getattr(self.subject, "__code__", None)
        return _from_main, (self.subject.__qualname__, _fingerprint(code))


def is_in_main(subject: Any) -> bool:
    """Whether ``__main__`` has this very object under its name."""
    found: Any = sys.modules["__main__"]
    for step in subject.__qualname__.split("."):
        found = getattr(found, step, None)
    return subject.__module__ in MAIN_NAMES and found is subject


def _fingerprint(code: types.CodeType | None) -> Any:
    return code and (code.co_code, code.co_names, code.co_firstlineno, code.co_filename)


def _from_main(name: str, fingerprint: Any) -> Any:
    found: Any = sys.modules["__main__"]
    for step in name.split("."):
        found = getattr(found, step)
    if _fingerprint(getattr(found, "__code__", None)) != fingerprint:
        raise pickle.UnpicklingError(
            f"{name}() cannot be pickled, and was defined anew after this process started")
    return found


# ---- parcels ----


class _Parcel:
    def __init__(self, subject: Any) -> None:
        self.survey = Survey(subject)
        self.checks = Checks(self.survey.checks)
        self.data = dump(subject, self.survey)
        self.survey.forget()

    def is_true(self, subject: Any) -> bool:
        """Whether it would come out again."""
        return self.checks.hold() and (
            not self.survey.volatile or self.survey.still_true(subject))


_MOST_PARCELS = 64
#: What was sent last: it is kept alive, so there are few, and older ones of the same name go.
_parcels: OrderedDict[Any, _Parcel] = OrderedDict()
_parcels_lock = threading.Lock()        # guards _parcels; nothing else is done under it


def _parcel(subject: Any) -> _Parcel | None:
    """The parcel of a function or class; None if it can only go by reference."""
    with _parcels_lock:
        known = _parcels.get(subject)
    if known is not None and known.is_true(subject):
        return known
    try:
        made = _Parcel(subject)
    except Exception:
        if is_in_main(subject):
            return None
        raise
    with _parcels_lock:
        old = [other for other in _parcels if other.__qualname__ == subject.__qualname__]
    gone = [other for other in old if other is not subject and not is_in_main(other)]
    dropped: list[object] = []          # their end may run Python code
    with _parcels_lock:
        dropped += [_parcels.pop(other, None) for other in gone]
        _parcels[subject] = made
        _parcels.move_to_end(subject)
        if len(_parcels) > _MOST_PARCELS:
            dropped.append(_parcels.popitem(last=False))
    return made


_MOST_OPENED = 64
#: By digest: functions that were opened last.
_opened: OrderedDict[bytes, Loaded] = OrderedDict()


def _open_function(digest: bytes, data: bytes) -> Any:
    loaded = _opened.get(digest)
    if loaded is None or not loaded.is_current():
        loaded = Loaded(data)
        _opened[digest] = loaded
        if len(_opened) > _MOST_OPENED:
            _opened.popitem(last=False)
    for key, needed in loaded.needs.items():
        need(key, needed)
    return loaded.value


# ---- classes ----

_classes_lock = threading.Lock()
#: Guarded by _classes_lock: classes that were sent or received, and their numbers.
_class_of: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_number_of: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
#: Classes that another process defined; the same guard.
_received: weakref.WeakSet[type] = weakref.WeakSet()
#: What came with a class last.
_attributes_of: weakref.WeakKeyDictionary[type, set[str]] = weakref.WeakKeyDictionary()
#: The parcel that a class came in last: its digest, and what it relied on.
_opened_classes: weakref.WeakKeyDictionary[type, tuple[bytes, Loaded]] = (
    weakref.WeakKeyDictionary())

_helper = cloudpickle.Pickler(io.BytesIO(), protocol=5)


def _class_number(cls: type) -> str:
    with _classes_lock:
        number = _number_of.get(cls)
        if number is None:
            number = _number_of[cls] = os.urandom(16).hex()
            _class_of[number] = cls
        return number


def reduce_class(pickler: Pickler, cls: type) -> Any:
    """How a Pickler writes a class by value."""
    dump = None
    digest = None
    if pickler.survey is not None:
        pickler.survey.meet_class(cls)
    elif not pickler.inline:
        parcel = _parcel(cls)
        if parcel is None:
            return MainReference(cls).__reduce__()
        return _open_class, (_class_number(cls), parcel.survey.digest, parcel.data,
                             _dump_of(pickler))
    else:
        dump = _dump_of(pickler)
        digest = dump.classes.get(cls)
    reduced = _helper.reducer_override(cls)
    if reduced is NotImplemented:
        # A spawned child imports the main script, and it pickles at its top level: the
        # module has one name already, its classes another.  By reference, then.
        return reduced
    make, args, (attributes, slots), _, _, set_state = reduced
    attributes = {key: portable(value) for key, value in attributes.items()}
    attributes.pop("__slotnames__", None)       # copyreg's notes
    number = _class_number(cls)
    # The last two arguments are cloudpickle's number for it and something for its future.
    args = (*args[:-2], None, None)
    if attributes.get("__slots__") and isinstance(args[3], dict):
        # Cloudpickle sets it on the class that is made, which is too late.
        names = attributes.pop("__slots__")
        args[3]["__slots__"] = names if isinstance(names, str) else tuple(names)
    return (_make_class, (number, make, args),
            (dump, number, digest, set_state, (attributes, slots)), None, None, _set_class)


def _reduce_sentinel(obj: object) -> Any:
    """One of the marks in a dataclass, which are known by their identity."""
    for name, value in vars(dataclasses).items():
        if value is obj:
            return getattr, (dataclasses, name)
    return NotImplemented


# Here, as only classes by value hold them, and dataclasses takes long to import.
REDUCERS.update((type(getattr(dataclasses, name)), _reduce_sentinel)
                for name in ("MISSING", "KW_ONLY", "_FIELD", "_HAS_DEFAULT_FACTORY")
                if hasattr(dataclasses, name))


def _make_class(number: str, make: Callable[..., type], args: tuple[Any, ...]) -> type:
    cls = _class_of.get(number)
    if cls is None:
        made = make(*args)
        with _classes_lock:
            cls = _class_of.setdefault(number, made)
            if cls is made:
                _number_of[cls] = number
                _received.add(cls)
        if cls is made:
            weakref.finalize(cls, forget, number).atexit = False
    return cls


def _is_ours(cls: type, sender: int) -> bool:
    """Whether a state of the class that comes from there is none of our business."""
    return cls not in _received and not is_from_parent(sender)


def _set_class(cls: type, state: tuple[Any, ...]) -> None:
    sender, number, digest, set_state, attributes = state
    if _is_ours(cls, sender):
        return
    if digest is None or cls not in _attributes_of or not is_applied(number, digest):
        set_state(cls, attributes)
        names = set(attributes[0])
        for name in _attributes_of.get(cls, names) - names:
            if name in vars(cls):
                delattr(cls, name)
        _attributes_of[cls] = names
        apply(number, digest)
    need(number, digest)


def _open_class(number: str, digest: bytes, data: bytes, sender: int) -> type:
    cls = _class_of.get(number)
    if cls is not None:
        if _is_ours(cls, sender):
            return cls
        opened = _opened_classes.get(cls)
        if opened is not None and opened[0] == digest and opened[1].is_current():
            return cls
    loaded = Loaded(data)
    made: type = loaded.value
    loaded.value = None         # or its own entry would keep it alive
    _opened_classes[made] = (digest, loaded)
    return made


def _after_fork() -> None:
    """Another thread of the parent may have had a lock."""
    global _classes_lock, _parcels_lock
    _classes_lock = threading.Lock()
    _parcels_lock = threading.Lock()
    if hasattr(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_LOCK"):
        cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
