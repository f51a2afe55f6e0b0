"""Messages between processes (csrc/procs/codec.h): what arrives is what pickle delivers.

codec_hook.c is compiled here: the codec of a parent and of a worker in one process, without
a pool around them, so that a test sees what a message is made of and what becomes of its
memory.  Flags for the compiler from $CFUTURES_CFLAGS: with -fsanitize=address (and libasan
in $LD_PRELOAD, PYTHONMALLOC=malloc) it is all checked.
"""
import collections
import datetime
import enum
import gc
import importlib.util
import math
import os
import pickle
import random
import shlex
import subprocess
import sys
import sysconfig
import threading
import weakref
from pathlib import Path

import pytest
from testkit import FREE_THREADED, eventually

CSRC = Path(__file__).resolve().parents[2] / "csrc"
HOOK = Path(__file__).with_name("codec_hook.c")
SOURCES = [
    *(CSRC / "procs" / name for name in (
        "codec.c", "memo.c", "simple.c", "simple_read.c", "pickle.c", "pickle_sink.c",
        "shared_buffer.c", "lease.c")),
    *sorted((CSRC / "ipc").glob("*.c")), *sorted((CSRC / "sync").glob("*.c")),
    CSRC / "py" / "state.c", CSRC / "py" / "block.c",
    CSRC / "plat" / "copy.c", CSRC / "plat" / "spin.c",
    *sorted((CSRC / "plat").glob("*_linux.c")),
]
KIB, MIB = 1 << 10, 1 << 20
SPILL = 0xffffffff
THRESHOLD = 64 * KIB


# ---- the hook ----


@pytest.fixture(scope="session")
def hook_file(tmp_path_factory):
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    target = tmp_path_factory.mktemp("hook") / "codec_hook.so"
    serialized = 0 if sysconfig.get_config_var("Py_GIL_DISABLED") else 1
    try:
        done = subprocess.run(
            [*compiler, "-shared", "-fPIC", "-pthread", "-std=gnu11", "-O1", "-g",
             "-fvisibility=hidden", "-fno-strict-aliasing", "-Wall", "-Werror",
             f"-DCF_SERIALIZED={serialized}", f"-I{CSRC}",
             f"-I{sysconfig.get_path('include')}",
             *shlex.split(os.environ.get("CFUTURES_CFLAGS", "")), HOOK, *SOURCES,
             "-o", target],
            capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        pytest.skip(f"there is no {compiler[0]} here to compile codec_hook.c")
    assert done.returncode == 0, done.stderr
    return target


def load(file):
    spec = importlib.util.spec_from_file_location("codec_hook", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BarePickler(pickle.Pickler):
    def __init__(self, file, buffer_callback):
        super().__init__(file, 5, buffer_callback=buffer_callback)


@pytest.fixture(scope="session")
def hook(hook_file):
    module = load(hook_file)
    module.configure(pickler=BarePickler, loads=pickle.loads)
    return module


@pytest.fixture
def wire(hook):
    """A parent and a worker; when the test is over all memory must have been given back."""
    wire = hook.Wire()
    yield wire
    if wire.views() != (0, 0):
        gc.collect()        # a failed test's traceback, or pandas
    assert wire.views() == (0, 0)
    assert wire.usage() == (0, 0)


def send(wire, *args, **kwargs):
    """What arrives of a call's arguments."""
    message = wire.call(None, *args, **kwargs)
    try:
        fn, got, got_kwargs = message.deliver()
    finally:
        message.release()
    assert fn is None
    assert got_kwargs == (kwargs or None)
    return got


def send_back(wire, value):
    return wire.result(value).deliver()


def the_same(got, sent):
    """Equal, of one type, with NaN and -0.0."""
    if type(got) is not type(sent):
        return False
    if isinstance(sent, float):
        return got.hex() == sent.hex()
    return got == sent


# ---- simple values ----

SIMPLE = [
    None, True, False,
    0, 1, -1, 127, 128, -128, -129, 2**15 - 1, 2**15, -2**15, -2**15 - 1, 2**31 - 1, 2**31,
    -2**31, -2**31 - 1, 2**63 - 1, -2**63,
    0.0, -0.0, 1.5, 5e-324, math.inf, -math.inf, math.nan,
    b"", b"a", b"\0\xff", bytes(254), bytes(255), bytes(256), bytes(4095), bytes(4096),
    "", "a", "\0", "\x7f", "\x80", "\xe4", "\xff", "\u0100", "\u20ac", "\ud800", "a\udfff",
    "\uffff", "\U00010000", "\U0010ffff", "a\xe4", "a\u20ac", "a\U0001f600",
    "x" * 254, "x" * 255, "x" * 4096, "\xe4" * 4096, "\u20ac" * 2048, "\U0001f600" * 1024,
]


@pytest.mark.parametrize("value", SIMPLE, ids=lambda v: f"{v!r:.12}-{len(str(v))}")
def test_simple_values_arrive_as_they_are_without_pickle(wire, value):
    message = wire.call(None, value)
    assert message.slot["codec"] == "simple"
    message.release()
    (got,) = send(wire, value)
    assert the_same(got, value)
    message = wire.result(value)
    assert message.slot["codec"] == "simple"
    assert the_same(message.deliver(), value)


def test_characters_are_the_interpreters_own(wire):
    for character in ("a", "\x7f", "\xe4"):
        assert send_back(wire, character) is chr(ord(character))


@pytest.mark.parametrize("size", [71, 72, 73, 4095, 4096, 65535, 65536, 300_000, 5_000_000])
@pytest.mark.parametrize("unit", [b"x", "x", "\xe4", "\u20ac", "\U0001f600"], ids=ascii)
def test_texts_of_every_size_and_kind(wire, unit, size):
    value = unit * size
    got = send(wire, 1, value, "end")
    assert got == (1, value, "end")
    assert send_back(wire, value) == value


# ---- containers of simple values ----

def deep(levels):
    value = "end"
    for _ in range(levels):
        value = [value]
    return value


WORD = "a word"
CONTAINERS = [
    (), [], {}, (1,), [1], {1: 2}, ((),), [[]], {"": {}}, [(), ()],
    (1, "two", 3.0, None, True, b"six", [7], {8: 9}),
    list(range(300)), dict.fromkeys(range(300)), tuple(map(str, range(300))),
    {"a": 1, "b": [1, 2, {"c": (3, 4)}], "d": None}, {(1, "a"): 1, b"k": 2, None: 3, 1.5: 4},
    [{"name": "x", "size": i} for i in range(40)],
    [WORD, WORD, (WORD, {WORD: WORD})], [str(i % 50) * 3 for i in range(200)],
    ["\xe4" * 300, "\u20ac" * 300, "\U0001f600" * 300, "y" * 65535, b"z" * 65535],
    deep(1), deep(16), {"z": 1, "a": 2},
]


@pytest.mark.skipif(FREE_THREADED, reason="left to pickle, which takes the objects' locks")
@pytest.mark.parametrize("value", CONTAINERS, ids=lambda v: f"{ascii(v)[:16]}-{len(v)}")
def test_containers_of_simple_values_arrive_without_pickle(wire, value):
    for message in (wire.call(None, value), wire.call(None, 1, k=value), wire.result(value)):
        assert message.slot["codec"] == "simple"
        message.release()
    (got,) = send(wire, value)
    assert got == value and repr(got) == repr(value)
    got = send_back(wire, value)
    assert got == value and repr(got) == repr(value)


def cyclic_list():
    value = [1]
    value.append(value)
    return value


def cyclic_dict():
    value = {}
    value["inner"] = [value]
    return value


SHARED = [1, 2]


@pytest.mark.parametrize("value", [
    [SHARED, SHARED], (SHARED, {"k": SHARED}), {1: SHARED, 2: [SHARED]}, [(1, 2)] * 2,
    cyclic_list(), cyclic_dict(), deep(17), deep(60), [1, {2}], [1, 2**64], {"k": 1j},
    ["x" * 65536], (b"x" * 65536,),
], ids=lambda v: ascii(v)[:16])
def test_what_pickle_sees_as_one_object_is_left_to_it(wire, value):
    message = wire.call(None, value)
    assert message.slot["codec"] == "pickle"
    message.release()
    (got,) = send(wire, value)
    assert repr(got) == repr(value)
    assert repr(send_back(wire, value)) == repr(value)


def shape(value, seen):
    """What can be told of the identities in a value: the same shape, the same identities."""
    if isinstance(value, (int, float, type(None))):
        return value
    number = seen.setdefault(id(value), len(seen))
    if isinstance(value, dict):
        return number, [(shape(k, seen), shape(v, seen)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return number, type(value), [shape(item, seen) for item in value]
    return number, value


def random_value(r, words, depth):
    kind = r.randrange(9 if depth < 4 else 5)
    if kind < 2:
        return r.choice((None, True, r.randrange(-300, 300), r.random(), 2**40))
    if kind < 4:
        return r.choice(words)
    if kind == 4:
        return "".join(("fresh", str(r.randrange(100))))
    items = [random_value(r, words, depth + 1) for _ in range(r.randrange(12))]
    if kind == 5:
        return tuple(items)
    if kind == 6:
        return items
    return {k if isinstance(k, str) else str(k): v
            for k, v in zip(map(str, range(20)), items, strict=False)}


def test_identities_of_random_values_are_those_that_pickle_gives(wire):
    r = random.Random(20240102)
    words = [f"word {i}" for i in range(30)] + [b"bytes %d" % i for i in range(10)]
    for _ in range(300):
        value = random_value(r, words, 0)
        expected = pickle.loads(pickle.dumps(value, 5))
        (got,) = send(wire, value)
        assert shape(got, {}) == shape(expected, {})
        got = send_back(wire, value)
        assert shape(got, {}) == shape(expected, {})


class Number(int):
    pass


class Text(str):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize("value", [
    Number(3), Text("three"), Colour.RED, Point(1, 2), 2**63, -2**63 - 1, 10**100, 1 + 2j,
    {"a": {1}}, frozenset("ab"), bytearray(b"abc"), range(3), (Number(1),), [Point(1, 2)],
    collections.OrderedDict(a=1), collections.defaultdict(list, a=[1]),
    datetime.date(2000, 1, 1), Ellipsis, NotImplemented, int, len,
], ids=ascii)
def test_everything_else_arrives_as_pickle_delivers_it(wire, value):
    message = wire.call(None, value)
    assert message.slot["codec"] == "pickle"
    message.release()
    (got,) = send(wire, value)
    assert the_same(got, value)
    assert the_same(send_back(wire, value), value)


def test_up_to_eight_arguments_are_simple(wire):
    for count, codec in (0, "simple"), (8, "simple"), (9, "pickle"), (300, "pickle"):
        message = wire.call(None, *range(count))
        assert message.slot["codec"] == codec
        assert message.deliver() == (None, tuple(range(count)), None)
        message.release()


@pytest.mark.parametrize("value", ["a string", b"some bytes", "x" * 5000, b"y" * 5000,
                                   Text("sub"), 2**70, (1,), [1]], ids=lambda v: repr(v)[:9])
def test_one_object_twice_is_one_object_as_pickle_sees_it(wire, value):
    sent = (value, 1, value)
    expected = pickle.loads(pickle.dumps(sent, 5))
    got = send(wire, *sent)
    assert got == sent
    assert (got[0] is got[2]) == (expected[0] is expected[2])
    message = wire.call(None, value, k=value)
    _, (first,), kwargs = message.deliver()
    assert first is kwargs["k"] or type(value) is int
    message.release()


def test_equal_objects_do_not_become_one(wire):
    one, other = "".join(["ab", "c"]), "".join(["a", "bc"])
    assert one is not other
    got = send(wire, one, other)
    assert got == ("abc", "abc") and got[0] is not got[1]


# ---- calls ----


def test_keyword_arguments_keep_their_order(wire):
    message = wire.call(None, 1, z=26, a=1, m=[13])
    fn, args, kwargs = message.deliver()
    assert (fn, args, list(kwargs.items())) == (None, (1,), [("z", 26), ("a", 1), ("m", [13])])
    message.release()


@pytest.mark.parametrize("kwargs", [{}, {"reverse": True}])
def test_a_function_in_the_message(wire, kwargs):
    message = wire.call(sorted, [1, 3, 2], **kwargs)
    fn, args, got = message.deliver()
    assert fn is sorted and args == ([1, 3, 2],) and (got or {}) == kwargs
    assert message.run(None) == sorted([1, 3, 2], **kwargs)
    message.release()


@pytest.mark.parametrize("args", [(), (1,), (1, "a", None), ([1],), tuple(range(20))])
@pytest.mark.parametrize("kwargs", [{}, {"key": 2}])
def test_run_calls_with_what_was_sent(wire, args, kwargs):
    message = wire.call(None, *args, **kwargs)
    assert message.run(lambda *a, **k: (a, k)) == (args, kwargs)
    message.release()


def test_an_exception_of_the_function_comes_out_of_run(wire):
    message = wire.call(None, 1, 0)
    with pytest.raises(ZeroDivisionError):
        message.run(lambda a, b: a // b)
    message.release()


# ---- buffers ----


class Holder:
    """Something that sends its memory as NumPy's arrays do."""

    def __init__(self, memory):
        self.memory = memory

    def __reduce_ex__(self, protocol):
        return Holder, (pickle.PickleBuffer(self.memory),)


def writable(got):
    return not memoryview(got.memory).readonly


@pytest.mark.parametrize("size", [0, 1, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 3 * MIB])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_buffers_arrive_with_their_bytes_and_their_access(wire, hook, kind, size):
    memory = kind(i * 7 % 251 for i in range(size))
    (got,) = send(wire, Holder(memory))
    assert bytes(got.memory) == memory
    assert writable(got) == (kind is bytearray)
    assert isinstance(got.memory, hook.SharedBuffer) == (size >= THRESHOLD)
    got = send_back(wire, [Holder(memory), Holder(memory)])
    assert [bytes(h.memory) for h in got] == [memory, memory]
    assert isinstance(got[1].memory, hook.SharedBuffer) == (size >= THRESHOLD)


def test_a_threshold_of_its_own(hook):
    wire = hook.Wire(MIB, 100)
    for size in (99, 100):
        got = send_back(wire, Holder(bytearray(size)))
        assert isinstance(got.memory, hook.SharedBuffer) == (size == 100)


def test_a_view_holds_its_block_until_it_is_dropped(wire):
    message = wire.call(None, Holder(bytearray(MIB)), Holder(bytearray(MIB)))
    _, (first, second), _ = message.deliver()
    assert wire.views() == (0, 2)
    message.release()
    assert wire.usage()[0] >= 2 * MIB
    view = memoryview(first.memory)
    del first
    view[0] = 7
    assert wire.views() == (0, 2)
    del view
    assert wire.views() == (0, 1)
    assert MIB <= wire.usage()[0] < 2 * MIB
    del second
    assert wire.usage() == (0, 0)


def test_what_was_written_into_a_view_stays_there(wire):
    got = send_back(wire, Holder(bytearray(MIB)))
    others = [send_back(wire, Holder(bytearray(b"\xff" * MIB))) for _ in range(5)]
    view = memoryview(got.memory)
    view[:4] = b"mine"
    assert bytes(view[:6]) == b"mine\0\0"
    assert all(bytes(h.memory) == b"\xff" * MIB for h in others)


def test_a_view_outlives_the_pool(hook):
    wire = hook.Wire()
    got = send_back(wire, Holder(bytearray(b"x" * MIB)))
    wire.close()
    del wire
    assert bytes(got.memory) == b"x" * MIB
    memoryview(got.memory)[0] = 1


def test_views_may_be_dropped_in_another_thread(wire):
    held = [send_back(wire, Holder(bytearray(MIB))) for _ in range(4)]
    assert wire.views() == (4, 0)
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert wire.views() == (0, 0)


def test_a_forked_childs_view_gives_nothing_back(hook):
    wire = hook.Wire()
    got = send_back(wire, Holder(bytearray(MIB)))
    wire.disown(0)
    del got
    assert wire.views() == (0, 0)
    assert wire.usage()[1] >= MIB


def test_a_block_that_a_forked_child_sees_is_kept_until_it_ends(wire):
    asked, ask = os.pipe()
    old = send_back(wire, Holder(bytearray(b"1" * MIB)))
    pid = os.fork()
    if pid == 0:
        os.close(ask)
        os.read(asked, 1)
        del old
        os._exit(0)
    new = send_back(wire, Holder(bytearray(b"2" * MIB)))
    del new
    assert wire.views() == (1, 0), "what came later nobody else sees"
    del old
    assert wire.views() == (1, 0)
    os.close(ask)
    os.waitpid(pid, 0)
    os.close(asked)

    def another():
        send_back(wire, Holder(bytearray(MIB)))
        return wire.views() == (0, 0)

    assert eventually(another)


def test_shared_buffers_are_made_by_messages_only(wire, hook):
    with pytest.raises(TypeError):
        hook.SharedBuffer()
    got = send_back(wire, Holder(bytes(MIB))).memory
    assert len(got) == MIB
    with pytest.raises(TypeError):
        memoryview(got)[0] = 1
    with pytest.raises(TypeError):
        type(got).attribute = 1


def test_calls_that_were_never_received_are_released(wire):
    messages = [wire.call(None, Holder(bytearray(MIB)), Holder(bytearray(MIB)), "x" * MIB)
                for _ in range(3)]
    assert wire.usage()[0] >= 9 * MIB
    for message in messages:
        message.release()
    assert wire.usage() == (0, 0)


@pytest.mark.parametrize("value", [1, "x" * MIB, Holder(bytearray(MIB)), [bytes(MIB)],
                                   [Holder(bytearray(THRESHOLD))] * 50,
                                   [Holder(bytearray(THRESHOLD)) for _ in range(50)]],
                         ids=["small", "simple", "buffer", "pickle", "one", "many"])
def test_discarded_results_give_their_blocks_back(wire, value):
    message = wire.result(value)
    message.discard()
    assert wire.usage() == (0, 0)


def test_memory_that_is_not_contiguous_travels_in_the_pickle(wire):
    np = pytest.importorskip("numpy", reason="the test is about slices of arrays")
    array = np.arange(100_000)[::2]
    assert (send_back(wire, array) == array).all()


# ---- NumPy and pandas ----


def arrays(np):
    n = 20_000
    frozen = np.arange(n)
    frozen.flags.writeable = False
    return {
        "ints": np.arange(n), "empty": np.zeros((0, 3)), "scalar": np.array(3.5),
        "small": np.arange(3), "fortran": np.asfortranarray(np.arange(n).reshape(200, 100)),
        "c": np.arange(n).reshape(200, 100), "frozen": frozen,
        "slice": np.arange(2 * n)[::2], "transposed": np.arange(n).reshape(200, 100).T,
        "bool": np.arange(n * 8) % 3 == 0, "complex": np.arange(n) * 1j,
        "half": np.arange(n * 2).astype(np.float16),
        "dates": np.arange(n).astype("datetime64[s]"), "text": np.array(["ab\u20ac"] * n),
        "records": np.zeros(n, dtype=[("a", "i4"), ("b", "f8", (2,))]),
        "swapped": np.arange(n).astype(">i8"), "objects": np.array([{}, "a", None] * 10),
        "matrix": np.ma.masked_less(np.arange(n), 10),
    }


@pytest.mark.parametrize("name", [
    "ints", "empty", "scalar", "small", "fortran", "c", "frozen", "slice", "transposed",
    "bool", "complex", "half", "dates", "text", "records", "swapped", "objects", "matrix"])
def test_arrays_arrive_as_pickle_delivers_them(wire, name):
    np = pytest.importorskip("numpy", reason="the test is about arrays")
    array = arrays(np)[name]
    buffers = []
    pickled = pickle.dumps(array, 5, buffer_callback=buffers.append)
    expected = pickle.loads(pickled, buffers=[
        b if memoryview(b).readonly else bytearray(b) for b in buffers])
    for got in (*send(wire, array), send_back(wire, array), send_back(wire, [array])[0]):
        assert type(got) is type(array) and got.dtype == array.dtype
        assert got.shape == array.shape
        assert got.flags.f_contiguous == expected.flags.f_contiguous
        assert got.flags.writeable == expected.flags.writeable
        assert got.tolist() == array.tolist() if name == "objects" else (
            got.tobytes() == array.tobytes())


def test_one_array_twice_is_one_array(wire):
    np = pytest.importorskip("numpy", reason="the test is about arrays")
    array = np.arange(20_000)
    first, second = send_back(wire, (array, array))
    assert first is second


def test_a_table_of_pandas(wire):
    np = pytest.importorskip("numpy", reason="the test is about tables of numbers")
    pd = pytest.importorskip("pandas", reason="the test is about its tables")
    table = pd.DataFrame({"a": np.arange(20_000), "b": np.arange(20_000) / 3,
                          "c": [str(i) for i in range(20_000)]})
    got = send_back(wire, table)
    pd.testing.assert_frame_equal(got, table)
    got.loc[0, "b"] = -1.0
    assert got.loc[0, "b"] == -1.0 and table.loc[0, "b"] == 0.0


# ---- no room ----


@pytest.mark.parametrize("with_arena", [True, False])
@pytest.mark.parametrize("value", [
    b"x" * (3 * MIB), "\u20ac" * MIB, [b"y" * (3 * MIB), bytearray(3 * MIB)],
    {i: str(i) for i in range(100_000)}], ids=["bytes", "str", "list", "dict"])
def test_what_is_too_large_for_the_arena_is_spilled(hook, value, with_arena):
    wire = hook.Wire(MIB, THRESHOLD, with_arena)
    message = wire.call(None, value)
    assert message.slot["where"] == SPILL
    assert message.deliver()[1] == (value,)
    message.release()
    message = wire.result(value)
    assert message.slot["where"] == SPILL
    assert message.deliver() == value
    assert wire.usage() == (0, 0)


def test_a_buffer_without_room_travels_in_the_pickle(hook):
    wire = hook.Wire(MIB)
    large, small = Holder(bytearray(b"l" * (2 * MIB))), Holder(bytearray(b"s" * THRESHOLD))
    for _ in range(3):
        message = wire.result([large, small, large, Holder(b"r" * (2 * MIB))])
        assert message.slot["where"] == SPILL
        got = message.deliver()
        assert [bytes(h.memory[:1] if not isinstance(h.memory, hook.SharedBuffer)
                      else memoryview(h.memory)[:1]) for h in got] == [b"l", b"s", b"l", b"r"]
        assert [writable(h) for h in got] == [True, True, True, False]
        assert isinstance(got[1].memory, hook.SharedBuffer)
        assert wire.views() == (1, 0)
        del got
        assert wire.views() == (0, 0)
        assert wire.usage() == (0, 0)
        message = wire.result([large, small])       # a table behind a spill
        message.discard()
        assert wire.usage() == (0, 0)


# ---- errors ----


class Refuses:
    def __init__(self, before=()):
        self.before = before

    def __reduce__(self):
        raise LookupError("not me")


def refuse_to_load(*_):
    raise LookupError("not here")


class RefusesThere:
    def __init__(self, *before):
        self.before = before

    def __reduce__(self):
        return refuse_to_load, self.before


def test_an_object_that_does_not_pickle_leaves_nothing_behind(wire):
    for value in ([Holder(bytearray(MIB)), "x" * MIB, Refuses()],
                  [{i: str(i) for i in range(50_000)}, Refuses()], threading.Lock()):
        with pytest.raises((LookupError, TypeError)):
            wire.call(None, value)
        with pytest.raises((LookupError, TypeError)):
            wire.result(value)
        assert wire.usage() == (0, 0)
        assert send(wire, [1]) == ([1],)


def test_an_object_that_does_not_unpickle_leaves_nothing_behind(wire):
    message = wire.call(None, [Holder(bytearray(MIB))], RefusesThere(Holder(bytearray(MIB))))
    for _ in range(2):
        with pytest.raises(LookupError):
            message.deliver()
        if _ == 0:
            message.release()
            message = wire.call(None, RefusesThere())
    message.release()
    message = wire.result([Holder(bytearray(MIB)), RefusesThere("x" * MIB)])
    with pytest.raises(LookupError):
        message.deliver()
    assert wire.usage() == (0, 0)


def test_a_pickler_that_cannot_be_made(hook_file, hook):
    class NoPickler(BarePickler):
        def __init__(self, file, buffer_callback):
            raise LookupError("no pickler")

    hook.configure(pickler=NoPickler)
    try:
        wire = hook.Wire()
        with pytest.raises(LookupError, match="no pickler"):
            wire.call(None, {1})
        assert send(wire, 1) == (1,)
    finally:
        hook.configure(pickler=BarePickler)


class Submits:
    """Pickling it encodes another message on the same wire."""

    def __init__(self, wire, depth):
        self.wire, self.depth = wire, depth

    def __reduce__(self):
        inner = None
        if self.depth:
            inner = send(self.wire, [Submits(self.wire, self.depth - 1)], bytearray(MIB))
        return list, ([("depth", self.depth), inner and inner[0]],)


def test_pickling_may_submit(wire):
    (got,) = send(wire, Submits(wire, 3))
    assert got == [("depth", 3), [[("depth", 2), [[("depth", 1), [[("depth", 0), None]]]]]]]


def test_a_message_keeps_no_reference_to_what_was_sent(wire):
    class Local:
        def __reduce__(self):
            return list, ()

    local = Local()
    dead = weakref.ref(local)
    assert send(wire, [local] * 3) == ([[], [], []],)
    assert send_back(wire, local) == []
    with pytest.raises(LookupError):
        wire.call(None, local, Refuses())
    del local
    assert dead() is None


def test_references_are_balanced(wire):
    text, data, holder = "t" * 5000, b"d" * 5000, Holder(bytearray(MIB))
    values = (text, data, holder, holder.memory)

    def counts():
        return [sys.getrefcount(value) for value in values]

    before = counts()
    for _ in range(50):
        send(wire, text, data, text)
        send(wire, text, holder)
        send(wire, text, k=data)
        send_back(wire, holder)
        wire.result([holder, data, data * 20]).discard()
        with pytest.raises(LookupError):
            wire.call(None, text, data, holder, Refuses())
    assert counts() == before


# ---- damaged messages ----


def deliver_damaged(message):
    """It either raises or gives something; what matters is that it does no harm."""
    try:
        message.deliver()
    except Exception:
        return True
    return False


def test_damaged_simple_messages_are_refused_or_read_as_others(wire):
    refused = 0
    # A damaged pickle, which these are without a GIL, can ask for any amount of memory.
    containers = () if FREE_THREADED else (
        ([1, (2, "abc"), {"abc": [3.5], "d": ()}],), ({1: {2: {3: [4, 5]}}}, "k"))
    for args in ((1, -300, 2**40), ("abc", b"abc", "abc"), ("\xe4x", "\u20acx", "\U0001f600x"),
                 (None, True, 1.5, ""), ("x" * 200, "\ud800" * 200, "y"), *containers):
        frame = wire.call(None, *args)
        content = frame.frame()
        frame.release()
        for at in range(min(len(content), 120)):
            for byte in {0, 1, 6, 7, 10, 11, 12, 127, 128, 254, 255, content[at] ^ 1,
                         content[at] + 1 & 255}:
                message = wire.call(None, *args)
                message.scribble(at, bytes([byte]))
                refused += deliver_damaged(message)
                message.release()
    assert refused > 100


def test_a_slot_with_other_numbers_is_refused(wire):
    fields = {"codec": (0, 3, 255), "count": (0, 2, 9, 255), "size": (0, 1, 2**40, 2**63),
              "where": (0, 1, 2, 3, 77, SPILL), "block": (1, 2**31, 2**32 - 1),
              "offset": (0, 4096, 2**40, 2**64 - 1), "flags": (1, 2, 4, 8, 15, 65535)}
    refused = 0
    for value in (5, "x" * 100, [1, 2], [bytes(200)], Holder(bytearray(MIB))):
        for name, numbers in fields.items():
            for number in numbers:
                message = wire.call(None, value)
                message.set(name, number)
                refused += deliver_damaged(message)
                message.release()
                assert wire.usage()[0] == 0, (value, name, number)
    assert refused > 60


def test_results_in_the_wrong_place_are_refused(wire):
    # The parent does not take its own blocks for a worker's, even where they are in use.
    own = wire.call(None, "x" * 100)
    result = wire.result("y" * 100)
    for name in ("where", "block", "offset"):
        result.set(name, own.slot[name])
    with pytest.raises(RuntimeError, match="damaged"):
        result.deliver()
    result.discard()
    assert wire.usage()[0] > 0
    assert own.deliver()[1] == ("x" * 100,)
    own.release()
    result.release()


def test_damaged_tables_of_buffers_are_refused(wire):
    size = 32 + 8
    refused = 0
    for at in range(size):
        for byte in (0, 1, 2, 0x52, 0x57, 255):
            message = wire.call(None, Holder(bytearray(MIB)))
            end = message.slot["size"]
            message.scribble(end - size + at, bytes([byte]))
            refused += deliver_damaged(message)
            message.release()
            assert wire.usage()[0] == 0
    assert refused > 100


def test_damaged_tables_of_unread_results_do_no_harm(hook):
    wire = hook.Wire()
    live = send_back(wire, Holder(bytearray(b"l" * MIB)))
    for at in range(40):
        for byte in (0, 1, 2, 255):
            message = wire.result(Holder(bytearray(THRESHOLD)))
            end = message.slot["size"]
            message.scribble(end - 40 + at, bytes([byte]))
            message.discard()
    assert bytes(live.memory) == b"l" * MIB


def test_a_pickle_that_is_none_is_refused(wire):
    for at, data in (0, b"\0"), (1, b"\4"), (-1, b"\0"):
        message = wire.result({1, 2})
        size = message.slot["size"]
        message.scribble(at % size, data)
        with pytest.raises(RuntimeError, match="damaged"):
            message.deliver()


def test_damage_is_a_broken_pool_where_that_is_known(hook_file):
    from concurrent.futures.process import BrokenProcessPool

    hook = load(hook_file)
    hook.configure(pickler=BarePickler, loads=pickle.loads,
                   broken_process_pool=BrokenProcessPool)
    wire = hook.Wire()
    message = wire.result(1)
    message.set("codec", 77)
    with pytest.raises(BrokenProcessPool):
        message.deliver()


# ---- many at once, and the end ----


def test_threads_encode_and_decode_at_once(wire):
    failures, barrier = [], threading.Barrier(4)

    def work(number):
        try:
            barrier.wait()
            for i in range(150):
                values = (number * 1000 + i, str(number) * (i + 1), b"b" * (i * 40),
                          "l" * (300_000 if i % 50 == 0 else 3))
                assert send(wire, *values) == values
                holder = Holder(bytearray(bytes([number]) * THRESHOLD))
                (got,) = send(wire, holder)
                assert bytes(got.memory) == holder.memory
                assert send_back(wire, {"k": [values]}) == {"k": [values]}
                got = send_back(wire, [holder, i])
                assert bytes(got[0].memory) == holder.memory
                wire.result(holder).discard()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


PRELUDE = """
import gc, importlib.util, pickle, sys
spec = importlib.util.spec_from_file_location("codec_hook", sys.argv[1])
hook = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hook)
CYCLE = sys.argv[-1] == "cycle"
def pickler(file, callback):
    return pickle.Pickler(file, 5, buffer_callback=callback)
class Holder:
    def __init__(self, memory):
        self.memory = memory
        self.me = self if CYCLE else None
    def __reduce_ex__(self, protocol):
        return Holder, (pickle.PickleBuffer(self.memory),)
hook.configure(pickler=pickler, loads=pickle.loads)
wire = hook.Wire()
"""

END = PRELUDE + """
kept = wire.result(Holder(bytearray(1 << 20))).deliver()
call = wire.call(None, kept)
sys.modules["elsewhere"] = call.deliver()
if sys.argv[2] == "closed":
    wire.close()
print("end", flush=True)
"""


@pytest.mark.parametrize("how", ["open", "closed", "cycle"])
def test_views_at_the_end_of_the_interpreter(hook_file, how):
    done = subprocess.run([sys.executable, "-X", "dev", "-c", END, hook_file, how],
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


NO_MEMORY = PRELUDE + """
import _testcapi
def receive(message):
    try:
        message.deliver()
    finally:
        message.release()
several = [Holder(bytearray(100_000)) for _ in range(6)]
first, second = several[:2]
one, some = [1], [b"y" * 100_000]
cases = [
    lambda: receive(wire.call(None, 1, "a", b"b" * 100, "x" * 5000, 2.5)),
    lambda: receive(wire.call(None, one)), lambda: receive(wire.call(None, several)),
    lambda: receive(wire.call(None, first, second)),
    lambda: receive(wire.call(None, first, key=second)),
    lambda: wire.result(several).deliver(), lambda: wire.result(several).discard(),
    lambda: wire.result("x" * 100_000).deliver(), lambda: wire.result("x" * 500_000).deliver(),
    lambda: wire.result(some).deliver(),
    lambda: receive(wire.call(None, {i: str(i) for i in range(5000)})),
]
for number, case in enumerate(cases):
    failed = 0
    for n in range(150):
        _testcapi.set_nomemory(n, n + 1)
        try:
            case()
        except Exception:       # not only MemoryError: pickle hides some
            failed += 1
        finally:
            _testcapi.remove_mem_hooks()
        if wire.usage() != (0, 0) or wire.views() != (0, 0):
            gc.collect()
            assert wire.usage() == (0, 0) and wire.views() == (0, 0), (number, n)
    assert failed > 1, (number, failed)
print("end", flush=True)
"""


@pytest.mark.skipif(
    FREE_THREADED and sys.version_info < (3, 14),
    reason="a list that cannot be allocated damages a CPython 3.13 without a GIL")
def test_an_allocation_that_fails_anywhere_leaves_nothing_behind(hook_file):
    pytest.importorskip("_testcapi", reason="it makes allocations fail")
    done = subprocess.run([sys.executable, "-c", NO_MEMORY, hook_file],
                          capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
