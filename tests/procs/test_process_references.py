"""Who keeps what: nothing stays alive longer than it is needed, in either process."""
import contextlib
import gc
import os
import weakref

import proc_tasks as tasks
import pytest
from prockit import shared_mappings
from testkit import FREE_THREADED, GUARD, eventually, ours


def gone(reference):
    """The object is freed, by counting alone (or soon after, where threads let go)."""
    if FREE_THREADED:
        return eventually(lambda: gc.collect() is not None and reference() is None)
    return eventually(lambda: reference() is None)


@contextlib.contextmanager
def no_collector():
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Here:
    """Can be pickled and weakly referenced, in this process."""

    def __reduce__(self):
        return str, ("arrived",)


@pytest.fixture
def one(procs):
    """A pool of one worker, which has run something."""
    executor = procs(1)
    executor.submit(tasks.add, 1).result(GUARD)
    with no_collector():
        yield executor


# --- in the worker ----------------------------------------------------------------------

def test_arguments_are_freed_when_the_task_is_done(one):
    assert one.submit(tasks.echo, 1).result(GUARD) == 1
    for argument in (tasks.Tracked(), [tasks.Tracked(), tasks.Tracked()],
                     {"a": tasks.Tracked()}, tasks.Tracked(bytes(100_000))):
        one.submit(type, argument).result(GUARD)
        assert one.submit(tasks.count_living).result(GUARD) == 0


def test_keyword_arguments_are_freed(one):
    one.submit(tasks.everything, 1, a=1).result(GUARD)
    one.submit(_kind, value=tasks.Tracked()).result(GUARD)
    assert one.submit(tasks.count_living).result(GUARD) == 0


def _kind(value):
    return type(value).__name__


def test_results_are_freed_when_they_are_sent(one):
    for _ in range(3):
        assert isinstance(one.submit(tasks.track_and_return).result(GUARD), tasks.Tracked)
        assert one.submit(tasks.count_living).result(GUARD) == 0


def test_arguments_of_a_task_that_failed_are_freed(one):
    with pytest.raises(ValueError):
        one.submit(tasks.fail_with, tasks.Tracked()).result(GUARD)
    assert one.submit(tasks.count_living).result(GUARD) == 0


def test_function_objects_are_freed(one):
    point = tasks.Point(tasks.Tracked())
    with pytest.raises(TypeError):
        one.submit(point, 1).result(GUARD)
    assert one.submit(tasks.count_living).result(GUARD) == 0


def test_what_a_task_keeps_is_kept(one):
    assert one.submit(tasks.keep, b"mine").result(GUARD) == 1
    assert one.submit(tasks.look_at_kept).result(GUARD)
    one.submit(tasks.drop_kept).result(GUARD)


# --- in the parent ----------------------------------------------------------------------

@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"k": (x, x)}])
def test_arguments_are_let_go_of_when_the_task_is_done(one, wrap):
    thing = Here()
    reference = weakref.ref(thing)
    future = one.submit(type, wrap(thing))
    del thing
    future.result(GUARD)
    assert gone(reference)


@ours("there they are kept until the task is done")
def test_arguments_are_let_go_of_as_soon_as_they_are_sent(cf, one, door):
    gate, thing = door(), Here()
    reference = weakref.ref(thing)
    running = one.submit(tasks.wait_at, gate.path)
    queued = one.submit(tasks.echo, thing)
    del thing
    assert gone(reference)
    gate.open()
    assert queued.result(GUARD) == "arrived" and running.done()


def test_arguments_of_a_cancelled_task_are_let_go_of(one, door):
    gate, thing = door(), Here()
    reference = weakref.ref(thing)
    one.submit(tasks.wait_at, gate.path)
    gate.entered()
    futures = [one.submit(tasks.echo, n) for n in range(10)] + [one.submit(tasks.echo, thing)]
    del thing
    assert futures[-1].cancel()
    gate.open()
    one.submit(tasks.add, 1).result(GUARD)
    assert gone(reference)


def test_result_belongs_to_its_future_alone(one):
    future = one.submit(tasks.track_and_return)
    reference = weakref.ref(future.result(GUARD))
    assert reference() is not None
    del future
    assert gone(reference)


def test_exception_belongs_to_its_future_alone(one):
    future = one.submit(tasks.raise_it, tasks.Singular("m", 1))
    reference = weakref.ref(future.exception(GUARD))
    assert reference() is not None
    del future
    assert gone(reference)


def test_exception_that_was_raised_is_freed(one):
    future = one.submit(tasks.raise_it, tasks.Singular("m", 1))
    try:
        future.result(GUARD)
    except tasks.Singular as error:
        reference = weakref.ref(error)
    del future
    assert gone(reference)


def test_dropped_future_is_freed_when_its_task_is_done(one, door):
    gate = door()
    future = one.submit(tasks.wait_at, gate.path)
    reference = weakref.ref(future)
    gate.entered()
    del future
    gate.open()
    one.submit(tasks.add, 1).result(GUARD)
    assert gone(reference)


def test_callbacks_are_let_go_of(one):
    thing = Here()
    reference = weakref.ref(thing)
    future = one.submit(tasks.add, 1)
    future.add_done_callback(lambda f, t=thing: None)
    del thing
    future.result(GUARD)
    del future
    assert gone(reference)


def test_as_completed_keeps_no_future(cf, one):
    futures = [one.submit(tasks.track_and_return) for _ in range(10)]
    for future in cf.as_completed(futures, GUARD):
        futures.remove(future)
        reference = weakref.ref(future)
        del future
        assert gone(reference)


def test_an_executor_is_freed_without_the_collector(cf, context):
    executor = cf.ProcessPoolExecutor(1, mp_context=context)
    executor.submit(tasks.add, 1).result(GUARD)
    executor.shutdown()
    reference = weakref.ref(executor)
    with no_collector():
        del executor
        assert gone(reference)


@ours("there are none")
def test_descriptors_and_mappings_go_with_the_pool(cf, context):
    before = shared_mappings()
    executor = cf.ProcessPoolExecutor(2, mp_context=context)
    futures = [executor.submit(tasks.echo, {"text": "x" * 1000}) for _ in range(100)]
    assert all(len(f.result(GUARD)["text"]) == 1000 for f in futures)
    assert len(shared_mappings()) > len(before)
    executor.shutdown()
    del executor, futures
    assert eventually(lambda: shared_mappings() == before), shared_mappings()


def test_pools_leave_no_descriptors(cf, context):
    def use():
        with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
            assert list(executor.map(tasks.add, range(10))) == list(range(1, 11))

    # What multiprocessing opens once stays.
    use()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(4):
        use()
    gc.collect()
    assert eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
