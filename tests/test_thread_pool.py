"""ThreadPoolExecutor: its threads, submit, initializers."""
import contextvars
import functools
import operator
import os
import re
import sys
import threading
import types
import weakref

import pytest
from testkit import FREE_THREADED, GUARD, Thing, add, boom, eventually, ours, parked


def current():
    return threading.current_thread()


# --- submit -----------------------------------------------------------------------------

def collect(*args, **kwargs):
    return args, kwargs


@pytest.mark.parametrize("args, kwargs", [
    ((), {}), ((1,), {}), ((1, 2), {}), ((1, 2, 3), {}), (tuple(range(7)), {}),
    (tuple(range(300)), {}), ((), {"a": 1}), ((1,), {"a": 1, "b": 2}),
    ((1, 2), {"self": 3, "fn": 4, "args": 5, "kwargs": 6}),
    ((), {f"k{n}": n for n in range(50)}), (tuple(range(40)), {f"k{n}": n for n in range(9)}),
    ((None, ...), {"timeout": 1, "chunksize": 2})])
def test_arguments_arrive(pool, args, kwargs):
    assert pool(1).submit(collect, *args, **kwargs).result(GUARD) == (args, kwargs)


def test_keywords_that_are_not_identifiers(pool):
    assert pool(1).submit(collect, **{"": 1, "a b": 2}).result(GUARD)[1] == {"": 1, "a b": 2}


def test_the_callers_objects_are_not_changed(pool):
    kwargs = {"a": []}
    _, seen = pool(1).submit(collect, **kwargs).result(GUARD)
    assert seen is not kwargs and seen["a"] is kwargs["a"]


@pytest.mark.parametrize("function, args, expected", [
    (pow, (2, 8), 256), (int, ("7",), 7), ("abc".upper, (), "ABC"),
    (operator.itemgetter(1), ([5, 6],), 6), (functools.partial(add, 3), (4,), 7),
    (lambda: "lambda", (), "lambda"), (types.SimpleNamespace, (), types.SimpleNamespace()),
    (max, (1, 5, 3), 5), (len, ([],), 0), (dict, ([(1, 2)],), {1: 2})])
def test_any_callable_will_do(pool, function, args, expected):
    assert pool(1).submit(function, *args).result(GUARD) == expected


def test_instances_classes_and_methods(pool):
    class Adder:
        def __init__(self, base=0):
            self.base = base

        def __call__(self, n):
            return self.base + n

        def method(self, n):
            return self.base * n

        @classmethod
        def make(cls, n):
            return cls(n)

        @staticmethod
        def static(n):
            return -n

    executor = pool(1)
    adder = executor.submit(Adder, 10).result(GUARD)
    assert executor.submit(adder, 5).result(GUARD) == 15
    assert executor.submit(adder.method, 5).result(GUARD) == 50
    assert executor.submit(Adder.method, adder, n=2).result(GUARD) == 20
    assert executor.submit(Adder.make, 3).result(GUARD).base == 3
    assert executor.submit(Adder.static, 4).result(GUARD) == -4


def test_submit_returns_a_future_of_this_implementation(cf, pool):
    future = pool(1).submit(int)
    assert type(future) is cf.Future
    assert future.result(GUARD) == 0


def test_exception_of_a_task(pool):
    executor = pool(1)
    future = executor.submit(boom, text="text")
    error = future.exception(GUARD)
    assert isinstance(error, ValueError) and error.args == ("text",)
    with pytest.raises(ValueError) as caught:
        future.result(GUARD)
    assert caught.value is error
    assert caught.traceback[-1].name == "boom"
    assert executor.submit(add, 1).result(GUARD) == 2


def test_exception_of_a_task_has_no_context_of_ours(pool):
    error = pool(1).submit(boom).exception(GUARD)
    assert error.__context__ is None and error.__cause__ is None


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError,
                                  StopIteration, StopAsyncIteration, RecursionError])
def test_every_exception_is_kept_for_the_caller(pool, kind):
    def fail():
        raise kind("from a task")

    executor = pool(1)
    future = executor.submit(fail)
    with pytest.raises(kind, match="from a task"):
        future.result(GUARD)
    assert executor.submit(int).result(GUARD) == 0
    assert len(executor._threads) == 1


def test_sys_exit_in_a_task_does_not_end_the_worker(pool):
    executor = pool(1)
    assert executor.submit(sys.exit, 3).exception(GUARD).code == 3
    assert executor.submit(add, 1).result(GUARD) == 2


def test_wrong_arguments_are_the_tasks_exception(pool):
    executor = pool(1)
    assert isinstance(executor.submit(add).exception(GUARD), TypeError)
    assert isinstance(executor.submit(5).exception(GUARD), TypeError)
    assert str(executor.submit(None, 1).exception(GUARD)) == "'NoneType' object is not callable"


def test_deep_recursion_in_a_task(pool):
    def deep(n):
        return n and deep(n - 1)

    executor = pool(1)
    assert executor.submit(deep, 500).result(GUARD) == 0
    assert isinstance(executor.submit(deep, 10**6).exception(GUARD), RecursionError)
    assert executor.submit(deep, 500).result(GUARD) == 0


def test_one_worker_runs_tasks_in_the_order_submitted(pool):
    executor, order = pool(1), []
    futures = [executor.submit(order.append, n) for n in range(2000)]
    futures[-1].result(GUARD)
    assert order == list(range(2000))


def test_many_tasks_from_many_threads(cf, pool):
    executor, results = pool(4), []

    def submit(base):
        results.extend(executor.submit(add, base, n).result(GUARD) for n in range(100))

    threads = [threading.Thread(target=submit, args=(1000 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert sorted(results) == sorted(1000 * b + n for b in range(6) for n in range(100))


def test_submit_from_a_task(pool):
    executor = pool(1)
    inner = executor.submit(lambda: executor.submit(add, 20)).result(GUARD)
    assert inner.result(GUARD) == 21


def test_tasks_make_tasks_recursively(pool):
    executor, leaves, done = pool(3), [], threading.Event()

    def split(depth):
        if depth:
            executor.submit(split, depth - 1)
            executor.submit(split, depth - 1)
        else:
            leaves.append(1)
            if len(leaves) == 2**9:
                done.set()

    executor.submit(split, 9)
    assert done.wait(GUARD)


def test_running_and_cancel_of_tasks(pool, gate):
    go, begun = gate(), gate()
    executor = pool(1)
    first = executor.submit(lambda: begun.set() or go.wait(GUARD))
    queued = [executor.submit(add, n) for n in range(5)]
    assert begun.wait(GUARD)
    assert first.running() and not first.cancel()
    assert all(not f.running() and not f.done() for f in queued)
    assert queued[2].cancel() and queued[2].cancelled()
    go.set()
    assert [f.result(GUARD) for n, f in enumerate(queued) if n != 2] == [1, 2, 4, 5]
    assert eventually(lambda: queued[2]._state == "CANCELLED_AND_NOTIFIED")


def test_cancelled_task_never_runs(pool, gate):
    go, ran = gate(), []
    executor = pool(1)
    executor.submit(go.wait, GUARD)
    futures = [executor.submit(ran.append, n) for n in range(100)]
    cancelled = {n for n in range(0, 100, 3) if futures[n].cancel()}
    assert len(cancelled) == 34
    go.set()
    futures[-2].result(GUARD)
    assert ran == [n for n in range(99) if n not in cancelled]


def test_task_cancelling_itself_fails(pool, gate):
    box, go = [], gate()
    future = pool(1).submit(lambda: go.wait(GUARD) and box[0].cancel())
    box.append(future)
    go.set()
    assert future.result(GUARD) is False


# --- threads ----------------------------------------------------------------------------

def test_no_thread_before_the_first_task(pool):
    before = threading.active_count()
    executor = pool(5)
    assert threading.active_count() == before
    assert executor._threads == set()


def test_sequential_submits_share_one_thread(pool):
    executor = pool(4)
    seen = []
    for _ in range(3):
        seen.append(executor.submit(current).result(GUARD))
        # It counts as idle only once it is back at the queue.
        assert parked(seen[-1])
    assert len(set(seen)) == 1
    assert len(executor._threads) == 1


def test_pool_grows_to_max_workers_and_no_further(pool):
    executor = pool(3)
    meeting = threading.Barrier(4)
    futures = [executor.submit(meeting.wait, GUARD) for _ in range(3)]
    futures += [executor.submit(current) for _ in range(20)]
    assert len(executor._threads) == 3
    meeting.wait(GUARD)
    assert all(f.exception(GUARD) is None for f in futures)
    assert len(executor._threads) == 3
    assert {f.result() for f in futures[3:]} <= executor._threads


def test_threads_are_real_threads(pool):
    executor = pool(1)
    worker = executor.submit(current).result(GUARD)
    assert type(worker) is threading.Thread
    assert worker in threading.enumerate() and worker.is_alive()
    assert not worker.daemon
    assert executor._threads == {worker}
    assert worker.ident == executor.submit(threading.get_ident).result(GUARD)
    assert worker.native_id == executor.submit(threading.get_native_id).result(GUARD)
    executor.shutdown()
    assert not worker.is_alive()
    assert executor._threads == {worker}


def test_thread_names(pool):
    one, two = pool(3), pool(1)
    meeting = threading.Barrier(3)

    def meet():
        meeting.wait(GUARD)
        return current().name

    names = sorted(f.result(GUARD) for f in [one.submit(meet) for _ in range(3)])
    match = re.fullmatch(r"ThreadPoolExecutor-(\d+)_0", names[0])
    number = int(match[1])
    assert names == [f"ThreadPoolExecutor-{number}_{n}" for n in range(3)]
    assert two.submit(current).result(GUARD).name == f"ThreadPoolExecutor-{number + 1}_0"


def test_thread_name_prefix(pool):
    assert pool(1, "mine").submit(current).result(GUARD).name == "mine_0"
    executor = pool(1, thread_name_prefix="other %d {}")
    assert executor.submit(current).result(GUARD).name == "other %d {}_0"
    assert executor._thread_name_prefix == "other %d {}"


def test_named_pools_do_not_use_up_numbers(pool):
    first = pool(1)._thread_name_prefix
    pool(1, "named")
    second = pool(1)._thread_name_prefix
    number = int(first.rpartition("-")[2])
    assert second == f"ThreadPoolExecutor-{number + 1}"


def test_thread_local_data_stays_with_its_worker(pool):
    local = threading.local()

    def count():
        local.n = getattr(local, "n", 0) + 1
        return local.n

    executor = pool(1)
    assert [executor.submit(count).result(GUARD) for _ in range(3)] == [1, 2, 3]
    assert not hasattr(local, "n")


def test_thread_locals_die_with_the_worker(cf):
    local, thing = threading.local(), Thing()
    reference = weakref.ref(thing)
    with cf.ThreadPoolExecutor(1) as executor:
        executor.submit(setattr, local, "thing", thing).result(GUARD)
        del thing
        assert reference() is not None
    assert eventually(lambda: reference() is None)


def test_each_worker_has_one_context_of_its_own(pool):
    variable = contextvars.ContextVar("variable", default="default")
    variable.set("main")
    executor = pool(1)
    assert executor.submit(variable.get).result(GUARD) in ("default", "main")
    executor.submit(variable.set, "kept").result(GUARD)
    assert executor.submit(variable.get).result(GUARD) == "kept"
    assert variable.get() == "main"
    context = contextvars.copy_context()
    assert executor.submit(context.run, variable.get).result(GUARD) == "main"


def test_tracing_and_profiling_see_the_tasks(cf):
    seen = []

    def trace(frame, event, argument):
        if frame.f_code is add.__code__ and event == "call":
            seen.append(current().name)

    threading.setprofile(trace)
    try:
        with cf.ThreadPoolExecutor(1, "traced") as executor:
            executor.submit(add, 1).result(GUARD)
    finally:
        threading.setprofile(None)
    assert seen == ["traced_0"]


def test_excepthook_is_not_called_for_tasks(pool, monkeypatch):
    calls = []
    monkeypatch.setattr(threading, "excepthook", calls.append)
    executor = pool(1)
    executor.submit(boom).exception(GUARD)
    executor.shutdown()
    assert calls == []


def test_default_number_of_workers(cf, pool):
    count = getattr(os, "process_cpu_count", os.cpu_count)
    if cf.implementation == "cfutures" and not hasattr(os, "process_cpu_count"):
        def count():
            return len(os.sched_getaffinity(0))
    assert 1 <= pool()._max_workers <= min(32, (count() or 1) + 4)
    assert pool(None)._max_workers == pool()._max_workers
    assert pool(7)._max_workers == 7


@ours("older versions ignore the affinity of the process")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_default_number_of_workers_respects_affinity(pool):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert pool()._max_workers == 5
    finally:
        os.sched_setaffinity(0, before)


def test_more_workers_than_tasks_will_ever_need(pool):
    executor = pool(10**6)
    assert executor.submit(add, 1).result(GUARD) == 2
    assert len(executor._threads) == 1


def test_tasks_that_wait_for_each_other_get_a_thread_each(pool):
    executor = pool(8)
    meeting = threading.Barrier(8)
    for _ in range(20):
        futures = [executor.submit(meeting.wait, GUARD) for _ in range(8)]
        assert sorted(f.result(GUARD) for f in futures) == list(range(8))


def test_a_burst_uses_every_worker_after_a_rest(pool):
    """Idle workers must all be woken, not only the first."""
    executor = pool(4)
    meeting = threading.Barrier(4)
    for _ in range(50):
        for future in [executor.submit(meeting.wait, GUARD) for _ in range(4)]:
            future.result(GUARD)
        assert all(t.is_alive() for t in executor._threads)


@pytest.mark.skipif(FREE_THREADED, reason="a result may be freed by another thread there")
def test_worker_in_a_destructor_is_not_idle(pool, gate):
    """A dropped result is freed by the worker; until then a new task needs a new thread."""
    freeing, go = gate(), gate()

    class Slow:
        def __del__(self):
            freeing.set()
            go.wait(GUARD)

    executor = pool(2)
    begin = gate()
    executor.submit(lambda: begin.wait(GUARD) and Slow())
    begin.set()
    assert freeing.wait(GUARD)
    assert executor.submit(add, 1).result(GUARD / 3) == 2
    go.set()


class Interrupting(Exception):
    """What a signal handler may raise."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Interrupting, MemoryError])
@pytest.mark.parametrize("begun", [False, True])
def test_exception_while_a_thread_starts(cf, pool, gate, monkeypatch, kind, begun):
    """A signal handler raises when the thread is there but start() has not returned."""
    ran, go = gate(), gate()
    start = threading.Thread.start

    def interrupted(thread):
        start(thread)
        if begun:
            ran.wait(GUARD)
        raise kind("while starting")

    executor = pool(1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(kind, match="while starting"):
            executor.submit(lambda: ran.set() or go.wait(GUARD))
    go.set()
    if cf.implementation == "stdlib":
        # There it has forgotten that thread.
        executor.submit(int).result(GUARD)
        return
    # The thread is there and counts.
    assert executor.submit(current).result(GUARD) in executor._threads
    assert executor.submit(add, 1).result(GUARD) == 2
    assert len(executor._threads) == 1
    threads = list(executor._threads)
    executor.shutdown()
    assert not any(t.is_alive() for t in threads)


@pytest.mark.parametrize("kind", [RuntimeError, MemoryError, OSError])
def test_thread_that_cannot_be_started(cf, pool, monkeypatch, kind):
    """The call that needed it fails; the pool is as good as before."""
    def impossible(thread):
        raise kind("can't start new thread")

    executor = pool(2)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", impossible)
        with pytest.raises(kind, match="can't start new thread"):
            executor.submit(add, 1)
    if cf.implementation == "stdlib":
        # There the task stays in the queue and is done by the next thread.
        return
    assert executor._threads == set()
    assert executor.submit(add, 1).result(GUARD) == 2
    assert len(executor._threads) == 1


@ours("there the call fails although another thread will run the task")
def test_second_thread_that_cannot_be_started(cf, pool, gate, monkeypatch):
    """DESIGN: the pool goes on with the threads it has."""
    def impossible(thread):
        raise RuntimeError("can't start new thread")

    go = gate()
    executor = pool(2)
    executor.submit(go.wait, GUARD)
    monkeypatch.setattr(threading.Thread, "start", impossible)
    future = executor.submit(add, 1)
    go.set()
    assert future.result(GUARD) == 2


# --- initializer ------------------------------------------------------------------------

def test_initializer_runs_once_in_each_worker(pool):
    seen = []

    def prepare(*args):
        seen.append((current(), args))

    executor = pool(2, initializer=prepare, initargs=(1, "two"))
    assert seen == []
    meeting = threading.Barrier(2)
    for _ in range(3):
        for future in [executor.submit(meeting.wait, GUARD) for _ in range(2)]:
            future.result(GUARD)
    assert {thread for thread, _ in seen} == executor._threads
    assert [args for _, args in seen] == [(1, "two")] * 2


def test_initializer_runs_before_the_first_task(pool):
    order = []
    executor = pool(1, initializer=order.append, initargs=("ready",))
    executor.submit(order.append, "task").result(GUARD)
    assert order == ["ready", "task"]


BROKEN = "A thread initializer failed, the thread pool is not usable anymore"


def test_failing_initializer_breaks_the_pool(cf, pool, caplog):
    executor = pool(1, initializer=boom)
    future = executor.submit(add, 1)
    with pytest.raises(cf.BrokenThreadPool, match=f"^{BROKEN}$"):
        future.result(GUARD)
    assert eventually(lambda: executor._broken)
    assert executor._broken == BROKEN
    for _ in range(2):
        with pytest.raises(cf.BrokenThreadPool, match=f"^{BROKEN}$"):
            executor.submit(add, 1)
    assert isinstance(future.exception(), cf.BrokenExecutor)
    assert isinstance(future.exception(), RuntimeError)


def test_failing_initializer_fails_everything_queued(cf, pool, gate, caplog):
    go = gate()

    def prepare():
        go.wait(GUARD)
        boom()

    executor = pool(1, initializer=prepare)
    futures = [executor.submit(add, n) for n in range(20)]
    gone = futures[3]
    go.set()
    assert cf.wait(futures, GUARD).not_done == set()
    assert all(isinstance(f.exception(), cf.BrokenThreadPool) for f in futures)
    assert not gone.cancel()


def test_initializer_failing_in_a_second_worker(cf, pool, gate, caplog):
    """The first worker's task goes on; what is queued and what follows is refused."""
    go, begun, workers = gate(), gate(), []

    def prepare():
        workers.append(current())
        if len(workers) == 2:
            boom()

    executor = pool(2, initializer=prepare)
    first = executor.submit(lambda: begun.set() or go.wait(GUARD))
    assert begun.wait(GUARD)
    second = executor.submit(add, 1)
    assert isinstance(second.exception(GUARD), cf.BrokenThreadPool)
    with pytest.raises(cf.BrokenThreadPool):
        executor.submit(add, 1)
    assert not first.done()
    go.set()
    assert first.result(GUARD) is True


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_initializer_raising_a_base_exception(cf, pool, kind, caplog):
    def prepare():
        raise kind("in the initializer")

    executor = pool(1, initializer=prepare)
    with pytest.raises(cf.BrokenThreadPool):
        executor.submit(add, 1).result(GUARD)


@ours("there the futures of such an executor hang")
def test_failing_initializer_of_a_collected_executor(cf, gate, caplog):
    go = gate()

    def prepare():
        go.wait(GUARD)
        boom()

    executor = cf.ThreadPoolExecutor(1, initializer=prepare)
    futures = [executor.submit(add, n) for n in range(3)]
    reference = weakref.ref(executor)
    del executor
    assert reference() is None
    go.set()
    for future in futures:
        with pytest.raises(cf.BrokenThreadPool, match=f"^{BROKEN}$"):
            future.result(GUARD)


def test_initializer_that_submits(pool):
    box, futures = [], []

    def prepare():
        futures.append(box[0].submit(add, 40))

    executor = pool(1, initializer=prepare)
    box.append(executor)
    assert executor.submit(add, 1).result(GUARD) == 2
    assert futures[0].result(GUARD) == 41


# --- classes ----------------------------------------------------------------------------

def test_subclass_with_its_own_submit(cf):
    class Counting(cf.ThreadPoolExecutor):
        count = 0

        def submit(self, fn, /, *args, **kwargs):
            self.count += 1
            return super().submit(fn, *args, **kwargs)

    with Counting(2) as executor:
        assert executor.submit(add, 1).result(GUARD) == 2
        assert list(executor.map(add, range(3))) == [1, 2, 3]
    assert executor.count == 4


def test_subclass_with_its_own_constructor(cf):
    class Logged(cf.ThreadPoolExecutor):
        def __init__(self, log, **options):
            super().__init__(2, **options)
            self.log = log

    with Logged([], thread_name_prefix="logged") as executor:
        executor.log.append(executor.submit(current).result(GUARD).name)
    assert executor.log == ["logged_0"]
    assert executor._max_workers == 2


def test_submit_patched_on_the_instance_is_used_by_map(pool):
    executor, calls = pool(1), []
    original = executor.submit

    def submit(fn, *args):
        calls.append(args)
        return original(fn, *args)

    executor.submit = submit
    assert list(executor.map(add, [1, 2])) == [2, 3]
    assert calls == [(1,), (2,)]


def test_submit_patched_on_the_class_is_used_by_map(cf, pool, monkeypatch):
    calls, original = [], cf.ThreadPoolExecutor.submit

    def submit(self, fn, /, *args, **kwargs):
        calls.append(args)
        return original(self, fn, *args, **kwargs)

    monkeypatch.setattr(cf.ThreadPoolExecutor, "submit", submit)
    assert list(pool(1).map(add, [1, 2])) == [2, 3]
    assert calls == [(1,), (2,)]


def test_executor_is_an_abstract_base(cf):
    executor = cf.Executor()
    with pytest.raises(NotImplementedError):
        executor.submit(add, 1)
    with pytest.raises(NotImplementedError):
        executor.map(add, [1])
    assert executor.shutdown() is None
    assert executor.shutdown(wait=False, cancel_futures=True) is None
    with executor as entered:
        assert entered is executor


def test_executor_of_ones_own(cf):
    class Immediate(cf.Executor):
        stopped = None

        def submit(self, fn, /, *args, **kwargs):
            future = cf.Future()
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)
            return future

        def shutdown(self, wait=True, *, cancel_futures=False):
            self.stopped = wait

    with Immediate() as executor:
        assert list(executor.map(add, [1, 2], [3, 4])) == [4, 6]
        with pytest.raises(ValueError):
            list(executor.map(boom, ["x"]))
    assert executor.stopped is True


def test_attributes_weak_references_and_bound_methods(pool):
    executor = pool(1)
    executor.colour = "red"
    assert executor.colour == "red"
    assert weakref.ref(executor)() is executor
    submit = executor.submit
    assert submit(add, 1).result(GUARD) == 2
    assert type(executor).submit(executor, add, 2).result(GUARD) == 3


@pytest.mark.parametrize("kind", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_own_attributes_are_beside_the_instance_dictionary(kind):
    """With an empty one CPython 3.13 looks up submit() once for a loop of calls."""
    import cfutures

    with getattr(cfutures, kind)(1) as executor:
        assert executor.submit(int).result(GUARD) == 0
        assert vars(executor) == {}
        executor.colour = "red"
        assert vars(executor) == {"colour": "red"}


def test_queue_size_is_told(pool, gate):
    go, begun = gate(), gate()
    executor = pool(1)
    executor.submit(lambda: begun.set() or go.wait(GUARD))
    assert begun.wait(GUARD)
    for _ in range(5):
        executor.submit(int)
    assert executor._work_queue.qsize() == 5
