"""What a message can hold, and how it arrives.

The pickler is tried by itself, and with processes that are started without a pool.
"""
import array
import collections
import copyreg
import ctypes
import datetime
import decimal
import functools
import io
import multiprocessing
import pickle
import socket
import struct
import subprocess
import sys
import threading
import types
import weakref
from multiprocessing.reduction import ForkingPickler

import pytest
from cfutures import _pickle
from testkit import GUARD, Thing, add

LARGE = 1 << 16


class Sent:
    """A pickle, and the buffers that were large enough to travel apart."""

    def __init__(self, obj, threshold=LARGE):
        self.buffers = []

        def callback(buffer):
            if buffer.raw().nbytes < threshold:
                return True
            self.buffers.append(buffer.raw())
            return False

        file = io.BytesIO()
        _pickle.pickler(file, callback).dump(obj)
        self.data = file.getvalue()

    def arrive(self):
        """What the receiver gets; its buffers are its own."""
        buffers = [bytes(b) if b.readonly else bytearray(b) for b in self.buffers]
        return _pickle.loads(self.data, buffers=buffers)


def through(obj):
    return Sent(obj).arrive()


# ---- what is common ------------------------------------------------------------------


class Plain:
    def __init__(self, **attributes):
        vars(self).update(attributes)


class Reduced:
    def __init__(self, x):
        self.x = x

    def __reduce__(self):
        return Reduced, (self.x,)

    def method(self):
        return self.x

    def _Reduced__private(self):
        return -self.x

    @classmethod
    def of_class(cls):
        return cls


class Name(str):
    pass


VALUES = [
    None, True, 1, -(1 << 70), 1.5, 1j, "text", b"bytes", bytearray(b"x"), (), [1, [2]],
    {1: {2}}, frozenset({1}), range(3), slice(1, 2), ..., NotImplemented, int,
    type(None), type(...), types.FunctionType, types.ModuleType, len, str.upper, type(len),
    dict.fromkeys, add, Reduced, Reduced.method, decimal.Decimal("1.5"),
    datetime.datetime(2000, 1, 1),
    collections.OrderedDict(a=1), collections.Counter("aab"), collections.deque([1], 3),
    array.array("d", [1, 2]), Name("x"), socket.AddressFamily.AF_INET,
    list[int], int | str, weakref, sys, multiprocessing.get_context("spawn").Process,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: repr(v)[:30])
def test_what_others_pickle_too(value):
    arrived = through([value, value])
    assert arrived[0] == value and type(arrived[0]) is type(value)
    assert (arrived[0] is arrived[1]) or isinstance(value, (int, float, complex))


def test_it_is_the_bytes_that_pickle_writes():
    """Nothing is added to what plain pickle can do."""
    value = {"a": [1, 2.5, Reduced(3)], "b": (add, Reduced, ValueError), "c": Plain(x=1)}
    assert Sent(value).data == pickle.dumps(value, 5)


def test_plain_values_call_no_python_code():
    class Counting(_pickle.Pickler):
        calls = 0

        def reducer_override(self, obj):
            Counting.calls += 1
            return super().reducer_override(obj)

    file = io.BytesIO()
    Counting(file, None).dump([{"a": (1, 2.0, "x", b"y", None, True)}, {1}, [[]], bytearray()])
    assert Counting.calls == 0
    Counting(file, None).dump([add])
    assert Counting.calls == 1


def test_one_pickler_for_many_messages():
    file = io.BytesIO()
    pickler = _pickle.pickler(file, lambda buffer: True)
    shared = [1]
    for _ in range(3):
        file.seek(0)
        file.truncate()
        pickler.dump([shared, shared, lambda: shared, Plain])
        pickler.clear_memo()
        a, b, function, cls = _pickle.loads(file.getvalue())
        assert a == [1] and a is b and cls is Plain and function() == [1]


def test_methods():
    obj = Reduced(5)
    assert through(obj.method)() == 5 and through(Reduced.of_class)() is Reduced
    assert through("a".join)(["x", "y"]) == "xay"
    obj_private = types.MethodType(lambda self: self.x + 1, obj)
    assert through(obj_private)() == 6
    assert through(obj._Reduced__private)() == -5


def test_partial_objects():
    partial = through(functools.partial(add, 1, b=2))
    assert type(partial) is functools.partial and partial() == 3


def test_registered_reducers(monkeypatch):
    """Those of copyreg and of multiprocessing, whenever they were registered."""
    class Foreign:
        pass

    class Other:
        pass

    monkeypatch.setattr(copyreg, "dispatch_table", copyreg.dispatch_table)
    monkeypatch.setitem(copyreg.dispatch_table, Foreign, lambda obj: (Name, ("copyreg",)))
    assert through(Foreign()) == "copyreg"
    monkeypatch.setitem(
        ForkingPickler._extra_reducers, Foreign, lambda obj: (Name, ("multiprocessing",)))
    assert through(Foreign()) == "multiprocessing"
    file = io.BytesIO()
    pickler = _pickle.pickler(file, None)
    pickler.dump(1)
    monkeypatch.setitem(
        ForkingPickler._extra_reducers, Other, lambda obj: (Name, ("later",)))
    file.seek(0)
    pickler.dump(Other())
    assert _pickle.loads(file.getvalue()) == "later"


class Meta(type):
    pass


class WithMeta(metaclass=Meta):
    pass


def test_registered_metaclass(monkeypatch):
    monkeypatch.setitem(copyreg.dispatch_table, Meta, lambda cls: (Name, (cls.__name__,)))
    assert through(WithMeta) == "WithMeta"


def test_what_the_standard_library_refuses(tmp_path):
    def generator():
        yield 1

    async def coroutine():
        pass

    async def agenerator():
        yield 1

    unstarted = coroutine()
    with open(tmp_path / "file", "w+") as file, open(tmp_path / "file", "rb") as binary:
        for bad in (file, binary, threading.Lock(), threading.RLock(), threading.Event(),
                    generator(), agenerator(), unstarted, sys._getframe(), threading.local(),
                    weakref.ref(add),
                    threading.current_thread(), ctypes.pointer(ctypes.c_int(1))):
            for held in (bad, [bad], Plain(x=bad)):
                with pytest.raises((TypeError, ValueError, AttributeError,
                                    pickle.PicklingError)) as mine:
                    through(held)
                with pytest.raises(type(mine.value)):
                    ForkingPickler.dumps(held)
        # A function that holds one is refused as well.
        with pytest.raises(TypeError, match="TextIOWrapper"):
            through(lambda: file)
    unstarted.close()


def test_locks_of_processes_are_inherited_only():
    for bad in (multiprocessing.Lock(), multiprocessing.Queue(), multiprocessing.Value("i")):
        with pytest.raises(RuntimeError, match="inheritance"):
            through(bad)


# ---- memory ----------------------------------------------------------------------------


VIEWS = [
    memoryview(b"abc"), memoryview(bytearray(b"abc")), memoryview(b""), memoryview(bytearray()),
    memoryview(b"abcdef")[::2], memoryview(bytearray(b"abcdef"))[::-1],
    memoryview(b"12345678").cast("h"), memoryview(bytearray(b"12345678")).cast("i", (1, 2)),
    memoryview(array.array("d", [1, 2, 3])), memoryview(b"12").cast("c"),
    memoryview(b"1234").cast("i", ()), memoryview(bytearray(b"123456")).cast("B", (2, 3)),
    memoryview(bytearray(range(16))).cast("h")[1:7:2], memoryview(bytearray(LARGE)),
    memoryview(bytes(LARGE)).cast("q"), memoryview(bytearray(LARGE))[1:],
]


@pytest.mark.parametrize("view", VIEWS, ids=lambda v: f"{v.format}-{v.shape}-{v.readonly}")
def test_memoryview(view):
    sent = Sent({"view": view})
    arrived = sent.arrive()["view"]
    assert type(arrived) is memoryview and arrived == view
    assert (arrived.format, arrived.shape, arrived.readonly) == (
        view.format, view.shape, view.readonly)
    assert len(sent.buffers) == (view.nbytes >= LARGE), "large memory travels apart"
    if not arrived.readonly and arrived.nbytes and arrived.ndim == 1:
        before = view.tolist()
        arrived[0] = type(before[0])(7) if view.format != "c" else b"7"
        assert view.tolist() == before


def test_memoryview_with_a_format_that_nothing_can_make():
    class Pair(ctypes.Structure):
        _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_double)]

    for view in (memoryview((Pair * 3)()), memoryview((ctypes.c_int * 0)())):
        with pytest.raises(TypeError, match="memoryview"):
            through(view)


def test_pickle_buffer():
    sent = Sent([pickle.PickleBuffer(bytearray(LARGE)), pickle.PickleBuffer(b"small")])
    assert len(sent.buffers) == 1
    a, b = sent.arrive()
    assert len(a) == LARGE and b == b"small"


def test_arrays():
    numpy = pytest.importorskip("numpy")
    for make in (numpy.zeros, lambda n: numpy.arange(n)[::2], lambda n: numpy.ones((n, 2)).T,
                 lambda n: numpy.array([{}] * 3), lambda n: numpy.zeros(n, "i4,f8"),
                 lambda n: numpy.float64(n), lambda n: numpy.dtype("f4"),
                 lambda n: numpy.ma.masked_array([1, 2], [0, 1]), lambda n: numpy.sin):
        value = make(LARGE)
        arrived = through([value])[0]
        assert type(arrived) is type(value) and numpy.all(arrived == value)
    sent = Sent(numpy.zeros(LARGE))
    assert len(sent.buffers) == 1 and sent.arrive().flags.writeable


# ---- code ------------------------------------------------------------------------------


def test_importable():
    for obj in (add, Thing, Reduced.method, len, int, pickle.Pickler, datetime.date):
        assert _pickle.importable(obj), obj

    def local():
        pass

    moved = types.FunctionType(add.__code__, globals(), "add")
    for obj in (local, lambda: 1, moved, 5, Thing()):
        assert not _pickle.importable(obj), obj


def test_functions_and_classes_by_value():
    def local(x, *rest, y=2, **more):
        """With a doc."""
        return x + y + add(1)

    local.note = "here"
    local.__annotations__["x"] = int
    arrived = through(local)
    assert arrived is not local and arrived(1) == 5 == arrived(1, 3)
    assert arrived.__globals__ is globals(), "a module's functions use the module"
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__",
                 "__defaults__", "__kwdefaults__", "note"):
        assert getattr(arrived, name) == getattr(local, name)

    class Local:
        def method(self):
            return __class__

    assert through(Local) is Local and type(through(Local())) is Local
    assert through(Local().method)() is Local


def test_cells_and_code():
    def outer():
        return outer

    cell = outer.__closure__[0]
    arrived = through(cell)
    assert arrived.cell_contents.__closure__[0] is arrived
    assert through(types.CellType()) == types.CellType(), "both are empty"
    assert through(outer.__code__) == outer.__code__


def test_things_that_code_is_made_of():
    for value in (property(add), classmethod(add), staticmethod(add),
                  types.MappingProxyType({"a": 1}), Reduced.__dict__["__weakref__"]):
        assert type(through(value)) is type(value)
    view = {"a": 1}.items()
    assert list(through(view)) == list(view) and list(through({"a": 1}.keys())) == ["a"]
    assert through(types).FunctionType is types.FunctionType


def test_lru_cache_by_reference_and_by_value():
    assert through(imported_cache) is imported_cache
    local = functools.lru_cache(maxsize=5, typed=True)(lambda x: [x])
    arrived = through(local)
    assert arrived.cache_parameters() == {"maxsize": 5, "typed": True} and arrived(1) == [1]


@functools.lru_cache
def imported_cache(x):
    return x


def test_cached_property():
    class Local:
        @functools.cached_property
        def value(self):
            return [1]

    arrived = through(vars(Local)["value"])
    assert type(arrived) is functools.cached_property and arrived.attrname == "value"


# ---- exceptions ------------------------------------------------------------------------


class TwoArguments(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.a, self.b = a, b


class KeywordOnly(ValueError):
    def __init__(self, *, why):
        super().__init__()
        self.why = why


class MakesItself(Exception):
    def __reduce__(self):
        return MakesItself, ("made",), {"extra": 1}


class Hopeless(Exception):
    def __reduce__(self):
        return struct.unpack, ("i", b"")


class LoadsBadly:
    def __reduce__(self):
        return struct.unpack, ("i", b"")


class NoRepr(Exception):
    def __repr__(self):
        raise RuntimeError


def pack(exc):
    """As a worker does with what a task raised, and the parent with what arrives."""
    try:
        raise exc
    except BaseException as raised:
        return through(_pickle.pack_exception(raised))


def test_exception_arrives_with_its_traceback_as_the_cause():
    from concurrent.futures.process import _RemoteTraceback

    for exc in (ValueError("x"), KeyError(1), OSError(2, "no"), SystemExit(3), StopIteration(4),
                KeyboardInterrupt(), UnicodeDecodeError("utf8", b"x", 0, 1, "why"),
                subprocess.CalledProcessError(1, "cmd"), ImportError("x", name="y")):
        arrived = pack(exc)
        assert type(arrived) is type(exc) and arrived.args == exc.args
        assert str(arrived) == str(exc) and vars(arrived) == vars(exc)
        assert arrived.__traceback__ is None and exc.__traceback__ is None
        assert type(arrived.__cause__) is _RemoteTraceback
        text = str(arrived.__cause__)
        assert text.startswith('\n"""\nTraceback') and text.endswith('\n"""')
        assert "        raise exc" in text or "    raise exc" in text


def test_exceptions_whose_constructor_wants_other_arguments():
    arrived = pack(TwoArguments(1, 2))
    assert type(arrived) is TwoArguments and str(arrived) == "1 and 2"
    assert (arrived.a, arrived.b) == (1, 2)
    arrived = pack(KeywordOnly(why="x"))
    assert type(arrived) is KeywordOnly and arrived.why == "x" and arrived.args == ()
    arrived = pack(MakesItself("here"))
    assert arrived.args == ("made",) and arrived.extra == 1
    group = pack(ExceptionGroup("several", [TwoArguments(1, 2), KeyError(1)]))
    assert type(group.exceptions[0]) is TwoArguments and group.exceptions[0].b == 2


def test_notes_causes_and_references_to_itself():
    exc = ValueError("x")
    exc.add_note("a note")
    exc.me = exc
    exc.__cause__ = KeyError("first")
    arrived = pack(exc)
    assert arrived.__notes__ == ["a note"] and arrived.me is arrived
    assert "KeyError: 'first'" in str(arrived.__cause__)


def test_exceptions_that_cannot_be_pickled():
    arrived = pack(ValueError(threading.Lock()))
    assert type(arrived) is TypeError and "cannot pickle '_thread.lock' object" in str(arrived)
    assert "the task raised ValueError(<unlocked" in str(arrived)
    assert "raise exc" in str(arrived.__cause__)

    class Refuses(Exception):
        def __reduce__(self):
            raise struct.error("never")

    arrived = pack(Refuses("x"))
    assert type(arrived) is pickle.PicklingError and "error: never" in str(arrived)


def test_exceptions_that_cannot_be_unpickled():
    for exc in (Hopeless("x"), ValueError("x", LoadsBadly())):
        arrived = pack(exc)
        if isinstance(exc, Hopeless):
            assert type(arrived) is Hopeless and arrived.args == ("x",)
        else:
            assert type(arrived) is pickle.UnpicklingError and "ValueError('x'" in str(arrived)
        assert "raise exc" in str(arrived.__cause__)


def test_exception_without_a_repr():
    arrived = pack(NoRepr(threading.Lock()))
    assert type(arrived) is TypeError and "NoRepr that has no repr" in str(arrived)


# ---- with other processes ----------------------------------------------------------------


def answer(conn):
    """In a child: give back what comes, pickled our way, until None comes."""
    while (data := conn.recv_bytes()) != b"":
        try:
            value = _pickle.loads(data)
            if isinstance(value, tuple) and callable(value[0]):
                value = value[0](*value[1:])
            reply = value
        except BaseException as exc:
            reply = _pickle.pack_exception(exc)
        conn.send_bytes(Sent(reply, sys.maxsize).data)


@pytest.fixture
def there(context):
    """Send an object, or a call, to a process; what comes back."""
    mine, theirs = context.Pipe()
    process = context.Process(target=answer, args=(theirs,))
    process.start()

    def ask(value):
        mine.send_bytes(Sent(value, sys.maxsize).data)
        assert mine.poll(GUARD)
        return _pickle.loads(mine.recv_bytes())

    yield ask
    mine.send_bytes(b"")
    process.join(GUARD)
    mine.close()
    theirs.close()
    process.close()


def test_connections_and_sockets_travel(there):
    a, b = socket.socketpair()
    with a, b:
        copy = there(a)
        with copy:
            copy.sendall(b"hello")
            assert b.recv(5) == b"hello"
    left, right = multiprocessing.Pipe()
    there((send_hello, right))
    assert left.poll(GUARD) and left.recv() == "hello"
    left.close()
    right.close()


def send_hello(conn):
    conn.send("hello")
    conn.close()


def test_local_code_in_another_process(there):
    class Local:
        made = 0

        def __init__(self, x):
            self.x = x

        def more(self):
            return Local(self.x + 1)

    def make(x):
        return Local(x).more(), add(x)

    local, number = there((make, 3))
    assert type(local) is Local and local.x == 4 and number == 4
    assert there((lambda obj: isinstance(obj, Local), local)) is True
    Local.made = 5
    assert there((lambda obj: obj.made, Local(1))) == 5
    assert vars(Local)["more"].__globals__ is globals()


def test_initializers_travel(context):
    """See cfutures._cells.travelling: what it assigns is told from what is sent later."""
    from cfutures import _cells

    assert _cells.travelling(add, False)(1, 2) == 3
    assert _cells.travelling(functools.partial(add, 1), False)(2) == 3
    refused = types.MethodType(add, threading.Lock())
    assert _cells.travelling(refused, False) is refused
    obj = Reduced(1).method
    assert _cells.travelling(obj, True) is obj
