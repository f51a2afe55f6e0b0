"""The life of a Pool: made, closed, terminated, collected; its workers."""
import gc
import multiprocessing
import multiprocessing.pool
import os
import pickle
import warnings
import weakref

import pool_tasks as tasks
import pytest
from prockit import METHODS, alive
from testkit import GUARD, eventually, freed, ours


@pytest.mark.parametrize("count", [0, -1])
def test_a_pool_needs_a_worker(lib, count):
    for cls in (lib.Pool, lib.ThreadPool):
        with pytest.raises(ValueError, match=r"^Number of processes must be at least 1$"):
            cls(count)


def test_bad_arguments(lib):
    with pytest.raises(TypeError, match=r"^initializer must be a callable$"):
        lib.Pool(1, initializer=1)
    for number in (0, -1, 0.5, "12"):
        with pytest.raises(
                ValueError, match=r"^maxtasksperchild must be a positive int or None$"):
            lib.Pool(1, maxtasksperchild=number)


def test_isinstance_of_the_standard_classes(make):
    pool, threads = make(), make("threads")
    assert isinstance(pool, multiprocessing.pool.Pool)
    assert isinstance(threads, multiprocessing.pool.ThreadPool)
    result = pool.map_async(tasks.double, [1])
    assert isinstance(result, multiprocessing.pool.AsyncResult)
    assert isinstance(result, multiprocessing.pool.MapResult)
    assert isinstance(pool.imap(tasks.double, [1]), multiprocessing.pool.IMapIterator)
    assert isinstance(pool.apply_async(tasks.double, [1]), multiprocessing.pool.ApplyResult)
    with pytest.raises(NotImplementedError, match="cannot be passed between processes"):
        pickle.dumps(pool)


def test_repr_and_states(make):
    pool = make()
    name = type(pool).__module__ + ".Pool"
    assert repr(pool) == f"<{name} state=RUN pool_size=2>"
    with pytest.raises(ValueError, match=r"^Pool is still running$"):
        pool.join()
    pool.close()
    assert repr(pool).startswith(f"<{name} state=CLOSE ")
    pool.join()
    pool.terminate()
    assert repr(pool).startswith(f"<{name} state=TERMINATE ")


@ours("multiprocessing.Pool shows nothing in Jupyter")
def test_jupyter_shows_workers_and_tasks(make):
    for kind, name in (("fork", "Pool"), ("threads", "ThreadPool")):
        pool = make(kind)
        pool.map(tasks.double, range(5), 1)
        html = pool._repr_html_()
        assert f"<b>{name}</b>" in html and "done 5" in html


@pytest.mark.parametrize("end", ["close", "terminate"])
@pytest.mark.parametrize("of", ["fork", "threads"])
def test_a_pool_that_is_not_running_takes_no_calls(make, end, of):
    pool = make(of)
    getattr(pool, end)()
    for call in (lambda: pool.apply(tasks.double, (1,)),
                 lambda: pool.apply_async(tasks.double, (1,)),
                 lambda: pool.map(tasks.double, [1]),
                 lambda: pool.starmap_async(tasks.add, [(1, 2)]),
                 lambda: pool.imap(tasks.double, [1]),
                 lambda: pool.imap_unordered(tasks.double, [1]),
                 pool.__enter__):
        with pytest.raises(ValueError, match=r"^Pool not running$"):
            call()


@pytest.mark.parametrize("of", ["fork", "threads"])
def test_what_was_asked_for_is_done_after_close(make, of):
    pool = make(of)
    result = pool.map_async(tasks.double, range(1000), 1)
    results = pool.imap(tasks.double, (x for x in range(3000)))
    pool.close()
    pool.join()
    assert result.get(0) == list(range(0, 2000, 2))
    assert list(results) == list(range(0, 6000, 2))


def test_terminate_ends_what_runs(make, door):
    pool = make()
    pool.map_async(tasks.announce_and_sleep, [door.path] * 10, 1)
    pids = [pid for pid, _ in door.entered(2)]
    pool.terminate()
    assert not any(alive(pid) for pid in pids)
    pool.join()


def test_the_end_of_the_block_terminates(make, door):
    with make() as pool:
        pool.apply_async(tasks.announce_and_sleep, (door.path,))
        (pid, _), = door.entered()
    assert not alive(pid)
    with pytest.raises(ValueError, match=r"^Pool not running$"):
        with pool:
            pass


@ours("there get() hangs after terminate()")
def test_terminate_fails_what_is_not_done(make, door):
    from concurrent.futures import BrokenExecutor

    pool = make()
    running = pool.apply_async(tasks.announce_and_sleep, (door.path,))
    door.entered()
    waiting = pool.map_async(tasks.announce_and_sleep, [door.path] * 10, 1)
    results = pool.imap(tasks.announce_and_sleep, iter([door.path] * 10))
    called = []
    told = pool.apply_async(tasks.double, (1,), error_callback=called.append)
    pool.terminate()
    for get in (running.get, waiting.get, results.next, told.get):
        with pytest.raises(BrokenExecutor, match="terminate"):
            get(GUARD)
    assert len(called) == 1 and not told.successful()


@ours("there get() hangs after terminate()")
def test_terminate_of_threads_begins_no_more(make, gate):
    from concurrent.futures import BrokenExecutor

    pool, begun, go_on = make("threads", 1), gate(), gate()

    def wait():
        begun.set()
        return go_on.wait(GUARD)

    running, waiting = pool.apply_async(wait), pool.apply_async(wait)
    assert begun.wait(GUARD)
    pool.terminate()
    with pytest.raises(BrokenExecutor, match="terminated"):
        waiting.get(GUARD)
    go_on.set()
    assert running.get(GUARD) is True


def test_an_unclosed_pool_warns_and_leaves_nothing(lib):
    with warnings.catch_warnings():
        said = []
        warnings.simplefilter("always", ResourceWarning)
        # Not a list of all that belongs to the warning, which has the pool.
        warnings.showwarning = lambda message, *args: said.append(str(message))
        pool = lib.Pool(2)
        pids = pool.map(tasks.pid, range(10), 1)
        gone = weakref.ref(pool)
        del pool
        assert eventually(lambda: gc.collect() is not None and gone() is None)
        assert [text[:37] for text in said] == ["unclosed running multiprocessing pool"]
    assert eventually(lambda: not any(alive(pid) for pid in pids))


def test_a_closed_pool_does_not_warn(lib):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for pool in (lib.Pool(1), lib.ThreadPool(1)):
            assert pool.map(tasks.double, [1]) == [2]
            pool.close()
            pool.join()
        del pool
        gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")
def test_results_keep_their_pool(lib):
    assert lib.Pool(1).apply_async(tasks.double, (4,)).get(GUARD) == 8
    assert lib.Pool(1).map_async(tasks.double, range(100), 1).get(GUARD)[-1] == 198
    assert list(lib.Pool(1).imap(tasks.double, (x for x in range(100))))[-1] == 198
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")
def test_a_dropped_pool_still_does_what_it_was_asked_for(lib, tmp_path):
    path = tmp_path / "written"
    lib.Pool(1).apply_async(tasks.write, (str(path),))
    gc.collect()
    assert eventually(path.exists)
    gc.collect()


def test_nothing_keeps_arguments_or_results(make):
    class Thing:
        pass

    pool = make("threads")
    thing = Thing()
    gone = weakref.ref(thing)
    things = [thing]
    assert pool.map(id, things) == [id(thing)]
    assert pool.apply(id, (thing,)) == id(thing)
    assert list(pool.imap(id, things)) == [id(thing)]
    del thing, things
    # A worker forgets its last call when it gets the next one.
    assert eventually(lambda: pool.map(tasks.double, range(8), 1) and freed(gone))


@ours("there the frames of get() keep it until the next collection")
def test_an_exception_is_freed_without_the_collector(make):
    class Oops(Exception):
        pass

    def fail(_):
        raise Oops

    pool = make("threads")
    gc.collect()
    gc.disable()
    try:
        for call in (lambda: pool.map(fail, [1]), lambda: pool.apply(fail, (1,)),
                     lambda: pool.map(fail, range(500)), lambda: next(pool.imap(fail, [1]))):
            try:
                call()
            except Oops as error:
                gone = weakref.ref(error)
            # A worker forgets its last call when it gets the next one.
            assert eventually(
                lambda gone=gone: pool.map(tasks.double, range(8), 1) and freed(gone), 5)
    finally:
        gc.enable()


# ---- workers ----


@pytest.mark.parametrize("method", METHODS)
def test_each_worker_is_initialized_though_there_is_no_task(make, method, tmp_path):
    path = tmp_path / "started"
    pool = make(method, 2, initializer=tasks.write, initargs=[str(path)])
    pool.close()
    pool.join()
    assert path.read_bytes() == b"started\n" * 2


@pytest.mark.parametrize("method", [*METHODS, "threads"])
def test_initializer_gets_its_arguments(make, method):
    pool = make(method, 1, initializer=tasks.start, initargs=(method, 2))
    assert pool.apply(tasks.started)[-1] == (method, 2)


def test_worker_names(make):
    assert make("fork").apply(tasks.worker_name).startswith("ForkPoolWorker-")
    assert make("spawn", 1).apply(tasks.worker_name).startswith("SpawnPoolWorker-")


def test_workers_run_from_the_beginning(make):
    pool = make("fork", 3)
    workers = pool._pool
    assert len(workers) == 3 and all(worker.is_alive() for worker in workers)
    assert set(pool.map(tasks.pid, range(30), 1)) <= {worker.pid for worker in workers}


@pytest.mark.parametrize("method", METHODS)
def test_maxtasksperchild(make, method):
    pool = make(method, 1, maxtasksperchild=2)
    pids = pool.map(tasks.pid, range(6), 1)
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 2]
    # A chunk is one task.
    assert len(set(pool.map(tasks.pid, range(20), 10))) == 1
    pool.close()
    pool.join()


def test_processes_default_to_the_cpus(lib, make):
    with lib.Pool() as pool:
        assert 1 <= len(pool._pool) <= (os.cpu_count() or 1)
    pool.join()


@ours("there workers are daemons, which cannot have children")
def test_a_worker_can_have_a_pool(make):
    assert make().apply(pool_in_a_pool) == [0, 2, 4]


def pool_in_a_pool():
    import cfutures

    with cfutures.Pool(2) as pool:
        return pool.map(tasks.double, range(3))
