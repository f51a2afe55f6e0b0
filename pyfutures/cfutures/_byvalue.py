"""Functions and classes by value: what they are made of, and making them again.

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
"""
from __future__ import annotations

import builtins
import dis
import hashlib
import io
import linecache
import multiprocessing
import os
import pickle
import sys
import threading
import types
import uuid
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

from cfutures._pickle import MAIN_NAMES, Pickler, _LruCache, dumps, importable, loads

# ---- who is who ----

#: The same in a process and its forked children.
_FAMILY = uuid.uuid4().bytes

#: Which value of a global, which state of a class this process was sent last:
#: (module, name) or class number -> digest.
_applied: dict[object, bytes | None] = {}
#: Holds another number whenever something was applied: who finds it unchanged need not
#: compare.  The C core looks at the object in it.
EPOCH = [0]
#: In a forked child: the names in ``__main__`` and the addresses of their values as it began.
_inherited: dict[str, int] = {}


def _after_fork() -> None:
    _applied.clear()
    _bump()
    _inherited.clear()
    _inherited.update((name, id(value)) for name, value in _main().items())


os.register_at_fork(after_in_child=_after_fork)


def _main() -> dict[str, Any]:
    return vars(sys.modules["__main__"])


def _from_parent(sender: int) -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and parent.pid == sender


_classes_lock = threading.Lock()
#: Guarded by _classes_lock: classes that were sent or received, and their numbers.
_class_of: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
_number_of: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
#: Classes that another process defined.
_received: weakref.WeakSet[type] = weakref.WeakSet()


def _class_number(cls: type) -> str:
    with _classes_lock:
        number = _number_of.get(cls)
        if number is None:
            number = _number_of[cls] = uuid.uuid4().hex
            _class_of[number] = cls
        return number


# ---- what a function reads ----

_GLOBAL_OPERATIONS = frozenset(
    {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL",
     # In the body of a class that the function makes.
     "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
#: Each process has its own.
_NOT_SENT = frozenset({"__name__", "__builtins__", "__spec__", "__loader__", "__package__"})

_reads: weakref.WeakKeyDictionary[types.CodeType, tuple[str, ...]] = weakref.WeakKeyDictionary()


def global_names(code: types.CodeType) -> tuple[str, ...]:
    """The global names that the code, and code inside it, may read, assign or delete."""
    names = _reads.get(code)
    if names is None:
        found = dict.fromkeys(
            step.argval for step in dis.get_instructions(code)
            if step.opname in _GLOBAL_OPERATIONS and step.argval not in _NOT_SENT)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                found.update(dict.fromkeys(global_names(constant)))
        names = _reads[code] = tuple(found)
    return names


def _attribute_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _attribute_names(constant)
    return names


def _submodules(code: types.CodeType, values: Iterator[object]) -> list[str]:
    """Imported modules that the code reaches as attributes of packages."""
    packages = [value.__name__ for value in values
                if isinstance(value, types.ModuleType) and hasattr(value, "__path__")]
    found: list[str] = []
    names = _attribute_names(code) if packages else ()
    for package in packages:        # grows
        for name in names:
            module = f"{package}.{name}"
            if module in sys.modules and module not in found:
                found.append(module)
                packages.append(module)
    return found


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


# ---- sending ----

ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()


class Dump:
    """What lasts as long as one dump: the pickler's memo keeps it alive."""

    def __init__(self, values: dict[tuple[int, str], Sent] | None = None,
                 classes: dict[type, bytes] | None = None) -> None:
        self.values = {} if values is None else values
        self.classes = {} if classes is None else classes
        self.spaces: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}

    def __reduce__(self) -> Any:
        return int, (os.getpid(),)


class Sent:
    """A global and its digest; without a digest it could not be pickled."""

    __slots__ = ("digest", "error", "value")

    def __init__(self, value: Any, digest: bytes | None, error: str = "") -> None:
        self.value = value
        self.digest = digest
        self.error = error


def _dump_of(pickler: Pickler) -> Dump:
    dump = pickler.dump_reference and pickler.dump_reference()
    if not dump:
        dump = Dump()
        pickler.dump_reference = weakref.ref(dump)
    return dump


def reduce_function(pickler: Pickler, fn: types.FunctionType) -> Any:
    """How a Pickler writes a function by value."""
    code = fn.__code__
    name = space_name(fn.__globals__)
    made_in: Any = name
    imports: list[str] = []
    values: list[tuple[str, bytes | None, Any]] = []
    dump: Any = None
    if pickler.survey is not None:
        pickler.survey.meet_function(fn, name)
    else:
        dump = _dump_of(pickler)
        if name is None:
            # Functions with the same globals have the same globals again.
            _, made_in = dump.spaces.setdefault(
                id(fn.__globals__), (fn.__globals__, _new_space(fn.__globals__)))
        if name is None or name == "__main__":
            names = global_names(code)
            values = list(_values(dump, fn, name, names))
            imports = _submodules(code, (value for _, _, value in values))
    state = (
        dump, imports, values, fn.__defaults__, fn.__kwdefaults__, _annotations(fn),
        fn.__doc__, fn.__module__, fn.__qualname__, fn.__dict__,
    )
    return (_make_function, (code, made_in, fn.__name__, fn.__closure__), state,
            None, None, _set_function)


def _annotations(fn: types.FunctionType) -> dict[str, Any]:
    try:
        return fn.__annotations__
    except Exception:       # from 3.14 on this runs code, which is not what is wanted here
        return {}


def _new_space(source: dict[str, Any]) -> dict[str, Any]:
    kept = ("__name__", "__package__", "__path__", "__file__")
    return {key: source[key] for key in kept if key in source}


def _values(dump: Dump, fn: types.FunctionType, space: str | None,
            names: tuple[str, ...]) -> Iterator[tuple[str, bytes | None, Any]]:
    if any((id(fn.__globals__), name) not in dump.values
           for name in names if name in fn.__globals__):
        survey = Survey(fn)
        dump.values.update(survey.values)
        dump.classes.update(survey.classes)
    for name in names:
        sent = dump.values.get((id(fn.__globals__), name))
        if sent is None:
            yield name, None, None          # a builtin, or not there (any more)
        elif sent.digest is None:
            yield name, b"", (_FAMILY, id(sent.value), sent.error)
        else:
            yield name, sent.digest, portable(sent.value)


def portable(value: Any) -> Any:
    """A global or an attribute of a class, as it can be sent."""
    if type(value) in _LOCKS:
        return NewLock(_LOCKS[type(value)])
    return value


class NewLock:
    """Unpickles as a new lock."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __reduce__(self) -> Any:
        return self.make, ()


_LOCKS: dict[type, Callable[[], Any]] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
}


# ---- receiving a function ----


def _make_function(code: types.CodeType, space: str | dict[str, Any] | None, name: str,
                   closure: tuple[types.CellType, ...] | None) -> types.FunctionType:
    if space == "__main__":
        made_in = _main()
    elif isinstance(space, str):
        __import__(space)
        made_in = vars(sys.modules[space])
    elif space is None:
        made_in = {}
    else:
        made_in = space
    made_in.setdefault("__builtins__", builtins)
    return types.FunctionType(code, made_in, name, None, closure)


def _set_function(fn: types.FunctionType, state: tuple[Any, ...]) -> None:
    (sender, imports, values, fn.__defaults__, fn.__kwdefaults__, fn.__annotations__,
     fn.__doc__, fn.__module__, fn.__qualname__, attributes) = state
    for name in imports:
        __import__(name)
    fn.__dict__.update(attributes)
    if values:
        _receive_values(fn, sender, values)


def _receive_values(fn: types.FunctionType, sender: int,
                    values: list[tuple[str, bytes | None, Any]]) -> None:
    space = fn.__globals__
    shared = space is _main()
    apply = not shared or _from_parent(sender)
    for name, digest, value in values:
        key = ("__main__", name)
        if digest == b"":
            _check_inherited(fn, name, value)
        elif not apply:
            # A result: the parent's own globals are not to be changed by it.
            if digest is not None:
                space.setdefault(name, value)
        elif not shared:
            if digest is not None:
                space[name] = value
        else:
            if _applied.get(key) != digest:
                _bump()
                if digest is not None:
                    space[name] = value
                elif key in _applied or id(space.get(name)) == _inherited.get(name):
                    space.pop(name, None)
                _applied[key] = digest
            _need(key, digest)


def _check_inherited(fn: types.FunctionType, name: str,
                     value: tuple[bytes, int, str]) -> None:
    family, address, error = value
    problem = ""
    if name not in fn.__globals__:
        problem = "this process has nothing of that name"
    elif (fn.__globals__ is _main() and family == _FAMILY and name in _inherited
          and _inherited[name] == id(fn.__globals__[name]) != address):
        problem = "this process was started when it was another object"
    if problem:
        raise pickle.UnpicklingError(
            f"the global {name!r} that {fn.__qualname__}() uses cannot be pickled "
            f"({error}), and {problem}")


def _bump() -> None:
    EPOCH[0] += 1


# ---- what something that was loaded relies on ----

_loading = threading.local()


def _need(key: object, digest: bytes | None) -> None:
    needs = getattr(_loading, "needs", None)
    if needs is not None:
        needs[key] = digest


class Loaded:
    """What a load applied, so that it can be seen whether it still holds."""

    def __init__(self, data: Any) -> None:
        outer = getattr(_loading, "needs", None)
        needs: dict[object, bytes | None] = {}
        _loading.needs = needs
        try:
            self.value = loads(data)
        finally:
            _loading.needs = outer
        if outer is not None:
            outer.update(needs)
        self.needs = needs
        self.epoch = EPOCH[0]

    def is_current(self) -> bool:
        """Whether globals and classes here are as this load made them.

        False if something else was sent since: then it must be loaded again.
        """
        if self.epoch != EPOCH[0]:
            if any(_applied.get(key) != digest for key, digest in self.needs.items()):
                return False
            self.epoch = EPOCH[0]
        return True


# ---- classes ----

_helper = cloudpickle.Pickler(io.BytesIO(), protocol=5)
_cloudpickle_table = cloudpickle.Pickler.dispatch_table


def cloudpickle_reduce(obj: Any) -> Any:
    """Reduce with cloudpickle's table."""
    return _cloudpickle_table[type(obj)](obj)


def reduce_class(pickler: Pickler, cls: type) -> Any:
    """How a Pickler writes a class by value.

    In a message it is a pickle of its own, which is made once as long as nothing changes,
    and which the receiver looks into only if it does not know this state of the class.
    """
    if pickler.survey is not None:
        pickler.survey.meet_class(cls)
    elif not pickler.inline:
        parcel = _parcel(cls)
        if parcel is None:
            return NotImplemented       # by reference: "not the same", or what a fork left
        return _unpack_class, (_class_number(cls), parcel.digest, parcel.data,
                               _dump_of(pickler))
    make, args, state, _, _, set_state = _helper.reducer_override(cls)
    # The last two are cloudpickle's number for it and something for its future.
    args = (*args[:-2], None, None)
    attributes, slots = state
    attributes = {key: portable(value) for key, value in attributes.items()}
    number = _class_number(cls)
    digest = None
    dump = None
    if pickler.survey is None:
        dump = _dump_of(pickler)
        digest = dump.classes.get(cls)
    return (_make_class, (number, make, args),
            (dump, number, digest, set_state, (attributes, slots)), None, None, _set_class)


def _make_class(number: str, make: Callable[..., type], args: tuple[Any, ...]) -> type:
    cls = _class_of.get(number)
    if cls is None:
        made = make(*args)
        with _classes_lock:
            cls = _class_of.setdefault(number, made)
            if cls is made:
                _number_of[cls] = number
                _received.add(cls)
    return cls


#: What a class was sent with last, to see what is gone.
_attributes_of: weakref.WeakKeyDictionary[type, set[str]] = weakref.WeakKeyDictionary()


def _set_class(cls: type, state: Any) -> None:
    sender, number, digest, set_state, attributes = state
    if cls in _received or _from_parent(sender):
        if _applied.get(number) != digest or digest is None:
            _bump()
            set_state(cls, attributes)
            names = set(attributes[0])
            for name in _attributes_of.get(cls, names) - names:
                if name in vars(cls):
                    delattr(cls, name)
            _attributes_of[cls] = names
            _applied[number] = digest
        _need(number, digest)


class _Parcel:
    def __init__(self, cls: type) -> None:
        survey = Survey(cls)
        self.digest = survey.digest()
        self.checks = None if survey.volatile else survey.checks
        self.data = survey.dump()


_parcels: weakref.WeakKeyDictionary[type, _Parcel] = weakref.WeakKeyDictionary()


def _parcel(cls: type) -> _Parcel | None:
    known = _parcels.get(cls)
    if known is not None and known.checks is not None and all(map(holds, known.checks)):
        return known
    try:
        made = _Parcel(cls)
    except Exception:
        if importable_in_main(cls):
            return None
        raise
    _parcels[cls] = made
    return made


def importable_in_main(obj: Any) -> bool:
    """Whether it is found under its name in ``__main__``, by who has it there."""
    found: Any = sys.modules["__main__"]
    for step in obj.__qualname__.split("."):
        found = getattr(found, step, None)
    return obj.__module__ in MAIN_NAMES and found is obj


_unpacked: weakref.WeakKeyDictionary[type, tuple[bytes, Loaded]] = weakref.WeakKeyDictionary()


def _unpack_class(number: str, digest: bytes, data: bytes, sender: int) -> type:
    cls = _class_of.get(number)
    if cls is not None:
        if cls not in _received and not _from_parent(sender):
            return cls          # it is ours
        known = _unpacked.get(cls)
        if known is not None and known[0] == digest and known[1].is_current():
            return cls
    loaded = Loaded(data)
    cls = loaded.value
    del loaded.value            # it would keep its own entry alive
    assert isinstance(cls, type)
    _unpacked[cls] = (digest, loaded)
    return cls


# ---- code ----


def reduce_code(code: types.CodeType) -> Any:
    """A code object, with its source if it is not in a file."""
    make, args = _cloudpickle_table[types.CodeType](code)
    source = _source(code.co_filename)
    if source is None:
        return make, args
    return _make_code, (args, code.co_filename, source)


#: filename -> (linecache's entry, what is sent for it); at most some hundred.
_sources: dict[str, tuple[Any, str]] = {}


def _source(filename: str) -> str | None:
    """The text of a cell, or of what else linecache knows but no file has."""
    entry = linecache.cache.get(filename)
    if entry is None or len(entry) == 1 or entry[1] is not None:
        return None
    known = _sources.get(filename)
    if known is None or known[0] is not entry:
        if len(_sources) > 500:
            _sources.clear()
        known = _sources[filename] = (entry, "".join(entry[2]))
    return known[1]


def _make_code(args: tuple[Any, ...], filename: str, source: str) -> types.CodeType:
    if filename not in linecache.cache:
        linecache.cache[filename] = (
            len(source), None, source.splitlines(keepends=True), filename)
    return types.CodeType(*args)


# ---- looking into it before it is sent ----

# Kinds of checks, as in csrc/procs/checks.h.
(CHECK_ITEM, CHECK_NO_ITEM, CHECK_CELL, CHECK_EMPTY_CELL, CHECK_CODE, CHECK_DEFAULTS,
 CHECK_KWDEFAULTS, CHECK_ATTRIBUTES, CHECK_CLASS_ITEM, CHECK_CLASS_SIZE, CHECK_SIZE) = range(11)

Check = tuple[int, Any, Any, Any]


def holds(check: Check) -> bool:
    """Whether a check still holds (the C core has its own)."""
    kind, container, key, value = check
    found: Any
    if kind == CHECK_ITEM:
        found = container.get(key, ABSENT)
    elif kind == CHECK_NO_ITEM:
        return key not in container
    elif kind == CHECK_CELL:
        found = cell_contents(container.__closure__[key])
    elif kind == CHECK_EMPTY_CELL:
        return cell_contents(container.__closure__[key]) is ABSENT
    elif kind == CHECK_CODE:
        found = container.__code__
    elif kind == CHECK_DEFAULTS:
        found = container.__defaults__
    elif kind == CHECK_KWDEFAULTS:
        found = container.__kwdefaults__
    elif kind == CHECK_ATTRIBUTES:
        return len(container.__dict__) == value
    elif kind == CHECK_CLASS_ITEM:
        found = vars(container).get(key, ABSENT)
    elif kind == CHECK_CLASS_SIZE:
        return len(vars(container)) == value
    else:
        return len(container) == value
    return found is value


def cell_contents(cell: types.CellType) -> Any:
    """What is in a cell, or ABSENT."""
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


class _Hash:
    """The file of a pickler that only wants to know what it would have written."""

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)
        self.write = self.hash.update

    def buffer(self, buffer: Any) -> None:
        self.hash.update(buffer.raw())


class Survey:
    """Everything that a function or class by value consists of.

    values: its globals, and theirs.  checks: what must be as it is for that to be true;
    `volatile`: it contains something that can change without any check telling.
    """

    def __init__(self, root: Any) -> None:
        self.root = root
        self.volatile = False
        self.checks: list[Check] = []
        self.values: dict[tuple[int, str], Sent] = {}
        self.classes: dict[type, bytes] = {}
        self._names: dict[tuple[int, str], None] = {}
        self._met: dict[int, object] = {}
        self._functions: list[tuple[types.FunctionType, str | None]] = []
        self._classes: list[type] = []
        self._root_digest = self._outline(root)
        self._follow()

    def _follow(self) -> None:
        while self._functions or self._classes:
            while self._classes:
                cls = self._classes.pop()
                self.classes[cls] = self._outline(cls)
            if self._functions:
                self._read_globals(*self._functions.pop())

    def _outline(self, value: Any) -> bytes:
        """The digest of a value without the globals of the functions in it."""
        file = _Hash()
        pickler = Pickler(file, file.buffer)
        pickler.inline = True
        pickler.survey = self
        pickler.dump(value)
        return file.hash.digest()

    def meet_function(self, fn: types.FunctionType, space: str | None) -> None:
        """A pickler writes this function."""
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
            contents = cell_contents(cell)
            if contents is ABSENT:
                add((CHECK_EMPTY_CELL, fn, i, None))
            else:
                add((CHECK_CELL, fn, i, contents))
                self._rely_on(contents)
        if space is None or space == "__main__":
            self._functions.append((fn, space))

    def _check_dict(self, container: dict[str, Any]) -> None:
        self.checks.append((CHECK_SIZE, container, None, len(container)))
        for key, value in container.items():
            self.checks.append((CHECK_ITEM, container, key, value))
            self._rely_on(value)

    def _read_globals(self, fn: types.FunctionType, space: str | None) -> None:
        for name in global_names(fn.__code__):
            key = (id(fn.__globals__), name)
            if key in self._names:
                continue
            self._names[key] = None
            value = fn.__globals__.get(name, ABSENT)
            if value is ABSENT:
                self.checks.append((CHECK_NO_ITEM, fn.__globals__, name, None))
                continue
            self.checks.append((CHECK_ITEM, fn.__globals__, name, value))
            self.values[key] = self._sent(value)

    def _sent(self, value: Any) -> Sent:
        before = len(self._functions), len(self._classes)
        try:
            digest = self._outline(portable(value))
        except Exception as error:
            # It stays at home, and what was met on the way was not met.
            for fn, _ in self._functions[before[0]:]:
                del self._met[id(fn)]
            for cls in self._classes[before[1]:]:
                del self._met[id(cls)]
            del self._functions[before[0]:]
            del self._classes[before[1]:]
            return Sent(value, None, f"{type(error).__name__}: {error}")
        if type(value) not in _LOCKS:
            self._rely_on(value)
        return Sent(value, digest)

    def meet_class(self, cls: type) -> None:
        """A pickler writes this class."""
        if id(cls) in self._met:
            return
        self._met[id(cls)] = cls
        self._classes.append(cls)
        attributes = dict(vars(cls))
        self.checks.append((CHECK_CLASS_SIZE, cls, None, len(attributes)))
        for key, value in attributes.items():
            self.checks.append((CHECK_CLASS_ITEM, cls, key, value))
            if key not in _MADE_WITH_THE_CLASS and type(value) not in _LOCKS:
                self._rely_on(value)

    def _rely_on(self, value: Any) -> None:
        if not self.volatile and not unchanging(value):
            self.volatile = True

    def digest(self) -> bytes:
        """A digest of all that would be sent."""
        whole = hashlib.blake2b(self._root_digest, digest_size=16)
        for sent in self.values.values():
            whole.update(sent.digest or b"%d" % id(sent.value))
        for digest in self.classes.values():
            whole.update(digest)
        whole.update(repr([name for _, name in self._names]).encode())
        return whole.digest()

    def dump(self) -> bytes:
        """The pickle of it."""
        file = io.BytesIO()
        pickler = Pickler(file)
        pickler.inline = True
        dump = Dump(self.values, self.classes)
        pickler.dump_reference = weakref.ref(dump)
        pickler.dump(self.root)
        return file.getvalue()


#: Attributes of a class that the class statement, a decorator or a metaclass makes, and
#: nobody changes in place.
_MADE_WITH_THE_CLASS = frozenset({
    "__annotations__", "__annotations_cache__", "__dict__", "__weakref__", "__slots__",
    "__orig_bases__", "__parameters__", "__dataclass_fields__", "__dataclass_params__",
    "__match_args__", "__abstractmethods__", "_abc_impl", "_member_map_", "_member_names_",
    "_value2member_map_", "_hashable_values_", "_unhashable_values_",
    "_unhashable_values_map_", "_member_type_", "_field_defaults", "__static_attributes__",
})

_UNCHANGING: frozenset[type] = frozenset({
    type(None), bool, int, float, complex, str, bytes, range, type(...), type(NotImplemented),
    types.FunctionType, types.MethodDescriptorType, types.WrapperDescriptorType,
    types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType,
    types.GenericAlias, types.UnionType, property, classmethod, staticmethod,
    _LruCache,
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
    """Whether its pickle stays the same as long as the checks hold.

    Numbers, strings, tuples of such, modules, functions and classes (which have checks of
    their own), and some types that everybody uses as constants.
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
    return _constant_instance(value, kind, depth)


def _constant_instance(value: Any, kind: type, depth: int) -> bool:
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(value, enum.Enum):
        return unchanging(value._value_, depth - 1)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.generic, numpy.dtype)):
        return kind.__module__.partition(".")[0] == "numpy" and not (
            isinstance(value, numpy.void))
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        # A named tuple; one with a dictionary can get attributes.
        return not hasattr(value, "__dict__") and unchanging(tuple(value), depth)
    return False


__all__ = ["ABSENT", "Loaded", "Survey", "dumps", "holds", "importable", "unchanging"]
