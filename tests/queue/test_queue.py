"""What multiprocessing.Queue promises, in one process; both implementations."""
import gc
import inspect
import multiprocessing.queues
import os
import pickle
import queue as standard
import threading
import time
from multiprocessing import context

import cfutures
import pytest
from queue_tasks import Point
from testkit import GUARD, run_child

VALUES = [
    None, True, 0, -1, 2**40, 2**100, 1.5, "", "text", "\u00e4\u20ac\U0001f600", b"", b"bytes",
    (), (1, "two", 3.0), [1, [2, [3]]], {"a": {"b": None}}, {1, 2}, range(5), Point(1, 2),
    "long" * 20_000, b"long" * 20_000, list(range(5000)), bytearray(b"x" * 100_000),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_what_is_put_comes_out(new_queue, value):
    queue = new_queue()
    queue.put(value)
    came = queue.get(timeout=GUARD)
    assert came == value
    assert type(came) is type(value)


def test_first_in_first_out(new_queue):
    queue = new_queue()
    for number in range(2000):
        queue.put(number)
    assert [queue.get(timeout=GUARD) for _ in range(2000)] == list(range(2000))


def test_a_full_queue_takes_no_more(new_queue):
    queue = new_queue(2)
    queue.put(1)
    assert not queue.full()
    queue.put(2)
    assert queue.full()
    with pytest.raises(standard.Full):
        queue.put_nowait(3)
    with pytest.raises(standard.Full):
        queue.put(3, block=False)
    with pytest.raises(standard.Full):
        queue.put(3, True, 0.01)
    assert queue.get(timeout=GUARD) == 1
    queue.put(4, timeout=GUARD)
    assert [queue.get(timeout=GUARD) for _ in range(2)] == [2, 4]


def test_an_empty_queue_gives_nothing(new_queue):
    queue = new_queue()
    assert queue.empty()
    with pytest.raises(standard.Empty):
        queue.get_nowait()
    with pytest.raises(standard.Empty):
        queue.get(False)
    with pytest.raises(standard.Empty):
        queue.get(timeout=0.01)
    with pytest.raises(standard.Empty):
        queue.get(timeout=-1)


def test_a_time_limit_is_waited_for(new_queue):
    queue = new_queue()
    start = time.monotonic()
    with pytest.raises(standard.Empty):
        queue.get(timeout=0.1)
    assert 0.09 < time.monotonic() - start < GUARD


@pytest.mark.parametrize("maxsize", [0, -1, -5])
def test_without_a_bound_nothing_is_full(new_queue, maxsize):
    queue = new_queue(maxsize)
    for number in range(3000):
        queue.put(number)
    assert not queue.full()
    # The standard library's thread reads the list as it sends it.
    assert [queue.get(timeout=GUARD) for _ in range(3000)] == list(range(3000))


def test_size_counts_what_is_in_it(new_queue):
    queue = new_queue(10)
    sizes = [queue.qsize()]
    for number in range(5):
        queue.put(number)
        sizes.append(queue.qsize())
    for _ in range(5):
        queue.get(timeout=GUARD)
        sizes.append(queue.qsize())
    assert sizes == [0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("call", [
    lambda q: q.put(1), lambda q: q.get(), lambda q: q.put_nowait(1), lambda q: q.get_nowait(),
], ids=["put", "get", "put_nowait", "get_nowait"])
def test_a_closed_queue_refuses(new_queue, call):
    queue = new_queue()
    queue.close()
    with pytest.raises(ValueError, match=r"^Queue <.*> is closed$"):
        call(queue)
    queue.close()


def test_wrong_arguments_raise_type_errors(new_queue):
    queue = new_queue()
    for wrong in (lambda: queue.put(), lambda: queue.put(1, True, None, 2),
                  lambda: queue.put(1, wait=True), lambda: queue.get(True, None, 3),
                  lambda: queue.get(timeout="soon"), lambda: queue.put_nowait(),
                  lambda: queue.get_nowait(1)):
        with pytest.raises(TypeError):
            wrong()


def test_threads_of_one_process_share_it(new_queue):
    queue, came, count = new_queue(5), [], 300

    def produce(who):
        for number in range(count):
            queue.put((who, number))

    def consume():
        while (item := queue.get()) is not None:
            came.append(item)

    producers = [threading.Thread(target=produce, args=(i,), daemon=True) for i in range(3)]
    consumers = [threading.Thread(target=consume, daemon=True) for _ in range(3)]
    for thread in producers + consumers:
        thread.start()
    for thread in producers:
        thread.join(GUARD)
    for _ in consumers:
        queue.put(None)
    for thread in consumers:
        thread.join(GUARD)
    assert sorted(came) == [(who, number) for who in range(3) for number in range(count)]


def test_a_waiting_get_is_given_what_comes(new_queue):
    queue, came = new_queue(), []
    thread = threading.Thread(target=lambda: came.append(queue.get()), daemon=True)
    thread.start()
    thread.join(0.05)           # so that it sleeps, most likely
    queue.put("at last")
    thread.join(GUARD)
    assert came == ["at last"]


def test_a_waiting_put_goes_on_when_there_is_room(new_queue):
    queue = new_queue(1)
    queue.put(1)
    thread = threading.Thread(target=queue.put, args=(2,), daemon=True)
    thread.start()
    thread.join(0.05)
    assert [queue.get(timeout=GUARD) for _ in range(2)] == [1, 2]
    thread.join(GUARD)
    assert not thread.is_alive()


# ---- ours ----


def test_its_methods_have_the_standard_signatures():
    for name in ("put", "get", "qsize", "empty", "full", "close", "join_thread",
                 "cancel_join_thread"):
        ours = inspect.signature(getattr(cfutures.Queue, name))
        theirs = inspect.signature(getattr(multiprocessing.queues.Queue, name))
        assert ours.parameters.keys() == theirs.parameters.keys()
        for mine, standards in zip(ours.parameters.values(), theirs.parameters.values(),
                                   strict=True):
            assert mine.default == standards.default


def test_it_takes_a_context_and_a_type():
    queue = cfutures.Queue(3, ctx=multiprocessing.get_context("spawn"))
    assert queue.qsize() == 0
    assert cfutures.Queue[int].__origin__ is cfutures.Queue
    with pytest.raises(TypeError):
        cfutures.Queue("many")


def test_what_cannot_be_pickled_raises_where_it_is_put():
    queue = cfutures.Queue()
    with pytest.raises(TypeError, match="lock"):
        queue.put(threading.Lock())
    with pytest.raises(TypeError, match="generator"):
        queue.put([b"x" * 100_000, (n for n in range(3))])
    assert queue.empty()
    queue.put("goes on")
    assert queue.get() == "goes on"


class _Bomb:
    def __reduce__(self):
        return _explode, ()


def _explode():
    raise ZeroDivisionError("while it was unpickled")


def test_what_cannot_be_unpickled_raises_where_it_is_taken():
    queue = cfutures.Queue()
    queue.put(_Bomb())
    queue.put("goes on")
    with pytest.raises(ZeroDivisionError):
        queue.get()
    assert queue.get() == "goes on"


def test_lambdas_and_local_classes_go_by_value():
    class Local:
        value = 5

    queue = cfutures.Queue()
    queue.put(lambda: 7)
    queue.put(Local())
    assert queue.get()() == 7
    assert queue.get().value == 5


def test_a_put_in_a_reduce_is_a_put():
    queue = cfutures.Queue()

    class Nosy:
        def __reduce__(self):
            queue.put("from within")
            return int, ()

    queue.put(Nosy())
    assert [queue.get(), queue.get()] == ["from within", 0]


def test_an_object_twice_in_an_item_is_one_object():
    queue = cfutures.Queue()
    shared = [1]
    queue.put([shared, shared])
    first, second = queue.get()
    assert first is second


def test_the_rings_grow_and_keep_the_order():
    queue = cfutures.Queue()
    count, taken = 0, 0
    for burst in (3, 5000, 10, 20_000):         # the first ring has 4096 entries
        for _ in range(burst):
            queue.put(count)
            count += 1
        assert queue.qsize() == count - taken
        for _ in range(burst // 2):
            assert queue.get() == taken
            taken += 1
    while taken < count:
        assert queue.get() == taken
        taken += 1
    assert queue.empty() and queue.qsize() == 0
    for number in range(100_000):
        queue.put(number)
        assert queue.get() == number


@pytest.mark.parametrize("maxsize", [1, 2, 500, 4096, 1 << 22])
def test_every_bound_is_exact(maxsize):
    queue = cfutures.Queue(maxsize)
    most = min(maxsize, 10_000)
    for number in range(most):
        queue.put_nowait(number)
    assert queue.full() == (most == maxsize)
    if queue.full():
        with pytest.raises(standard.Full):
            queue.put_nowait("too much")
    assert [queue.get_nowait() for _ in range(most)] == list(range(most))


def test_an_object_that_comes_back_is_the_same_queue():
    queue = cfutures.Queue(7)
    twin = pickle.loads(pickle.dumps(queue))
    assert twin is not queue and twin._maxsize == 7
    twin.put("from the twin")
    assert queue.get() == "from the twin"
    twin.close()
    queue.put("still open")
    assert queue.get() == "still open"


def test_a_queue_goes_through_a_queue():
    outer, inner = cfutures.Queue(), cfutures.Queue()
    outer.put(inner)
    outer.get().put("inside")
    assert inner.get() == "inside"


def test_a_queue_that_nobody_has_any_more_cannot_be_opened():
    queue = cfutures.Queue()
    data = pickle.dumps(queue)
    del queue
    gc.collect()
    with pytest.raises(OSError, match="cannot be received"):
        pickle.loads(data)


def test_what_is_no_queue_is_not_opened():
    queue = cfutures.Queue.__new__(cfutures.Queue)
    with pytest.raises(RuntimeError, match="__init__"):
        queue.put(1)
    read, write = os.pipe()
    with pytest.raises(RuntimeError, match="no queue"):
        queue._attach(read)
    os.close(read)
    os.close(write)
    with pytest.raises(OSError):
        queue._attach(read)


def test_nothing_is_left_of_queues_that_are_gone():
    """In a process of its own: in this one other threads may open and close descriptors."""
    run_child("""
import gc, os

def there():
    with open("/proc/self/maps") as maps:
        mapped = sum("cfutures" in line for line in maps)
    return len(os.listdir("/proc/self/fd")), mapped

def use(count):
    for _ in range(count):
        queue = cf.Queue()
        queue.put(b"x" * 100_000)
        queue.put(1)
        assert len(queue.get()) == 100_000

before = there()
use(20)
gc.collect()
assert there() == before, (there(), before)
""")


def test_hundreds_of_queues_at_a_time():
    queues = [cfutures.Queue() for _ in range(150)]
    for number, queue in enumerate(queues):
        queue.put(number)
        queue.put(bytes(100_000))
    assert [queue.get() for queue in queues] == list(range(150))
    assert all(queue.get() == bytes(100_000) for queue in queues)


def test_a_process_that_is_not_spawning_needs_no_helper():
    assert context.get_spawning_popen() is None
    threads = threading.active_count()
    queue = cfutures.Queue()
    pickle.loads(pickle.dumps(queue)).put(1)
    assert queue.get() == 1
    assert threading.active_count() == threads
