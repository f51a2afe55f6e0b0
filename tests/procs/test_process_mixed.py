"""Futures of processes among others: threads', the standard library's, asyncio's."""
import asyncio
import concurrent.futures
import contextlib
import importlib
import threading

import cfutures
import proc_tasks as tasks
import pytest
from testkit import GUARD, PACKAGES, add, eventually, ours, shared_scope


@pytest.fixture(scope=shared_scope)
def both(shared):
    """A process pool of the implementation under test and a thread pool of each."""
    with contextlib.ExitStack() as stack:
        pools = [stack.enter_context(module.ThreadPoolExecutor(2))
                 for module in (cfutures, concurrent.futures)]
        for pool in pools:
            meeting = threading.Barrier(2)
            concurrent.futures.wait([pool.submit(meeting.wait) for _ in range(2)])
        yield [shared, *pools]


@pytest.fixture(params=PACKAGES.values())
def waits(request):
    """wait() and as_completed() of either library."""
    return importlib.import_module(request.param)


def test_wait_for_futures_of_all_kinds(both, waits):
    futures = [pool.submit(add, n) for n in range(30) for pool in both]
    done, not_done = waits.wait(futures, GUARD)
    assert done == set(futures) and not_done == set()
    assert [f.result() for f in futures] == [n + 1 for n in range(30) for _ in both]


def test_as_completed_over_futures_of_all_kinds(both, waits):
    futures = [pool.submit(add, n) for n in range(30) for pool in both]
    assert set(waits.as_completed(futures, GUARD)) == set(futures)


def test_wait_for_the_first(both, waits, procs, door):
    gate, executor = door(), procs(1)
    blocked = executor.submit(tasks.wait_at, gate.path)
    gate.entered()
    pending = waits.Future()
    quick = both[0].submit(tasks.add, 1)
    done, not_done = waits.wait([blocked, quick, pending], GUARD, waits.FIRST_COMPLETED)
    assert done == {quick} and not_done == {blocked, pending}
    gate.open()
    done, not_done = waits.wait([blocked, pending], GUARD, waits.FIRST_COMPLETED)
    assert done == {blocked}


def test_wait_for_the_first_exception(both, waits, procs, door):
    gate, executor = door(), procs(1)
    blocked = executor.submit(tasks.wait_at, gate.path)
    gate.entered()
    good = [pool.submit(add, 1) for pool in both]
    bad = both[0].submit(tasks.boom)
    done, not_done = waits.wait([blocked, bad, *good], GUARD, waits.FIRST_EXCEPTION)
    assert bad in done and not_done >= {blocked}
    gate.open()


def test_wait_times_out(waits, procs, door):
    gate, executor = door(), procs(1)
    blocked = executor.submit(tasks.wait_at, gate.path)
    assert waits.wait([blocked], 0.01).not_done == {blocked}
    with pytest.raises(TimeoutError, match=r"^1 \(of 1\) futures unfinished$"):
        list(waits.as_completed([blocked], 0.01))
    gate.open()


def test_as_completed_yields_in_order_of_completion(cf, procs, door):
    executor, gates = procs(3), [door() for _ in range(3)]
    futures = [executor.submit(tasks.wait_at, gate.path) for gate in gates]
    for gate in gates:
        gate.entered()
    ready = cf.as_completed(futures, GUARD)
    for number in (1, 2, 0):
        gates[number].open()
        assert next(ready) is futures[number]
    assert list(ready) == []


@pytest.mark.parametrize("how", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
def test_several_threads_wait_for_the_same_futures(cf, procs, door, how):
    executor, gate, results = procs(2), door(), []
    futures = [executor.submit(tasks.wait_at, gate.path) for _ in range(2)]

    def look():
        results.append(cf.wait(futures, GUARD, getattr(cf, how)).done)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.entered(2)
    gate.open()
    for thread in threads:
        thread.join(GUARD)
    assert len(results) == 4 and all(results)
    if how != "FIRST_COMPLETED":
        assert results == [set(futures)] * 4


def test_many_done_futures(cf, shared):
    futures = [shared.submit(tasks.add, n) for n in range(1000)]
    assert cf.wait(futures, GUARD).done == set(futures)
    assert cf.wait(futures, 0).done == set(futures)
    assert set(cf.as_completed(futures, 0)) == set(futures)


def test_wait_for_futures_nobody_else_looks_at(cf, shared):
    """Tickets of as_completed must be posted though nobody asks for a result."""
    for _ in range(20):
        futures = [shared.submit(tasks.add, n) for n in range(50)]
        numbers = {f.result() for f in cf.as_completed(futures, GUARD)}
        assert numbers == set(range(1, 51))


# --- asyncio ----------------------------------------------------------------------------

def test_run_in_executor(shared):
    async def main():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(shared, tasks.add, n) for n in range(200)]
        return await asyncio.wait_for(asyncio.gather(*calls), GUARD)

    assert asyncio.run(main()) == list(range(1, 201))


def test_run_in_executor_that_fails(cf, shared):
    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(ValueError, match="in asyncio") as caught:
            await asyncio.wait_for(
                loop.run_in_executor(shared, tasks.boom, "in asyncio"), GUARD)
        return caught.value

    assert type(asyncio.run(main()).__cause__) is cf.process._RemoteTraceback


def test_wrap_future(shared):
    async def main():
        return await asyncio.wait_for(
            asyncio.wrap_future(shared.submit(tasks.add, 4)), GUARD)

    assert asyncio.run(main()) == 5


@ours("the standard library's futures cannot be awaited")
def test_futures_can_be_awaited(cf, shared):
    async def main():
        return await asyncio.wait_for(_await(shared.submit(tasks.add, 4)), GUARD)

    async def _await(future):
        return await future

    assert asyncio.run(main()) == 5


def test_cancelled_awaitable_cancels_the_queued_task(procs, door):
    executor, gate = procs(1), door()
    running = executor.submit(tasks.wait_at, gate.path)
    gate.entered()
    # The standard library has two more handed out.
    ahead = [executor.submit(tasks.add, n) for n in range(10)]

    async def main():
        future = executor.submit(tasks.add, 1)
        wrapped = asyncio.wrap_future(future)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        return future

    future = asyncio.run(main())
    assert eventually(future.cancelled)
    gate.open()
    assert running.result(GUARD) is None and ahead[-1].result(GUARD) == 10


def test_event_loop_goes_on_while_tasks_run(procs, door):
    executor, gate = procs(1), door()

    async def main():
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(executor, tasks.wait_at, gate.path)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not running.done()
        gate.open()
        await asyncio.wait_for(running, GUARD)

    asyncio.run(main())
