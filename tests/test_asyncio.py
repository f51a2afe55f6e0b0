"""asyncio takes our futures and executors for the standard library's."""
import asyncio
import threading

import pytest
from testkit import GUARD, add, boom, eventually, ours


def run(main):
    """Run a coroutine function, with a guard against hangs."""
    async def guarded():
        return await asyncio.wait_for(main(), GUARD)

    return asyncio.run(guarded())


def test_wrap_future_result(cf, pool):
    executor = pool(1)

    async def main():
        return await asyncio.wrap_future(executor.submit(add, 1))

    assert run(main) == 2


def test_wrap_future_exception(cf, pool):
    executor = pool(1)

    async def main():
        await asyncio.wrap_future(executor.submit(boom))

    with pytest.raises(ValueError, match="boom"):
        run(main)


def test_wrap_future_that_is_done_already(cf):
    future = cf.Future()
    future.set_result(7)

    async def main():
        return await asyncio.wrap_future(future)

    assert run(main) == 7


def test_cancelling_the_wrapper_cancels_the_future(cf):
    future = cf.Future()

    async def main():
        wrapper = asyncio.wrap_future(future)
        assert wrapper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapper

    run(main)
    assert future.cancelled()


def test_cancelling_the_future_cancels_the_wrapper(cf):
    future = cf.Future()

    async def main():
        wrapper = asyncio.wrap_future(future)
        asyncio.get_running_loop().call_soon(future.cancel)
        with pytest.raises(asyncio.CancelledError):
            await wrapper
        return wrapper.cancelled()

    assert run(main)


def test_cancelling_the_task_leaves_a_running_future_alone(cf, pool, gate):
    go, begun = gate(), gate()
    executor = pool(1)
    future = executor.submit(lambda: begun.set() or go.wait(GUARD))
    assert begun.wait(GUARD)

    async def main():
        task = asyncio.ensure_future(asyncio.wrap_future(future))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    assert future.running()
    go.set()
    assert future.result(GUARD) is True


def test_run_in_executor(cf, pool):
    executor = pool(2, "named")

    async def main():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, add, n) for n in range(10)]
        name = loop.run_in_executor(executor, lambda: threading.current_thread().name)
        with pytest.raises(ValueError):
            await loop.run_in_executor(executor, boom)
        return await asyncio.gather(*calls), await name

    results, name = run(main)
    assert results == list(range(1, 11))
    assert name.startswith("named_")


def test_default_executor(cf):
    async def main():
        loop = asyncio.get_running_loop()
        executor = cf.ThreadPoolExecutor(1, "default")
        loop.set_default_executor(executor)
        name = await asyncio.to_thread(lambda: threading.current_thread().name)
        number = await loop.run_in_executor(None, add, 1)
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError):
            executor.submit(add, 1)
        return name, number, executor

    name, number, executor = run(main)
    assert (name, number) == ("default_0", 2)
    assert not any(t.is_alive() for t in executor._threads)


def test_run_shuts_down_the_default_executor(cf):
    box = []

    async def main():
        box.append(cf.ThreadPoolExecutor(2))
        asyncio.get_running_loop().set_default_executor(box[0])
        await asyncio.gather(*(asyncio.to_thread(add, n) for n in range(5)))

    run(main)
    assert not any(t.is_alive() for t in box[0]._threads)


def test_run_coroutine_threadsafe_from_a_task(cf, pool):
    executor = pool(1)

    async def double(n):
        await asyncio.sleep(0)
        return 2 * n

    async def main():
        loop = asyncio.get_running_loop()

        def work():
            return asyncio.run_coroutine_threadsafe(double(21), loop).result(GUARD)

        return await loop.run_in_executor(executor, work)

    assert run(main) == 42


def test_event_loop_in_a_worker(cf, pool):
    async def main():
        await asyncio.sleep(0)
        return "inside"

    assert pool(1).submit(asyncio.run, main()).result(GUARD) == "inside"


def test_hundreds_at_once(cf, pool):
    executor = pool(3)

    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(executor, add, n) for n in range(500)))

    assert run(main) == list(range(1, 501))


# --- await ------------------------------------------------------------------------------

no_await = ours("a standard future cannot be awaited")


@no_await
def test_await_a_pending_future(cf, pool, gate):
    go = gate()
    future = pool(1).submit(go.wait, GUARD)

    async def main():
        asyncio.get_running_loop().call_soon(go.set)
        return await future

    assert run(main) is True


@no_await
def test_await_a_finished_future(cf):
    good, bad = cf.Future(), cf.Future()
    good.set_result(3)
    error = ValueError("bad")
    bad.set_exception(error)

    async def main():
        with pytest.raises(ValueError) as caught:
            await bad
        assert caught.value is error
        return await good

    assert run(main) == 3


@no_await
def test_await_twice_and_from_two_tasks(cf):
    future = cf.Future()

    async def ask():
        return await future

    async def main():
        tasks = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.sleep(0)
        threading.Thread(target=future.set_result, args=(9,)).start()
        return await asyncio.gather(*tasks), await future, await future

    assert run(main) == ([9, 9, 9], 9, 9)


@no_await
def test_await_a_cancelled_future(cf):
    done, pending = cf.Future(), cf.Future()
    done.cancel()

    async def main():
        with pytest.raises((cf.CancelledError, asyncio.CancelledError)):
            await done
        asyncio.get_running_loop().call_soon(pending.cancel)
        with pytest.raises((cf.CancelledError, asyncio.CancelledError)):
            await pending

    run(main)


@no_await
def test_cancelling_the_awaiting_task_cancels_the_future(cf):
    future = cf.Future()

    async def ask():
        await future

    async def main():
        task = asyncio.create_task(ask())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    assert future.cancelled()


@no_await
def test_gather_and_wait_for_take_our_futures(cf, pool, gate):
    executor, go = pool(2), gate()

    async def main():
        numbers = await asyncio.gather(*(as_coroutine(executor.submit(add, n))
                                         for n in range(20)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(as_coroutine(executor.submit(go.wait, GUARD)), 0.01)
        return numbers

    assert run(main) == list(range(1, 21))


async def as_coroutine(future):
    return await future


@no_await
def test_await_outside_of_asyncio_says_so(cf):
    coroutine = as_coroutine(cf.Future())
    with pytest.raises(RuntimeError):
        coroutine.send(None)
    coroutine.close()


@no_await
def test_awaiting_keeps_nothing(cf, pool):
    import weakref

    executor, references = pool(1), []

    async def main():
        for n in range(5):
            future = executor.submit(add, n)
            references.append(weakref.ref(future))
            await future
            del future

    run(main)
    executor.submit(int).result(GUARD)
    assert eventually(lambda: all(reference() is None for reference in references))
