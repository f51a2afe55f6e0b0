"""What is freed, and when: at once, without the cycle collector, unless there is a cycle."""
import gc
import sys
import threading
import weakref

import pytest
from testkit import (
    FREE_THREADED,
    GUARD,
    Thing,
    eventually,
    freed,
    ours,
    stdlib_with_gil,
)


@pytest.fixture(autouse=True)
def without_collector():
    """Automatic collections would hide what only the collector frees."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    yield
    if enabled:
        gc.enable()


class Callable(Thing):
    def __call__(self, *args, **kwargs):
        return None

    def method(self, *args):
        return None


def sync(executor):
    """When this returns, the worker of a pool of one has let go of the task before."""
    executor.submit(int).result(GUARD)


# --- tasks ------------------------------------------------------------------------------

def test_function_is_freed_after_the_task(pool):
    executor = pool(1)
    function = Callable()
    reference = weakref.ref(function)
    future = executor.submit(function)
    del function
    sync(executor)
    assert freed(reference)
    assert future.result() is None


def test_bound_method_is_freed_though_the_future_was_dropped(pool):
    executor = pool(1)
    owner = Callable()
    reference = weakref.ref(owner)
    executor.submit(owner.method)
    del owner
    sync(executor)
    assert freed(reference)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("keywords", [False, True])
def test_arguments_are_freed_after_the_task(pool, count, keywords):
    executor = pool(1)
    things = [Thing() for _ in range(count)]
    references = [weakref.ref(thing) for thing in things]
    if keywords:
        future = executor.submit(Callable(), **{f"k{n}": t for n, t in enumerate(things)})
    else:
        future = executor.submit(Callable(), *things)
    del things
    sync(executor)
    assert all(freed(reference) for reference in references)
    assert future.done()


def test_arguments_of_a_failed_task_are_freed(pool):
    executor = pool(1)
    thing = Thing()
    reference = weakref.ref(thing)
    future = executor.submit(int, thing)
    del thing
    sync(executor)
    assert isinstance(future.exception(), TypeError)
    assert freed(reference)


def test_arguments_are_freed_by_the_time_the_next_task_runs(pool):
    """A sleeping worker keeps nothing of what it did last, and neither does a busy one."""
    executor = pool(1)
    for _ in range(3):
        thing = Thing()
        reference = weakref.ref(thing)
        executor.submit(Callable(), thing)
        del thing
        if FREE_THREADED:
            sync(executor)
            assert freed(reference)
        else:
            assert executor.submit(lambda r=reference: r() is None).result(GUARD)


def test_arguments_of_a_cancelled_task_are_freed_when_the_worker_passes(pool, gate):
    go = gate()
    executor, thing = pool(1), Thing()
    reference = weakref.ref(thing)
    executor.submit(go.wait, GUARD)
    future = executor.submit(Callable(), thing)
    del thing
    assert future.cancel()
    go.set()
    sync(executor)
    assert freed(reference)


def test_arguments_are_freed_by_shutdown_that_cancels(pool, gate):
    go, begun = gate(), gate()
    executor, thing = pool(1), Thing()
    reference = weakref.ref(thing)
    executor.submit(lambda: begun.set() or go.wait(GUARD))
    future = executor.submit(Callable(), thing)
    del thing
    assert begun.wait(GUARD)
    executor.shutdown(wait=False, cancel_futures=True)
    assert future.cancelled()
    assert freed(reference)


def test_initializer_arguments_are_freed_with_the_pool(cf):
    thing = Thing()
    reference = weakref.ref(thing)
    executor = cf.ThreadPoolExecutor(1, initializer=Callable(), initargs=(thing,))
    del thing
    executor.submit(int).result(GUARD)
    executor.shutdown()
    del executor
    assert freed(reference)


def test_an_initializer_that_refers_to_its_executor_does_not_keep_it(cf):
    class Owner(Thing):
        def __init__(self):
            self.executor = cf.ThreadPoolExecutor(1, initializer=self.prepare)

        def prepare(self):
            """Refers to the executor, and so to its thread."""

    owner = Owner()
    owner.executor.submit(int).result(GUARD)
    owner.executor.shutdown()
    reference = weakref.ref(owner)
    del owner
    # A cycle through the executor's attributes.
    gc.collect()
    assert freed(reference)


def test_a_task_that_returns_its_argument(pool):
    executor, thing = pool(1), Thing()
    reference = weakref.ref(thing)
    future = executor.submit(lambda x: x, thing)
    assert future.result(GUARD) is thing
    del thing
    sync(executor)
    assert reference() is not None
    del future
    assert freed(reference)


# --- results ----------------------------------------------------------------------------

@pytest.mark.parametrize("made", ["by a pool", "by hand"])
def test_result_is_freed_with_the_future(cf, pool, made):
    executor = pool(1)
    if made == "by hand":
        future = cf.Future()
        future.set_result(Thing())
    else:
        future = executor.submit(Thing)
    reference = weakref.ref(future.result(GUARD))
    assert reference() is future.result()
    sync(executor)
    del future
    assert freed(reference)


def test_result_nobody_asked_for_is_freed(pool):
    executor, references = pool(1), []

    def make():
        thing = Thing()
        references.append(weakref.ref(thing))
        return thing

    executor.submit(make)
    sync(executor)
    assert freed(references[0])


def outcome_of(future):
    """The exception of a future, weakly, through result()."""
    try:
        future.result(GUARD)
    except Error as error:
        return weakref.ref(error)
    finally:
        future = None


class Error(Exception):
    """An exception that can be weakly referenced."""


def fail():
    raise Error("failed")


@pytest.mark.parametrize("made", ["by a pool", "by hand"])
@pytest.mark.parametrize("asked", ["result", "exception", "never"])
def test_exception_is_freed_with_the_future(cf, pool, made, asked):
    executor = pool(1)
    if made == "by hand":
        future = cf.Future()
        future.set_exception(Error("failed"))
    else:
        future = executor.submit(fail)
    sync(executor)
    if asked == "result":
        reference = outcome_of(future)
        outcome_of(future)
    else:
        reference = weakref.ref(future.exception(GUARD))
    del future
    assert freed(reference)


def test_no_reference_to_the_future_from_its_exceptions_traceback(cf, pool):
    """result() must not leave frames of ours, with the future in them, in the traceback."""
    future = pool(1).submit(fail)
    try:
        future.result(GUARD)
    except Error as error:
        trace = error.__traceback__.tb_next
        while trace is not None:
            assert future not in trace.tb_frame.f_locals.values()
            trace = trace.tb_next


@pytest.mark.parametrize("question", ["result", "exception"])
def test_cancelled_error_keeps_nothing(cf, question):
    def ask(future):
        try:
            getattr(future, question)()
        except cf.CancelledError as error:
            return weakref.ref(error)
        finally:
            future = None

    future = cf.Future()
    future.cancel()
    reference = ask(future)
    assert freed(reference)
    future_reference = weakref.ref(future)
    del future
    assert freed(future_reference)


def test_locals_of_a_failed_task_are_freed_with_the_exception(pool):
    references = []

    def work():
        thing = Thing()
        references.append(weakref.ref(thing))
        raise Error("with locals")

    executor = pool(1)
    future = executor.submit(work)
    sync(executor)
    assert references[0]() is not None
    del future
    assert freed(references[0])


# --- futures ----------------------------------------------------------------------------

@pytest.mark.parametrize("end", ["pending", "result", "exception", "cancel", "running"])
def test_future_is_freed_when_dropped(cf, end):
    future = cf.Future()
    if end == "result":
        future.set_result(1)
    elif end == "exception":
        future.set_exception(ValueError())
    elif end == "cancel":
        future.cancel()
    elif end == "running":
        future.set_running_or_notify_cancel()
    repr(future), future.done(), cf.wait([future], 0)
    reference = weakref.ref(future)
    del future
    assert freed(reference)


def test_callbacks_are_freed_with_a_future_that_never_ended(cf):
    future, thing = cf.Future(), Callable()
    reference = weakref.ref(thing)
    future.add_done_callback(thing)
    future.add_done_callback(thing.method)
    del thing
    assert reference() is not None
    del future
    assert freed(reference)


def test_callbacks_are_freed_with_the_future_that_ended(cf):
    future, thing = cf.Future(), Callable()
    reference = weakref.ref(thing)
    future.add_done_callback(thing)
    future.set_result(1)
    del thing, future
    assert freed(reference)


def test_late_callback_is_not_kept(cf):
    future, thing = cf.Future(), Callable()
    reference = weakref.ref(thing)
    future.set_result(1)
    future.add_done_callback(thing)
    del thing
    assert freed(reference)


def test_wait_keeps_no_reference(cf):
    futures = [cf.Future() for _ in range(3)]
    references = [weakref.ref(f) for f in futures]
    futures[0].set_result(Thing())
    cf.wait(futures, 0)
    cf.wait(futures, 0.001, cf.FIRST_EXCEPTION)
    for _ in cf.as_completed(futures[:1]):
        pass
    del futures, _
    assert all(freed(reference) for reference in references)


def test_as_completed_that_timed_out_keeps_no_reference(cf):
    def iterate(futures):
        try:
            for _ in cf.as_completed(futures, 0):
                pass
        except TimeoutError:
            pass

    future = cf.Future()
    iterate([future])
    reference = weakref.ref(future)
    del future
    assert freed(reference)


def test_many_dropped_pending_futures(cf):
    for _ in range(1000):
        cf.Future()
    futures = [cf.Future() for _ in range(1000)]
    references = [weakref.ref(f) for f in futures[::100]]
    del futures
    assert all(freed(reference) for reference in references)


def test_a_chain_of_results_is_freed_without_overflow(cf):
    """Each future is the result of the next: freeing must not recurse without bound."""
    last = None
    for _ in range(100_000):
        future = cf.Future()
        future.set_result(last)
        last = future
    reference = weakref.ref(last)
    del last, future
    assert freed(reference)


# --- executors --------------------------------------------------------------------------

def test_executor_is_freed_when_dropped(cf):
    executor = cf.ThreadPoolExecutor(2)
    executor.submit(int).result(GUARD)
    reference = weakref.ref(executor)
    threads = list(executor._threads)
    del executor
    assert freed(reference)
    for thread in threads:
        thread.join(GUARD)
        assert not thread.is_alive()


def test_executor_is_freed_while_its_tasks_run(cf, gate):
    go = gate()
    executor = cf.ThreadPoolExecutor(1)
    futures = [executor.submit(go.wait, GUARD) for _ in range(3)]
    reference = weakref.ref(executor)
    del executor
    assert freed(reference)
    go.set()
    assert [f.result(GUARD) for f in futures] == [True] * 3


def test_future_does_not_keep_its_executor_alive(cf):
    executor = cf.ThreadPoolExecutor(1)
    future = executor.submit(int)
    future.result(GUARD)
    reference = weakref.ref(executor)
    del executor
    assert freed(reference)
    assert future.result() == 0


def test_executor_dropped_by_its_own_task(cf):
    box = [cf.ThreadPoolExecutor(1)]
    future = box[0].submit(box.clear)
    assert future.result(GUARD) is None
    assert box == []


# --- cycles -----------------------------------------------------------------------------

def through_result(future, thing):
    future.set_result(thing)


def through_exception(future, thing):
    error = ValueError()
    error.thing = thing
    future.set_exception(error)


def through_attribute(future, thing):
    future.thing = thing


def through_callback(future, thing):
    future.add_done_callback(lambda f: thing)


def through_several_callbacks(future, thing):
    for _ in range(3):
        future.add_done_callback(lambda f: thing)


def through_done_callback(future, thing):
    future.add_done_callback(lambda f: thing)
    future.set_result(1)


def through_callbacks_attribute(future, thing):
    future._done_callbacks.append(lambda f: thing)


def through_waiters(future, thing):
    future._waiters.append(thing)


def through_condition(future, thing):
    future._condition.thing = thing


def through_private_result(future, thing):
    future._result = thing


def through_private_exception(future, thing):
    future._exception = thing


@pytest.mark.parametrize("tie", [
    through_result, through_exception, through_attribute, through_callback,
    through_several_callbacks, through_done_callback, through_callbacks_attribute,
    through_waiters, through_condition, through_private_result, through_private_exception])
@pytest.mark.parametrize("kind", ["plain", "subclass"])
def test_cycle_is_collected(cf, tie, kind):
    class Sub(cf.Future):
        pass

    future, thing = (Sub if kind == "subclass" else cf.Future)(), Thing()
    thing.future = future
    tie(future, thing)
    references = weakref.ref(future), weakref.ref(thing)
    del future, thing
    # Some of these are no cycle any more where callbacks are forgotten once called.
    gc.collect()
    assert all(freed(reference) for reference in references)


def test_future_that_is_its_own_result_is_collected(cf):
    future = cf.Future()
    future.set_result(future)
    reference = weakref.ref(future)
    del future
    gc.collect()
    assert freed(reference)


def test_result_cycle_of_a_task_is_collected(pool):
    """A future made by a pool is known to the collector once it is done."""
    executor, box = pool(1), []

    def work():
        thing = Thing()
        box.append(thing)
        return thing

    future = executor.submit(work)
    thing = future.result(GUARD)
    thing.future = future
    sync(executor)
    references = weakref.ref(future), weakref.ref(thing)
    box.clear()
    del future, thing
    gc.collect()
    assert all(freed(reference) for reference in references)


def test_pending_task_in_a_cycle_with_its_argument_survives_collection(pool, gate):
    """The queue owns the task: the collector must neither free nor clear it."""
    go, thing = gate(), Thing()
    executor = pool(1)
    executor.submit(go.wait, GUARD)
    thing.future = executor.submit(lambda x: x.__dict__, thing)
    future = thing.future
    del thing
    for _ in range(3):
        gc.collect()
    go.set()
    assert future.result(GUARD)["future"] is future


def test_generator_of_as_completed_in_a_cycle_is_collected(cf):
    future, done = cf.Future(), cf.Future()
    done.set_result(1)
    ready = cf.as_completed([future, done])
    next(ready)
    future.ready = ready
    reference = weakref.ref(future)
    del future, ready, done
    gc.collect()
    assert freed(reference)


def test_generator_of_map_in_a_cycle_is_collected(pool):
    executor = pool(1)
    thing = Thing()
    thing.results = executor.map(lambda n, t=thing: n, range(3))
    next(thing.results)
    sync(executor)
    reference = weakref.ref(thing)
    del thing
    gc.collect()
    assert freed(reference)


def test_executor_in_a_cycle_is_collected_and_its_threads_end(cf):
    executor = cf.ThreadPoolExecutor(1)
    executor.myself = executor
    executor.submit(int).result(GUARD)
    (thread,) = executor._threads
    reference = weakref.ref(executor)
    del executor
    gc.collect()
    assert freed(reference)
    thread.join(GUARD)
    assert not thread.is_alive()


def test_executor_in_a_cycle_through_its_initializer_is_collected(cf):
    thing = Callable()
    executor = cf.ThreadPoolExecutor(1, initializer=thing, initargs=(thing,))
    thing.executor = executor
    reference = weakref.ref(thing)
    del executor, thing
    gc.collect()
    assert freed(reference)


# --- finalizers -------------------------------------------------------------------------

def test_finalizers_may_use_futures(cf, pool):
    """__del__ of a result, argument or callback runs Python code at awkward moments."""
    executor, seen = pool(1), []

    class Last:
        def __init__(self, name):
            self.name = name

        def __del__(self):
            future = cf.Future()
            future.set_result(self.name)
            seen.append(future.result())

    executor.submit(lambda x: None, Last("argument"))
    sync(executor)
    future = executor.submit(Last, "result")
    future.result(GUARD)
    sync(executor)
    del future
    future = cf.Future()
    last = Last("callback")
    future.add_done_callback(lambda f, x=last: None)
    del last
    del future
    if FREE_THREADED:       # late, see freed(), and in any order
        assert eventually(lambda: gc.collect() is not None and len(seen) == 3)
        seen.sort(key=["argument", "result", "callback"].index)
    assert seen == ["argument", "result", "callback"]


def test_finalizer_that_raises_is_unraisable_and_harms_nothing(pool, monkeypatch):
    caught = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: caught.append(info.exc_type))

    class Bad:
        def __del__(self):
            raise Error("in a finalizer")

    executor = pool(1)
    for _ in range(3):
        executor.submit(lambda x: None, Bad())
    sync(executor)
    if FREE_THREADED:
        assert eventually(lambda: gc.collect() is not None and len(caught) == 3)
    assert caught == [Error] * 3


@stdlib_with_gil("there the callback can come in the middle of the caller's own submit(), "
                 "which then waits for itself")
def test_weakref_callback_in_a_worker_may_submit(pool):
    executor, futures, submitted = pool(1), [], threading.Event()

    def again(reference):
        futures.append(executor.submit(int, "5"))
        submitted.set()

    thing = Thing()
    reference = weakref.ref(thing, again)
    executor.submit(lambda x: None, thing)
    del thing
    sync(executor)
    assert freed(reference)
    assert submitted.wait(GUARD)
    assert futures[0].result(GUARD) == 5


# --- leaks ------------------------------------------------------------------------------

def many_tasks(cf):
    with cf.ThreadPoolExecutor(2) as executor:
        futures = [executor.submit(int, "3") for _ in range(20)]
        futures += [executor.submit(dict, a=1, b=2) for _ in range(20)]
        cf.wait(futures)
        for _ in cf.as_completed(futures):
            pass
        list(executor.map(len, ["a", "b"]))


def failures(cf):
    with cf.ThreadPoolExecutor(1) as executor:
        for future in [executor.submit(fail) for _ in range(20)]:
            outcome_of(future)


def states(cf):
    for _ in range(20):
        future = cf.Future()
        future.add_done_callback(lambda f: None)
        future.add_done_callback(id)
        repr(future), future._condition, future._waiters, future._done_callbacks
        future.cancel()
        future = cf.Future()
        future._result = 1
        future.colour = "red"
        for call in (future.result, future.exception):
            try:
                call(0)
            except TimeoutError:
                pass
        cf.wait([future], 0)
        list(cf.as_completed([], 0))


def mistakes(cf):
    with cf.ThreadPoolExecutor(1) as executor:
        for call in (executor.submit, cf.wait, lambda: cf.Future(1),
                     lambda: executor.map(len, 5), lambda: cf.wait([1]),
                     lambda: next(cf.as_completed([1])), lambda: cf.ThreadPoolExecutor(0),
                     lambda: cf.Future().result("x")):
            with pytest.raises((TypeError, AttributeError, ValueError)):
                call()


@ours("we answer for our own leaks")
@pytest.mark.skipif(FREE_THREADED, reason="blocks are freed late on free-threaded builds")
@pytest.mark.parametrize("work", [many_tasks, failures, states, mistakes])
def test_no_memory_is_lost(cf, work):
    def blocks():
        gc.collect()
        return sys.getallocatedblocks()

    for _ in range(20):
        work(cf)
    lost = []
    for _ in range(4):
        before = blocks()
        for _ in range(20):
            work(cf)
        lost.append(blocks() - before)
    # Caches may grow once; what is lost each time shows in every round.
    assert min(lost) < 20, lost
