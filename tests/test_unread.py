"""warn_unread(): exceptions that nobody asked for are logged, once, and no others."""
import gc
import threading

import cfutures
import pytest
from testkit import add, boom, eventually, run_child

SENTENCE = "nobody asked for its result"


@pytest.fixture
def log(caplog):
    """The records of unread exceptions, with the warning turned on."""
    before = cfutures.warn_unread()

    def records():
        gc.collect()
        return [r for r in caplog.records if SENTENCE in r.getMessage()]

    yield records
    cfutures.warn_unread(before)


def fail(text):
    raise KeyError(text)


def after_all(executor):
    """Wait until what was submitted before is over, and futures that were dropped are gone."""
    for future in [executor.submit(add, n) for n in range(4)]:
        future.add_done_callback(str)
        future.result()


def test_a_future_thrown_away_at_once(executor, log):
    executor.submit(boom, "lost")
    assert eventually(lambda: len(log()) == 1)
    (record,) = log()
    assert (record.name, record.levelname) == ("concurrent.futures", "ERROR")
    assert record.getMessage() == (
        f"a task raised ValueError and {SENTENCE}: boom()")
    assert str(record.exc_info[1]) == "lost"


def test_a_future_thrown_away_when_it_was_done(executor, log):
    future = executor.submit(boom)
    cfutures.wait([future])
    assert log() == []
    del future
    assert eventually(lambda: len(log()) == 1)


def raised(future):
    with pytest.raises(ValueError):
        future.result()


@pytest.mark.parametrize("read", [
    lambda future: future.exception(),
    raised,
    lambda future: future._repr_html_(),
], ids=["exception", "result", "rich repr"])
def test_one_that_was_asked_for_is_not_logged(executor, log, read):
    future = executor.submit(boom)
    cfutures.wait([future])
    read(future)
    del future
    after_all(executor)
    assert log() == []


def test_a_callback_that_asks_has_read(executor, log):
    read = threading.Event()
    executor.submit(boom).add_done_callback(lambda f: (f.exception(), read.set()))
    assert read.wait(30)
    after_all(executor)
    assert log() == []


def test_waiting_is_not_reading(executor, log):
    futures = [executor.submit(boom)]
    cfutures.wait(futures)
    assert list(cfutures.as_completed(futures)) == futures
    futures.clear()
    assert eventually(lambda: len(log()) == 1)


def test_success_and_cancellation_are_not_logged(executor, log, gate):
    executor.submit(add, 1)
    future = cfutures.Future()
    future.cancel()
    del future
    after_all(executor)
    assert log() == []


def test_a_future_set_by_hand(log):
    future = cfutures.Future()
    future.set_exception(ValueError("by hand"))
    del future
    assert eventually(lambda: len(log()) == 1)
    assert log()[0].getMessage() == f"a task raised ValueError and {SENTENCE}"


def test_results_of_map_that_nobody_looked_at(executor, log):
    executor.map(boom, ["only"])
    assert eventually(lambda: len(log()) == 1)


def test_after_map_has_raised_its_caller_knows(executor, log):
    with pytest.raises(ValueError):
        list(executor.map(boom, range(10)))
    after_all(executor)
    assert log() == []


def test_leaving_a_loop_over_map_is_not_reading(executor, log):
    for _ in executor.map(lambda n: 1 / n, [1, 0, 0]):
        after_all(executor)     # what has not begun would be cancelled
        break
    assert eventually(lambda: len(log()) == 1)     # the second is like it


def test_one_that_raises_through_an_exception_in_the_loop(log):
    with cfutures.ThreadPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError):
            for _ in pool.map(lambda n: 1 / n, [1, 0]):
                after_all(pool)
                raise RuntimeError
        assert eventually(lambda: len(log()) == 1)


def test_many_alike_are_logged_at_powers_of_ten(executor, log):
    for _ in range(25):
        executor.submit(boom)
    after_all(executor)
    assert eventually(lambda: len(log()) >= 2)
    assert [r.getMessage().partition("boom()")[2] for r in log()] == ["", " (10 like this)"]


def test_different_ones_are_logged_each(executor, log):
    executor.submit(boom)
    executor.submit(fail, "other")
    assert eventually(lambda: len(log()) == 2)


def test_garbage_in_a_cycle_with_its_traceback(executor, log):
    def cycle():
        future = executor.submit(boom)
        cfutures.wait([future])
        holder = [future]
        holder.append(holder)
    cycle()
    assert eventually(lambda: len(log()) == 1)


def test_it_is_off_unless_asked_for(executor, caplog):
    assert "__del__" not in vars(cfutures.Future)
    executor.submit(boom)
    after_all(executor)
    gc.collect()
    assert SENTENCE not in caplog.text


def test_it_says_how_it_was():
    assert cfutures.warn_unread() is False
    assert cfutures.warn_unread() is True
    assert cfutures.warn_unread(False) is True
    assert cfutures.warn_unread(False) is False


def test_one_read_before_it_was_turned_on_is_not_logged(executor, caplog):
    future = executor.submit(boom)
    future.exception()
    cfutures.warn_unread()
    try:
        del future
        after_all(executor)
        gc.collect()
        assert SENTENCE not in caplog.text
    finally:
        cfutures.warn_unread(False)


def test_await_is_reading(executor, log):
    import asyncio

    async def main():
        with pytest.raises(ValueError):
            await executor.submit(boom)

    asyncio.run(main())
    after_all(executor)
    assert log() == []


@pytest.mark.parametrize("kind", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_the_end_of_the_interpreter_is_quiet_about_what_is_still_held(kind):
    """And loud about what was lost before; nothing is logged while modules go."""
    child = run_child(f"""
def boom():
    raise ValueError("x")

if __name__ == "__main__":
    cf.warn_unread()
    pool = cf.{kind}(1)
    kept = pool.submit(boom)
    cf.wait([kept])
    pool.submit(boom)
    pool.submit(int).result()
""")
    assert child.err.count("nobody asked for its result") == 1
    assert "Exception ignored" not in child.err
