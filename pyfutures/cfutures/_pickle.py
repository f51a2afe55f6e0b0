"""How a process pool pickles: messages, and what becomes of an exception.

Between a parent and its workers everything that the standard library's pools can send
can be sent, in the same way: what :mod:`copyreg` knows, what was registered with
``multiprocessing``'s ForkingPickler (now or later: torch, sockets, connections), objects
that reduce themselves, functions and classes by reference.  Besides:

* Functions and classes that cannot be imported by name (those of ``__main__``, and so of
  notebook cells, lambdas, closures, local classes) go by value: ``_byvalue``.
* A memoryview arrives as a memoryview, writable if it was.
* What code is made of: modules, cells, properties, class and static methods, and so on.

What the standard library refuses for a good reason (open files, locks, generators) is
refused here, too: a copy of a file or a lock is not the file or the lock.

A pickler is the C one, with a hook for objects that are not plain builtin values: a list of
dicts of numbers meets no Python code.
"""
from __future__ import annotations

import functools
import io
import pickle
import sys
import types
import typing
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures.process import _ExceptionWithTraceback, _rebuild_exc
from copyreg import dispatch_table as _copyreg_table
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any, Protocol

from cfutures import _lineage
from cfutures._core import Reducer

if TYPE_CHECKING:
    from cfutures._byvalue import Dump
    from cfutures._survey import Survey, _Quiet

__all__ = ["Pickler", "importable", "loads", "pack_exception", "pickler"]

loads = pickle.loads

#: Modules whose names mean something else in another process.
MAIN_NAMES = frozenset({"__main__", "__mp_main__"})

_HEAP_TYPE = 1 << 9     # Py_TPFLAGS_HEAPTYPE: made by a class statement, or like one


class _Writable(Protocol):
    def write(self, data: Any, /) -> object: ...


# ---- what can go by reference ----


def importable(obj: Any) -> bool:
    """Whether a function or class is found under its own name in an imported module.

    Never true for ``__main__``, which is another module in another process, nor for a
    module that was registered with ``cloudpickle.register_pickle_by_value``.
    """
    module_name = getattr(obj, "__module__", None)
    name = getattr(obj, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(name, str) or (
            module_name in MAIN_NAMES):
        return False
    found: Any = sys.modules.get(module_name)
    if found is None:
        return False
    for step in name.split("."):
        # getattr(), as pickle does: a module can have a __getattr__.
        found = getattr(found, step, None)
    return found is obj and not _is_registered_by_value(module_name)


def _is_registered_by_value(name: str) -> bool:
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is None:
        return False
    registered = cloudpickle.list_registry_pickle_by_value()
    return any(name == entry or name.startswith(entry + ".") for entry in registered)


# ---- reducers ----


def _through_cloudpickle(obj: Any) -> Any:
    """Reduce something that only code is made of."""
    from cfutures import _code

    return _code.cloudpickle_reduce(obj)


def _reduce_code(obj: types.CodeType) -> Any:
    from cfutures import _code

    return _code.reduce_code(obj)


def _reduce_cell(obj: types.CellType) -> Any:
    try:
        contents = obj.cell_contents
    except ValueError:          # empty
        return _new_cell, ()
    # The cell exists before its contents are made: they may be the function it is of.
    return _new_cell, (), contents, None, None, _set_cell


def _new_cell() -> types.CellType:
    return types.CellType()


def _set_cell(cell: types.CellType, contents: object) -> None:
    cell.cell_contents = contents


def _reduce_module(obj: types.ModuleType) -> Any:
    name = obj.__name__
    if name in MAIN_NAMES and sys.modules.get(name) is obj:
        return _import, ("__main__",)
    if sys.modules.get(name) is obj and not _is_registered_by_value(name):
        return _import, (name,)
    return _through_cloudpickle(obj)


def _import(name: str) -> types.ModuleType:
    __import__(name)
    return sys.modules[name]


def _reduce_memoryview(view: memoryview) -> Any:
    """A memoryview of the same shape and format, on memory of its own."""
    data: Any
    shape = view.shape or ()
    if view.contiguous and view.nbytes and (view.c_contiguous or view.ndim < 2):
        data = pickle.PickleBuffer(view)
    else:
        data = view.tobytes() if view.readonly else bytearray(view.tobytes())
    if view.format == "B" and view.ndim == 1:
        return memoryview, (data,)
    # memoryview.cast() knows the formats of the struct module's native single letters.
    if len(view.format.lstrip("@")) != 1 or 0 in shape:
        raise TypeError(f"cannot pickle 'memoryview' object with format {view.format!r} "
                        f"and shape {shape}")
    return _cast_memoryview, (data, view.format, shape)


def _cast_memoryview(data: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    flat: Any = memoryview(data).cast("B")
    made: memoryview = flat
    if format != "B" or len(shape) != 1:
        made = flat.cast(format, shape)
    return made


def _reduce_lru_cache(obj: Any) -> Any:
    """A function under ``functools.lru_cache``: it begins with an empty cache."""
    if importable(obj) or not hasattr(obj, "__wrapped__"):
        return NotImplemented
    return _make_lru_cache, (obj.__wrapped__, obj.cache_parameters())


def _make_lru_cache(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _reduce_cached_property(obj: Any) -> Any:
    """Before Python 3.12 it holds a lock, which is nobody else's business."""
    return _make_cached_property, (obj.func, obj.attrname)


def _make_cached_property(function: Callable[[Any], Any], name: str | None) -> Any:
    made = functools.cached_property(function)
    if name is not None:
        made.__set_name__(object, name)
    return made


def _reduce_method(method: types.MethodType) -> Any:
    """By its name, or, if it has none there (a lambda, a __private one), by its parts."""
    name = method.__func__.__name__
    if getattr(method.__self__, name, None) == method:
        return getattr, (method.__self__, name)
    return types.MethodType, (method.__func__, method.__self__)


_CachedProperty = functools.cached_property
_LruCache: Any = type(functools.lru_cache(abs))

#: How objects of some types are written, for which pickle does not do it; _byvalue adds more.
REDUCERS: dict[type, Callable[[Any], Any]] = {
    types.CellType: _reduce_cell,
    types.CodeType: _reduce_code,
    types.ModuleType: _reduce_module,
    memoryview: _reduce_memoryview,
    _LruCache: _reduce_lru_cache,
    **({_CachedProperty: _reduce_cached_property} if sys.version_info < (3, 12) else {}),
    **dict.fromkeys(
        (
            classmethod, property, staticmethod, types.GetSetDescriptorType,
            types.MappingProxyType, typing.TypeVar, weakref.WeakSet,
            type({}.keys()), type({}.values()), type({}.items()),
            type(OrderedDict().keys()), type(OrderedDict().values()),
            type(OrderedDict().items()),
        ),
        _through_cloudpickle,
    ),
}

# The dictionary itself, not a copy: what is registered later counts.
_FORKING: dict[type, Callable[[Any], Any]] = (
    reduction.ForkingPickler._extra_reducers)  # type: ignore[attr-defined]
#: Of these, what is only a matter of names and values.
_HARMLESS = frozenset(
    reduce for kind, reduce in _FORKING.items()
    if kind in (functools.partial, types.MethodType, type(list.append), type(int.__add__)))
_standard_reduce_method: Any = reduction._reduce_method  # type: ignore[attr-defined]


def _reduce(pickler: Pickler, obj: Any) -> Any:
    """How `pickler` writes what is not a plain builtin value."""
    kind = type(obj)
    if kind is types.FunctionType:
        if importable(obj):
            return NotImplemented
        from cfutures import _byvalue

        return _byvalue.reduce_function(pickler, obj)
    if issubclass(kind, type):
        if kind in _copyreg_table or not obj.__flags__ & _HEAP_TYPE:
            return _reduce_fixed_class(obj)
        if importable(obj):
            return NotImplemented
        from cfutures import _byvalue

        return _byvalue.reduce_class(pickler, obj)
    reduce = _FORKING.get(kind)
    if reduce is None:
        reduce = REDUCERS.get(kind)
        return NotImplemented if reduce is None else reduce(obj)
    if reduce is _standard_reduce_method:
        return _reduce_method(obj)
    if pickler.inline and reduce not in _HARMLESS:
        return _reduce_copied(obj, kind)
    return reduce(obj)


def _reduce_copied(obj: Any, kind: Any) -> Any:
    """Something of which multiprocessing hands on the original, where a copy is wanted.

    A global that a function reads is copied, and looked at more than once for that: a
    descriptor would be duplicated each time.
    """
    if (kind not in _copyreg_table and kind.__reduce_ex__ is object.__reduce_ex__
            and kind.__reduce__ is object.__reduce__):
        raise pickle.PicklingError(
            f"a {kind.__qualname__} can be given to a task only as an argument")
    return NotImplemented


def _reduce_fixed_class(cls: type) -> Any:
    """A class that C code made; those without a home (<class 'function'>) are in types."""
    if cls.__module__ == "builtins" and getattr(cls, "__qualname__", "") not in _BUILTINS:
        for name, value in vars(types).items():
            if value is cls:
                return getattr, (types, name)
    return NotImplemented


_BUILTINS = frozenset(vars(sys.modules["builtins"])) | {
    "NoneType", "NotImplementedType", "ellipsis"}


class Pickler(pickle.Pickler):
    """The C pickler of protocol 5, and how it reduces what it does not know itself.

    file: has ``write(bytes-like)``.  buffer_callback: called with each PickleBuffer; a
    false answer means that it takes the buffer out of the pickle.

    It can be used for many dumps, with clear_memo() in between.
    """

    #: Functions and classes that go by value are written here, not as parcels.
    inline = False
    #: Only a digest is wanted, and this wants to know what functions and classes there are.
    survey: Survey | _Quiet | None = None

    def __init__(self, file: _Writable, buffer_callback: Callable[[Any], object] | None = None,
                 ) -> None:
        super().__init__(file, 5, buffer_callback=buffer_callback)
        self.dump_reference: weakref.ref[Dump] | None = None

    #: Called by pickle for whatever is not a plain builtin value.
    reducer_override: Any = Reducer(_reduce, (_FORKING, REDUCERS), MAIN_NAMES)


def pickler(file: _Writable, buffer_callback: Callable[[Any], object] | None) -> Pickler:
    """Make the pickler of a message; see :class:`Pickler`."""
    return Pickler(file, buffer_callback)


def dumps(obj: object) -> bytes:
    """The pickle of an object, nothing out of band."""
    file = io.BytesIO()
    Pickler(file).dump(obj)
    return file.getvalue()


# ---- exceptions ----


class _ExceptionPickler(Pickler):
    """Makes exceptions come back even if their constructor wants other arguments."""

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if reduced is not NotImplemented or not isinstance(obj, BaseException):
            return reduced
        kind = type(obj)
        if kind.__module__ == "builtins":
            return NotImplemented
        custom = _copyreg_table.get(kind)
        value: Any = obj.__reduce_ex__(5) if custom is None else custom(obj)
        if not isinstance(value, tuple):
            return NotImplemented
        return (_make_exception, (kind, obj.args, value[0], value[1]), *value[2:])


def _make_exception(cls: type[BaseException], args: tuple[Any, ...],
                    make: Callable[..., Any], make_args: Iterable[Any]) -> Any:
    try:
        return make(*make_args)
    except Exception:
        # Its __init__ wants other arguments than those it gave to its base class.  The
        # rest of what it is made of is in its attributes, which follow.
        made = cls.__new__(cls, *args)
        made.args = args
        return made


class _Failure:
    """What is pickled for a task that raised; unpickles as the exception, with its cause."""

    def __init__(self, data: bytes | None, traceback: str, about: str) -> None:
        self.data = data
        self.traceback = traceback
        self.about = about

    def __reduce__(self) -> Any:
        return _unpack_failure, (self.data, self.traceback, self.about)


def _unpack_failure(data: bytes, traceback: str, about: str) -> BaseException:
    try:
        exc = loads(data)
    except Exception as error:
        exc = pickle.UnpicklingError(
            f"the exception that the task raised cannot be unpickled "
            f"({type(error).__name__}: {error}); it was {about}")
    rebuilt: BaseException = _rebuild_exc(exc, traceback)
    return rebuilt


def pack_exception(exc: BaseException) -> object:
    """What to pickle as the result of a task that raised `exc`.

    It unpickles as the exception, whose ``__cause__`` is the standard library's
    _RemoteTraceback, the text of the traceback here.  An exception that cannot be pickled
    becomes the error of the attempt (a TypeError, a PicklingError, as in the standard
    library), which says what could not be pickled; the cause is still the task's own.

    An exception whose class cannot be called again with its `args` comes back all the
    same.
    """
    _lineage.explain(exc)
    about = _describe(exc)
    # The standard library's class writes the traceback, so that it looks the same.
    standard: Any = _ExceptionWithTraceback
    traceback: str = standard(exc, exc.__traceback__).tb
    try:
        data = _dump_exception(exc)
    except Exception as error:
        text = f"{error}; the task raised {about}, which cannot be pickled"
        data = _dump_exception(_same_kind(error, text))
    return _Failure(data, traceback, about)


def _dump_exception(exc: BaseException) -> bytes:
    file = io.BytesIO()
    _ExceptionPickler(file).dump(exc)
    return file.getvalue()


def _same_kind(error: Exception, text: str) -> Exception:
    for kind in (pickle.PicklingError, TypeError, AttributeError, RuntimeError, ValueError):
        if type(error) is kind:
            return kind(text)
    return pickle.PicklingError(f"{type(error).__name__}: {text}")


def _describe(exc: BaseException) -> str:
    try:
        return repr(exc)
    except Exception:
        return f"a {type(exc).__qualname__} that has no repr"
