"""Large data, in and out: equal, writable where pickling makes it so, and let go of.

Buffers of 64 KiB and more are passed in shared memory; what is asserted here holds on
both sides of that border.  The memory is measured in test_process_memory.py.
"""
import multiprocessing
import pickle
import threading
import weakref
import zlib

import proc_tasks as tasks
import pytest
from testkit import GUARD, eventually, ours, stdlib_with_gil

np = pytest.importorskip("numpy", reason="NumPy is not installed")
there = pytest.importorskip("array_tasks")
noise = there.noise

KIB, MIB = 1 << 10, 1 << 20
SIZES = {"1 KiB": KIB, "64 KiB - 1": 64 * KIB - 1, "64 KiB": 64 * KIB, "8 MiB": 8 * MIB}
BY_SIZE = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)


def array_of(size):
    return np.frombuffer(noise(size), np.uint8).copy()


def normally(cf, value):
    """What an ordinary pickling makes of it; protocol 5 keeps what is read-only so."""
    protocol = pickle.DEFAULT_PROTOCOL if cf.implementation == "stdlib" else 5
    return pickle.loads(pickle.dumps(value, protocol))


# --- the bytes --------------------------------------------------------------------------

@BY_SIZE
@pytest.mark.parametrize("kind", [bytes, bytearray, tasks.MyBytes],
                         ids=lambda kind: kind.__name__)
def test_bytes_there_and_back(shared, size, kind):
    data = kind(noise(size))
    seen = shared.submit(there.look, data).result(GUARD)
    assert seen == there.look(data)
    result = shared.submit(tasks.echo, data).result(GUARD)
    assert type(result) is kind and result == data


def test_large_results_arrive_where_other_bytes_were_before_the_fork(cf):
    """Workers share that memory; it is given up for fresh pages, and nothing beside it."""
    size = 5 * MIB
    before = there.inherited
    # Twice: the C library gives the first ones memory of their own, which goes with them.
    for seed in range(2):
        before.clear()
        before.extend(bytes([65 + seed + i]) * size for i in range(6))
    sums = [zlib.crc32(data) for data in before[::2]]
    del before[1::2]
    with cf.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as executor:
        results = [executor.submit(there.inherited_bytes, i).result(GUARD) for i in range(3)]
    assert [zlib.crc32(data) for data in before] == sums
    assert [zlib.crc32(data) for data in results] == sums
    before.clear()


@BY_SIZE
def test_bytearray_is_writable_on_both_sides(shared, size):
    data = bytearray(noise(size))
    original = bytes(data)
    result = shared.submit(there.scribble, data).result(GUARD)
    assert type(result) is bytearray and result == b"\7\7\7" + original[3:]
    assert data == original
    result[:2] = b"ab"
    result.append(1)
    assert len(result) == size + 1


@ours("memoryview does not pickle there")
@BY_SIZE
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_memoryview_there_and_back(cf, shared, size, kind):
    """It arrives as something with the same content that can be written to as it could."""
    data = kind(noise(size))
    _, checksum, nbytes, readonly = shared.submit(there.look, memoryview(data)).result(GUARD)
    assert (checksum, nbytes) == (zlib.crc32(data), size)
    assert readonly == (kind is bytes)
    result = memoryview(shared.submit(tasks.echo, memoryview(data)).result(GUARD))
    assert result == data and result.readonly == (kind is bytes)
    if kind is bytearray:
        scribbled = shared.submit(there.scribble, memoryview(data)).result(GUARD)
        assert bytes(scribbled) == b"\7\7\7" + data[3:]


@ours("PickleBuffer needs protocol 5, which is not used there")
@BY_SIZE
def test_pickle_buffer(cf, shared, size):
    data = bytearray(noise(size))
    result = shared.submit(tasks.echo, pickle.PickleBuffer(data)).result(GUARD)
    assert bytes(result) == data and not memoryview(result).readonly
    result = shared.submit(tasks.echo, pickle.PickleBuffer(bytes(data))).result(GUARD)
    assert bytes(result) == data and memoryview(result).readonly


@BY_SIZE
def test_long_text(shared, size):
    for letter in ("x", "é", "日", "\U0001f600"):
        text = letter * (size // 4)
        assert shared.submit(tasks.echo, text).result(GUARD) == text
        assert shared.submit(len, text).result(GUARD) == len(text)


# --- arrays -----------------------------------------------------------------------------

@BY_SIZE
def test_array_there_and_back(shared, size):
    array = array_of(size)
    before = array.copy()
    assert shared.submit(there.look_at_array, array).result(GUARD) == there.look_at_array(array)
    result = shared.submit(tasks.echo, array).result(GUARD)
    assert type(result) is np.ndarray and result.dtype == array.dtype
    assert np.array_equal(result, array) and result.flags.writeable
    result[...] = 0
    assert np.array_equal(array, before)


@BY_SIZE
def test_array_is_writable_in_the_worker_and_ours_stays_as_it_was(shared, size):
    array = array_of(size)
    before = array.copy()
    result = shared.submit(there.scribble_array, array).result(GUARD)
    assert (result == 5).all() and result.shape == array.shape
    assert np.array_equal(array, before)


@ours("there it is sent at some later time")
@BY_SIZE
def test_array_is_sent_as_it_is_at_submit(cf, procs, door, size):
    """What happens to it afterwards does not reach a task that has not begun."""
    executor, gate = procs(1), door()
    executor.submit(tasks.wait_at, gate.path)
    gate.entered()
    array = array_of(size)
    expected = there.look_at_array(array)
    future = executor.submit(there.look_at_array, array)
    array[...] = 0
    gate.open()
    assert future.result(GUARD) == expected


def arrays():
    """Arrays of every sort, each of more than 64 KiB unless it is about being small."""
    n = 40_000
    base = np.arange(n, dtype=np.float64)
    structured = np.zeros(n, dtype=[("id", "i4"), ("x", "f8"), ("name", "S7")])
    structured["id"] = np.arange(n)
    structured["name"] = b"name"
    read_only = base.copy()
    read_only.flags.writeable = False
    return {
        "one dimension": base.copy(),
        "three dimensions": base.reshape(10, 40, 100).copy(),
        "Fortran order": np.asfortranarray(base.reshape(200, 200)),
        "Fortran, three dimensions": np.asfortranarray(base.reshape(10, 40, 100)),
        "transposed": base.reshape(100, 400).copy().T,
        "every other": base[::2],
        "backwards": base[::-1],
        "a block of a larger one": base.reshape(200, 200)[50:150, 20:150],
        "broadcast": np.broadcast_to(np.arange(200.0), (200, 200)),
        "read-only": read_only,
        "nothing": np.empty(0),
        "nothing with a shape": np.empty((0, 7, 3), np.int16),
        "a scalar": np.array(5.5),
        "one item": np.array([1]),
        "structured": structured,
        "a field": structured["x"],
        "big-endian": base.astype(">f8"),
        "bool": base % 3 == 0,
        "complex": base * 1j,
        "half": base.astype(np.float16),
        "dates": base.astype("datetime64[s]"),
        "text": np.array(["word", "longer word"] * 5000),
        "fixed bytes": np.array([b"ab", b"c"] * 40_000),
        "objects": np.array([{"a": 1}, None, "text", 2] * 10),
        "no bytes an item": np.zeros(5, "S0"),
        "record array": structured.view(np.recarray),
        "masked": np.ma.masked_array(base.copy(), mask=base % 2 == 0),
        "of a subclass": base.reshape(200, 200).view(there.Grid),
    }


@pytest.mark.parametrize("name", arrays())
def test_arrays_of_every_sort(cf, shared, name):
    """The same type, content, order and flags as an ordinary pickling gives."""
    array = arrays()[name]
    expected = normally(cf, array)
    result = shared.submit(tasks.echo, array).result(GUARD)
    assert type(result) is type(expected)
    assert result.dtype == expected.dtype and result.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))
    assert result.strides == expected.strides
    for flag in ("c_contiguous", "f_contiguous", "writeable", "aligned"):
        assert getattr(result.flags, flag) == getattr(expected.flags, flag), flag
    seen = shared.submit(there.look_at_array, array).result(GUARD)
    assert seen == there.look_at_array(expected)
    if name == "masked":
        np.testing.assert_array_equal(result.mask, array.mask)


def test_one_array_twice_is_one_array_there(shared):
    array = array_of(100 * KIB)
    assert shared.submit(there.one_memory, array, array).result(GUARD) == (True, True)
    by_name = shared.submit(there.one_memory, left=array, right=array)
    assert by_name.result(GUARD) == (True, True)
    first, second = shared.submit(tasks.twice, array).result(GUARD)
    assert first is second
    assert shared.submit(there.one_memory, array, array.copy()).result(GUARD) == (False, False)


def test_many_arrays_in_one_task(shared):
    many = [np.full(size, number, np.uint8)
            for number, size in enumerate([10, 70_000, 65_536, 65_535, 1, 200_000] * 10)]
    assert shared.submit(there.total, many).result(GUARD) == there.total(many)
    nested = {"list": many, "tuple": (many[1], {"deep": many[5]})}
    result = shared.submit(tasks.echo, nested).result(GUARD)
    assert all(np.array_equal(a, b) for a, b in zip(result["list"], many, strict=True))
    assert result["tuple"][0] is result["list"][1]
    assert result["tuple"][1]["deep"] is result["list"][5]


def test_array_inside_objects_of_the_user(shared):
    point = tasks.Point(array_of(MIB))
    result = shared.submit(tasks.echo, point).result(GUARD)
    assert type(result) is tasks.Point and np.array_equal(result.x, point.x)
    assert result.x.flags.writeable


def test_array_inside_an_exception(shared):
    error = shared.submit(tasks.raise_it, ValueError("with data", array_of(MIB)))
    text, data = error.exception(GUARD).args
    assert text == "with data" and np.array_equal(data, array_of(MIB))


def test_map_over_arrays(shared):
    for chunksize in (1, 4):
        results = list(shared.map(
            there.make_noise, [100_000] * 12, range(12), chunksize=chunksize))
        for seed, result in enumerate(results):
            assert bytes(result) == noise(100_000, seed)


def test_results_are_independent_of_each_other(shared):
    """Each has memory of its own, though blocks are used again and again."""
    results = [shared.submit(there.make_noise, 200_000, n).result(GUARD) for n in range(8)]
    for _ in range(30):
        shared.submit(there.make_noise, 200_000, 99).result(GUARD)
    for seed, result in enumerate(results):
        assert bytes(result) == noise(200_000, seed)
    results[3][...] = 0
    assert bytes(results[4]) == noise(200_000, 4)


def test_views_of_a_result_keep_it(shared):
    view = shared.submit(there.make_noise, MIB, 5).result(GUARD)[100:200]
    for _ in range(10):
        shared.submit(there.make_noise, MIB, 6).result(GUARD)
    assert bytes(view) == noise(MIB, 5)[100:200]


def test_what_a_worker_keeps_of_an_argument_stays_as_it_was(procs):
    """The parent's arrays come and go meanwhile."""
    executor = procs(1)
    for seed in range(4):
        executor.submit(there.keep_slice, there.make_noise(200_000, seed)).result(GUARD)
    for _ in range(30):
        executor.submit(there.total, [there.make_noise(200_000, 99)]).result(GUARD)
    assert executor.submit(there.kept_slices).result(GUARD) == [
        noise(200_000, seed)[10:20] for seed in range(4)]


def test_what_a_worker_kept_can_be_sent_back(procs):
    executor = procs(1)
    array = array_of(MIB)
    executor.submit(tasks.keep, array).result(GUARD)
    result = executor.submit(there.first_kept).result(GUARD)
    assert np.array_equal(result, array)
    executor.submit(tasks.drop_kept).result(GUARD)
    assert np.array_equal(result, array)
    assert np.array_equal(executor.submit(tasks.echo, result).result(GUARD), array)


def test_results_outlive_the_pool(cf, context):
    with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
        result = executor.submit(there.make_noise, MIB, 3).result(GUARD)
        unread = executor.submit(there.make_noise, MIB, 4)
    del executor
    assert bytes(result) == noise(MIB, 3)
    result[:10] = 1
    assert (result[:10] == 1).all() and bytes(result[10:]) == noise(MIB, 3)[10:]
    assert bytes(unread.result(GUARD)) == noise(MIB, 4)
    with cf.ProcessPoolExecutor(1, mp_context=context) as other:
        assert np.array_equal(other.submit(tasks.echo, result).result(GUARD), result)


def test_result_that_is_read_after_shutdown(cf, context):
    with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
        futures = [executor.submit(there.make_noise, 300_000, seed) for seed in range(6)]
    del executor
    for seed, future in enumerate(futures):
        assert bytes(future.result(GUARD)) == noise(300_000, seed)


def test_arrays_whose_futures_are_dropped(shared):
    for seed in range(50):
        shared.submit(there.make_noise, 300_000, seed)
    assert shared.submit(tasks.add, 1).result(GUARD) == 2


def test_array_arguments_of_cancelled_tasks(procs, door):
    executor, gate = procs(1), door()
    executor.submit(tasks.wait_at, gate.path)
    gate.entered()
    futures = [executor.submit(there.total, [array_of(MIB)]) for _ in range(20)]
    cancelled = [future for future in futures[5:] if future.cancel()]
    assert cancelled
    gate.open()
    assert futures[0].result(GUARD) == there.total([array_of(MIB)])
    assert all(f.cancelled() for f in cancelled)


# --- pandas -----------------------------------------------------------------------------

@pytest.fixture(scope="module")
def frames():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    n = 20_000
    frame = pd.DataFrame({
        "i": np.arange(n), "x": np.linspace(0, 1, n), "flag": np.arange(n) % 2 == 0,
        "day": pd.date_range("2024-01-01", periods=n, freq="min"),
        "name": ["name", "other"] * (n // 2),
        "kind": pd.Categorical(["a", "b", "c", "a"] * (n // 4)),
    })
    return {
        "frame": frame, "series": frame["x"], "small": frame.head(3), "empty": frame.head(0),
        "index": frame.set_index(["name", "i"]), "numbers": frame[["i", "x"]],
        "times": frame["day"], "large": pd.DataFrame(np.ones((1 << 17, 8))),
    }


@pytest.mark.parametrize("name", ["frame", "series", "small", "empty", "index", "numbers",
                                  "times", "large"])
def test_frames_there_and_back(shared, frames, name):
    import pandas.testing
    frame = frames[name]
    check = (pandas.testing.assert_series_equal if frame.ndim == 1
             else pandas.testing.assert_frame_equal)
    check(shared.submit(tasks.echo, frame).result(GUARD), frame)


def test_frames_can_be_changed_on_both_sides(shared, frames):
    frame = frames["numbers"]
    changed = shared.submit(there.change_frame, frame).result(GUARD)
    assert changed.loc[5, "x"] == -1 and changed["i"].sum() == frame["i"].sum()
    changed.loc[6, "x"] = -2
    assert changed.loc[6, "x"] == -2 and frame.loc[5, "x"] >= 0


# --- in between -------------------------------------------------------------------------

def test_sizes_around_the_borders(shared):
    """One byte more or less than a page, a slot, a size class, the threshold."""
    borders = [0, 1, 64, 72, 128, 4096, 64 * KIB, 80 * KIB, 96 * KIB, 128 * KIB, MIB,
               2 * MIB, 5 * MIB]
    for size in sorted({max(0, b + d) for b in borders for d in (-1, 0, 1)}):
        data = noise(size)
        array = np.frombuffer(data, np.uint8)
        assert shared.submit(tasks.echo, data).result(GUARD) == data
        assert bytes(shared.submit(tasks.echo, array).result(GUARD)) == data


def test_arrays_from_several_threads(shared):
    wrong = []

    def play(number):
        for seed in range(number * 100, number * 100 + 15):
            array = there.make_noise(150_000, seed)
            if not np.array_equal(shared.submit(tasks.echo, array).result(GUARD), array):
                wrong.append(seed)

    threads = [threading.Thread(target=play, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
        assert not thread.is_alive()
    assert wrong == []


def test_arguments_that_are_results_that_are_arguments(shared):
    """An array that lives in shared memory is sent on, ten times."""
    array = array_of(MIB)
    for _ in range(10):
        array = shared.submit(tasks.echo, array).result(GUARD)
    assert np.array_equal(array, array_of(MIB))


@stdlib_with_gil("a result is freed when the thread that unpickled it wakes: with the next one")
def test_a_result_in_shared_memory_is_freed_like_any_other(shared):
    result = shared.submit(there.make_noise, MIB, 0).result(GUARD)
    reference = weakref.ref(result)
    del result
    assert eventually(lambda: reference() is None)
